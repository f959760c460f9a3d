package lock

import (
	"context"
	"math/bits"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// The states of a gate. They change under Gate.mu only and may be read
// without it.
const (
	stateOpen   uint32 = iota
	stateClosed        // nobody new enters; a freeze waits for those inside
	stateFrozen        // as closed, and nobody is inside: the pin may run
	stateShut          // closed for good by Close
)

// gateState holds one of the states.
type gateState struct{ v uint32 }

func (s *gateState) Load() uint32   { return atomic.LoadUint32(&s.v) }
func (s *gateState) Store(v uint32) { atomic.StoreUint32(&s.v, v) }

// A Gate lets transactions in and holds them back while it is frozen. Make one
// with [New]. All its methods may be called from many goroutines at once.
//
// Why a freeze never overlooks a transaction: a transaction first says that it
// is inside, then looks at the state; a freeze first changes the state, then
// looks who is inside. Where both are operations of sync/atomic, they have one
// order for all goroutines: either the transaction sees that the gate is
// closed and goes back, or the freeze sees it and waits. Where the first is an
// ordinary store, the load may overtake it. The freeze then makes every thread
// pass a barrier between its two steps. A thread that loaded the old state
// before its barrier has stored before it too, which the freeze sees; one that
// loads it afterwards finds the gate closed.
//
// A session and a cell that were seen empty behind the closed gate stay empty:
// nobody new is admitted, and children go to the counts. A parent counts its
// child before it leaves, so the freeze looks at sessions and cells first, and
// at the counts when those were empty. A count that was then seen at zero
// stays at zero, as the children of those it counted are counted in it too.
type Gate struct {
	// Read by every Begin, so kept away from what is written often.
	state  gateState
	fenced bool    // cells are taken with a fence, as barrier is not to be had
	asym   bool    // a freeze calls barrier
	shards []shard // one or more for each processor; the length is a power of two
	opts   Options

	// drained has room for one token. Whoever leaves behind a closed gate puts
	// it there, for the freeze to look again.
	drained chan struct{}
	done    chan struct{} // closed by Close

	// forcing is the period in which transactions are being aborted, or nil.
	// One that is registered too late to be found by the freeze reads it.
	forcing atomic.Pointer[period]

	_ [64]byte

	mu        sync.Mutex // guards what follows, and changes of state
	epoch     uint64     // how many times the gate was shut or opened
	current   *period    // the time since it was last shut; nil when open
	waiters   queue      // transactions that are held
	turnTaken bool       // a freeze is under way
	turns     queue      // freezes behind it
	cancelPin context.CancelCauseFunc
	stats     Stats

	members  members     // frozen together with the gate
	sessions sessionList // each of these two has a mutex of its own

	stalls, waits, holds histogram
	meter                *meter
}

// New returns an open gate.
func New(opts Options) *Gate { return newGate(opts, barrierWorks()) }

// newGate returns a gate that uses barrier, or does without.
func newGate(opts Options, asym bool) *Gate {
	n := shardsPerProc << bits.Len(uint(runtime.GOMAXPROCS(0)-1))
	g := &Gate{
		opts:    opts,
		asym:    asym,
		fenced:  plainCells && !asym,
		shards:  make([]shard, n),
		drained: make(chan struct{}, 1),
		done:    make(chan struct{}),
	}
	for i := range g.shards {
		g.shards[i].gate = g
	}
	g.meter = newMeter(g, opts.Meter)
	return g
}

// beginSlow admits a transaction that has found the gate shut.
func (g *Gate) beginSlow(ctx context.Context) (Tx, error) {
	s := g.pick()
	parent, err := g.wait(ctx, &waiter{shard: s})
	switch {
	case err != nil:
		return Tx{}, err
	case parent != nil:
		return Tx{s: parent.shard}, nil
	}
	return Tx{s: s}, nil
}

// wait returns when w has been let in. If ctx belongs to a running transaction
// it does not wait, but counts one more transaction where that one counts, and
// returns it; w is then not let in.
func (g *Gate) wait(ctx context.Context, w *waiter) (parent *registration, err error) {
	if ctx.Err() != nil {
		return nil, contextError(ctx, "begin")
	}
	if ctx.Value(pinKey{g}) != nil {
		return nil, ErrInsidePin
	}
	if parent := g.liveAncestor(ctx, countChild); parent != nil {
		return parent, nil
	}

	g.mu.Lock()
	switch g.state.Load() {
	case stateShut:
		g.mu.Unlock()
		return nil, ErrClosed
	case stateOpen:
		// The state cannot change while the mutex is held.
		w.letIn()
		g.mu.Unlock()
		return nil, nil
	}
	w.since, w.wake = time.Now(), make(chan struct{})
	g.waiters.push(w)
	g.current.stalled++
	g.mu.Unlock()

	select {
	case <-w.wake:
		g.noteStall(ctx, w)
		if !w.granted {
			return nil, ErrClosed
		}
		return nil, nil
	case <-ctx.Done():
	}
	g.mu.Lock()
	granted := w.granted
	if g.waiters.remove(w) {
		g.current.noteStall(time.Since(w.since))
	}
	g.mu.Unlock()
	g.noteStall(ctx, w)
	if granted {
		w.leave()
	}
	return nil, contextError(ctx, "waiting at the gate")
}

// Close shuts the gate for good. Transactions and freezes that wait get
// ErrClosed, and so does whoever comes later. Transactions that are inside may
// go on, begin children and end. A pin that is running has its context cancelled with
// ErrClosed as the cause; the gate stays shut behind it, so its result is
// still consistent if it returns no error. Close does not wait for any of
// them. It returns nil, and may be called again.
func (g *Gate) Close() error {
	g.mu.Lock()
	if g.state.Load() == stateShut {
		g.mu.Unlock()
		return nil
	}
	cancel := g.cancelPin
	p := g.current
	if p != nil {
		g.finishPeriod(time.Now())
	}
	g.state.Store(stateShut)
	close(g.done)
	held, queued := g.waiters.takeAll(), g.turns.takeAll()
	g.mu.Unlock()

	wakeAll(held)
	wakeAll(queued)
	if cancel != nil {
		cancel(ErrClosed)
	}
	if p != nil {
		g.noteHold(p)
	}
	g.meter.close()
	return nil
}
