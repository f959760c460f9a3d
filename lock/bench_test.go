package lock_test

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdstill/holdstill/lock"
)

func BenchmarkBeginEnd(b *testing.B) {
	ctx := context.Background()
	b.Run("Gate", func(b *testing.B) {
		g := lock.New(lock.Options{})
		b.ReportAllocs()
		for b.Loop() {
			tx, err := g.Begin(ctx)
			if err != nil {
				b.Fatal(err)
			}
			tx.End()
		}
	})
	b.Run("GateContext", func(b *testing.B) {
		g := lock.New(lock.Options{})
		b.ReportAllocs()
		for b.Loop() {
			_, tx, err := g.BeginContext(ctx)
			if err != nil {
				b.Fatal(err)
			}
			tx.End()
		}
	})
	b.Run("RWMutex", func(b *testing.B) {
		var mu sync.RWMutex
		for b.Loop() {
			mu.RLock()
			mu.RUnlock() //lint:ignore SA2001 the empty section is what is measured
		}
	})
}

func BenchmarkBeginEndParallel(b *testing.B) {
	ctx := context.Background()
	b.Run("Gate", func(b *testing.B) {
		g := lock.New(lock.Options{})
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
	})
	b.Run("GateContext", func(b *testing.B) {
		g := lock.New(lock.Options{})
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
	})
	b.Run("RWMutex", func(b *testing.B) {
		var mu sync.RWMutex
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				mu.RLock()
				mu.RUnlock() //lint:ignore SA2001 as above
			}
		})
	})
}

// BenchmarkFreezeStall freezes under load, and reports how long the gate was
// shut on average and the longest time a transaction waited.
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
	var held, longest time.Duration
	n := 0
	for b.Loop() {
		res, err := g.Freeze(context.Background(), lock.FreezeOptions{}, func(context.Context) error { return nil })
		if err != nil {
			b.Fatal(err)
		}
		held += res.Held
		longest = max(longest, res.LongestStall)
		n++
		time.Sleep(200 * time.Microsecond)
	}
	stop.Store(true)
	all.Wait()
	b.ReportMetric(float64(held.Nanoseconds())/float64(n), "held-ns/op")
	b.ReportMetric(float64(longest.Nanoseconds()), "longest-stall-ns")
}
