package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/holdstill/holdstill/chunk"
)

// maxListings is how often the indexes are listed again before a chunk is called
// missing, or a listing that does not come to rest is given up.
const maxListings = 10

// reader is what one goroutine needs to read chunks. Readers are pooled.
type reader struct {
	decoder *chunk.Decoder
	ident   *chunk.Identifier
	stored  []byte

	// frame and baseFrame are room for frames out of their seals; keys is nil where
	// none are sealed.
	keys             *keyring
	context          frameContext
	frame, baseFrame []byte

	// base holds the plain bytes of the last base, window the stored ones.
	base   []byte
	window frameWindow
	// plain holds the last difference that was decoded.
	plain []byte
}

func (r *Repository) takeReader() (*reader, error) {
	if rd, ok := r.readers.Get().(*reader); ok {
		rd.window.reset()
		return rd, nil
	}
	decoder, err := chunk.NewDecoder()
	if err != nil {
		return nil, err
	}
	ident, err := r.NewIdentifier()
	if err != nil {
		return nil, err
	}
	return &reader{decoder: decoder, ident: ident, keys: r.store.keys}, nil
}

// open returns the encoded form of a chunk, of which sealed is what is stored. It stands in
// room, until that is used again, or in sealed itself where nothing is sealed.
func (rd *reader) open(room *[]byte, id chunk.ID, l location, sealed []byte) ([]byte, error) {
	if rd.keys == nil {
		return sealed, nil
	}
	rd.context.set(&id, l.plain, l.codec)
	out, err := rd.keys.openFrame((*room)[:0], sealed, &id, &rd.context)
	if err == nil {
		*room = out
	}
	return out, err
}

// NewIdentifier returns an Identifier that makes the IDs of this repository's chunks, for
// data that lies elsewhere. It belongs to one goroutine at a time.
func (r *Repository) NewIdentifier() (*chunk.Identifier, error) { return r.store.keys.newIdentifier() }

func (rd *reader) room(n int) []byte {
	rd.stored = slices.Grow(rd.stored[:0], n)[:n]
	return rd.stored
}

// ReadChunk appends the plain bytes of a chunk to dst. Every byte returned was
// checked against the chunk's ID. It fails with a *ChunkError.
func (r *Repository) ReadChunk(ctx context.Context, id chunk.ID, dst []byte) ([]byte, error) {
	if err := r.use(); err != nil {
		return dst, err
	}
	if data := r.cache.get(id); data != nil {
		return append(dst, data...), nil
	}
	places, err := r.locate(ctx, id)
	if err != nil {
		return dst, err
	}
	out, err := r.readFrom(ctx, id, places, dst)
	if err == nil {
		return out, nil
	}
	if r.indexMisled(ctx, id) {
		if places, err = r.locate(ctx, id); err != nil {
			return dst, err
		}
	} else if places = r.moved(ctx, id, places, err); places == nil {
		return out, err
	}
	return r.readFrom(ctx, id, places, dst)
}

// moved returns where a chunk is by now, if it could not be read since a collection has
// moved it, or what it is a difference to; nil if there is nothing new to be known.
func (r *Repository) moved(ctx context.Context, id chunk.ID, before []location, err error) []location {
	if err == nil || !errors.Is(err, ErrMissing) || ctx.Err() != nil {
		return nil
	}
	var base *BaseError
	ofBase := errors.As(err, &base)
	set, err := r.refreshIndex(ctx)
	if err != nil {
		return nil
	}
	places := set.locate(&id)
	if ofBase || !slices.Equal(places, before) {
		return places
	}
	return nil
}

// indexMisled reports, of a chunk that could not be read, whether a file of the index
// cache that says where it is was damaged after it had been found sound. Then the indexes
// have been read again, and reading the chunk is worth another try.
func (r *Repository) indexMisled(ctx context.Context, id chunk.ID) bool {
	if s := r.indexes.Load(); ctx.Err() != nil || s == nil || s.recheck(&id) == nil {
		return false
	}
	_, err := r.refreshIndex(ctx)
	return err == nil
}

