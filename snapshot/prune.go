package snapshot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/holdstill/holdstill/repo"
)

// A KeepPolicy says which snapshots Prune keeps: those that at least one of its rules keeps. The
// zero policy keeps nothing, and Prune refuses it.
type KeepPolicy struct {
	// Last keeps so many of the newest.
	Last int
	// Hourly keeps the newest snapshot of each of the last so many hours that have one. An
	// hour without a snapshot does not count. The others do the same for days, ISO weeks,
	// months and years.
	Hourly, Daily, Weekly, Monthly, Yearly int
	// Within keeps what was cut at most so long before the newest snapshot: not before
	// now, so that a server which stood still loses nothing.
	Within time.Duration
	// Labels keeps those with one of these labels.
	Labels []string
	// Keep, if set, keeps those for which it returns true.
	Keep func(*Snapshot) bool
	// Match, if set, picks the snapshots that the policy is about. Others stay, and are
	// not counted.
	Match func(*Snapshot) bool
	// Location says where hours and days begin. Default UTC.
	Location *time.Location
}

// A Verdict says what a KeepPolicy makes of one snapshot.
type Verdict struct {
	Snapshot *Snapshot
	// Reasons are the rules that keep it, such as "last 1" or "daily 2026-11-21". It is not kept if there
	// are none.
	Reasons []string
}

// Kept says whether the snapshot stays.
func (v Verdict) Kept() bool { return len(v.Reasons) > 0 }

// period is a rule that keeps one snapshot of each of the last few periods.
type period struct {
	name  string
	count int
	of    func(time.Time) string
}

func (p *KeepPolicy) periods() []period {
	format := func(layout string) func(time.Time) string {
		return func(t time.Time) string { return t.Format(layout) }
	}
	week := func(t time.Time) string {
		year, n := t.ISOWeek()
		return fmt.Sprintf("%d-W%02d", year, n)
	}
	return []period{
		// With the offset, so that the hour that comes twice when clocks go back is two.
		{"hourly", p.Hourly, format("2006-01-02T15Z07:00")},
		{"daily", p.Daily, format(time.DateOnly)},
		{"weekly", p.Weekly, week},
		{"monthly", p.Monthly, format("2006-01")},
		{"yearly", p.Yearly, format("2006")},
	}
}

func (p *KeepPolicy) check() error {
	counts := []int{p.Last, p.Hourly, p.Daily, p.Weekly, p.Monthly, p.Yearly}
	if slices.Min(counts) < 0 || p.Within < 0 {
		return fmt.Errorf("%w: a negative number in a KeepPolicy", repo.ErrInvalid)
	}
	if slices.Max(counts) == 0 && p.Within == 0 && len(p.Labels) == 0 && p.Keep == nil {
		return fmt.Errorf("%w: a KeepPolicy that keeps nothing would delete every snapshot", repo.ErrInvalid)
	}
	return nil
}

// Apply says what the policy makes of some snapshots, newest first; those that Match does not
// pick are left out. The same snapshots give the same answer, in whichever order they come. It
// fails with repo.ErrInvalid for a policy with a negative number, or one that keeps nothing.
func (p KeepPolicy) Apply(snapshots []*Snapshot) ([]Verdict, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	var out []Verdict
	for _, s := range snapshots {
		if p.Match == nil || p.Match(s) {
			out = append(out, Verdict{Snapshot: s})
		}
	}
	slices.SortFunc(out, func(a, b Verdict) int {
		return -cmp.Or(a.Snapshot.Created.Compare(b.Snapshot.Created), cmp.Compare(a.Snapshot.ID, b.Snapshot.ID))
	})
	where := p.Location
	if where == nil {
		where = time.UTC
	}
	periods, last := p.periods(), make(map[string]string)
	for i := range out {
		s, keep := out[i].Snapshot, func(format string, args ...any) {
			out[i].Reasons = append(out[i].Reasons, fmt.Sprintf(format, args...))
		}
		if i < p.Last {
			keep("last %d", i+1)
		}
		for n := range periods {
			r := &periods[n]
			// Newest first: the first of a period is its newest.
			if now := r.of(s.Created.In(where)); r.count > 0 && last[r.name] != now {
				r.count--
				last[r.name] = now
				keep("%s %s", r.name, now)
			}
		}
		if p.Within > 0 && out[0].Snapshot.Created.Sub(s.Created) <= p.Within {
			keep("within %s", p.Within)
		}
		if s.Label != "" && slices.Contains(p.Labels, s.Label) {
			keep("label %s", s.Label)
		}
		if p.Keep != nil && p.Keep(s) {
			keep("asked for")
		}
	}
	return out, nil
}

// PruneOptions say how Prune works. The zero value works.
type PruneOptions struct {
	// DryRun says what would be deleted, and deletes nothing.
	DryRun bool
}

// A PruneResult tells what Prune did, or after a dry run what it would do.
type PruneResult struct {
	// Verdicts are of all snapshots that the policy is about, newest first.
	Verdicts []Verdict
	// Deleted are the IDs of those that are gone, oldest first.
	Deleted []string
	// Unreadable says which snapshots could not be read, and why. They stay, and are not
	// counted.
	Unreadable []error
}

// Prune deletes the snapshots that a policy does not keep, oldest first. Snapshots may be taken
// and deleted meanwhile; one that is made after Prune has begun stays. The space is freed by
// the next Collect.
//
// It fails with repo.ErrInvalid for a policy that Apply refuses, with ErrClosed, the context's
// error, or that of the repository; then the result says what was deleted until then.
func (e *Engine) Prune(ctx context.Context, policy KeepPolicy, opts PruneOptions) (*PruneResult, error) {
	if err := policy.check(); err != nil {
		return nil, err
	}
	ctx, done, err := e.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	result := &PruneResult{}
	var all []*Snapshot
	for s, err := range e.repo.Manifests(ctx) {
		switch {
		case err == nil:
			all = append(all, s)
		case ctx.Err() != nil:
			return result, context.Cause(ctx)
		case damaged(err):
			result.Unreadable = append(result.Unreadable, err)
		default:
			return result, err
		}
	}
	if result.Verdicts, err = policy.Apply(all); err != nil {
		return result, err
	}
	for _, v := range slices.Backward(result.Verdicts) {
		if v.Kept() {
			continue
		}
		if !opts.DryRun {
			if err := e.repo.DeleteManifest(ctx, v.Snapshot.ID); errors.Is(err, ErrNotFound) {
				continue // somebody else did
			} else if err != nil {
				return result, fmt.Errorf("snapshot: prune: %w", err)
			}
		}
		result.Deleted = append(result.Deleted, v.Snapshot.ID)
	}
	return result, nil
}
