package repo

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdstill/holdstill/chunk"
)

// A Writer adds chunks to its own pack. It is not safe for concurrent use.
type Writer struct {
	session *Session
	encoder *chunk.Encoder
	ident   *chunk.Identifier
	pack    *packBuilder
	// filled: it has filled a pack, and is likely to fill the next one.
	filled bool

	// The fields below serve AddDelta: bases, nil before the first one is needed,
	// reads them; deltas reads chunks that are stored as differences to them; full is
	// room for a chunk in full.
	bases  *reader
	deltas frameWindow
	full   []byte
}

// NewWriter returns a Writer, which must be flushed before the session is
// committed, and closed. A chunk.ParamError says that Options.Policy is unknown.
func (s *Session) NewWriter() (*Writer, error) { return s.NewPausingWriter(nil) }

// NewPausingWriter is NewWriter for those who share the processors with what matters
// more: Add calls pause again and again while it encodes a large chunk. See
// chunk.EncoderOptions.
func (s *Session) NewPausingWriter(pause func()) (*Writer, error) {
	ident, err := s.repo.store.keys.newIdentifier()
	if err != nil {
		return nil, err
	}
	encoder, err := chunk.NewEncoder(chunk.EncoderOptions{Policy: s.repo.opts.Policy, Pause: pause})
	if err != nil {
		return nil, err
	}
	return &Writer{session: s, encoder: encoder, ident: ident}, nil
}

// Add stores a chunk of 1 to chunk.MaxSize bytes, unless the repository or this
// session has it, and returns its ID and whether it was new. It does not keep
// plain. A new chunk is durable only after Commit.
//
// Add may wait for an upload to end. It fails with the session's first error,
// which may come from another Writer; with ErrClosed after the session's end; with
// the context's error; or with ErrInvalid for a chunk of the wrong size, which
// leaves the session as it was.
func (w *Writer) Add(ctx context.Context, plain []byte) (id chunk.ID, fresh bool, err error) {
	if id, fresh, err = w.claim(ctx, plain, true); !fresh || err != nil {
		return id, false, err
	}
	if err := w.room(ctx, chunk.EncodeRoom(len(plain))); err != nil {
		return id, false, err
	}
	start := w.pack.begin()
	buf, codec, err := w.encoder.Encode(w.pack.buf, plain)
	if err != nil {
		return id, false, w.session.fail(err)
	}
	w.pack.buf = buf
	return id, true, w.added(ctx, id, start, len(plain), codec)
}

// claim names a chunk and says whether this Writer has to store it; full says that
// it will not be stored as a difference.
func (w *Writer) claim(ctx context.Context, plain []byte, full bool) (id chunk.ID, fresh bool, err error) {
	if len(plain) < 1 || len(plain) > chunk.MaxSize {
		return id, false, fmt.Errorf("%w: a chunk of %d bytes, want 1 to %d", ErrInvalid, len(plain), chunk.MaxSize)
	}
	if err := context.Cause(ctx); err != nil {
		return id, false, err
	}
	id = w.ident.Identify(plain)
	fresh, err = w.session.claim(&id, full)
	return id, fresh, err
}

// AddEncoded stores a chunk that is encoded already, as Repository.ReadEncoded of
// another repository of the same identity returns it. The caller answers for id, codec, size and stored
// belonging together; what cannot be true fails with ErrInvalid, and so does a
// difference, under the codec chunk.Delta, whose base Session.HasFull does not know.
// Otherwise it is like Add.
func (w *Writer) AddEncoded(ctx context.Context, id chunk.ID, codec chunk.Codec, stored []byte, size int) (fresh bool, err error) {
	raw := codec == chunk.Raw
	if size < 1 || size > chunk.MaxSize || len(stored) < 1 || codec > chunk.Delta || raw && len(stored) != size || !raw && len(stored) >= size {
		return false, fmt.Errorf("%w: chunk %s of %d bytes cannot be stored in %d bytes of %v", ErrInvalid, id, size, len(stored), codec)
	}
	if err := context.Cause(ctx); err != nil {
		return false, err
	}
	delta := codec == chunk.Delta
	if delta {
		if err := w.checkBase(id, stored); err != nil {
			return false, fmt.Errorf("%w: chunk %s: %w", ErrInvalid, id, err)
		}
	}
	if fresh, err = w.session.claim(&id, !delta); !fresh || err != nil {
		return false, err
	}
	if err := w.room(ctx, packBaseSize+len(stored)); err != nil {
		return false, err
	}
	if delta {
		w.session.newDelta.Add(int64(size))
	}
	start := w.pack.begin()
	w.pack.buf = append(w.pack.buf, stored...)
	return true, w.added(ctx, id, start, size, codec)
}

func (w *Writer) added(ctx context.Context, id chunk.ID, start, plain int, codec chunk.Codec) error {
	w.pack.add(id, start, plain, codec)
	w.session.newPlain.Add(int64(plain))
	// Records count too: of tiny chunks the footer is the larger part.
	if w.pack.size() >= w.session.repo.opts.PackSize {
		w.filled = true
		return w.Flush(ctx)
	}
	return nil
}

// room makes sure that there is a pack with n bytes of room for the next chunk. A
// pack whose buffer would have to grow beyond what others need is sent off as it
// is.
func (w *Writer) room(ctx context.Context, n int) error {
	limit := w.session.repo.opts.PackSize + packHeadroom
	if w.pack != nil && len(w.pack.entries) > 0 && w.pack.size()+packRecordSize+n+w.pack.keys.frameRoom() > limit {
		if err := w.Flush(ctx); err != nil {
			return err
		}
	}
	if w.pack == nil {
		w.pack = &packBuilder{keys: w.session.repo.store.keys}
		if w.filled {
			w.pack = w.session.largeBuilder(limit)
		}
		w.pack.reset()
	}
	if cap(w.pack.buf) >= packGrowth*minPackBuffer && w.pack.lacks(packRecordSize+n) {
		large := w.session.largeBuilder(limit)
		large.adopt(w.pack)
		w.pack = large
	}
	w.pack.reserve(packRecordSize+n, limit)
	return nil
}

// packHeadroom is what the last chunk may take beyond a full pack, in bytes. It
// holds a chunk of 1 MiB, the largest that the default sizes cut; larger ones
// close their pack a little early.
const packHeadroom = chunk.DefaultGearMax + 64<<10

// Flush hands the pack under way to the bucket. The Writer can be used further.
// That the pack is durable is known only after Commit, or Sync. It fails as Add
// does; an error ends the session's use.
func (w *Writer) Flush(ctx context.Context) error {
	if w.pack == nil || len(w.pack.entries) == 0 {
		return nil
	}
	pack := w.pack
	w.pack = nil
	return w.session.upload(ctx, pack)
}

// Close frees what the Writer holds. Chunks that were not flushed are lost, and
// the session cannot be committed without them: flush first. More calls do
// nothing.
func (w *Writer) Close() {
	if w.pack != nil && len(w.pack.entries) > 0 {
		_ = w.session.fail(errors.New("repo: a Writer was closed with chunks that were not flushed"))
	}
	w.encoder.Close()
	w.pack = nil
	if w.bases != nil {
		w.session.repo.readers.Put(w.bases)
		w.bases = nil
	}
}