// readFrom reads a chunk from the first place that holds it whole.
func (r *Repository) readFrom(ctx context.Context, id chunk.ID, places []location, dst []byte) ([]byte, error) {
	rd, err := r.takeReader()
	if err != nil {
		return dst, err
	}
	defer r.readers.Put(rd)
	var first error
	for _, l := range places {
		stored := rd.room(int(l.stored))
		err := r.store.readRange(ctx, packKey(l.pack), stored, int64(l.offset))
		out := dst
		if err == nil {
			out, err = r.decode(ctx, rd, nil, id, l, stored, dst)
		}
		if err == nil {
			return out, nil
		}
		if first == nil {
			first = chunkError(id, l, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return dst, first
}

// chunkError wraps the reason why a chunk could not be read from a place.
func chunkError(id chunk.ID, l location, err error) error {
	if errors.Is(err, errKeyMissing) && !errors.Is(err, ErrMissing) {
		err = fmt.Errorf("%w: %w", ErrMissing, err)
	}
	return &ChunkError{ID: id, Pack: packKey(l.pack), Offset: int64(l.offset), Length: int64(l.stored), Err: err}
}

// decode appends the plain bytes of a chunk that is stored in full to dst, checked
// against its ID.
func (rd *reader) decode(id chunk.ID, l location, stored, dst []byte) ([]byte, error) {
	out, err := rd.decoder.Decode(dst, l.codec, stored, int(l.plain))
	if err == nil {
		err = rd.ident.Verify(id, out[len(dst):])
	}
	if errors.Is(err, chunk.ErrUnknownCodec) {
		return dst, &FormatError{Object: packKey(l.pack), Version: FormatVersion, Requires: l.codec.String()}
	}
	if err != nil {
		return dst, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return out, nil
}

// locate returns the places of a chunk. If there is none it looks at what other
// writers have added.
func (r *Repository) locate(ctx context.Context, id chunk.ID) ([]location, error) {
	set, err := r.currentIndex(ctx)
	if err != nil {
		return nil, err
	}
	places := set.locate(&id)
	if len(places) == 0 {
		// What the cache should know and denies, it is asked again after this.
		_ = set.recheck(&id)
	}
	// A listing takes time: while it runs, an index may be replaced by one whose
	// name the listing has passed. Two that agree have missed nothing.
	for attempt := 0; len(places) == 0 && attempt < maxListings; attempt++ {
		before := set
		if set, err = r.refreshIndex(ctx); err != nil {
			return nil, err
		}
		places = set.locate(&id)
		if attempt > 0 && set.sameAs(before) {
			break
		}
	}
	if len(places) == 0 {
		err := fmt.Errorf("%w: it is in no index", ErrMissing)
		if broken := set.brokenErr(); broken != nil {
			err = fmt.Errorf("%w that can be used, rebuild the index: %w", err, broken)
		}
		return nil, &ChunkError{ID: id, Err: err}
	}
	return places, nil
}

// cachedChunk returns the plain bytes of a chunk, which must not be written to,
// and keeps them for the next time.
func (r *Repository) cachedChunk(ctx context.Context, id chunk.ID) ([]byte, error) {
	if data := r.cache.get(id); data != nil {
		return data, nil
	}
	data, err := r.ReadChunk(ctx, id, nil)
	if err == nil {
		r.cache.put(id, data)
	}
	return data, err
}

// ReadEncoded appends a chunk to dst as it is encoded, out of its seal where the repository
// is encrypted, and returns how it is encoded and
// its plain length, after checking that it decodes to the bytes that its ID
// stands for. Another repository of the same identity (see SameIdentity) takes it with
// Writer.AddEncoded, which seals it again; under the codec
// chunk.Delta it needs the chunk that chunk.DeltaBase names before that. A place that holds the
// chunk in full is preferred. It fails with a *ChunkError.
func (r *Repository) ReadEncoded(ctx context.Context, id chunk.ID, dst []byte) (stored []byte, codec chunk.Codec, size int, err error) {
	if err := r.use(); err != nil {
		return dst, 0, 0, err
	}
	stored, codec, size, err = r.readEncoded(ctx, id, dst)
	if err != nil && r.indexMisled(ctx, id) {
		return r.readEncoded(ctx, id, dst)
	}
	return stored, codec, size, err
}

func (r *Repository) readEncoded(ctx context.Context, id chunk.ID, dst []byte) (stored []byte, codec chunk.Codec, size int, err error) {
	places, err := r.locate(ctx, id)
	if err != nil {
		return dst, 0, 0, err
	}
	rd, err := r.takeReader()
	if err != nil {
		return dst, 0, 0, err
	}
	defer r.readers.Put(rd)
	var first error
	for _, l := range places {
		out := slices.Grow(dst, int(l.stored))[:len(dst)+int(l.stored)]
		stored := out[len(dst):]
		err := r.store.readRange(ctx, packKey(l.pack), stored, int64(l.offset))
		if err == nil {
			stored, err = rd.open(&rd.frame, id, l, stored)
		}
		if err == nil {
			rd.stored, err = r.decodeFrame(ctx, rd, nil, id, l, stored, rd.stored[:0])
		}
		if err == nil {
			return append(dst, stored...), l.codec, int(l.plain), nil
		}
		if first == nil {
			first = chunkError(id, l, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return dst, 0, 0, first
}
