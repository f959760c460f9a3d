package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// clock is time as a collection sees it: only ever its own.
type clock interface {
	// now returns the time since some moment, by a clock that never goes back.
	now() time.Duration
	sleep(ctx context.Context, d time.Duration) error
}

type realClock struct{ start time.Time }

func (c realClock) now() time.Duration { return time.Since(c.start) }

func (realClock) sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// leases returns the sessions that hold one, and for each a number that changes when it is
// renewed. Renewals without a lease come as orphans.
func (r *Repository) leases(ctx context.Context) (held map[sessionID]int, orphans []string, err error) {
	held = make(map[sessionID]int)
	beats := make(map[sessionID][]int)
	err = r.store.list(ctx, sessionPrefix, func(o object) error {
		switch id, beat, ok := parseLeaseKey(o.key); {
		case ok && beat == 0:
			held[id] = 0
		case ok:
			beats[id] = append(beats[id], beat)
		}
		return nil
	})
	for id, all := range beats {
		if _, ok := held[id]; ok {
			held[id] = slices.Max(all)
			continue
		}
		for _, n := range all {
			orphans = append(orphans, beatKey(id, n))
		}
	}
	slices.Sort(orphans)
	return held, orphans, err
}

// recordLeases notes who is to be waited for: all who hold a lease now, unless it was noted
// before.
func (c *collector) recordLeases(ctx context.Context, key string) error {
	held, _, err := c.repo.leases(ctx)
	if err != nil {
		return err
	}
	list := sessionList{Sessions: []string{}}
	for id := range held {
		list.Sessions = append(list.Sessions, id.String())
	}
	slices.Sort(list.Sessions)
	err = c.repo.createDocument(ctx, key, list)
	if errors.Is(err, errKeyExists) {
		return nil
	}
	return err
}

// sighting is when a lease was first seen in its present state.
type sighting struct {
	beat  int
	since time.Duration
}

// barrier says whether all sessions have ended that are noted under a key, or if nothing is,
// that hold a lease now. With wait it waits for them, and gives up those that are dead.
func (c *collector) barrier(ctx context.Context, key string, wait bool) (bool, error) {
	var list sessionList
	err := c.repo.readDocument(ctx, key, maxPlanSize, &list)
	if errors.Is(err, errKeyMissing) {
		if err = c.recordLeases(ctx, key); err == nil {
			err = c.repo.readDocument(ctx, key, maxPlanSize, &list)
		}
	}
	if errors.Is(err, errKeyMissing) {
		return false, nil // the plan was done by another collection
	}
	if err != nil {
		return false, planError(err)
	}
	start, pause := c.clock.now(), 10*time.Millisecond
	for {
		pending, err := c.pendingSessions(ctx, list, wait)
		if err != nil || pending == 0 {
			return err == nil, err
		}
		if !wait || c.clock.now()-start >= c.opts.MaxWait {
			return false, nil
		}
		c.progress(CollectWait, int64(len(list.Sessions)-pending), int64(len(list.Sessions)))
		pause = min(2*pause, max(c.opts.LeaseTimeout/50, time.Millisecond), 2*time.Second)
		if err := c.clock.sleep(ctx, pause); err != nil {
			return false, err
		}
	}
}

// pendingSessions counts those of a list that have not ended, and gives up the dead ones if
// watch is set.
func (c *collector) pendingSessions(ctx context.Context, list sessionList, watch bool) (int, error) {
	held, _, err := c.repo.leases(ctx)
	if err != nil {
		return 0, err
	}
	view, err := c.repo.listGarbage(ctx)
	if err != nil {
		return 0, err
	}
	pending := 0
	now := c.clock.now()
	for _, name := range list.Sessions {
		id, ok := parseSessionID(name)
		beat, alive := held[id]
		if !ok || !alive || view.verdicts[id] {
			continue
		}
		if !watch {
			pending++
			continue
		}
		if !slices.Contains(c.result.Waited, name) {
			c.result.Waited = append(c.result.Waited, name)
		}
		seen, known := c.watched[id]
		if !known || seen.beat != beat {
			seen = sighting{beat, now}
			c.watched[id] = seen
		}
		if now-seen.since < c.opts.LeaseTimeout && !view.closing[id] {
			pending++
			continue
		}
		if err := c.giveUp(ctx, id); err != nil {
			return 0, fmt.Errorf("repo: collect: give up session %s: %w", name, err)
		}
		c.result.GivenUp = append(c.result.GivenUp, name)
	}
	return pending, nil
}
