package snapshot

import (
	"context"
	"errors"

	"github.com/holdstill/holdstill/chunk"
	"github.com/holdstill/holdstill/repo"
)

// bases are the chunks that a stretch of a file had in the parent.
type bases struct {
	refs []repo.Ref
	// first is where in the file the first of refs begins.
	first int64
}

// at returns the chunk that began at an offset, the zero ID if none did. The offset
// never goes down from one call to the next.
func (b *bases) at(offset int64) (id chunk.ID) {
	for len(b.refs) > 0 && b.first < offset {
		b.first += b.refs[0].Span
		b.refs = b.refs[1:]
	}
	if len(b.refs) > 0 && b.first == offset {
		id = b.refs[0].ID
	}
	return id
}

// basesOf returns the chunks that the parent has for a stretch of a file. None are as
// good where they cannot be read: then the file's own are stored in full.
func (w *worker) basesOf(ctx context.Context, f *sourceFile, offset, length int64) (*bases, error) {
	if f.bases == nil {
		return &bases{}, nil
	}
	refs, first, err := w.creation.engine.repo.DataRefs(ctx, *f.bases, offset, offset+length)
	switch {
	case err == nil:
		return &bases{refs, first}, nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case !errors.Is(err, repo.ErrCorrupt) && !errors.Is(err, repo.ErrMissing):
		return nil, err
	}
	w.creation.basesLost.Do(func() {
		w.creation.engine.log.Warn("the parent snapshot is damaged: storing more than would be needed",
			"parent", w.creation.parent.ID, "path", f.Path, "error", err)
	})
	return &bases{}, nil
}

// add stores a chunk, as the difference to base if there is one.
func (w *worker) add(ctx context.Context, plain []byte, base chunk.ID) (id chunk.ID, err error) {
	if base.IsZero() {
		id, _, err = w.writer.Add(ctx, plain)
	} else {
		id, _, err = w.writer.AddDelta(ctx, plain, base)
	}
	return id, err
}
