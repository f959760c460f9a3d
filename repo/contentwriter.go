package repo

import (
	"context"
	"fmt"
	"slices"

	"github.com/holdstill/holdstill/chunk"
)

// A ContentWriter makes the Content of chunks that are told one after the other. It keeps
// at most one node of each level, so that the memory it takes, some 20 KiB a level, does not
// depend on how long the content is. It is not safe for concurrent use.
type ContentWriter struct {
	session *Session
	levels  []contentLevel
	// told counts the refs, for messages.
	told int64
}

// contentLevel is the refs of one depth that are in no node yet.
type contentLevel struct {
	refs []Ref
	// nodes is set once a node of this level was stored: then the rest goes into one too.
	nodes bool
}

// NewContentWriter returns a ContentWriter, which ends with Finish or is forgotten.
func (s *Session) NewContentWriter() *ContentWriter {
	return &ContentWriter{session: s, levels: make([]contentLevel, 1)}
}

// Add tells of data chunks, in the order of their bytes, and keeps nothing of refs. Each span
// must be the length of its chunk, 1 to chunk.MaxSize; else it fails with ErrInvalid.
// Otherwise it fails as Writer.Add does. After an error the ContentWriter is of no use.
func (w *ContentWriter) Add(ctx context.Context, refs ...Ref) error {
	for _, r := range refs {
		if r.Span < 1 || r.Span > chunk.MaxSize {
			return fmt.Errorf("%w: span %d of ref %d, want 1 to %d", ErrInvalid, r.Span, w.told, chunk.MaxSize)
		}
		if err := w.add(ctx, 0, r); err != nil {
			return err
		}
		w.told++
	}
	return nil
}

func (w *ContentWriter) add(ctx context.Context, depth int, r Ref) error {
	if depth == len(w.levels) {
		w.levels = append(w.levels, contentLevel{})
	}
	l := &w.levels[depth]
	l.refs = append(l.refs, r)
	if !nodeEnd(len(l.refs), r.ID) {
		return nil
	}
	return w.node(ctx, depth)
}

// node stores the refs of a level as a node, which is a ref of the level above.
func (w *ContentWriter) node(ctx context.Context, depth int) error {
	l := &w.levels[depth]
	plain := make([]byte, 0, len(l.refs)*refSize)
	var span int64
	for _, r := range l.refs {
		plain = appendRef(plain, r)
		span += r.Span
	}
	id, err := w.session.putMeta(ctx, plain)
	if err != nil {
		return err
	}
	l.refs, l.nodes = l.refs[:0], true
	return w.add(ctx, depth+1, Ref{ID: id, Span: span})
}

// Finish stores what is left and returns the Content. It fails as Writer.Add does.
func (w *ContentWriter) Finish(ctx context.Context) (Content, error) {
	for depth := 0; ; depth++ {
		// node may have made the slice grow.
		l := &w.levels[depth]
		if !l.nodes && len(l.refs) <= inlineRefs {
			return Content{Depth: depth, Refs: slices.Clone(l.refs)}, nil
		}
		if len(l.refs) == 0 {
			continue
		}
		if err := w.node(ctx, depth); err != nil {
			return Content{}, err
		}
	}
}

// PutContent stores the nodes that a list of data chunks needs and returns the
// Content, which keeps nothing of refs. It is ContentWriter for those who have all refs at
// hand, and fails as that does. It is safe for concurrent use.
func (s *Session) PutContent(ctx context.Context, refs []Ref) (Content, error) {
	w := s.NewContentWriter()
	if err := w.Add(ctx, refs...); err != nil {
		return Content{}, err
	}
	return w.Finish(ctx)
}
