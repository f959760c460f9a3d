package repo

import (
	"context"
	"errors"

	"github.com/holdstill/holdstill/chunk"
)

// AddDelta is Add for a chunk that may differ little from another one, the base,
// such as that at the same place of the file's last snapshot. If it does it is stored
// as the difference, and takes a fraction of the space; reading it then costs reading the
// base too. It has the same ID and is used like any other chunk. delta reports whether a
// new chunk was stored so; where it was not, trying cost reading the base.
//
// The base may be any chunk that was in the repository when the session began. Where that
// is a difference itself, what it is a difference to is taken in its place: bases
// are always stored in full. A base that is not there, or cannot be read, and
// Options.NoDeltas, make AddDelta store the chunk in full, like Add; it fails as Add does.
func (w *Writer) AddDelta(ctx context.Context, plain []byte, base chunk.ID) (id chunk.ID, fresh, delta bool, err error) {
	if w.session.repo.opts.NoDeltas {
		id, fresh, err = w.Add(ctx, plain)
		return id, fresh, false, err
	}
	if id, fresh, err = w.claim(ctx, plain, false); !fresh || err != nil {
		return id, false, false, err
	}
	baseID, data, err := w.base(ctx, base)
	if err != nil {
		return id, false, false, w.session.fail(err)
	}
	if err := w.room(ctx, packBaseSize+len(baseID)+chunk.EncodeRoom(len(plain))); err != nil {
		return id, false, false, err
	}
	start := w.pack.begin()
	buf, codec, err := w.encodeDelta(w.pack.buf, plain, baseID, data)
	if err != nil {
		return id, false, false, w.session.fail(err)
	}
	w.pack.buf = buf
	if delta = codec == chunk.Delta; delta {
		w.session.newDelta.Add(int64(len(plain)))
	}
	return id, true, delta, w.added(ctx, id, start, len(plain), codec)
}

// encodeDelta appends the stored form of plain to dst: the difference to base if
// that is much smaller than the chunk in full, since it makes every read slower.
func (w *Writer) encodeDelta(dst, plain []byte, baseID chunk.ID, base []byte) ([]byte, chunk.Codec, error) {
	if base == nil {
		return w.encoder.Encode(dst, plain)
	}
	out, ok, err := w.encoder.EncodeDelta(dst, plain, baseID, base)
	if err != nil {
		return dst, chunk.Delta, err
	}
	size := len(out) - len(dst) + packBaseSize
	if !ok || size >= len(plain) {
		return w.encoder.Encode(dst, plain)
	}
	// Next to no data takes less than twice this in full: encoding it to compare would
	// be wasted.
	if size < len(plain)/8 {
		return out, chunk.Delta, nil
	}
	full, codec, err := w.encoder.Encode(w.full[:0], plain)
	if err != nil {
		return dst, codec, err
	}
	w.full = full
	if 2*size < len(full) {
		return out, chunk.Delta, nil
	}
	return append(dst, full...), codec, nil
}

// base returns the bytes of the chunk that a difference to the given one is made
// to. No bytes mean that there is none to be had.
func (w *Writer) base(ctx context.Context, id chunk.ID) (chunk.ID, []byte, error) {
	s := w.session
	there := s.there.Load()
	if w.bases == nil {
		var err error
		if w.bases, err = s.repo.takeReader(); err != nil {
			return id, nil, err
		}
	}
	if !there.full(&id) {
		l, ok := there.base.locateOne(&id)
		if !ok {
			return id, nil, nil
		}
		stored, err := w.deltas.read(ctx, s.repo.store, l)
		if err != nil {
			return id, nil, w.baseTrouble(ctx, chunkError(id, l, err))
		}
		if stored, err = w.bases.open(&w.bases.frame, id, l, stored); err != nil {
			return id, nil, w.baseTrouble(ctx, chunkError(id, l, err))
		}
		// Not verified: any base will do, this one is only likely to be a good one.
		if id, ok = chunk.DeltaBase(stored); !ok {
			return id, nil, nil
		}
		if !there.full(&id) {
			return id, nil, nil
		}
	}
	data, err := s.repo.readBase(ctx, w.bases, there.base, id)
	if err != nil {
		return id, nil, w.baseTrouble(ctx, err)
	}
	return id, data, nil
}

// baseTrouble says what a base that cannot be read means: nothing, but for what
// ended ctx. It is not silent, since it is damage.
func (w *Writer) baseTrouble(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if !w.session.warned.Swap(true) {
		w.session.repo.opts.Logger.Warn("a chunk to store the difference to cannot be read: storing in full", "error", err)
	}
	return nil
}

// checkBase says whether a stored form under the codec delta may be added: its
// base must be there, and in full.
func (w *Writer) checkBase(id chunk.ID, stored []byte) error {
	base, ok := chunk.DeltaBase(stored)
	switch {
	case !ok:
		return errors.New("it is too short to name its base")
	case base == id:
		return errors.New("it is its own base")
	case !w.session.HasFull(base):
		return &BaseError{ID: base, Err: errors.New("not here in full: add it first, or the chunk's plain bytes with Add")}
	}
	return nil
}

// HasFull reports whether a chunk is in the repository, or was taken on by this
// session, in full: a chunk that is stored as the difference to it can be added with
// AddEncoded.
func (s *Session) HasFull(id chunk.ID) bool {
	there := s.there.Load()
	if there.full(&id) {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := s.there.Load(); now != there && now.full(&id) {
		return true
	}
	return s.pending.hasFull(&id)
}

// BytesDelta returns the plain size of the chunks that this session has stored as
// differences so far. It is part of BytesNew.
func (s *Session) BytesDelta() int64 { return s.newDelta.Load() }
