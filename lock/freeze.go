package lock

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// Freeze runs pin at a moment when no transaction is inside the gate and none
// can enter, and opens the gate as soon as pin has returned. pin should do no
// more than fix the state that is to be read later.
//
// One freeze runs at a time, the others queue in the order in which they came;
// pins never overlap. pin runs on the calling goroutine. Its context ends with
// ctx, with the time that is left of the timeout, but never less than
// MaxStall, and when the gate is closed. When it ends before pin has returned,
// the gate opens at that moment: a pin that hangs does not stop the server.
// If pin panics the gate is opened and the panic goes on.
//
// Freeze returns
//   - the error of pin, wrapped,
//   - a *TimeoutError, which matches ErrTimeout,
//   - a *ParticipantError, when a participant failed, see [Gate.Register],
//   - an error for the end of ctx, in which errors.Is finds ctx.Err and the cause,
//   - ErrClosed, ErrInsidePin, ErrInsideTx, ErrBadOptions.
//
// After an error pin may have run nevertheless; what it has taken is then to
// be released by the caller.
func (g *Gate) Freeze(ctx context.Context, opts FreezeOptions, pin func(ctx context.Context) error) (res FreezeResult, err error) {
	f := &freeze{g: g, ctx: ctx, pin: pin, start: time.Now()}
	if f.opts, err = opts.withDefaults(g.opts); err != nil {
		return FreezeResult{}, err
	}
	switch {
	case pin == nil:
		return FreezeResult{}, fmt.Errorf("%w: pin is nil; pass the function to run while the gate is shut", ErrBadOptions)
	case ctx.Err() != nil:
		return FreezeResult{}, contextError(ctx, "freeze")
	case ctx.Value(pinKey{g}) != nil:
		return FreezeResult{}, ErrInsidePin
	case g.liveAncestor(ctx, running) != nil:
		return FreezeResult{}, ErrInsideTx
	}
	f.soft = f.start.Add(f.opts.Timeout)
	f.hard = f.soft
	if f.opts.Force {
		f.hard = f.soft.Add(f.opts.Timeout)
	}
	defer func() { // also after a panic
		if !f.pinStarted {
			f.res.Waited = time.Since(f.start)
		}
		g.countFreeze(f, err)
		res = f.res
	}()
	err = f.queueAndRun()
	f.res.Consistent = err == nil && f.res.ClosedEpoch != 0 && f.res.ClosedEpoch == f.res.ThawEpoch
	return f.res, err
}

// A freeze is one call of Freeze under way. It belongs to the goroutine that
// called.
type freeze struct {
	g    *Gate
	ctx  context.Context
	opts FreezeOptions
	pin  func(context.Context) error

	start time.Time
	soft  time.Time // start + Timeout
	hard  time.Time // with Force one Timeout later, else the same

	busy       []*Session // those in the way, while an attempt lasts
	inside     int64      // how many were inside when the last attempt ended
	oldest     TxInfo
	slow       string // the participant for which the last attempt was given up
	pinStarted bool
	pinEnded   bool // false after a panic
	res        FreezeResult
}

func (f *freeze) queueAndRun() error {
	waited, err := f.takeTurn()
	if err != nil {
		return err
	}
	defer f.g.passTurn()
	if waited {
		// A turn that came at the last moment is still worth one attempt.
		least := time.Now().Add(min(f.stallOrDefault(), f.opts.Timeout))
		if late := least.Sub(f.soft); late > 0 {
			f.soft, f.hard = f.soft.Add(late), f.hard.Add(late)
		}
	}
	if f.opts.MaxStall < 0 {
		return f.runUnbounded()
	}
	return f.runBounded()
}

func (f *freeze) stallOrDefault() time.Duration {
	if f.opts.MaxStall < 0 {
		return DefaultMaxStall
	}
	return f.opts.MaxStall
}

// runUnbounded makes a single attempt that lasts until the end.
func (f *freeze) runUnbounded() error {
	var forceAt time.Time
	if f.opts.Force {
		forceAt = f.soft
	}
	if ran, err := f.attempt(f.hard, forceAt); ran || err != nil {
		return err
	}
	return f.giveUp()
}

