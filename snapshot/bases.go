package snapshot

import (
	"context"
	"errors"
	"slices"

	"github.com/holdstill/holdstill/chunk"
	"github.com/holdstill/holdstill/repo"
)

// bases are the chunks that a stretch of a file had in the parent.
type bases struct {
	refs []repo.Ref
	// first is where in the file the first of refs begins.
	first int64
	// moves says that what was at one place may be at another now, as in a file that is
	// cut by its content. Then starts are where refs begin, and shift is how much further
	// back the same bytes are now, as far as is known.
	moves  bool
	starts []int64
	shift  int64
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

// around returns the number of the chunk that held the middle of the n bytes which are at an
// offset now, -1 if there is none.
func (b *bases) around(offset int64, n int) int {
	middle := offset - b.shift + int64(n)/2
	i, found := slices.BinarySearch(b.starts, middle)
	if !found {
		i--
	}
	if i < 0 || middle >= b.starts[i]+b.refs[i].Span {
		return -1
	}
	return i
}

// matched learns from a chunk of n bytes at an offset that is chunk i, or much like it:
// the same cut ends both if they are about as long.
func (b *bases) matched(i int, offset int64, n int) {
	span := b.refs[i].Span
	if differ := int64(n) - span; max(differ, -differ) <= span/16 {
		b.shift = offset + int64(n) - b.starts[i] - span
	}
}

// margin is how far beyond a stretch the chunks of a file are looked at that moves, in
// bytes.
const margin = 2 * chunk.DefaultGearMax

// basesOf returns the chunks that the parent has for a stretch of a file. None are as
// good where they cannot be read: then the file's own are stored in full.
func (w *worker) basesOf(ctx context.Context, f *sourceFile, offset, length int64) (*bases, error) {
	if f.before == nil {
		return &bases{}, nil
	}
	b := &bases{moves: Class(f.Class) == Opaque}
	start, end := offset, offset+length
	if b.moves {
		// Until a chunk tells more, what was added or taken away is spread evenly.
		b.shift = int64(float64(f.Size-f.before.Size()) * float64(offset) / float64(f.Size))
		start, end = max(0, min(start, start-b.shift)-margin), max(end, end-b.shift)+margin
	}
	refs, first, err := w.creation.engine.repo.DataRefs(ctx, *f.before, start, end)
	b.refs, b.first = refs, first
	if b.moves {
		for _, r := range refs {
			b.starts = append(b.starts, first)
			first += r.Span
		}
	}
	switch {
	case err == nil:
		return b, nil
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
// was there if that is promising.
func (w *worker) add(ctx context.Context, plain []byte, b *bases, offset int64) (chunk.ID, error) {
	var base chunk.ID
	near := -1
	if b.moves {
		if near = b.around(offset, len(plain)); near >= 0 {
			base = b.refs[near].ID
		}
	} else {
		base = b.at(offset)
	}
	if base.IsZero() || b.rest > 0 {
		b.rest = max(b.rest-1, 0)
		id, _, err := w.writer.Add(ctx, plain)
		return id, err
	}
	id, fresh, delta, err := w.writer.AddDelta(ctx, plain, base)
	if near >= 0 && (delta || id == base) {
		b.matched(near, offset, len(plain))
	}
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
