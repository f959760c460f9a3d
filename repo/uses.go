package repo

import (
	"context"
	"fmt"
	"iter"

	"github.com/holdstill/holdstill/chunk"
)

// A Use is one place where a snapshot needs a chunk.
type Use struct {
	ID chunk.ID
	// Size is the chunk's plain length in bytes where it holds a file's data or a
	// part of the file table, and 0 for a node.
	Size int64
	// Meta is set for nodes and for the file table, and not for files' data.
	Meta bool
}

// Uses lists all that a snapshot needs: its file table, nodes and data, in the
// order in which a restore meets them. A chunk that is needed in several places
// comes several times. What a chunk is stored as the difference to is not listed,
// since that is a matter of the repository; chunk.DeltaBase says it of what
// ReadEncoded returns. It stops after the first error, as Files does.
func (r *Repository) Uses(ctx context.Context, m *Manifest) iter.Seq2[Use, error] {
	return func(yield func(Use, error) bool) {
		if err := r.use(); err != nil {
			yield(Use{}, err)
			return
		}
		before := ""
		err := r.walkContent(ctx, m.Table, func(ref Ref, depth int) (bool, error) {
			if !yield(use(ref, depth, true), nil) {
				return false, errStopWalk
			}
			if depth > 0 {
				return true, nil
			}
			files, err := r.readBlock(ctx, ref, before)
			if err != nil {
				return false, err
			}
			for i := range files {
				err := r.walkContent(ctx, files[i].Content, func(ref Ref, depth int) (bool, error) {
					if !yield(use(ref, depth, depth > 0), nil) {
						return false, errStopWalk
					}
					return true, nil
				})
				if err != nil {
					return false, err
				}
			}
			before = files[len(files)-1].Path
			return true, nil
		})
		if err != nil && err != errStopWalk {
			yield(Use{}, fmt.Errorf("repo: contents of snapshot %s: %w", m.ID, err))
		}
	}
}

func use(ref Ref, depth int, meta bool) Use {
	u := Use{ID: ref.ID, Meta: meta}
	if depth == 0 {
		u.Size = ref.Span
	}
	return u
}
