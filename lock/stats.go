package lock

import "time"

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
	// LongestStall is the longest time one of them waited.
	LongestStall time.Duration
	// LongestHeld is the longest time the gate was shut without a break.
	LongestHeld time.Duration
	// Inside is the number of transactions that are inside now. It is exact
	// when none begins or ends during the call.
	Inside int64
	// Waiting is the number of transactions that are held now.
	Waiting int
}

// Stats returns the counts up to now.
func (g *Gate) Stats() Stats {
	g.mu.Lock()
	st := g.stats
	st.Waiting = g.waiters.len
	g.mu.Unlock()
	st.Inside = g.inside()
	return st
}

// countFreeze adds a freeze that has ended to the counts. After a panic of its
// pin err is nil and it counts as neither kind of success.
func (g *Gate) countFreeze(f *freeze, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stats.Freezes++
	g.stats.Forced += int64(f.res.Forced)
	switch {
	case isTimeout(err):
		g.stats.Timeouts++
	case err != nil || !f.pinEnded:
	case f.res.Consistent:
		g.stats.Consistent++
	default:
		g.stats.Inconsistent++
	}
}
