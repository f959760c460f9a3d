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
	// missed counts the chunks in a row that differed too much, rest those to come that
	// are not tried.
	missed, rest int
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
	if f.before == nil {
		return &bases{}, nil
	}
	refs, first, err := w.creation.engine.repo.DataRefs(ctx, *f.before, offset, offset+length)
	switch {
	case err == nil:
		return &bases{refs: refs, first: first}, nil
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

// add stores the chunk that begins at an offset, as the difference to the one that
// began there if that is promising.
func (w *worker) add(ctx context.Context, plain []byte, b *bases, offset int64) (chunk.ID, error) {
	base := b.at(offset)
	if base.IsZero() || b.rest > 0 {
		b.rest = max(b.rest-1, 0)
		id, _, err := w.writer.Add(ctx, plain)
		return id, err
	}
	id, fresh, delta, err := w.writer.AddDelta(ctx, plain, base)
	switch {
	case delta:
		b.missed = 0
	case fresh:
		if b.missed++; b.missed >= patience {
			b.rest = min(1<<(b.missed-patience), maxRest)
		}
	}
	return id, err
}

// A file that was written anew, as by a vacuum, has nothing of its old self at the same
// place. After so many chunks in a row that differ too much, ever more are stored without
// a try in between, so that little is read in vain.
const (
	patience = 4
	maxRest  = 64
)
