package lock_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/holdstill/holdstill/lock"
)

// What Session and Begin cost beside other locks stands in the bench module.

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
