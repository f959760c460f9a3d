package repo

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"strconv"

	"golang.org/x/sync/errgroup"
)

// A plan is deleted in steps, each of which can be done again by anybody, from what stands
// in the bucket: see "Collection" in FORMAT.md.

// condemn publishes a plan and carries it out as far as it can be now.
func (c *collector) condemn(ctx context.Context, packs []packID) error {
	var id planID
	_, _ = rand.Read(id[:]) // documented never to fail
	err := c.repo.createDocument(ctx, planKey(id), newPackList(packs))
	if err != nil && !errors.Is(err, errKeyExists) {
		return err
	}
	return c.finish(ctx, id, map[string]bool{"": true}, false)
}

// resume carries on with the plans of collections that ended before they were done.
func (c *collector) resume(ctx context.Context) error {
	view, err := c.repo.listGarbage(ctx)
	if err != nil {
		return err
	}
	for id, objects := range view.plans {
		if objects[""] {
			err = c.finish(ctx, id, objects, true)
		} else {
			err = c.repo.forget(ctx, id, objects) // done, but for the last deletes
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// finish carries out a plan, or leaves it for the next collection if sessions are under way
// that may rely on what it deletes. old is set for the plan of an earlier collection: then it
// waits also for sessions that only keep the plan from being forgotten, since some may be dead.
func (c *collector) finish(ctx context.Context, id planID, objects map[string]bool, old bool) error {
	packs, err := c.repo.planPacks(ctx, id)
	if errors.Is(err, errKeyMissing) {
		return nil // another collection was faster
	}
	if err != nil {
		return err
	}
	if !objects[finalSuffix] {
		ended, err := true, error(nil)
		if c.fault != faultNoWait {
			ended, err = c.barrier(ctx, planKey(id)+waitSuffix, true)
		}
		if err != nil {
			return err
		}
		if !ended {
			return c.pending(ctx, packs)
		}
		if err := c.decidePacks(ctx, id, packs); err != nil {
			return err
		}
	}
	final, err := c.repo.readPackList(ctx, planKey(id)+finalSuffix)
	if errors.Is(err, errKeyMissing) {
		return nil
	}
	if err != nil {
		return err
	}
	// What stands there may come from one who was late: it holds only if the plan was
	// open after it was written.
	if open, err := c.open(ctx, id); err != nil || !open {
		return err
	}
	return c.sweep(ctx, id, final, objects, old)
}

// open says whether a plan is not done yet.
func (c *collector) open(ctx context.Context, id planID) (bool, error) {
	_, err := c.repo.store.readAll(ctx, planKey(id), maxPlanSize)
	if errors.Is(err, errKeyMissing) {
		return false, nil
	}
	return err == nil, err
}

// pending counts what could not be deleted yet.
func (c *collector) pending(ctx context.Context, packs []packID) error {
	there, err := c.listPacks(ctx)
	if err != nil {
		return err
	}
	condemned := make(map[packID]bool, len(packs))
	for _, p := range packs {
		condemned[p] = true
	}
	for _, p := range there {
		if condemned[p.id] {
			c.result.PacksPending++
			c.result.BytesPending += p.size
		}
	}
	return nil
}

// decidePacks settles which packs of a plan are deleted: those that no snapshot needs, now
// that nobody can come to need them any more.
func (c *collector) decidePacks(ctx context.Context, id planID, packs []packID) error {
	var final []packID
	if c.fault == faultNoRescue {
		final = packs
	} else {
		m, err := c.mark(ctx, id, packs)
		if err != nil {
			return err
		}
		for _, p := range packs {
			// Of a pack that another plan condemns as well, that plan alone may say that it is
			// dead: here nothing was counted as kept in it.
			if n, ok := m.number[p]; ok && m.packs[n].records == 0 && !m.packs[n].unusable {
				final = append(final, p)
			}
		}
		if c.fault != faultForgetHolders {
			final, _ = m.settle(final, nil, true)
			if err := m.unknown(final); err != nil {
				return err
			}
		}
	}
	err := c.repo.createDocument(ctx, planKey(id)+finalSuffix, newPackList(final))
	if errors.Is(err, errKeyExists) {
		return nil
	}
	return err
}

// sweep takes packs out of the indexes, deletes them, and forgets the plan once no index
// can come to name them again.
func (c *collector) sweep(ctx context.Context, id planID, final []packID, objects map[string]bool, wait bool) error {
	dead := make(map[packID]bool, len(final))
	for _, p := range final {
		dead[p] = true
	}
	round := 0
	for suffix := range objects {
		if n, err := strconv.Atoi(suffix[min(len(suffix), len(cleanSuffix)):]); err == nil && n > round && suffix == cleanSuffix+strconv.Itoa(n) {
			round = n
		}
	}
	for {
		ended := false
		if round > 0 {
			var err error
			if ended, err = c.barrier(ctx, planKey(id)+cleanSuffix+strconv.Itoa(round), wait); err != nil {
				return err
			}
		}
		dirty, err := c.cleanIndexes(ctx, dead)
		if err != nil {
			return err
		}
		if err := c.deletePacks(ctx, dead); err != nil {
			return err
		}
		switch {
		case ended && !dirty || c.fault == faultForgetEarly:
			view, err := c.repo.listGarbage(ctx)
			if err != nil {
				return err
			}
			return c.repo.forget(ctx, id, view.plans[id])
		case round > 0 && !dirty:
			return nil // the next collection looks again
		}
		round++
		if err := c.recordLeases(ctx, planKey(id)+cleanSuffix+strconv.Itoa(round)); err != nil {
			return err
		}
	}
}

// forget deletes what is left of a plan: the plan itself first, so that nobody can take the rest
// for more than it is.
func (r *Repository) forget(ctx context.Context, id planID, objects map[string]bool) error {
	for _, suffix := range slices.Sorted(maps.Keys(objects)) { // the empty one is the first
		if err := r.store.remove(ctx, planKey(id)+suffix); err != nil {
			return err
		}
	}
	return nil
}

// deletePacks deletes those packs that are there.
func (c *collector) deletePacks(ctx context.Context, dead map[packID]bool) error {
	there, err := c.listPacks(ctx)
	if err != nil {
		return err
	}
	there = slices.DeleteFunc(there, func(p packInfo) bool { return !dead[p.id] })
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for n, p := range there {
		if gctx.Err() != nil {
			break
		}
		c.progress(CollectSweep, int64(n), int64(len(there)))
		group.Go(func() error { return c.repo.store.remove(gctx, packKey(p.id)) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	for _, p := range there {
		c.result.PacksDeleted++
		c.result.BytesFreed += p.size
	}
	return nil
}

// cleanIndexes makes sure that no index names the given packs, and says whether any did.
func (c *collector) cleanIndexes(ctx context.Context, dead map[packID]bool) (dirty bool, err error) {
	affected, err := c.naming(ctx, dead)
	if err != nil || len(affected.indexes) == 0 {
		return false, err
	}
	s, err := c.repo.NewSession(ctx)
	if err != nil {
		return true, err
	}
	defer func() { err = errors.Join(err, s.Abort(ctx)) }()
	// Once more under the lease: what was read before it may name packs that another
	// collection has forgotten by now.
	if affected, err = c.naming(ctx, dead); err != nil || len(affected.indexes) == 0 {
		return true, err
	}
	return true, c.rewrite(ctx, s, affected, dead)
}

// naming returns the indexes that name one of the packs.
func (c *collector) naming(ctx context.Context, packs map[packID]bool) (*indexSet, error) {
	set, err := c.freshIndex(ctx)
	if err != nil {
		return nil, err
	}
	out := &indexSet{}
	if !slices.ContainsFunc(slices.Collect(maps.Keys(packs)), set.namesPack) {
		return out, nil
	}
	for _, info := range set.infos() {
		x, err := c.repo.wholeIndex(ctx, set, info.id)
		if errors.Is(err, errKeyMissing) {
			return c.naming(ctx, packs) // merged meanwhile
		}
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(x.packs, func(p packInfo) bool { return packs[p.id] }) {
			out.indexes = append(out.indexes, x)
		}
	}
	return out, nil
}

// rewrite replaces indexes by ones without the given packs.
func (c *collector) rewrite(ctx context.Context, s *Session, old *indexSet, dead map[packID]bool) error {
	sources, records, err := mergeSources(old.sources())
	if err != nil {
		return err
	}
	// The numbers of the packs that stay, in the same order, so that records stay sorted.
	var packs []packInfo
	number := make([]int64, len(sources))
	for i, p := range sources {
		number[i] = -1
		if !dead[p.id] {
			number[i] = int64(len(packs))
			packs = append(packs, p)
		}
	}
	var part []indexRecord
	flush := func(superseded []indexID) error {
		slices.SortFunc(superseded, func(a, b indexID) int { return slices.Compare(a[:], b[:]) })
		b := appendIndexHead(packs, superseded, len(part))
		for i := range part {
			b = append(b, part[i][:]...)
		}
		part = part[:0]
		x := indexOf(b, packs, superseded)
		if err := c.repo.writeIndex(ctx, b, x); err != nil {
			s.lease.unsure.Store(true)
			return err
		}
		return nil
	}
	own := indexID(s.lease.id)
	var replaced []indexID
	for _, x := range old.indexes {
		replaced = append(replaced, x.id)
	}
	for record, err := range records {
		if err != nil {
			return err
		}
		to := number[binary.LittleEndian.Uint32(record[32:])]
		if to < 0 {
			continue
		}
		if len(part) == maxIndexChunks {
			if err := flush([]indexID{own}); err != nil {
				return err
			}
		}
		r := *record
		binary.LittleEndian.PutUint32(r[32:], uint32(to))
		part = append(part, r)
	}
	// Only the last one supersedes, when the others are durable.
	if err := flush(append(slices.Clone(replaced), own)); err != nil {
		return err
	}
	if _, err := c.repo.store.readAll(ctx, closingKey(s.lease.id), maxClosingSize); !errors.Is(err, errKeyMissing) {
		s.lease.unsure.Store(true)
		return errors.Join(ErrGivenUp, err)
	}
	for _, id := range replaced {
		if err := c.repo.store.remove(ctx, indexKey(id)); err != nil {
			return err
		}
	}
	_, err = c.repo.refreshIndex(ctx)
	return err
}