// runBounded makes attempts of up to MaxStall, with pauses between them.
func (f *freeze) runBounded() error {
	stall := min(f.opts.MaxStall, f.opts.Timeout)
	pause, longest := stall, max(stall, f.opts.Timeout/16)
	if stall < longest/32 {
		// Shut for 3 % of the time is rare enough, however short the attempts.
		longest = 32 * stall
	}
	forcing := false
	for {
		if !forcing {
			if err := f.awaitOld(); err != nil {
				return err
			}
		}
		now := time.Now()
		limit := f.soft
		var forceAt time.Time
		if forcing {
			limit = f.hard
		}
		end := earlier(now.Add(stall), limit)
		if forcing {
			forceAt = now.Add(end.Sub(now) / 2)
		}
		if now.Before(end) {
			if ran, err := f.attempt(end, forceAt); ran || err != nil {
				return err
			}
		}
		now = time.Now()
		switch {
		case !now.Before(f.hard):
			return f.giveUp()
		case !now.Before(f.soft) && !forcing:
			// No pause: those who are in the way have had the whole timeout.
			forcing, pause = true, stall
			continue
		}
		if err := f.rest(limit, pause); err != nil {
			return err
		}
		pause = min(2*pause, longest)
	}
}

// rest sleeps for about pause, but so that another attempt of full length
// fits in before limit; if none does any more, until limit.
func (f *freeze) rest(limit time.Time, pause time.Duration) error {
	// Between 3/4 and 5/4, so that several servers do not stay in step.
	pause = pause*3/4 + rand.N(pause/2+1)
	latest := limit.Add(-f.opts.MaxStall)
	until := earlier(time.Now().Add(pause), latest)
	if !time.Now().Before(latest) {
		until = limit
	}
	_, err := f.sleep(until, nil)
	return err
}

// awaitOld puts an attempt off while a transaction is known that has already
// been running for longer than MaxStall: the attempt would most likely be in
// vain and hold others for nothing. The last attempt is made in any case.
func (f *freeze) awaitOld() error {
	latest := f.soft.Add(-f.opts.MaxStall)
	// A session does not tell when its transaction ends.
	poll := min(max(f.opts.MaxStall/4, time.Millisecond), 50*time.Millisecond)
	for time.Now().Before(latest) {
		info, r := f.g.oldest()
		if info.Began.IsZero() || info.Age <= f.opts.MaxStall {
			return nil
		}
		f.res.Blocker = info
		if r == nil {
			if _, err := f.sleep(earlier(latest, time.Now().Add(poll)), nil); err != nil {
				return err
			}
			continue
		}
		if ended, err := f.sleep(latest, r.whenEnded()); !ended || err != nil {
			return err
		}
	}
	return nil
}

// sleep waits until the given time, or until early is closed, which it
// reports. It fails when the freeze has to end.
func (f *freeze) sleep(until time.Time, early <-chan struct{}) (bool, error) {
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-timer.C:
		return false, nil
	case <-early:
		return true, nil
	case <-f.ctx.Done():
		return false, contextError(f.ctx, "freeze")
	case <-f.g.done:
		return false, ErrClosed
	}
}

// giveUp is what happens when the time is over.
func (f *freeze) giveUp() error {
	if f.opts.AllowInconsistent {
		return f.pinOpen()
	}
	return &TimeoutError{
		Waited: time.Since(f.start), Attempts: f.res.Attempts,
		Inside: f.inside, Oldest: f.oldest, Forced: f.res.Forced, Participant: f.slow,
	}
}

// takeTurn waits until no other freeze is under way, and reports whether it
// had to wait.
func (f *freeze) takeTurn() (bool, error) {
	g := f.g
	g.mu.Lock()
	if g.state.Load() == stateShut {
		g.mu.Unlock()
		return false, ErrClosed
	}
	if !g.turnTaken {
		g.turnTaken = true
		g.mu.Unlock()
		return false, nil
	}
	w := &waiter{wake: make(chan struct{})}
	g.turns.push(w)
	g.mu.Unlock()

	limit := f.hard
	if f.opts.AllowInconsistent && !f.opts.Force {
		limit = limit.Add(f.opts.Timeout)
	}
	woken, err := f.sleep(limit, w.wake)
	if woken && w.granted {
		return true, nil
	}
	if woken {
		err = ErrClosed
	}
	g.mu.Lock()
	g.turns.remove(w)
	granted := w.granted
	g.mu.Unlock()
	if granted {
		g.passTurn()
	}
	if err == nil {
		err = &TimeoutError{Waited: time.Since(f.start), Queued: true}
	}
	return true, err
}

// passTurn lets the next freeze run.
func (g *Gate) passTurn() {
	g.mu.Lock()
	defer g.mu.Unlock()
	w := g.turns.head
	if w == nil {
		g.turnTaken = false
		return
	}
	g.turns.remove(w)
	w.granted = true
	close(w.wake)
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// isTimeout reports whether err says that the freeze itself ran out of time.
func isTimeout(err error) bool { return errors.Is(err, ErrTimeout) }
