package repo

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/holdstill/holdstill/chunk"
)

// Content says which chunks hold a sequence of bytes, such as a file's. The zero
// Content is empty.
//
// Short content lists its chunks itself. Long content is a tree: its refs name
// nodes, which are chunks too and list refs one level further down. Nodes end
// where the IDs themselves say so, so that two contents which differ in one chunk
// share all nodes but those above it, wherever chunks were inserted.
type Content struct {
	// Depth is the number of levels of nodes between Refs and the data: 0 when
	// Refs name the data's chunks. At most MaxDepth.
	Depth int `json:"depth"`
	// Refs are in the order of the bytes.
	Refs []Ref `json:"refs"`
}

// A Ref names a chunk and says how many bytes of content it stands for: the
// chunk's own length at depth 0, the sum of all below it further up.
type Ref struct {
	ID   chunk.ID `json:"id"`
	Span int64    `json:"span"`
}

// MaxDepth bounds the depth of a Content. With nodes of 128 refs on average it is
// more than any file can reach.
const MaxDepth = 8

const (
	refSize = 40
	// inlineRefs is how many refs stand in a file's entry itself.
	inlineRefs = 8
	// A node ends after a ref whose ID ends in seven zero bits, between these
	// bounds.
	minNodeRefs  = 32
	maxNodeRefs  = 512
	nodeEndMask  = 0x7f
	maxNodeBytes = maxNodeRefs * refSize
)

// Size returns the length of the content in bytes.
func (c Content) Size() int64 {
	var n int64
	for _, r := range c.Refs {
		n += r.Span
	}
	return n
}

func appendRef(b []byte, r Ref) []byte {
	b = append(b, r.ID[:]...)
	return binary.LittleEndian.AppendUint64(b, uint64(r.Span))
}

func parseRef(b []byte) Ref {
	r := Ref{Span: int64(binary.LittleEndian.Uint64(b[32:]))}
	copy(r.ID[:], b)
	return r
}

// parseNode reads a node that must span exactly span bytes.
func parseNode(b []byte, span int64) ([]Ref, error) {
	if len(b) == 0 || len(b)%refSize != 0 || len(b) > maxNodeBytes {
		return nil, fmt.Errorf("a node of %d bytes", len(b))
	}
	refs := make([]Ref, 0, len(b)/refSize)
	left := span
	for ; len(b) > 0; b = b[refSize:] {
		r := parseRef(b)
		if r.Span <= 0 || r.Span > left {
			return nil, fmt.Errorf("a node whose spans do not add up to %d bytes", span)
		}
		left -= r.Span
		refs = append(refs, r)
	}
	if left != 0 {
		return nil, fmt.Errorf("a node whose spans do not add up to %d bytes", span)
	}
	return refs, nil
}

// check says whether a Content from outside can be true.
func (c Content) check(size int64) error {
	if c.Depth < 0 || c.Depth > MaxDepth {
		return fmt.Errorf("content of depth %d", c.Depth)
	}
	left := size
	for _, r := range c.Refs {
		if r.Span <= 0 || r.Span > left || c.Depth == 0 && r.Span > chunk.MaxSize {
			return fmt.Errorf("content whose spans do not add up to %d bytes", size)
		}
		left -= r.Span
	}
	if left != 0 {
		return fmt.Errorf("content whose spans do not add up to %d bytes", size)
	}
	return nil
}

// nodeEnd says whether a node ends after its n-th ref, which has this ID.
func nodeEnd(n int, id chunk.ID) bool {
	return n >= maxNodeRefs || n >= minNodeRefs && id[len(id)-1]&nodeEndMask == 0
}

// walkContent calls visit with every ref of a content in order, nodes before what
// they list; depth is 0 for data chunks. When visit returns false for a node,
// nothing below it is visited.
func (r *Repository) walkContent(ctx context.Context, c Content, visit func(ref Ref, depth int) (bool, error)) error {
	for _, ref := range c.Refs {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		down, err := visit(ref, c.Depth)
		if err != nil {
			return err
		}
		if c.Depth == 0 || !down {
			continue
		}
		refs, err := r.readNode(ctx, ref, c.Depth)
		if err != nil {
			return err
		}
		if err := r.walkContent(ctx, Content{Depth: c.Depth - 1, Refs: refs}, visit); err != nil {
			return err
		}
	}
	return nil
}

// readNode returns the refs that a node at the given depth lists.
func (r *Repository) readNode(ctx context.Context, ref Ref, depth int) ([]Ref, error) {
	data, err := r.cachedChunk(ctx, ref.ID)
	if err != nil {
		return nil, err
	}
	return parseNodeAt(data, ref, depth)
}

// parseNodeAt reads a node at the given depth, or fails with a *ChunkError.
func parseNodeAt(data []byte, ref Ref, depth int) ([]Ref, error) {
	refs, err := parseNode(data, ref.Span)
	if err == nil {
		err = Content{Depth: depth - 1, Refs: refs}.check(ref.Span)
	}
	if err != nil {
		return nil, &ChunkError{ID: ref.ID, Err: fmt.Errorf("%w: %w", ErrCorrupt, err)}
	}
	return refs, nil
}

// DataRefs returns the refs of the data chunks that hold the bytes of a content from
// start to end, in order, and the offset in the content at which the first of them begins,
// -1 if there are none. It fails with a *ChunkError for a node that cannot be read, or with
// the context's error.
func (r *Repository) DataRefs(ctx context.Context, c Content, start, end int64) (refs []Ref, first int64, err error) {
	if err := r.use(); err != nil {
		return nil, -1, err
	}
	return r.dataRefs(ctx, c, start, end)
}

// dataRefs returns the refs of the data chunks that hold the bytes from start to
// end, and the offset in the content of the first of them.
func (r *Repository) dataRefs(ctx context.Context, c Content, start, end int64) (refs []Ref, first int64, err error) {
	pieces, err := r.expand(ctx, []Extent{{c, start, end}}, true, 0)
	if err != nil || len(pieces) == 0 {
		return nil, -1, err
	}
	refs = make([]Ref, len(pieces))
	for i := range pieces {
		refs[i] = pieces[i].Ref
	}
	return refs, pieces[0].Offset, nil
}

// errStopWalk ends a walk that has seen enough. It never reaches a caller.
var errStopWalk = errors.New("repo: walk stopped")
