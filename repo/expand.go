package repo

import (
	"bytes"
	"context"
	"fmt"
)

// An Extent is the part of a content from byte Start to before byte End.
type Extent struct {
	Content    Content
	Start, End int64
}

// A Piece is a data chunk of one of several extents.
type Piece struct {
	// Extent is the number of the extent in the list that Expand was given.
	Extent int
	// Offset is where the chunk begins in the content, in bytes.
	Offset int64
	Ref
}

// Expand returns the data chunks that begin in the extents, in the order of the
// extents and of their bytes. The nodes of all of them are read together, one request
// or few for each level, so that many contents cost no more waiting than one. It
// takes about 64 bytes of memory for each piece.
//
// It fails with ErrTooManyChunks where there are more than limit pieces, or about an
// eighth of that of nodes; a limit of 0 or less means none. Up to 16 extents of one byte
// always stay below a limit of 128. Otherwise it fails with a *ChunkError for a node that
// cannot be read, or with the context's error.
func (r *Repository) Expand(ctx context.Context, extents []Extent, limit int) ([]Piece, error) {
	if err := r.use(); err != nil {
		return nil, err
	}
	return r.expand(ctx, extents, false, limit)
}

// branch is a ref on the way from a content's root to its data.
type branch struct {
	piece Piece
	depth int
}

// expand is Expand; with touching it also returns a chunk that begins before its
// extent and ends in it.
func (r *Repository) expand(ctx context.Context, extents []Extent, touching bool, limit int) ([]Piece, error) {
	var level []branch
	deep := false
	enter := func(next []branch, n, depth int, at int64, refs []Ref) []branch {
		x := &extents[n]
		for _, ref := range refs {
			end := at + ref.Span
			if at < x.End && end > x.Start && (depth > 0 || touching || at >= x.Start) {
				next = append(next, branch{Piece{n, at, ref}, depth})
				deep = deep || depth > 0
			}
			at = end
		}
		return next
	}
	for n := range extents {
		c := &extents[n].Content
		if c.Depth < 0 || c.Depth > MaxDepth {
			return nil, fmt.Errorf("%w: content of depth %d", ErrCorrupt, c.Depth)
		}
		level = enter(level, n, c.Depth, 0, c.Refs)
	}
	for deep {
		deep = false
		var nodes []Ref
		for i := range level {
			if level[i].depth > 0 {
				nodes = append(nodes, level[i].piece.Ref)
			}
		}
		if limit > 0 && (len(nodes) > limit/8 || len(level) > limit) {
			return nil, fmt.Errorf("%w: more than %d", ErrTooManyChunks, limit)
		}
		data, err := r.readMeta(ctx, nodes)
		if err != nil {
			return nil, err
		}
		next := make([]branch, 0, len(level)+32*len(nodes))
		for i := range level {
			b := &level[i]
			if b.depth == 0 {
				next = append(next, *b)
				continue
			}
			refs, err := parseNodeAt(data[0], b.piece.Ref, b.depth)
			if err != nil {
				return nil, err
			}
			data = data[1:]
			next = enter(next, b.piece.Extent, b.depth-1, b.piece.Offset, refs)
		}
		level = next
	}
	if limit > 0 && len(level) > limit {
		return nil, fmt.Errorf("%w: %d, of %d allowed", ErrTooManyChunks, len(level), limit)
	}
	out := make([]Piece, len(level))
	for i := range level {
		out[i] = level[i].piece
	}
	return out, nil
}

// readMeta returns the plain bytes of nodes or of blocks of a file table, which must
// not be written to, and keeps them for the next time.
func (r *Repository) readMeta(ctx context.Context, refs []Ref) ([][]byte, error) {
	out := make([][]byte, len(refs))
	var wants []Ref
	var at []int
	for i, ref := range refs {
		if out[i] = r.cache.get(ref.ID); out[i] != nil {
			continue
		}
		if len(refs) == 1 {
			data, err := r.cachedChunk(ctx, ref.ID)
			return [][]byte{data}, err
		}
		// A node's span is that of what it lists, not its own length.
		wants = append(wants, Ref{ID: ref.ID})
		at = append(at, i)
	}
	if len(wants) == 0 {
		return out, nil
	}
	_, err := r.ReadChunks(ctx, wants, ReadChunksOptions{}, func(i int, data []byte, err error) error {
		if err == nil {
			out[at[i]] = bytes.Clone(data)
			r.cache.put(wants[i].ID, out[at[i]])
		}
		return err
	})
	return out, err
}
