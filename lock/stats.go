package lock

import (
	"context"
	"time"
)

// Stats are the counts of a gate since it was made.
type Stats struct {
	// Freezes is how many calls of Freeze have ended, however they ended.
	Freezes int64
	// Consistent and Inconsistent count those that returned no error.
	Consistent, Inconsistent int64
	// Timeouts counts those that returned a *TimeoutError.
	Timeouts int64
	// Attempts is how many times a freeze has shut the gate.
	Attempts int64
	// Forced is the number of transactions that were aborted.
	Forced int64
	// Stalled is the number of transactions that had to wait at the gate.
	Stalled int64
	// LongestStall is the longest time one of them waited until it was let in.
	LongestStall time.Duration
	// LongestHeld is the longest time the gate was shut without a break.
	LongestHeld time.Duration
	// Inside is the number of transactions that are inside now. It is exact
	// when none begins or ends during the call. What is entered within the
	// transaction of a session counts as part of it.
	Inside int64
	// Waiting is the number of transactions that are held now.
	Waiting int

	// Stalls are the times that transactions waited at the gate, as they felt
	// it: until they ran again, or gave up. It has those that wait no more.
	Stalls Histogram
	// Waits are the times from the call of Freeze to the start of its pin, or
	// to its failure, one for each freeze that has ended.
	Waits Histogram
	// Holds are the times for which the gate was shut, one for each attempt.
	Holds Histogram
}

// Stats returns the counts up to now. It copies some kilobytes.
func (g *Gate) Stats() Stats {
	g.mu.Lock()
	st := g.stats
	g.mu.Unlock()
	st.Inside, st.Waiting = g.now()
	st.Stalls, st.Waits, st.Holds = g.stalls.read(), g.waits.read(), g.holds.read()
	return st
}

// now returns how many transactions are inside and how many are held.
func (g *Gate) now() (inside int64, waiting int) {
	g.mu.Lock()
	waiting = g.waiters.len
	g.mu.Unlock()
	return g.inside(), waiting
}

// countFreeze adds a freeze that has ended to the counts. After a panic of its
// pin err is nil and it counts as neither kind of success.
func (g *Gate) countFreeze(f *freeze, err error) {
	g.waits.add(f.res.Waited)
	g.mu.Lock()
	g.stats.Freezes++
	g.stats.Forced += int64(f.res.Forced)
	var timeout, consistent, inconsistent int64
	switch {
	case isTimeout(err):
		timeout = 1
	case err != nil || !f.pinEnded:
	case f.res.Consistent:
		consistent = 1
	default:
		inconsistent = 1
	}
	g.stats.Timeouts += timeout
	g.stats.Consistent += consistent
	g.stats.Inconsistent += inconsistent
	g.mu.Unlock()

	if m := g.meter; m != nil {
		record(f.ctx, m.waits, f.res.Waited)
		count(f.ctx, m.freezes, 1)
		count(f.ctx, m.attempts, int64(f.res.Attempts))
		count(f.ctx, m.timeouts, timeout)
		count(f.ctx, m.consistent, consistent)
		count(f.ctx, m.inconsistent, inconsistent)
		count(f.ctx, m.forced, int64(f.res.Forced))
	}
}

// noteStall counts the time that a transaction has waited, when it goes on.
func (g *Gate) noteStall(ctx context.Context, w *waiter) {
	d := time.Since(w.since)
	g.stalls.add(d)
	if m := g.meter; m != nil {
		record(ctx, m.stalls, d)
	}
}

// noteHold counts the time for which the gate was shut in a period that has
// ended.
func (g *Gate) noteHold(p *period) {
	g.holds.add(p.held)
	if m := g.meter; m != nil {
		record(context.Background(), m.holds, p.held)
	}
}
