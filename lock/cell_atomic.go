//go:build !amd64 || race

package lock

import (
	"context"
	"sync/atomic"
)

// The cells of transactions that are inside, with the operations of package
// atomic: for the race detector, which knows nothing of barriers, and for
// processors with another memory model. Their order is the same for all
// goroutines, so a freeze needs no barrier.

// plainCells tells that storeCell is not an ordinary store.
const plainCells = false

// loadCell reads a cell that the caller alone writes.
func loadCell(p *uint32) uint32 { return atomic.LoadUint32(p) }

// storeCell writes a cell that the caller alone writes.
func storeCell(p *uint32, v uint32) { atomic.StoreUint32(p, v) }

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
		atomic.StoreUint32(&s.word, bitInside)
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
	if atomic.LoadUint32(&s.word) == bitInside {
		atomic.StoreUint32(&s.word, 0)
		if atomic.LoadUint32(s.state) == stateOpen {
			s.idle = true
			return
		}
	}
	s.exitSlow()
}
