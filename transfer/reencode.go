package transfer

import (
	"context"
	"slices"

	"github.com/holdstill/holdstill/repo"
)

// Where the two repositories name chunks differently, because one of them is encrypted
// under an identity of its own, nothing can travel as it is stored: every chunk is decoded,
// named and encoded anew, and lists of chunks and the file table are made anew. What the
// destination has is not stored again, but must be read to know that.

// reencodeBytes is about how much file data is read and added together, in bytes.
const reencodeBytes = 64 << 20

// reencoder is such a copy under way.
type reencoder struct {
	*copying
	files []repo.File
	// refs are the chunks, under their new names, of the files from number first on.
	refs  [][]repo.Ref
	first int
	batch []repo.Extent
	// of has the number in refs of each extent of the batch.
	of    []int
	bytes int64
}

// reencode sends the snapshot's content, and returns its manifest in the destination.
func (c *copying) reencode(ctx context.Context) (*repo.Manifest, error) {
	r := &reencoder{copying: c}
	for f, err := range c.src.Files(ctx, c.manifest) {
		if err != nil {
			return nil, err
		}
		if err := r.add(ctx, f); err != nil {
			return nil, err
		}
	}
	if err := r.flush(ctx, true); err != nil {
		return nil, err
	}
	c.walked.Store(c.filesTotal)
	m := *c.manifest
	var err error
	m.Table, err = c.session.PutTable(ctx, slices.Values(r.files))
	return &m, err
}

func (r *reencoder) add(ctx context.Context, f repo.File) error {
	r.files = append(r.files, f)
	r.refs = append(r.refs, nil)
	for start := int64(0); start < f.Size; {
		end := min(f.Size, start+reencodeBytes-r.bytes)
		r.batch = append(r.batch, repo.Extent{Content: f.Content, Start: start, End: end})
		r.of = append(r.of, len(r.refs)-1)
		r.bytes += end - start
		start = end
		if r.bytes >= reencodeBytes {
			if err := r.flush(ctx, start == f.Size); err != nil {
				return err
			}
		}
	}
	return nil
}

// flush reads and adds the batch, and makes the contents of the files that are complete:
// all, or all but the last.
func (r *reencoder) flush(ctx context.Context, all bool) error {
	pieces, err := r.src.Expand(ctx, r.batch, 0)
	if err != nil {
		return err
	}
	wants := make([]repo.Ref, len(pieces))
	fresh := make([]repo.Ref, len(pieces))
	for i := range pieces {
		wants[i] = pieces[i].Ref
	}
	opts := repo.ReadChunksOptions{Workers: r.opts.Workers, Fetches: r.opts.Fetches, Gap: maxGap}
	stats, err := r.src.ReadChunks(ctx, wants, opts, func(i int, data []byte, err error) error {
		if err != nil {
			return err
		}
		fresh[i].Span = int64(len(data))
		fresh[i].ID, err = r.addPlain(ctx, data)
		r.finished(int64(len(data)), false)
		return err
	})
	r.fetched.Add(stats.Bytes)
	r.requests.Add(stats.Requests)
	if err != nil {
		return err
	}
	for i := range pieces {
		n := r.of[pieces[i].Extent]
		r.refs[n] = append(r.refs[n], fresh[i])
	}
	r.batch, r.of, r.bytes = nil, nil, 0
	done := len(r.refs)
	if !all {
		done--
	}
	for i := range done {
		f := &r.files[r.first+i]
		if f.Content, err = r.session.PutContent(ctx, r.refs[i]); err != nil {
			return err
		}
		if !f.IsDir() {
			r.walked.Add(1)
		}
	}
	r.first += done
	r.refs = r.refs[done:]
	return nil
}
