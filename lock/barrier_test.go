package lock

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// The litmus test of the gate: one side stores its cell and loads the state,
// the other stores the state, passes the barrier and loads the cell. That
// neither sees the store of the other must never happen. The run without the
// barrier shows what the test can see; nothing is asked of it.
func TestLitmus(t *testing.T) {
	plain := func(p *uint32) { storeCell(p, 1) }
	fence := func(p *uint32) { atomic.StoreUint32(p, 1) }
	nothing := func() {}
	tests := []struct {
		name    string
		store   func(*uint32)
		barrier func()
		holds   bool
	}{
		{"with the fence", fence, nothing, true},
		{"with the barrier", plain, barrier, barrierWorks() || !plainCells},
		{"with neither", plain, nothing, !plainCells},
	}
	for _, test := range tests {
		rounds, missed := runLitmus(test.store, test.barrier)
		t.Logf("%s: %d of %d rounds missed", test.name, missed, rounds)
		if test.holds && missed != 0 || rounds == 0 {
			t.Errorf("%s: neither side saw the other in %d of %d rounds", test.name, missed, rounds)
		}
	}
}

func runLitmus(store func(*uint32), barrier func()) (rounds, missed int) {
	type line struct {
		v uint32
		_ [124]byte
	}
	var cell, state, start, done, stop line
	var cellSaw uint32 // written before done is set, read after
	var worker sync.WaitGroup
	worker.Go(func() {
		for round := uint32(1); ; round++ {
			for n := 0; atomic.LoadUint32(&start.v) != round; n++ {
				if atomic.LoadUint32(&stop.v) != 0 {
					return
				}
				if n > 1000 {
					runtime.Gosched()
				}
			}
			for range 16 + round%32 {
				atomic.LoadUint32(&state.v) // so that this line is near, and the cell is not
			}
			store(&cell.v)
			cellSaw = atomic.LoadUint32(&state.v)
			atomic.StoreUint32(&done.v, round)
		}
	})
	for begin := time.Now(); rounds == 0 || rounds < 1_000_000 && time.Since(begin) < 400*time.Millisecond; {
		rounds++
		atomic.StoreUint32(&cell.v, 0)
		atomic.StoreUint32(&state.v, 0)
		atomic.StoreUint32(&start.v, uint32(rounds))
		for range rounds * 7 % 512 { // so that the two meet at all distances
			atomic.LoadUint32(&stop.v)
		}
		atomic.StoreUint32(&state.v, 1)
		barrier()
		saw := atomic.LoadUint32(&cell.v)
		for n := 0; atomic.LoadUint32(&done.v) != uint32(rounds); n++ {
			if n > 1000 {
				runtime.Gosched()
			}
		}
		if saw == 0 && cellSaw == 0 {
			missed++
		}
	}
	atomic.StoreUint32(&stop.v, 1)
	worker.Wait()
	return rounds, missed
}
