package lock

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// The moment between the two looks of Begin at the state is a few instructions
// long, so this does nothing but hit it: as many freezes as possible against
// transactions that never park, because their context has ended and a shut
// gate therefore refuses them.
func TestNobodySlipsIn(t *testing.T) {
	g := New(Options{})
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	var pinning, stop atomic.Bool
	var admitted atomic.Int64
	var workers sync.WaitGroup
	// More than there are processors: being descheduled at that moment is what
	// makes it long enough.
	for range 2 * runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for !stop.Load() {
				tx, err := g.Begin(ended)
				if err != nil {
					continue
				}
				admitted.Add(1)
				for range 100 {
					if pinning.Load() {
						t.Error("inside while the pin runs")
						stop.Store(true)
					}
				}
				tx.End()
			}
		})
	}
	// The bare steps of a freeze, to make as many as possible. The bound on the
	// time is for machines with few processors.
	freezes := 0
	for begin := time.Now(); freezes < 3_000_000 && !stop.Load() && time.Since(begin) < time.Second; freezes++ {
		g.state.Store(stateClosed)
		for !g.empty() {
			runtime.Gosched()
		}
		pinning.Store(true)
		for range 50 {
			stop.Load()
		}
		pinning.Store(false)
		g.state.Store(stateOpen)
		for range freezes % 64 {
			stop.Load()
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
