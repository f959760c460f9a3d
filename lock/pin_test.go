package lock_test

import (
	"context"
	"errors"
	"io"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdstill/holdstill/lock"
)

func TestPinThatDoesNotReturnInTime(t *testing.T) {
	gone := errors.New("the operator gave up")
	tests := []struct {
		name  string
		opts  lock.FreezeOptions
		abort bool
		err   error
		fails error // what the pin returns
		after time.Duration
	}{
		{name: "context", abort: true, err: gone, after: time.Second},
		{name: "context, inconsistent allowed", opts: lock.FreezeOptions{AllowInconsistent: true}, abort: true, err: gone, after: time.Second},
		{name: "timeout", err: lock.ErrTimeout, after: 10 * time.Second},
		{name: "timeout, inconsistent allowed", opts: lock.FreezeOptions{AllowInconsistent: true}, after: 10 * time.Second},
		{name: "timeout, pin fails", fails: io.ErrUnexpectedEOF, err: lock.ErrTimeout, after: 10 * time.Second},
		{name: "no bound", opts: lock.FreezeOptions{MaxStall: -1}, err: lock.ErrTimeout, after: 10*time.Second + lock.DefaultMaxStall},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := lock.New(lock.Options{})
				ctx, cancel := context.WithCancelCause(t.Context())
				if test.abort {
					time.AfterFunc(time.Second, func() { cancel(gone) })
				}
				opts := test.opts
				opts.Timeout = 10 * time.Second
				f := goFreeze(ctx, g, opts, func(context.Context) error {
					time.Sleep(time.Minute)
					return test.fails
				})
				synctest.Wait()
				start := time.Now()
				begin(t, g).End()
				if held := time.Since(start); held != test.after {
					t.Errorf("the gate opened after %v, want %v", held, test.after)
				}
				<-f.done
				if test.err == nil && f.err != nil {
					t.Error(f.err)
				}
				if test.err != nil {
					wantErr(t, f.err, test.err)
				}
				if test.fails != nil {
					wantErr(t, f.err, test.fails)
				}
				if f.res.Consistent || f.res.ClosedEpoch == f.res.ThawEpoch {
					t.Errorf("called consistent: %+v", f.res)
				}
				if f.res.Held != test.after || f.res.LongestStall != test.after {
					t.Errorf("%+v", f.res)
				}
				cancel(nil)
				usable(t, g)
			})
		})
	}
}

func TestPinEndsBadly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := lock.New(lock.Options{})
		res, err := g.Freeze(t.Context(), lock.FreezeOptions{}, func(context.Context) error { return io.ErrUnexpectedEOF })
		wantErr(t, err, io.ErrUnexpectedEOF)
		if res.Consistent {
			t.Error("a failed freeze is called consistent")
		}
		usable(t, g)

		wantPanic(t, "pin", func() {
			_, _ = g.Freeze(t.Context(), lock.FreezeOptions{}, func(context.Context) error { panic("in the pin") })
		})
		// A context that has ended is admitted only if there is no need to wait.
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		tx, err := g.Begin(ended)
		if err != nil {
			t.Fatalf("the gate is not open after the panic: %v", err)
		}
		tx.End()
		usable(t, g)

		f := goFreeze(t.Context(), g, lock.FreezeOptions{}, func(context.Context) error {
			runtime.Goexit()
			return nil
		})
		<-f.done
		usable(t, g)

		g2 := lock.New(lock.Options{})
		tx = begin(t, g2)
		wantPanic(t, "pin with the gate open", func() {
			opts := lock.FreezeOptions{Timeout: 1, AllowInconsistent: true}
			_, _ = g2.Freeze(t.Context(), opts, func(context.Context) error { panic("in the pin") })
		})
		tx.End()
		usable(t, g2)
	})
}

func TestOverrunIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := lock.New(lock.Options{MaxStall: 20 * time.Millisecond})
		res, err := g.Freeze(t.Context(), lock.FreezeOptions{}, func(context.Context) error {
			time.Sleep(50 * time.Millisecond)
			return nil
		})
		if err != nil || !res.Consistent || res.Overrun != 30*time.Millisecond {
			t.Errorf("%+v, %v", res, err)
		}
	})
}
