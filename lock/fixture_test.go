package lock_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdstill/holdstill/lock"
)

// noPin is a pin that has nothing to do.
func noPin(context.Context) error { return nil }

// begin admits a transaction or fails the test.
func begin(t *testing.T, g *lock.Gate) lock.Tx {
	t.Helper()
	tx, err := g.Begin(t.Context())
	if err != nil {
		t.Fatalf("Begin: %v", err)
	}
	return tx
}

// frozen is a freeze that runs in a goroutine of its own.
type frozen struct {
	res  lock.FreezeResult
	err  error
	took time.Duration
	done chan struct{}
}

func goFreeze(ctx context.Context, g *lock.Gate, opts lock.FreezeOptions, pin func(context.Context) error) *frozen {
	f := &frozen{done: make(chan struct{})}
	start := time.Now()
	go func() {
		defer close(f.done)
		f.res, f.err = g.Freeze(ctx, opts, pin)
		f.took = time.Since(start)
	}()
	return f
}

// hold freezes the gate until release is called and returns when the pin is
// running. It is for use in a bubble of package synctest.
func hold(t *testing.T, g *lock.Gate) (f *frozen, release func()) {
	t.Helper()
	gone := make(chan struct{})
	f = goFreeze(t.Context(), g, lock.FreezeOptions{}, func(context.Context) error {
		<-gone
		return nil
	})
	synctest.Wait()
	return f, sync.OnceFunc(func() { close(gone); <-f.done })
}

// wantErr fails the test unless errors.Is finds all of want in err.
func wantErr(t *testing.T, err error, want ...error) {
	t.Helper()
	for _, w := range want {
		if !errors.Is(err, w) {
			t.Errorf("error is %v, want one that matches %v", err, w)
		}
	}
}

// wantPanic runs fn, which has to panic.
func wantPanic(t *testing.T, what string, fn func()) {
	t.Helper()
	defer func() {
		t.Helper()
		if recover() == nil {
			t.Errorf("%s: no panic", what)
		}
	}()
	fn()
}

// usable fails the test unless the gate is open, empty, and can be frozen.
func usable(t *testing.T, g *lock.Gate) {
	t.Helper()
	begin(t, g).End()
	res, err := g.Freeze(t.Context(), lock.FreezeOptions{}, noPin)
	if err != nil || !res.Consistent || res.ClosedEpoch != res.ThawEpoch {
		t.Errorf("the gate cannot be used any more: %+v, %v", res, err)
	}
	if st := g.Stats(); st.Inside != 0 || st.Waiting != 0 {
		t.Errorf("%d transactions are inside and %d wait, want none", st.Inside, st.Waiting)
	}
}
