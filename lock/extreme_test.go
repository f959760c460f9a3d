package lock

import (
	"context"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"
)

// The longest and the shortest times there are, with one transaction that ends after a while.
func TestFreezeWithExtremeTimes(t *testing.T) {
	times := []time.Duration{1, time.Millisecond, time.Hour, math.MaxInt64 / 2, math.MaxInt64 - 1, math.MaxInt64}
	for _, timeout := range times[1:] {
		for _, stall := range append(times, -1, math.MinInt64) {
			if stall == 1 && timeout > time.Millisecond {
				continue // an attempt every few dozen nanoseconds
			}
			for _, force := range []bool{false, true} {
				synctest.Test(t, func(t *testing.T) {
					g := New(Options{})
					_, tx, err := g.BeginContext(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					time.AfterFunc(2*time.Second, tx.End)
					ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
					defer cancel()
					res, err := g.Freeze(ctx, FreezeOptions{Timeout: timeout, MaxStall: stall, Force: force}, func(context.Context) error { return nil })
					late := timeout == time.Millisecond
					if late && !errors.Is(err, ErrTimeout) || !late && (err != nil || !res.Consistent) {
						t.Errorf("timeout %v, stall %v, force %v: %+v, %v", timeout, stall, force, res, err)
					}
					if err := g.Close(); err != nil {
						t.Error(err)
					}
					time.Sleep(3 * time.Second) // the transaction ends
				})
			}
		}
	}
}
