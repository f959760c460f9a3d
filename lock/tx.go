package lock

import (
	"context"
	"time"
)

// A Tx is a transaction that has been admitted. It is a small value and may
// be copied; each admission must be ended exactly once. The zero Tx is not a
// transaction.
type Tx struct {
	s    *shard
	r    *registration // nil when begun with Begin
	mark uint32        // what it has written into its cell
	cell uint32        // 1 + the number of its cell, or 0 when counted in shard.n
}

// End ends the transaction. It never waits. All that the transaction did
// before is visible to a pin that runs later.
//
// End panics for the zero Tx, and when it is called twice for a transaction
// from BeginContext. For others a second call is nearly always found out. It
// is not for a child, for one that had been held at the gate, or when more
// than eight others were inside on the same processor, if one of these runs
// beside it; then a freeze may take a running transaction for an ended one.
func (t Tx) End() {
	if t.s == nil {
		panic("lock: End of a Tx that was never begun")
	}
	if t.r != nil {
		t.r.end()
	}
	t.leave()
}

// Child begins a transaction within t, which must not have ended yet. It never
// waits, not even while the gate is shut, because t could not end without it.
// The child has to be ended too, before or after t, and is not aborted by
// Force unless it works under the context of a transaction that is.
//
// Child panics for the zero Tx, and when it is found out that t has ended,
// which is always the case while a pin runs.
func (t Tx) Child() Tx {
	if t.s == nil {
		panic("lock: Child of a Tx that was never begun")
	}
	if t.r != nil {
		if !t.r.countChild() {
			panic("lock: Child of a Tx that has ended")
		}
		return Tx{s: t.s}
	}
	// Counted by the parent: in its cell, which is its own, or in n.
	ended := t.cell != 0 && loadCell(&t.s.cells[(t.cell-1)&7]) != t.mark
	if n := t.s.n.Add(1); ended || t.cell == 0 && n == 1 || t.s.gate.reallyFrozen() {
		t.s.leave()
		panic("lock: Child of a Tx that has ended")
	}
	return Tx{s: t.s}
}

// reallyFrozen reports whether nothing is inside. A freeze that only tries
// whether this is so sets the state as well, but holds the mutex meanwhile.
func (g *Gate) reallyFrozen() bool {
	if g.state.Load() != stateFrozen {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.state.Load() == stateFrozen
}

// txKey and pinKey find the transaction, or the pin, of a gate in a context.
// A context may belong to transactions of several gates.
type (
	txKey   struct{ g *Gate }
	pinKey  struct{ g *Gate }
	nameKey struct{}
)

// WithName returns a context that gives the transactions which are begun with
// it by BeginContext a name. The name appears in [TxInfo], and so in errors.
func WithName(ctx context.Context, name string) context.Context {
	return context.WithValue(ctx, nameKey{}, name)
}

// A registration is what the gate knows about a transaction that was begun
// with BeginContext. The fields below the line are guarded by shard.mu.
type registration struct {
	shard  *shard
	outer  context.Context // the context it was begun with
	cancel context.CancelCauseFunc
	name   string
	began  time.Time

	ended      bool
	forced     bool
	onEnd      chan struct{} // made on demand, closed by end
	prev, next *registration
}

// BeginContext is Begin for transactions that take longer. The freeze knows
// them by age and name, see [WithName], and can abort them: the context that
// is returned is cancelled when a freeze with Force does so, and
// [context.Cause] is then a [*ForcedError]. The transaction should roll back
// and must still be ended. The context ends with the transaction at the
// latest.
//
// A transaction begun with the returned context, or with one made from it, is
// a child of this one: it is let through while the gate is shut, as long as
// this one is running. The errors are those of Begin; ctx is then returned as
// it is.
func (g *Gate) BeginContext(ctx context.Context) (context.Context, Tx, error) {
	tx, err := g.Begin(ctx)
	if err != nil {
		return ctx, Tx{}, err
	}
	inner, cancel := context.WithCancelCause(ctx)
	r := &registration{shard: tx.s, outer: ctx, cancel: cancel, began: time.Now()}
	r.name, _ = ctx.Value(nameKey{}).(string)

	s := tx.s
	s.mu.Lock()
	if r.prev = s.tail; r.prev != nil {
		r.prev.next = r
	} else {
		s.head = r
	}
	s.tail = r
	// Admitted just before the gate was closed, registered after the freeze
	// has gone through the lists: nobody else would abort it.
	p := g.forcing.Load()
	r.forced = p != nil
	s.mu.Unlock()
	if p != nil {
		r.abort(p)
	}
	tx.r = r
	return context.WithValue(inner, txKey{g}, r), tx, nil
}

// end takes r out of the list.
func (r *registration) end() {
	s := r.shard
	s.mu.Lock()
	if r.ended {
		s.mu.Unlock()
		panic("lock: Tx.End called more than once for the same transaction")
	}
	r.ended = true
	if r.prev != nil {
		r.prev.next = r.next
	} else {
		s.head = r.next
	}
	if r.next != nil {
		r.next.prev = r.prev
	} else {
		s.tail = r.prev
	}
	r.prev, r.next = nil, nil
	if r.onEnd != nil {
		close(r.onEnd)
	}
	s.mu.Unlock()
	r.cancel(nil)
}

// whenEnded returns a channel that is closed when r ends.
func (r *registration) whenEnded() <-chan struct{} {
	r.shard.mu.Lock()
	defer r.shard.mu.Unlock()
	if r.onEnd == nil {
		r.onEnd = make(chan struct{})
		if r.ended {
			close(r.onEnd)
		}
	}
	return r.onEnd
}

// countChild counts one more transaction beside r, unless r has ended. As r
// itself is counted until after it is marked as ended, the shard cannot have
// been seen empty by a freeze.
func (r *registration) countChild() bool {
	r.shard.mu.Lock()
	defer r.shard.mu.Unlock()
	if r.ended {
		return false
	}
	r.shard.n.Add(1)
	return true
}

// running reports whether r has not ended.
func (r *registration) running() bool {
	r.shard.mu.Lock()
	defer r.shard.mu.Unlock()
	return !r.ended
}

// abort cancels the context of r on behalf of the freeze of p.
func (r *registration) abort(p *period) {
	p.forced.Add(1)
	r.cancel(&ForcedError{Tx: r.info()})
}

func (r *registration) info() TxInfo {
	return TxInfo{Name: r.name, Began: r.began.UTC(), Age: time.Since(r.began)}
}

// liveAncestor returns the innermost transaction of ctx for which ok is true,
// or nil.
func (g *Gate) liveAncestor(ctx context.Context, ok func(*registration) bool) *registration {
	for {
		r, found := ctx.Value(txKey{g}).(*registration)
		if !found {
			return nil
		}
		if ok(r) {
			return r
		}
		ctx = r.outer
	}
}

// countChild and running are the questions asked of ancestors.
func countChild(r *registration) bool { return r.countChild() }
func running(r *registration) bool    { return r.running() }

// oldest describes the transaction that has been running for the longest time
// among those of which the gate knows it. r is nil when that is one of a
// session; without any the TxInfo is zero.
func (g *Gate) oldest() (info TxInfo, r *registration) {
	for i := range g.shards {
		s := &g.shards[i]
		s.mu.Lock()
		if h := s.head; h != nil && (r == nil || h.began.Before(r.began)) {
			r = h
		}
		s.mu.Unlock()
	}
	info = g.sessions.oldest()
	if r != nil && (info.Began.IsZero() || r.began.Before(info.Began)) {
		return r.info(), r
	}
	return info, nil
}
