package repo

import (
	"context"
	"maps"
	"slices"

	"github.com/holdstill/holdstill/chunk"
)

// found is what a session knows of what others have stored. It does not change.
type found struct {
	// base is what the indexes name. Chunks that are there are not stored again.
	base *indexSet
	// condemned holds the packs that must not be relied on, since a collection deletes them.
	condemned map[packID]bool
	// lost is set if there are indexes of sessions that were given up, or are about to be.
	// They are not in base.
	lost bool
}

// usable says whether a session may rely on what is stored at a place.
func (f *found) usable(l location) bool { return !f.condemned[l.pack] }

// has says whether a session may rely on a chunk.
func (f *found) has(id *chunk.ID) bool {
	if len(f.condemned) == 0 {
		return f.base.has(id)
	}
	return slices.ContainsFunc(f.base.locate(id), f.usable)
}

// full is has for a chunk that must be there in full.
func (f *found) full(id *chunk.ID) bool {
	if len(f.condemned) == 0 {
		_, ok := f.base.locateFull(id)
		return ok
	}
	return slices.ContainsFunc(f.base.locate(id), func(l location) bool { return l.codec != chunk.Delta && f.usable(l) })
}

// stored reports whether the session may rely on a chunk that others have stored.
func (s *Session) stored(id *chunk.ID) bool { return s.there.Load().has(id) }

// Refresh looks at what others have stored since the session began, so that it need not
// be stored again: what they have committed, and what they have kept by a Checkpoint. Has and
// Add know it from then on. What no snapshot names of that is safe from a collection as
// long as this session lasts. It costs a listing and the new indexes. The session then keeps
// no longer in memory what a Checkpoint of its own has made known: see Held.
//
// It fails with ErrClosed after the session's end, with the context's error or the
// bucket's. A failure leaves the session as it was.
func (s *Session) Refresh(ctx context.Context) error {
	if err := s.state(); err != nil {
		return err
	}
	s.refreshMu.Lock()
	defer s.refreshMu.Unlock()
	if err := s.look(ctx); err != nil {
		return err
	}
	// Who holds it makes an index of what is held, or ends the session: there is a next time.
	if s.commitMu.TryLock() {
		s.forget()
		s.commitMu.Unlock()
	}
	return nil
}

// look learns what the session may rely on (step 2 of a session). The order matters: a
// plan is forgotten only after no index names its packs. What the first look saw condemned
// stays so, whatever becomes of the plan. Plans that began later wait for this session, and so
// condemn nothing for it.
func (s *Session) look(ctx context.Context) error {
	base, err := s.repo.refreshIndex(ctx)
	if err != nil {
		return err
	}
	view, err := s.repo.listGarbage(ctx)
	if err != nil {
		return err
	}
	next := &found{base: base}
	if before := s.there.Load(); before != nil {
		next.condemned = before.condemned
	} else if next.condemned, err = s.repo.condemned(ctx, view, planID{}); err != nil {
		return err
	}
	if s.repo.collectFault == faultRelyCondemned {
		next.condemned = nil
	}
	// An index that appears while its session is being given up may be too late to be
	// taken over, and counts for nothing as soon as there is a verdict.
	doubtful := maps.Clone(view.verdicts)
	if s.repo.collectFault != faultRelyClosing {
		maps.Copy(doubtful, view.closing)
	}
	delete(doubtful, s.lease.id)
	if next.lost = base.of(doubtful); next.lost {
		if next.base, err = s.repo.indexWithout(ctx, doubtful); err != nil {
			return err
		}
	}
	s.there.Store(next)
	return nil
}
