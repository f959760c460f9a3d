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
	// File counts the regular files that came before in the file table. It is the
	// number of the file that needs the chunk, unless that is a part of the table.
	File int64
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
		before, file := "", int64(0)
		ahead := tableAhead{repo: r, table: m.Table}
		err := r.walkContent(ctx, m.Table, func(ref Ref, depth int) (bool, error) {
			ahead.reach(ctx)
			if !yield(use(ref, depth, true, file), nil) {
				return false, errStopWalk
			}
			if depth > 0 {
				return true, nil
			}
			ahead.at += ref.Span
			files, err := r.readBlock(ctx, ref, before)
			if err != nil {
				return false, err
			}
			r.nodesAhead(ctx, files)
			for i := range files {
				err := r.walkContent(ctx, files[i].Content, func(ref Ref, depth int) (bool, error) {
					if !yield(use(ref, depth, depth > 0, file), nil) {
						return false, errStopWalk
					}
					return true, nil
				})
				if err != nil {
					return false, err
				}
				if !files[i].IsDir() {
					file++
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

// maxNodesAhead bounds the content whose nodes are read together, in bytes, and
// maxPiecesAhead the chunks that they may name: what they
// list is in memory for a moment.
const (
	maxNodesAhead  = 4 << 30
	maxPiecesAhead = 1 << 17
)

// nodesAhead has the nodes of files read together, into the cache. What cannot be read
// shows when it is needed.
func (r *Repository) nodesAhead(ctx context.Context, files []File) {
	var extents []Extent
	var size int64
	for i := range files {
		c := &files[i].Content
		if c.Depth == 0 || size+files[i].Size > maxNodesAhead {
			continue
		}
		size += files[i].Size
		extents = append(extents, Extent{Content: *c, End: files[i].Size})
	}
	if len(extents) > 0 && ctx.Err() == nil {
		_, _ = r.Expand(ctx, extents, maxPiecesAhead)
	}
}

func use(ref Ref, depth int, meta bool, file int64) Use {
	u := Use{ID: ref.ID, Meta: meta, File: file}
	if depth == 0 {
		u.Size = ref.Span
	}
	return u
}
