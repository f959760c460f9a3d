package lock

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// A Session is a place at the gate that a connection or a worker owns. Its
// transactions cost less than those of [Gate.Begin]: a store and a load to
// enter, and as much to leave. Make one with [Gate.NewSession].
//
// A session has one transaction at a time, and belongs to one goroutine at a
// time: Enter, Exit, Child, SetName and Close must not be called at the same
// moment. It may be handed on to another goroutine in any way that
// synchronises, such as a channel.
//
// A freeze does not know when a transaction of a session began and cannot
// abort it. It does notice when one was in its way before, and then waits for
// it with the gate open, see [FreezeResult.Blocker].
type Session struct {
	// word says whether a transaction is inside. The owner writes it; a freeze
	// sets bitSeen, and lets a held owner in.
	word  uint32
	base  uint32  // word while nothing is inside: 0 or bitFenced
	state *uint32 // Gate.state, as Enter and Exit are short enough to be inlined only so
	gate  *Gate
	idle  bool // nothing is inside, and word is 0 or just being tried by Enter

	depth int // Enter within Enter, counted without the first
	outer Tx  // the count at the parent, see withParent

	// The fields below are guarded by sessionList.mu.
	name   string
	seenAt time.Time // no later than this the transaction with bitSeen began
	at     int       // index in the list

	_ [128 - 2*4 - 5*unsafe.Sizeof(uintptr(0)) - unsafe.Sizeof(Tx{}) -
		unsafe.Sizeof("") - unsafe.Sizeof(time.Time{})]byte
}

// The bits of Session.word. Where a word is compared as a whole, all others
// lead to the slow path.
const (
	bitInside     uint32 = 1 << iota // a transaction is inside
	bitSeen                          // and a freeze has found it in its way
	bitNested                        // depth is not 0
	bitFenced                        // set always, when the barrier is not to be had
	bitWithParent                    // counted as the child of a transaction of Begin
	bitLeft                          // the session was closed
)

// NewSession returns a session, which has to be closed when its owner is done
// with it. It takes a moment and some memory: make one for a connection or a
// worker, not for a transaction. It may be called at any time, also while the
// gate is shut or closed for good.
func (g *Gate) NewSession() *Session {
	s := &Session{gate: g, state: &g.state.v, idle: !g.fenced}
	if g.fenced {
		s.base = bitFenced
	}
	s.word = s.base
	g.sessions.add(s)
	return s
}

// enterSlow goes on where Enter has not succeeded.
func (s *Session) enterSlow(ctx context.Context) error {
	w := loadCell(&s.word)
	switch {
	case s.idle: // Enter has set word, but the gate is not open
	case w&bitLeft != 0:
		return ErrSessionClosed
	case w == bitFenced:
		atomic.StoreUint32(&s.word, bitFenced|bitInside)
		if s.gate.state.Load() == stateOpen {
			return nil
		}
	default:
		s.depth++
		storeCell(&s.word, w|bitNested)
		return nil
	}
	s.leave()
	parent, err := s.gate.wait(ctx, &waiter{session: s})
	if parent != nil {
		// A freeze has perhaps passed this session already, but not the count
		// of the parent.
		s.outer = Tx{s: parent.shard}
		storeCell(&s.word, s.base|bitWithParent)
	}
	s.idle = err != nil && s.base == 0
	return err
}

// exitSlow goes on where Exit has not succeeded.
func (s *Session) exitSlow() {
	w := loadCell(&s.word)
	switch {
	case w&bitLeft != 0:
		panic("lock: Exit of a Session that has been closed")
	case s.idle || w == bitFenced:
		panic("lock: Exit of a Session without Enter")
	case w&bitNested != 0:
		if s.depth--; s.depth == 0 {
			storeCell(&s.word, w&^bitNested)
		}
		return
	case w&bitWithParent != 0:
		storeCell(&s.word, s.base)
		s.outer.leave()
	default: // perhaps Exit has reset word already
		s.leave()
	}
	s.idle = s.base == 0
}

