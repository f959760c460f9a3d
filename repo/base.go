package repo

import (
	"context"
	"fmt"
	"slices"

	"github.com/holdstill/holdstill/chunk"
)

// A delta is a chunk that is stored as the difference to another one, its base.
// Bases are always stored in full, so that a read costs at most two chunks. Which
// chunk is the base stands in the frame, for readers who come from an index, and in
// the footer of the pack, for those who ask what a pack relies on.

// frameWindow reads the stored bytes of chunks, and reads ahead where they lie one
// behind the other: the bases of a file's chunks mostly do. It is not safe for
// concurrent use.
type frameWindow struct {
	pack  packID
	start int64
	data  []byte
	// ahead is how much was read at least the last time, in bytes.
	ahead int
}

const (
	minAhead = 128 << 10
	maxAhead = 1 << 20
)

// reset forgets what was read, and keeps the room.
func (w *frameWindow) reset() { w.data, w.ahead = w.data[:0], 0 }

// read returns the stored bytes of a chunk, until the next call.
func (w *frameWindow) read(ctx context.Context, s store, l location) ([]byte, error) {
	from, n := int64(l.offset), int(l.stored)
	end := w.start + int64(len(w.data))
	behind := l.pack == w.pack && len(w.data) > 0 && from >= w.start
	if behind && from+int64(n) <= end {
		return w.data[from-w.start:][:n], nil
	}
	if behind && from <= end+maxGap {
		w.ahead = min(max(2*w.ahead, minAhead), maxAhead)
	} else {
		w.ahead = 0
	}
	room := max(n, w.ahead)
	w.data = slices.Grow(w.data[:0], room)[:room]
	got, err := s.readSome(ctx, packKey(l.pack), w.data, from, n)
	w.data = w.data[:got]
	w.pack, w.start = l.pack, from
	if err != nil {
		w.reset()
		return nil, err
	}
	return w.data[:n], nil
}

// decode appends the plain bytes of a chunk to dst, checked against its ID. A base
// is looked for among the indexes of in, or if that is nil among all there are.
func (r *Repository) decode(ctx context.Context, rd *reader, in *indexSet, id chunk.ID, l location, stored, dst []byte) ([]byte, error) {
	frame, err := rd.open(&rd.frame, id, l, stored)
	if err != nil {
		return dst, err
	}
	return r.decodeFrame(ctx, rd, in, id, l, frame, dst)
}

// decodeFrame is decode for a frame that is out of its seal.
func (r *Repository) decodeFrame(ctx context.Context, rd *reader, in *indexSet, id chunk.ID, l location, stored, dst []byte) ([]byte, error) {
	if l.codec != chunk.Delta {
		return rd.decode(id, l, stored, dst)
	}
	baseID, ok := chunk.DeltaBase(stored)
	if !ok {
		return dst, fmt.Errorf("%w: its %d bytes are too few for a difference", ErrCorrupt, len(stored))
	}
	base, err := r.readBase(ctx, rd, in, baseID)
	if err != nil {
		return dst, &BaseError{ID: baseID, Err: err}
	}
	out, err := rd.decoder.DecodeDelta(dst, stored, base, int(l.plain))
	if err == nil {
		err = rd.ident.Verify(id, out[len(dst):])
	}
	if err != nil {
		return dst, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return out, nil
}

// readBase returns the plain bytes of a chunk that is stored in full, until the
// next call with the same reader. They must not be written to.
func (r *Repository) readBase(ctx context.Context, rd *reader, in *indexSet, id chunk.ID) ([]byte, error) {
	data, err := r.findBase(ctx, rd, in, id)
	if err != nil && in == nil && r.indexMisled(ctx, id) {
		return r.findBase(ctx, rd, nil, id)
	}
	return data, err
}

func (r *Repository) findBase(ctx context.Context, rd *reader, in *indexSet, id chunk.ID) ([]byte, error) {
	set := in
	if in == nil {
		if data := r.cache.get(id); data != nil {
			return data, nil
		}
		var err error
		if set, err = r.currentIndex(ctx); err != nil {
			return nil, err
		}
	}
	var cause error
	first, tried := set.locateFull(&id)
	if tried {
		if cause = r.readBaseFrom(ctx, rd, id, first); cause == nil || ctx.Err() != nil {
			return rd.base, cause
		}
	}
	places := set.locate(&id)
	if in == nil {
		var err error
		if places, err = r.locate(ctx, id); err != nil {
			return nil, err
		}
	}
	for _, l := range places {
		if l.codec == chunk.Delta || tried && l == first {
			continue
		}
		err := r.readBaseFrom(ctx, rd, id, l)
		if err == nil {
			return rd.base, nil
		}
		if cause == nil {
			cause = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	switch {
	case cause != nil:
		return nil, cause
	case len(places) > 0:
		return nil, chunkError(id, places[0], fmt.Errorf("%w: it is itself stored as a difference, which no base may be", ErrCorrupt))
	}
	return nil, &ChunkError{ID: id, Err: fmt.Errorf("%w: it is in no pack", ErrMissing)}
}

// readBaseFrom reads a chunk from a place that holds it in full to rd.base.
func (r *Repository) readBaseFrom(ctx context.Context, rd *reader, id chunk.ID, l location) error {
	stored, err := rd.window.read(ctx, r.store, l)
	if err == nil {
		stored, err = rd.open(&rd.baseFrame, id, l, stored)
	}
	if err == nil {
		rd.base, err = rd.decode(id, l, stored, rd.base[:0])
	}
	if err != nil {
		return chunkError(id, l, err)
	}
	return nil
}

// tryBase says whether a chunk can be read as a base.
func (r *Repository) tryBase(ctx context.Context, id chunk.ID) error {
	rd, err := r.takeReader()
	if err != nil {
		return err
	}
	defer r.readers.Put(rd)
	_, err = r.readBase(ctx, rd, nil, id)
	return err
}
