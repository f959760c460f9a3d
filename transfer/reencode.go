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
	// contents take the chunks, under their new names, of the files from number first on.
	contents []*repo.ContentWriter
	first    int
	batch    []repo.Extent
	// of has the number in contents of each extent of the batch.
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
	r.contents = append(r.contents, r.session.NewContentWriter())
	for start := int64(0); start < f.Size; {
		end := min(f.Size, start+reencodeBytes-r.bytes)
		r.batch = append(r.batch, repo.Extent{Content: f.Content, Start: start, End: end})
		r.of = append(r.of, len(r.contents)-1)
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
		if err := r.contents[r.of[pieces[i].Extent]].Add(ctx, fresh[i]); err != nil {
			return err
		}
	}
	r.batch, r.of, r.bytes = nil, nil, 0
	done := len(r.contents)
	if !all {
		done--
	}
	for i := range done {
		f := &r.files[r.first+i]
		if f.Content, err = r.contents[i].Finish(ctx); err != nil {
			return err
		}
		if !f.IsDir() {
			r.walked.Add(1)
		}
	}
	r.first += done
	r.contents = slices.Delete(r.contents, 0, done)
	return nil
}
