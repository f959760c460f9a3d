package lock_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdstill/holdstill/lock"
)

// The four below are to be run with -cpu 1,2,4,8: one pair of calls on each
// processor, as fast as it goes. What is flat shares no cache line.

func BenchmarkSession(b *testing.B) {
	g := lock.New(lock.Options{})
	ctx := context.Background()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		s := g.NewSession()
		defer s.Close()
		for pb.Next() {
			if err := s.Enter(ctx); err != nil {
				b.Error(err)
				return
			}
			s.Exit()
		}
	})
}

func BenchmarkBegin(b *testing.B) {
	g := lock.New(lock.Options{})
	ctx := context.Background()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			tx, err := g.Begin(ctx)
			if err != nil {
				b.Error(err)
				return
			}
			tx.End()
		}
	})
}

func BenchmarkBeginContext(b *testing.B) {
	g := lock.New(lock.Options{})
	ctx := context.Background()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			_, tx, err := g.BeginContext(ctx)
			if err != nil {
				b.Error(err)
				return
			}
			tx.End()
		}
	})
}

func BenchmarkRWMutex(b *testing.B) {
	var mu sync.RWMutex
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			mu.RLock()
			mu.RUnlock() //lint:ignore SA2001 the empty section is what is measured
		}
	})
}

// BenchmarkWithoutBarrier is what remains where membarrier is not to be had.
func BenchmarkWithoutBarrier(b *testing.B) {
	ctx := context.Background()
	b.Run("Session", func(b *testing.B) {
		s := lock.NewWithoutBarrier(lock.Options{}).NewSession()
		for b.Loop() {
			if err := s.Enter(ctx); err != nil {
				b.Fatal(err)
			}
			s.Exit()
		}
	})
	b.Run("Begin", func(b *testing.B) {
		g := lock.NewWithoutBarrier(lock.Options{})
		for b.Loop() {
			tx, err := g.Begin(ctx)
			if err != nil {
				b.Fatal(err)
			}
			tx.End()
		}
	})
}

// BenchmarkFreeze is a freeze with nobody inside, beside open sessions.
func BenchmarkFreeze(b *testing.B) {
	for _, sessions := range []int{0, 100, 10_000} {
		b.Run(fmt.Sprint("sessions=", sessions), func(b *testing.B) {
			g := lock.New(lock.Options{})
			for range sessions {
				g.NewSession()
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := g.Freeze(context.Background(), lock.FreezeOptions{}, noPin); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkFreezeStall freezes under load, and reports how long the gate was
// shut on average, and what transactions felt of it.
func BenchmarkFreezeStall(b *testing.B) {
	g := lock.New(lock.Options{})
	var stop atomic.Bool
	var all sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		all.Go(func() {
			for !stop.Load() {
				tx, err := g.Begin(context.Background())
				if err != nil {
					b.Error(err)
					return
				}
				for start := time.Now(); time.Since(start) < 5*time.Microsecond; {
				}
				tx.End()
			}
		})
	}
	var held time.Duration
	n := 0
	for b.Loop() {
		res, err := g.Freeze(context.Background(), lock.FreezeOptions{}, func(context.Context) error { return nil })
		if err != nil {
			b.Fatal(err)
		}
		held += res.Held
		n++
		time.Sleep(200 * time.Microsecond)
	}
	stop.Store(true)
	all.Wait()
	b.ReportMetric(float64(held.Nanoseconds())/float64(n), "held-ns/op")
	stalls := g.Stats().Stalls
	b.ReportMetric(float64(stalls.Quantile(0.99).Nanoseconds()), "p99-stall-ns")
	b.ReportMetric(float64(stalls.Max.Nanoseconds()), "longest-stall-ns")
}
