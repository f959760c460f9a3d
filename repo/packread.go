package repo

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/holdstill/holdstill/chunk"
)

// footerGuess is how much of a pack's end is read at first, in bytes: enough for
// the footer of most packs.
const footerGuess = 64 << 10

// readPackFooter returns what a pack says that it holds, checked against its name.
// It costs one request where the pack is small, else two or three.
func (r *Repository) readPackFooter(ctx context.Context, p packInfo) (packContent, error) {
	content, key, size := packContent{packInfo: p}, packKey(p.id), p.size
	if size < packHeaderSize+packTrailerSize {
		return content, corrupt(key, "its %d bytes cannot be a pack", size)
	}
	if size > maxPackSize {
		return content, corrupt(key, "its %d bytes are more than the %d allowed", size, maxPackSize)
	}
	tail := make([]byte, min(size, footerGuess))
	if err := r.store.readRange(ctx, key, tail, size-int64(len(tail))); err != nil {
		return content, err
	}
	header := tail[:packHeaderSize]
	if int64(len(tail)) < size {
		header = make([]byte, packHeaderSize)
		if err := r.store.readRange(ctx, key, header, 0); err != nil {
			return content, err
		}
	}
	trailer, err := parsePackTrailer(key, tail[len(tail)-packTrailerSize:], size)
	if err != nil {
		return content, err
	}
	if trailer.id != p.id {
		return content, corrupt(key, "it is the pack %s under another name", trailer.id)
	}
	footer := tail[:len(tail)-packTrailerSize]
	if int64(len(footer)) >= trailer.footerLength {
		footer = footer[int64(len(footer))-trailer.footerLength:]
	} else {
		footer = make([]byte, trailer.footerLength)
		if err := r.store.readRange(ctx, key, footer, size-packTrailerSize-trailer.footerLength); err != nil {
			return content, err
		}
	}
	return parsePackFooter(r.store.keys, key, p, header, footer)
}

// footerResult is what reading one pack's footer gave.
type footerResult struct {
	packContent
	err error
}

// readAllFooters reads the footers of all packs, in the order of their keys. A
// pack that cannot be read has an error in its result; the error returned is one
// of the listing or of the context.
func (r *Repository) readAllFooters(ctx context.Context) ([]footerResult, error) {
	var out []footerResult
	err := r.store.list(ctx, packPrefix, func(o object) error {
		if id, ok := parsePackKey(o.key); ok {
			out = append(out, footerResult{packContent: packContent{packInfo: packInfo{id, o.size}}})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(4 * runtime.GOMAXPROCS(0))
	for i := range out {
		p := &out[i]
		group.Go(func() error {
			p.packContent, p.err = r.readPackFooter(ctx, p.packInfo)
			return context.Cause(ctx)
		})
	}
	return out, group.Wait()
}

// badFrame is a chunk whose stored bytes are damaged.
type badFrame struct {
	entry packEntry
	err   error
	// base: the frame is as it was written, but the chunk that it is the difference
	// to is damaged or not there.
	base bool
	// readable: the damage is in bits that do not matter to the decoder, so that
	// the right bytes still come out.
	readable bool
}

// verifyPack reads all of a pack and checks every chunk in it. Bases are looked for
// in what all says. The error is one of reading; damage is in the result.
func (r *Repository) verifyPack(ctx context.Context, p packContent, all *indexSet) ([]badFrame, error) {
	rd, err := r.takeReader()
	if err != nil {
		return nil, err
	}
	defer r.readers.Put(rd)
	key := packKey(p.id)
	var bad []badFrame
	var plain []byte
	for entries := p.entries; len(entries) > 0; {
		n := 1
		for n < len(entries) && entries[n].end()-int64(entries[0].offset) <= maxRun {
			n++
		}
		start := int64(entries[0].offset)
		stored := rd.room(int(entries[n-1].end() - start))
		readErr := r.store.readRange(ctx, key, stored, start)
		if readErr != nil && (ctx.Err() != nil || !errors.Is(readErr, ErrCorrupt)) {
			return bad, readErr
		}
		for _, e := range entries[:n] {
			b := badFrame{entry: e, err: readErr}
			if readErr == nil {
				frame := stored[int64(e.offset)-start:][:e.stored]
				plain = r.verifyFrame(ctx, rd, p, all, &b, frame, plain[:0])
			}
			if b.err != nil {
				bad = append(bad, b)
			}
		}
		entries = entries[n:]
	}
	return bad, nil
}

// verifyFrame decodes one chunk to dst and records in b what is wrong with it.
func (r *Repository) verifyFrame(ctx context.Context, rd *reader, p packContent, all *indexSet, b *badFrame, frame, dst []byte) []byte {
	e := b.entry
	sum := crc32.Checksum(frame, castagnoli) == e.crc
	l := location{pack: p.id, offset: e.offset, stored: e.stored, plain: e.plain, codec: e.codec}
	if frame, b.err = rd.open(&rd.frame, e.id, l, frame); b.err == nil {
		dst, b.err = r.decodeFrame(ctx, rd, all, e.id, l, frame, dst)
	}
	var base *BaseError
	switch {
	case errors.As(b.err, &base) && !sum:
		b.err = fmt.Errorf("%w: its checksum does not match", ErrCorrupt)
	case errors.As(b.err, &base):
		b.base = errors.Is(b.err, ErrCorrupt) || errors.Is(b.err, ErrMissing) || errors.Is(b.err, ErrFormat)
	case b.err != nil:
	case !sum:
		b.err, b.readable = fmt.Errorf("%w: its checksum does not match, though it can still be read", ErrCorrupt), true
	case e.base > 0:
		if got, _ := chunk.DeltaBase(frame); got != p.bases[e.base-1] {
			b.err = fmt.Errorf("%w: it is the difference to %s, and its pack says to %s", ErrCorrupt, got, p.bases[e.base-1])
		}
	}
	return dst
}

// verifyPacks runs verifyPack over many packs at once, of which all is an index, and calls done, one call at
// a time, after each.
func (r *Repository) verifyPacks(ctx context.Context, packs []packContent, all *index, done func(packContent, []badFrame, error)) error {
	set := &indexSet{indexes: []*index{all}}
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for _, p := range packs {
		group.Go(func() error {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			bad, err := r.verifyPack(ctx, p, set)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			mu.Lock()
			defer mu.Unlock()
			done(p, bad, err)
			return nil
		})
	}
	return group.Wait()
}
