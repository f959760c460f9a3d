package bench

import (
	"context"
	"sync"
	"testing"

	"github.com/puzpuzpuz/xsync/v4"

	"github.com/holdstill/holdstill/lock"
)

// The transaction side of the gate beside what is used for the purpose
// elsewhere. Run with -cpu 1,2,4,8; the figure is for one pair of calls, over
// all processors: it should halve when their number doubles, as long as the
// machine has that many.

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

func BenchmarkRWMutex(b *testing.B) {
	var mu sync.RWMutex
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			mu.RLock()
			mu.RUnlock() //lint:ignore SA2001 the empty section is what is measured
		}
	})
}

func BenchmarkRBMutex(b *testing.B) {
	mu := xsync.NewRBMutex()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			token := mu.RLock()
			mu.RUnlock(token)
		}
	})
}
