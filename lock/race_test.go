package lock

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"
)

// The moment between the store with which a transaction enters and its look at
// the state is a few instructions long, so this does nothing but hit it: as
// many freezes as possible against transactions that never park, because their
// context has ended and a shut gate therefore refuses them.
//
// Without the barrier it fails in one run out of three on two processors;
// TestLitmus is the sharper test of that alone.
func TestNobodySlipsIn(t *testing.T) {
	forms := []struct {
		name string
		new  func(g *Gate) (enter func(context.Context) bool, exit func())
	}{
		{"begin", func(g *Gate) (func(context.Context) bool, func()) {
			var tx Tx
			return func(ctx context.Context) bool {
				var err error
				tx, err = g.Begin(ctx)
				return err == nil
			}, func() { tx.End() }
		}},
		{"session", func(g *Gate) (func(context.Context) bool, func()) {
			s := g.NewSession()
			return func(ctx context.Context) bool { return s.Enter(ctx) == nil }, s.Exit
		}},
		// The child is what is inside: its parent leaves while the freeze looks.
		{"child of begin", func(g *Gate) (func(context.Context) bool, func()) {
			var child Tx
			return func(ctx context.Context) bool {
				tx, err := g.Begin(ctx)
				if err != nil {
					return false
				}
				for range 100 {
					ctx.Err()
				}
				child = tx.Child()
				tx.End()
				return true
			}, func() { child.End() }
		}},
		{"child of session", func(g *Gate) (func(context.Context) bool, func()) {
			s := g.NewSession()
			var child Tx
			return func(ctx context.Context) bool {
				if s.Enter(ctx) != nil {
					return false
				}
				for range 100 {
					ctx.Err()
				}
				child = s.Child()
				s.Exit()
				return true
			}, func() { child.End() }
		}},
	}
	for _, form := range forms {
		for _, asym := range []bool{barrierWorks(), false} {
			t.Run(fmt.Sprintf("%s, barrier %v", form.name, asym), func(t *testing.T) {
				// Many shards make the freeze look for longer.
				procs := runtime.GOMAXPROCS(8)
				g := newGate(Options{}, asym)
				runtime.GOMAXPROCS(procs)
				litmus(t, g, form.new)
			})
		}
	}
}

func litmus(t *testing.T, g *Gate, form func(g *Gate) (func(context.Context) bool, func())) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	var pinning, stop atomic.Bool
	var admitted atomic.Int64
	var workers sync.WaitGroup
	// More than there are processors: being descheduled at that moment is what
	// makes it long enough.
	for range 2 * runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			enter, exit := form(g)
			for !stop.Load() {
				if !enter(ended) {
					continue
				}
				admitted.Add(1)
				// Long enough to meet the pin, if the freeze has overlooked us.
				for range 200 {
					if pinning.Load() {
						t.Error("inside while the pin runs")
						stop.Store(true)
					}
				}
				exit()
			}
		})
	}
	// The bare steps of a freeze, to make as many as possible. The bound on the
	// time is for machines with few processors; on a busy one the transactions
	// may need longer to get a turn at all.
	freezes := 0
	var busy []*Session
	enough := func(took time.Duration) bool {
		return admitted.Load() > 0 && (freezes >= 3_000_000 || took > time.Second/2) || took > time.Minute
	}
	for begin := time.Now(); freezes == 0 || !stop.Load() && !enough(time.Since(begin)); freezes++ {
		g.state.Store(stateClosed)
		if g.asym {
			barrier()
		}
		busy = g.sessions.busy(busy[:0])
		for n := 1; !g.empty(&busy); n++ {
			if n%100 == 0 {
				runtime.Gosched()
			}
		}
		pinning.Store(true)
		for range 100 {
			stop.Load()
		}
		pinning.Store(false)
		g.state.Store(stateOpen)
		for range freezes % 64 {
			stop.Load()
		}
		if freezes%1000 == 0 {
			runtime.Gosched() // for a machine with one processor
		}
	}
	stop.Store(true)
	workers.Wait()
	if freezes == 0 || admitted.Load() == 0 {
		t.Error("one side made no progress")
	}
	t.Logf("%d freezes, %d transactions", freezes, admitted.Load())
}

// A transaction that was admitted before the gate was shut, but is registered
// only after the freeze has aborted those it could see, is aborted too.
func TestRegisteredTooLateToBeSeen(t *testing.T) {
	g := New(Options{})
	p := &period{}
	g.abortAll(p)
	ctx, tx, err := g.BeginContext(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !errors.Is(context.Cause(ctx), ErrForced) || p.forced.Load() != 1 {
		t.Errorf("cause %v, %d counted", context.Cause(ctx), p.forced.Load())
	}
	g.abortAll(p)
	if p.forced.Load() != 1 {
		t.Error("aborted twice")
	}
	tx.End()
}

// What different processors write lies 128 bytes apart.
func TestNoSharedCacheLines(t *testing.T) {
	if n := unsafe.Sizeof(shard{}); n%128 != 0 && unsafe.Sizeof(uintptr(0)) == 8 || n < 128 {
		t.Errorf("a shard takes %d bytes", n)
	}
	if n := unsafe.Sizeof(Session{}); n != 128 {
		t.Errorf("a session takes %d bytes", n)
	}
	g := New(Options{})
	for range 100 {
		a, b := g.NewSession(), g.NewSession()
		for _, s := range []*Session{a, b} {
			if at := uintptr(unsafe.Pointer(s)); at%128 != 0 {
				t.Errorf("a session lies at %#x", at)
			}
		}
	}
}
