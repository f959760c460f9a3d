package bench

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zeebo/blake3"

	"github.com/holdstill/holdstill/lock"
)

// BenchmarkFreezeStall freezes a gate that the clients of a server pass. What
// counts is "stall", the longest wait of any client's transaction around one
// freeze: the median, the 99th percentile and the longest over all freezes, in
// microseconds. "none" freezes nothing: its figures are the scheduler's, and are
// in all the others too. The time per operation is mostly the pause between two
// freezes and says nothing.
func BenchmarkFreezeStall(b *testing.B) {
	for _, pin := range []time.Duration{0, 500 * time.Microsecond} {
		name := "pin-" + pin.String()
		b.Run("gate/"+name, func(b *testing.B) {
			gate := lock.New(lock.Options{})
			defer func() {
				if err := gate.Close(); err != nil {
					b.Error(err)
				}
			}()
			stallBenchmark(b,
				func(ctx context.Context) (func(), error) {
					tx, err := gate.Begin(ctx)
					return tx.End, err
				},
				func(ctx context.Context) error {
					_, err := gate.Freeze(ctx, lock.FreezeOptions{}, func(context.Context) error {
						work(pin)
						return nil
					})
					return err
				})
		})
		b.Run("rwmutex/"+name, func(b *testing.B) {
			var rw sync.RWMutex
			stallBenchmark(b,
				func(context.Context) (func(), error) {
					rw.RLock()
					return rw.RUnlock, nil
				},
				func(context.Context) error {
					rw.Lock()
					defer rw.Unlock()
					work(pin)
					return nil
				})
		})
	}
	b.Run("none", func(b *testing.B) {
		stallBenchmark(b,
			func(context.Context) (func(), error) { return func() {}, nil },
			func(context.Context) error { return nil })
	})
}

// work keeps a processor busy for d.
func work(d time.Duration) {
	var block [1024]byte
	for start := time.Now(); time.Since(start) < d; {
		sum := blake3.Sum256(block[:])
		copy(block[:], sum[:])
	}
}

// The load of BenchmarkFreezeStall: clients that think between transactions, so
// that the processors are busy but not fought for.
const (
	stallClients = 8
	stallTx      = 20 * time.Microsecond
	stallThink   = 200 * time.Microsecond
	stallPause   = 2 * time.Millisecond // before and after each freeze
)

func stallBenchmark(b *testing.B, begin func(context.Context) (end func(), err error), freeze func(context.Context) error) {
	ctx, cancel := context.WithCancel(b.Context())
	var longest atomic.Int64 // the longest wait since it was last reset, in ns
	var clients sync.WaitGroup
	for range stallClients {
		clients.Go(func() {
			for ctx.Err() == nil {
				start := time.Now()
				end, err := begin(ctx)
				if err != nil {
					if ctx.Err() == nil {
						b.Errorf("a client was turned away: %v", err)
					}
					return
				}
				noteMax(&longest, int64(time.Since(start)))
				work(stallTx)
				end()
				time.Sleep(stallThink)
			}
		})
	}
	defer clients.Wait()
	defer cancel()

	phase := rand.New(rand.NewPCG(1, 2))
	var stalls []time.Duration
	for b.Loop() {
		time.Sleep(stallPause)
		// Timers fire together: without this the freeze would fall between the
		// clients' transactions every time.
		work(time.Duration(phase.Int64N(int64(time.Millisecond))))
		longest.Store(0)
		if err := freeze(ctx); err != nil {
			b.Fatal(err)
		}
		time.Sleep(stallPause) // those who waited must have noted it
		stalls = append(stalls, time.Duration(longest.Load()))
	}
	slices.Sort(stalls)
	us := func(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
	b.ReportMetric(us(stalls[len(stalls)/2]), "stall-p50-us")
	b.ReportMetric(us(stalls[len(stalls)*99/100]), "stall-p99-us")
	b.ReportMetric(us(stalls[len(stalls)-1]), "stall-max-us")
}

func noteMax(m *atomic.Int64, x int64) {
	for old := m.Load(); x > old && !m.CompareAndSwap(old, x); old = m.Load() {
	}
}
