package repo

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// VerifyPacks asks the bucket for the packs that this session has made durable since the
// last call, and compares their sizes; with readBack it reads them and compares their
// checksums. It is for stores that are not trusted to have what they acknowledged. Packs
// still on their way are left for the next call. It fails with a *CorruptError or an
// error that matches ErrMissing for the first pack that is not as it was sent, which ends
// the session's use, with the context's error, or with the bucket's.
func (s *Session) VerifyPacks(ctx context.Context, readBack bool) error {
	s.mu.Lock()
	var packs []*sessionPack
	for _, p := range s.packs {
		if p.durable && !p.verified {
			packs = append(packs, p)
		}
	}
	s.mu.Unlock()
	var next atomic.Int64
	group, groupCtx := errgroup.WithContext(ctx)
	for range min(len(packs), DefaultFetches) {
		group.Go(func() error {
			var buf []byte
			for {
				n := int(next.Add(1)) - 1
				if n >= len(packs) {
					return nil
				}
				var err error
				if buf, err = s.verifySent(groupCtx, packs[n], readBack, buf); err != nil {
					return err
				}
			}
		})
	}
	err := group.Wait()
	if errors.Is(err, ErrCorrupt) || errors.Is(err, ErrMissing) {
		return s.fail(err)
	}
	return err
}

// verifySent compares one pack with what was sent.
func (s *Session) verifySent(ctx context.Context, p *sessionPack, readBack bool, buf []byte) ([]byte, error) {
	key := packKey(p.id)
	size, err := s.repo.store.size(ctx, key)
	if errors.Is(err, errKeyMissing) {
		err = fmt.Errorf("%w: the store acknowledged a pack that it does not have: %w", ErrMissing, err)
	}
	if err == nil && size != p.size {
		err = corrupt(key, "%d bytes were sent and %d are there", p.size, size)
	}
	if err != nil {
		return buf, err
	}
	if readBack {
		content, err := s.repo.readPackFooter(ctx, p.packInfo)
		if err != nil {
			return buf, err
		}
		if buf, err = s.readBack(ctx, content, buf); err != nil {
			return buf, err
		}
	}
	s.mu.Lock()
	p.verified = true
	s.mu.Unlock()
	return buf, nil
}

// readBack compares the chunks of a pack with their checksums.
func (s *Session) readBack(ctx context.Context, p packContent, buf []byte) ([]byte, error) {
	key := packKey(p.id)
	for entries := p.entries; len(entries) > 0; {
		n := 1
		for n < len(entries) && entries[n].end()-int64(entries[0].offset) <= maxFetch {
			n++
		}
		start := int64(entries[0].offset)
		length := int(entries[n-1].end() - start)
		if cap(buf) < length {
			buf = make([]byte, length)
		}
		stored := buf[:length]
		if err := s.repo.store.readRange(ctx, key, stored, start); err != nil {
			return buf, err
		}
		for _, e := range entries[:n] {
			if crc32.Checksum(stored[int64(e.offset)-start:][:e.stored], castagnoli) != e.crc {
				return buf, corrupt(key, "the chunk %s at byte %d is not as it was sent", e.id, e.offset)
			}
		}
		entries = entries[n:]
	}
	return buf, nil
}

// size returns the length of an object.
func (s store) size(ctx context.Context, key string) (n int64, err error) {
	err = s.try(ctx, request{verb: "look at", key: key}, func(ctx context.Context, _ int) error {
		attrs, err := s.bucket.Attributes(ctx, key)
		if err == nil {
			n = attrs.Size
		}
		return err
	})
	return n, err
}

// PacksStored returns how many packs this session has made durable so far.
func (s *Session) PacksStored() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	var n int64
	for _, p := range s.packs {
		if p.durable {
			n++
		}
	}
	return n
}
