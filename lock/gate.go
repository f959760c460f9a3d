package lock

import (
	"context"
	"math/bits"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// The states of a gate. They change under Gate.mu only and may be read
// without it.
const (
	stateOpen   uint32 = iota
	stateClosed        // nobody new enters; a freeze waits for those inside
	stateFrozen        // as closed, and nobody is inside: the pin may run
	stateShut          // closed for good by Close
)

// A Gate lets transactions in and holds them back while it is frozen. Make one
// with [New]. All its methods may be called from many goroutines at once.
//
// Why a freeze never overlooks a transaction: Begin first counts itself, then
// looks at the state; a freeze first changes the state, then looks at the
// counts. The operations of sync/atomic have one order for all goroutines, so
// either Begin sees that the gate is closed and takes its count back, or the
// freeze sees the count and waits. The counts are spread over shards, and each
// transaction, with its children, counts in one shard only: a shard that was
// seen empty behind a closed gate therefore stays empty.
type Gate struct {
	// Read by every Begin, so kept away from what is written often.
	state  atomic.Uint32
	shift  uint    // selects a shard from a hash
	shards []shard // the length is a power of two
	opts   Options

	// drained has room for one token. Whoever brings a shard to 0 behind a
	// closed gate puts it there, for the freeze to look again.
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
}

// A shard counts some of the transactions that are inside. Its size is that of
// two cache lines, as processors fetch lines in pairs.
type shard struct {
	n    atomic.Int64
	gate *Gate

	mu         sync.Mutex // guards the list and what registration says it guards
	head, tail *registration

	_ [128 - 4*8 - unsafe.Sizeof(sync.Mutex{})]byte
}

// New returns an open gate.
func New(opts Options) *Gate {
	// A few shards for each processor make it rare that two goroutines that
	// run at once share one.
	n := 1 << bits.Len(uint(min(4*runtime.GOMAXPROCS(0), 256)-1))
	g := &Gate{
		opts:    opts,
		shards:  make([]shard, n),
		shift:   uint(64 - bits.TrailingZeros(uint(n))),
		drained: make(chan struct{}, 1),
		done:    make(chan struct{}),
	}
	for i := range g.shards {
		g.shards[i].gate = g
	}
	return g
}

// Begin admits a transaction, which has to be ended with [Tx.End]. While the
// gate is shut it waits, and is admitted in the order of arrival.
//
// It looks at ctx only when it would have to wait. If ctx ends before the
// transaction is admitted, it returns an error in which errors.Is finds both
// ctx.Err and the cause. It returns ErrClosed after Close, and ErrInsidePin
// when ctx is that of the pin it would wait for. If ctx is that of a running
// transaction, from BeginContext, Begin does not wait.
//
// Begin and End allocate no memory as long as the gate is open.
func (g *Gate) Begin(ctx context.Context) (Tx, error) {
	s := g.pick()
	if g.state.Load() == stateOpen {
		s.n.Add(1)
		if g.state.Load() == stateOpen {
			return Tx{s: s}, nil
		}
		s.leave()
	}
	return g.beginSlow(ctx, s)
}

// pick returns the shard of the calling goroutine. Its stack tells goroutines
// apart well enough; that a stack may move does no harm, as a transaction
// remembers its shard.
func (g *Gate) pick() *shard {
	var onStack byte
	h := uint64(uintptr(unsafe.Pointer(&onStack))>>11) * 0x9e3779b97f4a7c15
	return &g.shards[h>>g.shift]
}

// beginSlow admits a transaction that has found the gate shut.
func (g *Gate) beginSlow(ctx context.Context, s *shard) (Tx, error) {
	if ctx.Err() != nil {
		return Tx{}, contextError(ctx, "begin")
	}
	if ctx.Value(pinKey{g}) != nil {
		return Tx{}, ErrInsidePin
	}
	if parent := g.liveAncestor(ctx, countChild); parent != nil {
		return Tx{s: parent.shard}, nil
	}

	g.mu.Lock()
	switch g.state.Load() {
	case stateShut:
		g.mu.Unlock()
		return Tx{}, ErrClosed
	case stateOpen:
		// The state cannot change while the mutex is held.
		s.n.Add(1)
		g.mu.Unlock()
		return Tx{s: s}, nil
	}
	w := &waiter{shard: s, since: time.Now(), wake: make(chan struct{})}
	g.waiters.push(w)
	g.current.stalled++
	g.mu.Unlock()

	select {
	case <-w.wake:
		if !w.granted {
			return Tx{}, ErrClosed
		}
		return Tx{s: s}, nil
	case <-ctx.Done():
	}
	g.mu.Lock()
	granted := w.granted
	if g.waiters.remove(w) {
		g.current.noteStall(time.Since(w.since))
	}
	g.mu.Unlock()
	if granted {
		s.leave()
	}
	return Tx{}, contextError(ctx, "waiting at the gate")
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
	if g.current != nil {
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
	return nil
}

// empty reports whether every shard is, or has been seen, empty. That is
// final only while the gate is closed.
func (g *Gate) empty() bool {
	for i := range g.shards {
		if g.shards[i].n.Load() != 0 {
			return false
		}
	}
	return true
}

// inside returns the number of transactions that are inside.
func (g *Gate) inside() int64 {
	var n int64
	for i := range g.shards {
		n += g.shards[i].n.Load()
	}
	return max(n, 0)
}

// leave takes one transaction off the shard's count.
func (s *shard) leave() {
	n := s.n.Add(-1)
	if n < 0 || s.gate.state.Load() != stateOpen {
		s.leaveSlow(n)
	}
}

// leaveSlow wakes the freeze that may wait for this shard.
func (s *shard) leaveSlow(n int64) {
	if n < 0 {
		s.n.Add(1)
		panic("lock: Tx.End called more than once for the same transaction")
	}
	if n == 0 {
		select {
		case s.gate.drained <- struct{}{}:
		default: // there is a token already: the freeze will look again
		}
	}
}
