package repo

import (
	"context"
	"errors"
	"slices"

	"github.com/holdstill/holdstill/chunk"
)

// sessionPack is a pack that a session has handed to the bucket. The session's mu
// guards all but packInfo, which does not change; rows and bases change under commitMu as
// well.
type sessionPack struct {
	packInfo
	// rows are nil once the chunks are known from the repository's index.
	rows []packRow
	// bases are the chunks that deltas in the pack are differences to, as far as they were
	// not in the repository when the session began.
	bases []chunk.ID
	// durable: the bucket has it.
	durable bool
	// named: an index that others can see names it, or may do so, since a write that
	// failed may have taken effect. It is not this session's to delete any more.
	named bool
	// indexed: an index that is durable names it.
	indexed bool
	// verified: it was looked at since.
	verified bool
}

// ownBases returns those of the bases that only the session has stored.
func ownBases(there *found, bases []chunk.ID) []chunk.ID {
	var own []chunk.ID
	for i := range bases {
		if !there.full(&bases[i]) {
			own = append(own, bases[i])
		}
	}
	return own
}

// Checkpoint makes an index of the packs that are durable so far, and goes on. What it
// names is found by sessions that begin later, of this process or another, also when
// this session is aborted or the process is killed: work that is done again goes on
// from there. What no snapshot ever names of it is garbage. Writers may go on meanwhile;
// chunks that they have not flushed, and packs still on their way, are left for the next
// time. A difference is left too, as long as its base is not durable.
//
// It fails with ErrClosed after the session's end, with the context's error or the
// bucket's. A failure does not end the session.
func (s *Session) Checkpoint(ctx context.Context) error {
	s.commitMu.Lock()
	defer s.commitMu.Unlock()
	s.mu.Lock()
	ended := s.ended
	s.mu.Unlock()
	if ended {
		return ErrClosed
	}
	return s.checkpoint(ctx)
}

// checkpoint does the work of Checkpoint, also in a session that has ended. The caller
// holds commitMu.
func (s *Session) checkpoint(ctx context.Context) error {
	s.mu.Lock()
	packs := slices.DeleteFunc(s.unindexed(), func(p *sessionPack) bool { return !p.durable })
	packs = s.selfContained(packs)
	s.mu.Unlock()
	if len(packs) == 0 {
		return nil
	}
	if err := s.indexPacks(ctx, packs); err != nil {
		return err
	}
	s.mergeIndexes(ctx)
	return nil
}

// unindexed returns the packs that no index names for sure. The caller holds mu.
func (s *Session) unindexed() []*sessionPack {
	var out []*sessionPack
	for _, p := range s.packs {
		if !p.indexed {
			out = append(out, p)
		}
	}
	return out
}

// selfContained returns those of some packs whose differences can be read with them and
// the packs that are indexed already. The caller holds mu.
func (s *Session) selfContained(packs []*sessionPack) []*sessionPack {
	for {
		missing := make(map[chunk.ID]bool)
		for _, p := range packs {
			for _, id := range p.bases {
				missing[id] = true
			}
		}
		if len(missing) == 0 {
			return packs
		}
		found := func(p *sessionPack) {
			for _, row := range p.rows {
				if _, codec := splitPlain(row.plainCodec); codec != chunk.Delta {
					delete(missing, *s.pending.id(row.number))
				}
			}
		}
		for _, p := range s.packs {
			if p.indexed {
				found(p)
			}
		}
		for _, p := range packs {
			found(p)
		}
		before := len(packs)
		packs = slices.DeleteFunc(packs, func(p *sessionPack) bool {
			return slices.ContainsFunc(p.bases, func(id chunk.ID) bool { return missing[id] })
		})
		// What was left out may have held the bases of others.
		if len(packs) == before {
			return packs
		}
	}
}

// indexPacks makes an index of packs that are durable.
func (s *Session) indexPacks(ctx context.Context, packs []*sessionPack) error {
	s.mu.Lock()
	for _, p := range packs {
		// A failed write may have taken effect, and then others can see the packs:
		// from here on an abort must leave them.
		p.named = true
	}
	chunks := s.pending.view()
	s.mu.Unlock()
	for len(packs) > 0 {
		n := partOf(packs, func(p *sessionPack) int { return len(p.rows) })
		data, x := chunks.index(packs[:n], []indexID{indexID(s.lease.id)})
		if err := s.repo.writeIndex(ctx, data, x); err != nil {
			s.lease.unsure.Store(true)
			return err
		}
		s.repo.adoptIndex(ctx, x)
		s.mu.Lock()
		s.written += x.size + s.repo.store.keys.objectRoom(indexKey(x.id))
		for _, p := range packs[:n] {
			p.indexed = true
		}
		s.mu.Unlock()
		packs = packs[n:]
	}
	return nil
}

// Suspend ends the session without a snapshot, as Abort does, but keeps what is durable:
// uploads under way are cancelled, and the rest is left as after a Checkpoint. All of it
// ends with ctx, so ctx must not have ended when it is called; what could not be done by
// then is garbage that does no harm. After Commit or Abort it does nothing.
func (s *Session) Suspend(ctx context.Context) (err error) {
	s.commitMu.Lock()
	defer s.commitMu.Unlock()
	if !s.end() {
		return nil
	}
	detachErr := s.detach(ctx)
	if err := s.settle(ctx); err != nil {
		return errors.Join(err, detachErr)
	}
	err = errors.Join(s.checkpoint(ctx), detachErr)
	defer func() { err = errors.Join(err, s.release(ctx)) }()
	s.mu.Lock()
	packs := slices.DeleteFunc(s.packs, func(p *sessionPack) bool { return p.durable })
	s.packs = nil
	s.mu.Unlock()
	// No index names these; an upload that was cancelled may have got through.
	for _, p := range packs {
		if ctx.Err() != nil {
			break
		}
		err = errors.Join(err, s.repo.store.remove(ctx, packKey(p.id)))
	}
	return err
}
