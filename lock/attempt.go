package lock

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A period is the time from shutting the gate to opening it. Its fields are
// guarded by Gate.mu, except for epoch and shutAt, which do not change, and
// forced.
type period struct {
	epoch  uint64
	shutAt time.Time
	forced atomic.Int64 // transactions aborted

	held         time.Duration // set when the period is finished
	stalled      int64
	longestStall time.Duration
}

func (p *period) noteStall(d time.Duration) { p.longestStall = max(p.longestStall, d) }

// attempt shuts the gate and runs the pin once all transactions have ended. If
// they have not by end, it opens the gate and reports that the pin did not
// run. At forceAt, unless that is zero, it aborts what is still inside.
func (f *freeze) attempt(end, forceAt time.Time) (ran bool, err error) {
	// Made first, to keep the time short for which the gate is shut.
	deadline := f.hard
	if least := end.Add(f.stallOrDefault()); least.After(deadline) {
		deadline = least
	}
	pinCtx, cancel := f.pinContext(deadline)
	defer cancel(nil)

	p, err := f.g.shut(cancel)
	if err != nil {
		return false, err
	}
	f.res.Attempts++
	f.slow = ""
	empty, err := f.drain(p, end, forceAt)
	if empty && f.ctx.Err() != nil {
		empty, err = false, contextError(f.ctx, "freeze")
	}
	if !empty {
		f.g.sessions.mark(f.busy, p.shutAt)
		f.inside = f.g.inside()
		f.oldest, _ = f.g.oldest()
		if !f.oldest.Began.IsZero() {
			f.res.Blocker = f.oldest
		}
		f.g.thaw(p)
		f.absorb(p)
		return false, err
	}
	f.inside, f.oldest = 0, TxInfo{}
	held := new(memberHold)
	defer held.rethrow()
	if all, err := f.freezeMembers(pinCtx, p, end, held); !all {
		f.absorb(p)
		return false, err
	}
	return true, f.pinShut(pinCtx, p, held)
}

// fencedPoll is how often a freeze looks again by itself at a gate that works
// without barrier. There the last to leave may have loaded the old state of the
// gate before its own store was visible, and not wake the freeze.
const fencedPoll = 200 * time.Microsecond

// drain waits until nothing is inside and reports whether that came to pass.
func (f *freeze) drain(p *period, end, forceAt time.Time) (bool, error) {
	var timer *time.Timer
	forced := forceAt.IsZero()
	f.busy = f.g.sessions.busy(f.busy[:0])
	for !f.g.freezeIfEmpty(&f.busy) {
		now := time.Now()
		if !forced && !now.Before(forceAt) {
			forced = true
			f.g.abortAll(p)
			continue
		}
		if !now.Before(end) {
			return false, nil
		}
		next := end
		if !forced {
			next = earlier(end, forceAt)
		}
		if f.g.fenced {
			next = earlier(next, now.Add(fencedPoll))
		}
		if timer == nil {
			timer = time.NewTimer(next.Sub(now))
			defer timer.Stop()
		} else {
			timer.Reset(next.Sub(now))
		}
		select {
		case <-f.g.drained:
		case <-timer.C:
		case <-f.ctx.Done():
			return false, contextError(f.ctx, "freeze")
		case <-f.g.done:
			return false, ErrClosed
		}
	}
	return true, nil
}

// pinShut runs the pin behind the gate and opens it afterwards, or as soon as
// the context ends. Participants are thawed after the gate was opened: they
// cannot keep it shut, and what the epochs prove holds for them too.
func (f *freeze) pinShut(ctx context.Context, p *period, held *memberHold) error {
	g := f.g
	opened := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(opened)
		g.thaw(p)
		held.thaw()
	})
	f.res.ClosedEpoch = p.epoch
	thawedByClose := false
	open := sync.OnceFunc(func() {
		f.res.ThawEpoch = g.thaw(p)
		if stop() {
			held.thaw()
		} else {
			<-opened
			// The gate stays shut, but the participants may have been thawed.
			thawedByClose = held.any() && errors.Is(context.Cause(ctx), ErrClosed)
		}
		f.absorb(p)
		f.res.Held = p.held
		if f.opts.MaxStall > 0 {
			f.res.Overrun = max(0, p.held-f.opts.MaxStall)
		}
	})
	defer open() // the pin may panic
	err := f.callPin(ctx)
	open()
	switch {
	case thawedByClose:
		return errors.Join(err, ErrClosed)
	case f.res.ThawEpoch == p.epoch:
		return err
	}
	// The context ended and the gate was opened under the pin.
	switch cause := f.lateCause(); {
	case err != nil:
		return fmt.Errorf("%w: %w", err, cause)
	case isTimeout(cause) && f.opts.AllowInconsistent:
		return nil
	default:
		return cause
	}
}

// lateCause is why the gate was opened before the pin had returned.
func (f *freeze) lateCause() error {
	if f.ctx.Err() != nil {
		return contextError(f.ctx, "freeze: the gate was opened before the pin had returned")
	}
	return &TimeoutError{Waited: time.Since(f.start), Attempts: f.res.Attempts, Forced: f.res.Forced, Pin: true}
}