// enter is for a freeze that lets in an owner who waits.
func (s *Session) enter() { atomic.StoreUint32(&s.word, s.base|bitInside) }

// leave says that nothing is inside any more.
func (s *Session) leave() {
	storeCell(&s.word, s.base)
	if s.gate.state.Load() != stateOpen {
		s.gate.wakeFreeze()
	}
}

// Child begins a transaction within the one that is inside, for another
// goroutine to work on. It never waits, not even while the gate is shut, and
// has to be ended, before or after its parent. Child panics when no
// transaction is inside.
func (s *Session) Child() Tx {
	w := loadCell(&s.word)
	switch {
	case w&(bitInside|bitWithParent) == 0:
		panic("lock: Child of a Session that has no transaction")
	case w&bitWithParent != 0:
		return s.outer.Child()
	}
	shard := s.gate.pick()
	shard.n.Add(1)
	return Tx{s: shard}
}

// SetName gives the transactions of the session a name. It appears in
// [TxInfo], and so in errors and results.
func (s *Session) SetName(name string) {
	l := &s.gate.sessions
	l.mu.Lock()
	s.name = name
	l.mu.Unlock()
}

// Close gives the session up. A transaction that is still inside is ended by
// it, with all that were entered within it: a connection that goes away holds
// no freeze up. It returns nil, and may be called again.
func (s *Session) Close() error {
	w := loadCell(&s.word)
	if w&bitLeft != 0 {
		return nil
	}
	s.gate.sessions.remove(s)
	s.idle = false
	storeCell(&s.word, bitLeft)
	if w&bitWithParent != 0 {
		s.outer.leave()
	}
	if s.gate.state.Load() != stateOpen {
		s.gate.wakeFreeze()
	}
	return nil
}

// A sessionList holds the sessions of a gate.
type sessionList struct {
	mu  sync.Mutex
	all []*Session
}

func (l *sessionList) add(s *Session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.at = len(l.all)
	l.all = append(l.all, s)
}

func (l *sessionList) remove(s *Session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	last := len(l.all) - 1
	l.all[s.at] = l.all[last]
	l.all[s.at].at = s.at
	l.all[last] = nil
	l.all = l.all[:last]
}

// inside returns the number of sessions that have a transaction inside. Those
// with a parent are counted there.
func (l *sessionList) inside() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, s := range l.all {
		if atomic.LoadUint32(&s.word)&bitInside != 0 {
			n++
		}
	}
	return n
}

// busy appends the sessions that have a transaction inside. Behind a closed
// gate and after the barrier, no others can be in the way of the freeze.
func (l *sessionList) busy(found []*Session) []*Session {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.all {
		if atomic.LoadUint32(&s.word)&bitInside != 0 {
			found = append(found, s)
		}
	}
	return found
}

// mark notes about those of busy that are still inside that they have been
// since before the given time.
func (l *sessionList) mark(busy []*Session, since time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range busy {
		// The owner does not keep the bit when it leaves: a transaction that
		// has it is the one that was marked.
		w := atomic.LoadUint32(&s.word)
		if w&bitInside != 0 && w&bitSeen == 0 && atomic.CompareAndSwapUint32(&s.word, w, w|bitSeen) {
			s.seenAt = since
		}
	}
}

// oldest describes the transaction that was marked first among those that are
// still inside. Without any it returns the zero TxInfo.
func (l *sessionList) oldest() TxInfo {
	l.mu.Lock()
	defer l.mu.Unlock()
	var old TxInfo
	for _, s := range l.all {
		if atomic.LoadUint32(&s.word)&(bitInside|bitSeen) == bitInside|bitSeen && (old.Began.IsZero() || s.seenAt.Before(old.Began)) {
			old = TxInfo{Name: s.name, Began: s.seenAt}
		}
	}
	if !old.Began.IsZero() {
		old.Age = time.Since(old.Began)
		old.Began = old.Began.UTC()
	}
	return old
}
