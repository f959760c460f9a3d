package lock

import (
	"context"
	"sync"
	"sync/atomic"
	"unsafe"
)

// A shard counts the transactions that were begun on one processor. Its size
// is that of two cache lines, as processors fetch lines in pairs.
//
// Most of them take one of the cells for themselves. A cell is odd while it is
// taken, and counts on with each change, so that a second End of the same
// transaction is found out. Only a goroutine that is pinned to the processor
// takes one; whoever ends the transaction gives it back. Between the two
// nobody else writes it. That is why no cell needs a read-modify-write.
//
// Those that find no cell free, and all children, are counted in n.
type shard struct {
	cells [8]uint32
	n     atomic.Int64
	gate  *Gate

	mu         sync.Mutex // guards the list and what registration says it guards
	head, tail *registration

	_ [128 - 8*4 - 8 - 3*unsafe.Sizeof(uintptr(0)) - unsafe.Sizeof(sync.Mutex{})]byte
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
	if g.state.Load() != stateOpen {
		return g.beginSlow(ctx)
	}
	id := procPin()
	if shardsPerProc > 1 || id < len(g.shards) { // unless GOMAXPROCS has been raised
		s := &g.shards[id&(len(g.shards)-1)]
		for i := range s.cells {
			mark := atomic.LoadUint32(&s.cells[i]) + 1
			if mark&1 == 0 || !takeCell(&s.cells[i], mark, g.fenced) {
				continue
			}
			procUnpin()
			tx := Tx{s: s, mark: mark, cell: uint32(i) + 1}
			if g.state.Load() == stateOpen {
				return tx, nil
			}
			tx.leave()
			return g.beginSlow(ctx)
		}
	}
	procUnpin()
	s := &g.shards[id&(len(g.shards)-1)]
	s.n.Add(1)
	if g.state.Load() == stateOpen {
		return Tx{s: s}, nil
	}
	s.leave()
	return g.beginSlow(ctx)
}

// pick returns the shard of the processor that the caller runs on, or ran on a
// moment ago.
func (g *Gate) pick() *shard {
	id := procPin()
	procUnpin()
	return &g.shards[id&(len(g.shards)-1)]
}

// leave takes t off the count of its shard.
func (t Tx) leave() {
	if t.cell == 0 {
		t.s.leave()
		return
	}
	c := &t.s.cells[(t.cell-1)&7]
	if loadCell(c) != t.mark {
		panic(endedTwice)
	}
	storeCell(c, t.mark+1)
	if t.s.gate.state.Load() != stateOpen {
		t.s.gate.wakeFreeze()
	}
}

const endedTwice = "lock: Tx.End called more than once for the same transaction"

// leave takes one transaction off n.
func (s *shard) leave() {
	n := s.n.Add(-1)
	if n < 0 {
		s.n.Add(1)
		panic(endedTwice)
	}
	if n == 0 && s.gate.state.Load() != stateOpen {
		s.gate.wakeFreeze()
	}
}

// wakeFreeze makes the freeze that waits behind the closed gate look again.
func (g *Gate) wakeFreeze() {
	select {
	case g.drained <- struct{}{}:
	default: // there is a token already
	}
}

// cellsEmpty reports whether every cell is, or has been seen, free.
func (g *Gate) cellsEmpty() bool {
	for i := range g.shards {
		for j := range g.shards[i].cells {
			if atomic.LoadUint32(&g.shards[i].cells[j])&1 != 0 {
				return false
			}
		}
	}
	return true
}

// countsEmpty reports whether every count is, or has been seen, zero.
func (g *Gate) countsEmpty() bool {
	for i := range g.shards {
		if g.shards[i].n.Load() != 0 {
			return false
		}
	}
	return true
}

// inside returns the number of transactions that are inside.
func (g *Gate) inside() int64 {
	n := int64(g.sessions.inside())
	for i := range g.shards {
		s := &g.shards[i]
		n += s.n.Load()
		for j := range s.cells {
			n += int64(atomic.LoadUint32(&s.cells[j]) & 1)
		}
	}
	return max(n, 0)
}
