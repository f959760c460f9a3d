package optools

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/snapshot"
)

const (
	// automaticHour is when a backup is made, in UTC; up to automaticSpread later, so that
	// several servers do not begin at once.
	automaticHour   = 1
	automaticSpread = 10 * time.Minute
	// recent is how old a backup may be that makes another one needless.
	recent = 12 * time.Hour
	day    = 24 * time.Hour
)

// keptAges are the ages, in days, of which the backup that is closest is kept each. The
// oldest is there so that the one that is to become 90 days old is not pruned before.
var keptAges = []int{120, 90, 60, 30, 20, 10, 7, 6, 5, 4, 3, 2, 1, 0}

// nextRun returns when the next automatic backup is due, without the spread.
func nextRun(now time.Time) time.Time {
	now = now.UTC()
	next := time.Date(now.Year(), now.Month(), now.Day(), automaticHour, 0, 0, 0, time.UTC)
	if !next.After(now) {
		next = next.AddDate(0, 0, 1)
	}
	return next
}

// automatic makes a backup every day until the handler is closed.
func (h *Handler) automatic() {
	spread := rand.N(automaticSpread)
	for {
		now := h.options.now()
		timer := time.NewTimer(nextRun(now.Add(-spread)).Add(spread).Sub(now))
		select {
		case <-timer.C:
		case <-h.ctx.Done():
			timer.Stop()
			return
		}
		if err := h.daily(h.ctx); err != nil && h.ctx.Err() == nil {
			h.log.Error("optools: automatic backup failed", "error", err)
		}
	}
}

// daily makes a backup if there is no recent one, and removes those that are not to be kept.
func (h *Handler) daily(ctx context.Context) error {
	ids, err := h.ids(ctx)
	if err != nil {
		return err
	}
	if !hasRecent(ids, h.options.now()) {
		b, err := h.start(ctx)
		if err != nil && !errors.Is(err, errRunning) {
			return err
		}
		if err := b.job.Wait(ctx); err != nil {
			return err
		}
	}
	if h.options.NoPrune {
		return nil
	}
	return h.prune(ctx)
}

func hasRecent(ids []string, now time.Time) bool {
	for _, id := range ids {
		if start, ok := parseID(id); ok && now.Sub(start).Abs() <= recent {
			return true
		}
	}
	return false
}

// prune deletes the backups that are not to be kept, and frees their space.
func (h *Handler) prune(ctx context.Context) error {
	ids, err := h.ids(ctx)
	if err != nil {
		return err
	}
	drop := pruned(ids, h.options.now())
	for _, id := range drop {
		if err := h.engine.Delete(ctx, id); err != nil && !errors.Is(err, snapshot.ErrNotFound) {
			return err
		}
		h.log.Info("optools: pruned a backup", "id", id)
	}
	if len(drop) == 0 {
		return nil
	}
	_, err = h.engine.Collect(ctx, repo.CollectOptions{})
	return err
}

// pruned returns which of the backups are to be deleted: all but those closest to one of
// keptAges each, and those of the last day.
func pruned(ids []string, now time.Time) []string {
	kept := map[string]bool{}
	for _, age := range keptAges {
		best, bestOff := "", time.Duration(0)
		for _, id := range ids {
			start, ok := parseID(id)
			if !ok || kept[id] {
				continue
			}
			off := (now.Sub(start) - time.Duration(age)*day).Abs()
			if best == "" || off <= bestOff {
				best, bestOff = id, off
			}
		}
		kept[best] = true
	}
	var drop []string
	for _, id := range ids {
		start, ok := parseID(id)
		if ok && !kept[id] && now.Sub(start).Abs() >= day {
			drop = append(drop, id)
		}
	}
	return drop
}