// pinOpen runs the pin without holding anybody.
func (f *freeze) pinOpen() error {
	ctx, cancel := f.pinContext(time.Now().Add(f.opts.Timeout))
	defer cancel(nil)
	g := f.g
	g.mu.Lock()
	if g.state.Load() == stateShut {
		g.mu.Unlock()
		return ErrClosed
	}
	g.cancelPin = cancel
	g.mu.Unlock()
	defer g.forgetPin()
	return f.callPin(ctx)
}

// callPin runs the pin and wraps its error.
func (f *freeze) callPin(ctx context.Context) error {
	began := time.Now()
	f.pinStarted = true
	f.res.Waited = began.Sub(f.start)
	defer func() { f.res.PinTook = time.Since(began) }()
	err := f.pin(ctx)
	f.pinEnded = true
	if err != nil {
		return fmt.Errorf("lock: pin: %w", err)
	}
	return nil
}

// errPinLate is the cause of the context of a pin that has run out of time.
var errPinLate = errors.New("lock: the pin has run out of time")

// pinContext returns the context for the pin. The function cancels it.
func (f *freeze) pinContext(deadline time.Time) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(context.WithValue(f.ctx, pinKey{f.g}, true))
	ctx, stop := context.WithDeadlineCause(ctx, deadline, errPinLate)
	return ctx, func(cause error) {
		cancel(cause)
		stop()
	}
}

// absorb adds a finished period to the result.
func (f *freeze) absorb(p *period) {
	f.res.Forced += int(p.forced.Load())
	f.res.LongestHeld = max(f.res.LongestHeld, p.held)
	f.res.Stalled += p.stalled
	f.res.LongestStall = max(f.res.LongestStall, p.longestStall)
}

// shut closes the gate for newcomers. The caller must have the turn. cancel is
// for Close to call.
func (g *Gate) shut(cancel context.CancelCauseFunc) (*period, error) {
	g.mu.Lock()
	if g.state.Load() == stateShut {
		g.mu.Unlock()
		return nil, ErrClosed
	}
	g.state.Store(stateClosed)
	g.epoch++
	p := &period{epoch: g.epoch, shutAt: time.Now()}
	g.current = p
	g.cancelPin = cancel
	g.stats.Attempts++
	g.mu.Unlock()
	if g.asym {
		barrier()
	}
	return p, nil
}

// empty reports whether nothing is inside. That is final while the gate is
// closed. busy are the sessions that had a transaction when it was closed;
// those that have ended it are taken out.
func (g *Gate) empty(busy *[]*Session) bool {
	*busy = slices.DeleteFunc(*busy, func(s *Session) bool { return atomic.LoadUint32(&s.word)&bitInside == 0 })
	return len(*busy) == 0 && g.cellsEmpty() && g.countsEmpty()
}

// freezeIfEmpty moves from closed to frozen if nothing is inside.
func (g *Gate) freezeIfEmpty(busy *[]*Session) bool {
	if !g.empty(busy) {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.state.Load() == stateShut {
		return false
	}
	// The state first, then the counts, for the sake of Tx.Child: a wrong
	// call either sees the state or is seen here.
	g.state.Store(stateFrozen)
	if !g.countsEmpty() {
		g.state.Store(stateClosed)
		return false
	}
	return true
}

// thaw ends period p: it lets everybody in who is held and opens the gate,
// unless that has been done already or the gate was closed for good. It
// returns the epoch from before.
func (g *Gate) thaw(p *period) uint64 {
	g.mu.Lock()
	epoch := g.epoch
	if epoch != p.epoch || g.current != p {
		g.mu.Unlock()
		return epoch
	}
	g.finishPeriod(time.Now())
	// Those who were held are counted before the gate opens. The next freeze
	// has to wait for them, so nobody is held twice.
	for w := g.waiters.head; w != nil; w = w.next {
		w.letIn()
	}
	held := g.waiters.takeAll()
	g.epoch++
	g.state.Store(stateOpen)
	g.mu.Unlock()
	wakeAll(held)
	g.noteHold(p)
	return epoch
}

// finishPeriod records what the current period cost. The caller holds the
// mutex.
func (g *Gate) finishPeriod(now time.Time) {
	p := g.current
	p.held = now.Sub(p.shutAt)
	if w := g.waiters.head; w != nil {
		p.noteStall(now.Sub(w.since))
	}
	g.current = nil
	g.cancelPin = nil
	g.forcing.Store(nil)
	g.stats.Stalled += p.stalled
	g.stats.LongestStall = max(g.stats.LongestStall, p.longestStall)
	g.stats.LongestHeld = max(g.stats.LongestHeld, p.held)
}

func (g *Gate) forgetPin() {
	g.mu.Lock()
	g.cancelPin = nil
	g.mu.Unlock()
}

// abortAll cancels the contexts of all registered transactions, each once.
func (g *Gate) abortAll(p *period) {
	g.forcing.Store(p)
	var found []*registration
	for i := range g.shards {
		s := &g.shards[i]
		s.mu.Lock()
		for r := s.head; r != nil; r = r.next {
			if !r.forced {
				r.forced = true
				found = append(found, r)
			}
		}
		s.mu.Unlock()
	}
	for _, r := range found {
		r.abort(p)
	}
}
