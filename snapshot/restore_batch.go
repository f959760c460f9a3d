package snapshot

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdstill/holdstill/repo"
)

// batchLimits bound what is planned for at once. Within a batch each pack is read once.
type batchLimits struct {
	bytes int64
	files int
	// chunks bounds the memory that a plan takes, at about 150 bytes for each. A batch of
	// more is divided. At least 128.
	chunks int
}

// withDefaults returns the limits for use, which are zero but in tests.
func (l batchLimits) withDefaults() batchLimits {
	if l == (batchLimits{}) {
		return batchLimits{bytes: 4 << 30, files: 16 << 10, chunks: 512 << 10}
	}
	return l
}

// localGap is how many bytes are read to save a request of a local repository.
const localGap = 16 << 10

// A part is some or all bytes of a file to be restored.
type part struct {
	file       *outFile
	start, end int64
}

// batch collects parts until they are worth a pass through the packs.
type batch struct {
	parts []part
	bytes int64
}

// addFile plans a file, and restores the batch whenever it is full.
func (st *stager) addFile(ctx context.Context, b *batch, e *entry) error {
	f := st.newFile(e)
	if e.Size == 0 {
		st.group.Go(f.finish)
		return nil
	}
	for start := int64(0); start < e.Size; {
		end := min(e.Size, start+st.limits.bytes-b.bytes)
		b.parts = append(b.parts, part{f, start, end})
		b.bytes += end - start
		start = end
		if b.bytes >= st.limits.bytes || len(b.parts) >= st.limits.files {
			if err := st.restoreBatch(ctx, b); err != nil {
				return err
			}
		}
	}
	return nil
}

// restoreBatch restores what a batch has collected, and empties it.
func (st *stager) restoreBatch(ctx context.Context, b *batch) error {
	err := st.restoreParts(ctx, b.parts)
	b.parts, b.bytes = nil, 0
	return err
}

func (st *stager) restoreParts(ctx context.Context, parts []part) error {
	if len(parts) == 0 {
		return nil
	}
	extents := make([]repo.Extent, len(parts))
	for i, p := range parts {
		extents[i] = repo.Extent{Content: p.file.entry.Content, Start: p.start, End: p.end}
	}
	pieces, err := st.repo.Expand(ctx, extents, st.limits.chunks)
	if errors.Is(err, repo.ErrTooManyChunks) {
		one, two := halve(parts)
		if err := st.restoreParts(ctx, one); err != nil {
			return err
		}
		return st.restoreParts(ctx, two)
	}
	if err != nil {
		return st.blame(parts, err)
	}
	if pieces, err = st.reuse(ctx, parts, pieces); err != nil {
		return err
	}
	if pieces, err = st.withoutZeros(parts, pieces); err != nil {
		return err
	}
	st.reserve(parts, pieces)
	return st.fetch(ctx, parts, pieces)
}

// halve divides parts in two, a single one in the middle of its bytes.
func halve(parts []part) (one, two []part) {
	if n := len(parts) / 2; n > 0 {
		return parts[:n], parts[n:]
	}
	p := parts[0]
	middle := p.start + (p.end-p.start)/2
	return []part{{p.file, p.start, middle}}, []part{{p.file, middle, p.end}}
}

// blame names the first file that needs the chunk which an error is about.
func (st *stager) blame(parts []part, err error) error {
	var lost *repo.ChunkError
	if len(parts) == 1 && errors.As(err, &lost) {
		return fmt.Errorf("%q: %w", parts[0].file.entry.Path, err)
	}
	return err
}

// fetch has pieces read from the repository and written to their files.
func (st *stager) fetch(ctx context.Context, parts []part, pieces []repo.Piece) error {
	if len(pieces) == 0 {
		return nil
	}
	wants := make([]repo.Ref, len(pieces))
	for i := range pieces {
		wants[i] = pieces[i].Ref
	}
	stats, err := st.repo.ReadChunks(ctx, wants, st.reads, func(i int, data []byte, err error) error {
		f := parts[pieces[i].Extent].file
		if err != nil {
			return fmt.Errorf("%q: %w", f.entry.Path, err)
		}
		return f.put(data, pieces[i].Offset)
	})
	st.fetched += stats.Bytes
	return err
}
