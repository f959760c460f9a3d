//go:build amd64 && !race

package lock

import (
	"context"
	"sync/atomic"
)

// On amd64 a store becomes visible only after everything that its processor
// loaded or stored before it. An ordinary store is thus enough to say that a
// transaction has ended. It is not enough to say that one begins: the load of
// the state that follows may overtake it. For that see barrier.
//
// The compiler keeps the order too. Each store, and each load of package
// atomic, takes the state of memory from the one before it, so neither is
// moved across the other, nor is a store dropped when such a load follows.
// TestNobodySlipsIn runs the compiled code.

// plainCells tells that storeCell is an ordinary store.
const plainCells = true

// loadCell reads a cell that the caller alone writes.
func loadCell(p *uint32) uint32 { return *p }

// storeCell writes a cell that the caller alone writes.
func storeCell(p *uint32, v uint32) { *p = v }

// Enter admits a transaction, which has to be ended with Exit. While the gate
// is shut it waits; everything [Gate.Begin] says about ctx and the errors
// holds here too. After Close of the session it returns ErrSessionClosed.
//
// Enter within Enter is a child: it is let through even while the gate is
// shut, and needs an Exit of its own.
//
// Enter and Exit allocate no memory as long as the gate is open.
func (s *Session) Enter(ctx context.Context) (err error) {
	if s.idle {
		s.word = bitInside
		if atomic.LoadUint32(s.state) == stateOpen {
			s.idle = false
			return
		}
	}
	return s.enterSlow(ctx)
}

// Exit ends the transaction. It never waits. All that the transaction did
// before is visible to a pin that runs later. Exit panics when no transaction
// is inside.
func (s *Session) Exit() {
	if s.word == bitInside {
		s.word = 0
		if atomic.LoadUint32(s.state) == stateOpen {
			s.idle = true
			return
		}
	}
	s.exitSlow()
}
