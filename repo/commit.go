package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Commit makes the snapshot. All Writers must have been flushed. On return with
// nil everything that the manifest names is durable, and so is the manifest. m is
// not changed; m.ID must be set.
//
// When the ID is taken Commit fails with ErrExists, and may be called again with
// another one; chunks may be added before that. Any other error ends the session
// as Abort does: with ErrBadID or ErrInvalid for a manifest that cannot be stored, with
// ErrGivenUp, with the session's first error, with the context's or the bucket's. Where a
// failure leaves open whether the index or the manifest was written, the packs stay,
// and the snapshot exists or not.
//
// When ctx ends before all packs are durable, nothing is left. From then on Commit
// goes on for up to ten seconds, so that it need not leave open how it ended, and
// returns nil if it got through.
func (s *Session) Commit(ctx context.Context, m *Manifest) error {
	s.commitMu.Lock()
	defer s.commitMu.Unlock()
	err := s.commit(ctx, m)
	if err == nil || errors.Is(err, ErrExists) {
		return err
	}
	return errors.Join(err, s.abort(ctx))
}

func (s *Session) commit(ctx context.Context, m *Manifest) error {
	key, data, err := renderManifest(m, s.lease.id)
	if err != nil {
		return err
	}
	if err := s.Sync(ctx); err != nil {
		return err
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	// What is written from here on stays, since others may build on it. It is
	// little: finishing it is better than leaving open how it ended.
	ctx, cancel := outlive(ctx, commitGrace)
	defer cancel()
	if err := s.commitIndex(ctx); err != nil {
		return err
	}
	if err := s.repo.store.create(ctx, key, data); err != nil && !s.wrote(ctx, key, data) {
		if errors.Is(err, errKeyExists) {
			return fmt.Errorf("%w: %s", ErrExists, m.ID)
		}
		s.lease.unsure.Store(true)
		return err
	}
	if err := s.confirm(ctx, m.ID); err != nil {
		s.lease.unsure.Store(true)
		return err
	}
	s.end()
	s.detachOthers(ctx, m.ID)
	s.mu.Lock()
	s.pending, s.packs = newPendingSet(), nil
	s.mu.Unlock()
	s.mergeIndexes(ctx)
	// Not the commit's failure: a lease that stays is given up by the next collection.
	if err := s.release(ctx); err != nil {
		s.repo.opts.Logger.Warn("the lease of a session stays", "error", err)
	}
	return nil
}

// mergeIndexes replaces small indexes by one now and then. A failure is nobody's: the
// repository is whole, and the next commit tries again.
func (s *Session) mergeIndexes(ctx context.Context) {
	// While packs are condemned, indexes still name them, and must not be written anew:
	// after the packs are gone nothing would take them out.
	if there := s.there.Load(); len(there.condemned) > 0 || there.lost {
		return
	}
	if err := s.repo.mergeSmallIndexes(ctx, s.lease); err != nil {
		s.repo.opts.Logger.Warn("merging indexes failed; will be tried again", "error", err)
	}
}

// release ends the session's lease, so that collections need not wait for it.
func (s *Session) release(ctx context.Context) error {
	if !s.lease.unsure.Load() {
		s.repo.ended.add(s.lease.id)
	}
	return s.lease.end(ctx)
}

// renderManifest returns the key and the bytes of a manifest that can be read
// back.
func renderManifest(m *Manifest, by sessionID) (key string, data []byte, err error) {
	if err := CheckID(m.ID); err != nil {
		return "", nil, err
	}
	if err := m.checkText(); err != nil {
		return "", nil, err
	}
	if err := m.Table.check(m.Table.Size()); err != nil {
		return "", nil, fmt.Errorf("%w: manifest of snapshot %s: %w", ErrInvalid, m.ID, err)
	}
	if data, err = seal(storedManifest{m, by.String()}); err != nil {
		return "", nil, fmt.Errorf("%w: manifest of snapshot %s: %w", ErrInvalid, m.ID, err)
	}
	if len(data) > maxManifestSize {
		return "", nil, fmt.Errorf("%w: manifest of snapshot %s: its %d bytes are more than the %d allowed; its metadata is too large", ErrInvalid, m.ID, len(data), maxManifestSize)
	}
	return snapshotPrefix + m.ID, data, nil
}

// wrote tells whether a write that failed took effect all the same, as it does
// when only the store's answer was lost. No two sessions write equal manifests.
func (s *Session) wrote(ctx context.Context, key string, data []byte) bool {
	got, err := s.repo.store.readAll(ctx, key, maxManifestSize)
	return err == nil && bytes.Equal(got, data)
}

// commitIndex makes the index of the session's packs durable, as far as an earlier
// Commit or Checkpoint has not.
func (s *Session) commitIndex(ctx context.Context) error {
	s.mu.Lock()
	if err := s.stateLocked(); err != nil {
		s.mu.Unlock()
		return err
	}
	if missing := s.pending.n - s.packed; missing > 0 {
		s.mu.Unlock()
		return fmt.Errorf("%w: %d chunks are in Writers that were not flushed: call Writer.Flush before Session.Commit", ErrInvalid, missing)
	}
	packs := s.unindexed()
	s.mu.Unlock()
	if err := s.indexPacks(ctx, packs); err != nil {
		return s.fail(err)
	}
	return nil
}

// commitGrace is how long the last writes of a commit may go on after its context
// has ended.
const commitGrace = 10 * time.Second

// outlive returns a context that ends the given time after ctx does.
func outlive(ctx context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	out, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	var timer *time.Timer
	var mu sync.Mutex
	stop := context.AfterFunc(ctx, func() {
		mu.Lock()
		defer mu.Unlock()
		timer = time.AfterFunc(grace, func() { cancel(context.Cause(ctx)) })
	})
	return out, func() {
		stop()
		cancel(nil)
		mu.Lock()
		defer mu.Unlock()
		if timer != nil {
			timer.Stop()
		}
	}
}

// end frees what the session holds and refuses further use. It reports whether it
// was this call that ended it.
func (s *Session) end() bool {
	s.mu.Lock()
	ended := s.ended
	s.ended = true
	s.stopped.Store(true)
	// What a checkpoint needs of it stays.
	s.pending = s.pending.view()
	s.mu.Unlock()
	if ended {
		return false
	}
	s.cancel(ErrClosed)
	s.metaMu.Lock()
	s.meta.pack = nil
	s.meta.Close()
	s.meta = nil
	s.metaMu.Unlock()
	return true
}

// Abort ends the session, cancels its uploads and deletes what it has stored, but for
// what a Checkpoint has made known, also when ctx has ended: then it goes on for up to thirty seconds. After Commit it
// does nothing, so that it can be deferred. It waits for a Commit under way. Its
// errors are the bucket's; what could not be deleted is garbage that does no harm.
func (s *Session) Abort(ctx context.Context) error {
	s.commitMu.Lock()
	defer s.commitMu.Unlock()
	return s.abort(ctx)
}

func (s *Session) abort(ctx context.Context) error {
	if !s.end() {
		return nil
	}
	ctx, cancel := outlive(ctx, abortGrace)
	defer cancel()
	// A pack that is still being written could appear after it was deleted. Nothing
	// ever names it, so the lease is not needed for it.
	return errors.Join(s.detach(ctx), s.deletePacks(ctx), s.release(ctx))
}

// deletePacks deletes what an aborted session has stored and no index names.
func (s *Session) deletePacks(ctx context.Context) error {
	if err := s.settle(ctx); err != nil {
		return fmt.Errorf("repo: clean up after an aborted session: an upload does not end: %w", err)
	}
	s.mu.Lock()
	packs := slices.DeleteFunc(s.packs, func(p *sessionPack) bool { return p.named })
	s.packs = nil
	s.mu.Unlock()
	if len(packs) == 0 {
		return nil
	}
	// Somebody may have rebuilt the index meanwhile, against the rule: a pack that
	// an index names is no longer this session's to delete.
	set, err := s.repo.refreshIndex(ctx)
	if err != nil {
		return fmt.Errorf("repo: clean up after an aborted session: %w", err)
	}
	if broken := set.brokenErr(); broken != nil {
		return fmt.Errorf("repo: clean up after an aborted session: %d packs stay, an index that cannot be used might name them: %w", len(packs), broken)
	}
	var errs []error
	for _, p := range packs {
		if set.namesPack(p.id) {
			continue
		}
		if err := s.repo.store.remove(ctx, packKey(p.id)); err != nil {
			errs = append(errs, fmt.Errorf("repo: clean up after an aborted session: %w", err))
			if ctx.Err() != nil || errors.Is(err, ErrUnavailable) {
				break
			}
		}
	}
	return errors.Join(errs...)
}

// abortGrace is how long an abort may go on deleting after its context has ended.
const abortGrace = 30 * time.Second
