package lock_test

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/holdstill/holdstill/lock"
)

// As many transactions as the machine can run, freezes one upon the other: both
// sides go on.
func TestNeitherSideStarves(t *testing.T) {
	g := lock.New(lock.Options{})
	workers := 4 * runtime.GOMAXPROCS(0)
	counts := make([]atomic.Int64, workers)
	var stop atomic.Bool
	var all sync.WaitGroup
	for i := range counts {
		all.Go(func() {
			s := g.NewSession()
			defer s.Close()
			for i%2 == 0 && !stop.Load() {
				enter(t, s)
				counts[i].Add(1)
				s.Exit()
			}
			for !stop.Load() {
				tx, err := g.Begin(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				counts[i].Add(1)
				tx.End()
			}
		})
	}
	for i := range counts {
		for counts[i].Load() == 0 { // all of them are to be under way
			runtime.Gosched()
		}
	}
	var freezers sync.WaitGroup
	for range 2 {
		freezers.Go(func() {
			for range 20 {
				if res, err := g.Freeze(t.Context(), lock.FreezeOptions{}, noPin); err != nil || !res.Consistent {
					t.Errorf("%+v, %v", res, err)
				}
			}
			// And on, until every transaction has come through often.
			for i := range counts {
				for start := counts[i].Load(); counts[i].Load() < start+3; {
					if _, err := g.Freeze(t.Context(), lock.FreezeOptions{}, noPin); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	freezers.Wait()
	stop.Store(true)
	all.Wait()
	usable(t, g)
}
