package lock_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdstill/holdstill/lock"
)

func TestBeginWhileFrozen(t *testing.T) {
	cause := errors.New("the session ended")
	synctest.Test(t, func(t *testing.T) {
		g := lock.New(lock.Options{})
		_, release := hold(t, g)

		ended, cancel := context.WithCancelCause(t.Context())
		cancel(cause)
		_, err := g.Begin(ended)
		wantErr(t, err, context.Canceled, cause)

		soon, cancel2 := context.WithTimeout(t.Context(), time.Second)
		defer cancel2()
		ctx, _, err := g.BeginContext(soon)
		wantErr(t, err, context.DeadlineExceeded)
		if ctx != soon {
			t.Error("an error comes with another context")
		}
		if st := g.Stats(); st.Waiting != 0 || st.LongestStall != 0 {
			t.Errorf("%+v", st)
		}
		release()
		if st := g.Stats(); st.Stalled != 1 || st.LongestStall != time.Second {
			t.Errorf("who gave up does not count as stalled: %+v", st)
		}
		usable(t, g)
	})
}

func TestChildrenAreLetThrough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := lock.New(lock.Options{})
		plain := begin(t, g)
		ctx, outer, err := g.BeginContext(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		middleCtx, middle, err := g.BeginContext(ctx)
		if err != nil {
			t.Fatal(err)
		}
		pinned := false
		f := goFreeze(t.Context(), g, lock.FreezeOptions{MaxStall: -1}, func(context.Context) error {
			pinned = true
			return nil
		})
		synctest.Wait() // the gate is shut now and stays so

		a := plain.Child()
		b, err := g.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		c := outer.Child().Child()
		middle.End()
		// Its parent has ended, but the parent of that has not. The context of
		// an ended transaction is over, so a child has to say it does not mind.
		d, err := g.Begin(context.WithoutCancel(middleCtx))
		if err != nil {
			t.Fatal(err)
		}
		e, etx, err := g.BeginContext(ctx)
		if err != nil {
			t.Fatal(err)
		}
		plain.End()
		outer.End()
		outer2, err := g.Begin(context.WithoutCancel(e)) // etx is alive
		if err != nil {
			t.Fatal(err)
		}
		etx.End()

		// All ancestors of this one have ended: it is like any other.
		started := make(chan error)
		go func() {
			tx, err := g.Begin(context.WithoutCancel(e))
			if err == nil {
				tx.End()
			}
			started <- err
		}()
		// a and the first child of outer still count, with c for its own child.
		for i, tx := range []lock.Tx{a, b, c, c, d, outer2} {
			synctest.Wait()
			if pinned {
				t.Fatalf("the pin ran before child %d had ended", i)
			}
			select {
			case <-started:
				t.Fatal("a transaction without a living ancestor was let through")
			default:
			}
			tx.End()
		}
		<-f.done
		if err := <-started; err != nil || !pinned || f.err != nil {
			t.Errorf("pinned %v, errors %v, %v", pinned, err, f.err)
		}
		usable(t, g)
	})
}

func TestContextEndsWithItsTransaction(t *testing.T) {
	g := lock.New(lock.Options{})
	ctx, tx, err := g.BeginContext(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if ctx.Err() != nil {
		t.Error("ended before the transaction")
	}
	tx.End()
	if !errors.Is(context.Cause(ctx), context.Canceled) || errors.Is(context.Cause(ctx), lock.ErrForced) {
		t.Errorf("the cause is %v", context.Cause(ctx))
	}
}

func TestMisusePanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := lock.New(lock.Options{})
		wantPanic(t, "End of zero", lock.Tx{}.End)
		wantPanic(t, "Child of zero", func() { lock.Tx{}.Child() })
		tx := begin(t, g)
		tx.End()
		wantPanic(t, "second End", tx.End)
		wantPanic(t, "Child after End", func() { tx.Child() })
		_, reg, err := g.BeginContext(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		beside := reg.Child()
		reg.End()
		wantPanic(t, "second End beside another", reg.End)
		wantPanic(t, "Child after End beside another", func() { reg.Child() })
		beside.End()
		wantPanic(t, "second End of a child", beside.End)
		usable(t, g)

		_, release := hold(t, g)
		wantPanic(t, "Child while the pin runs", func() { tx.Child() })
		release()
		usable(t, g)
	})
}

func TestClose(t *testing.T) {
	t.Run("idle", func(t *testing.T) {
		g := lock.New(lock.Options{})
		for range 2 {
			if err := g.Close(); err != nil {
				t.Error(err)
			}
		}
		_, err := g.Begin(t.Context())
		wantErr(t, err, lock.ErrClosed)
		_, _, err = g.BeginContext(t.Context())
		wantErr(t, err, lock.ErrClosed)
		_, err = g.Freeze(t.Context(), lock.FreezeOptions{}, noPin)
		wantErr(t, err, lock.ErrClosed)
	})
	t.Run("while a pin runs", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			g := lock.New(lock.Options{})
			var cause error
			f := goFreeze(t.Context(), g, lock.FreezeOptions{}, func(ctx context.Context) error {
				<-ctx.Done()
				cause = context.Cause(ctx)
				return nil // it had got what it wanted
			})
			synctest.Wait()
			queued := goFreeze(t.Context(), g, lock.FreezeOptions{}, noPin)
			held := make(chan error, 1)
			synctest.Wait()
			go func() {
				_, err := g.Begin(t.Context())
				held <- err
			}()
			synctest.Wait()
			g.Close()
			<-f.done
			<-queued.done
			wantErr(t, <-held, lock.ErrClosed)
			wantErr(t, queued.err, lock.ErrClosed)
			wantErr(t, cause, lock.ErrClosed)
			if f.err != nil || !f.res.Consistent {
				t.Errorf("the gate stayed shut, yet %+v, %v", f.res, f.err)
			}
		})
	})
	t.Run("while a pin runs with the gate open", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			g := lock.New(lock.Options{})
			tx := begin(t, g)
			f := goFreeze(t.Context(), g, lock.FreezeOptions{Timeout: time.Second, AllowInconsistent: true}, func(ctx context.Context) error {
				<-ctx.Done()
				return context.Cause(ctx)
			})
			time.Sleep(2*time.Second - time.Millisecond)
			g.Close()
			<-f.done
			wantErr(t, f.err, lock.ErrClosed)
			tx.End()
		})
	})
	// While the freeze waits: shut, in a pause, put off.
	for _, after := range []time.Duration{time.Millisecond, 300 * time.Millisecond, 20 * time.Second} {
		t.Run(fmt.Sprint("while a freeze waits, after ", after), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := lock.New(lock.Options{})
				ctx, tx, err := g.BeginContext(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				f := goFreeze(t.Context(), g, lock.FreezeOptions{Force: true}, noPin)
				time.Sleep(after)
				g.Close()
				<-f.done
				wantErr(t, f.err, lock.ErrClosed)
				if f.took != after || ctx.Err() != nil {
					t.Errorf("took %v; the transaction inside: %v", f.took, ctx.Err())
				}
				tx.Child().End()
				tx.End()
			})
		})
	}
}

func TestStats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := lock.New(lock.Options{Timeout: time.Second})
		tx := begin(t, g)
		if _, err := g.Freeze(t.Context(), lock.FreezeOptions{}, noPin); !errors.Is(err, lock.ErrTimeout) {
			t.Error(err)
		}
		if _, err := g.Freeze(t.Context(), lock.FreezeOptions{AllowInconsistent: true, MaxStall: -1}, noPin); err != nil {
			t.Error(err)
		}
		ctx, aborted, err := g.BeginContext(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		context.AfterFunc(ctx, func() { aborted.End(); tx.End() })
		if _, err := g.Freeze(t.Context(), lock.FreezeOptions{Force: true, MaxStall: -1}, noPin); err != nil {
			t.Error(err)
		}
		if _, err := g.Freeze(t.Context(), lock.FreezeOptions{}, func(context.Context) error { return errors.New("no") }); err == nil {
			t.Error("no error")
		}
		got := g.Stats()
		attempts := got.Attempts
		if got.Holds.Count != attempts || got.Holds.Max != time.Second || got.Waits.Count != 4 || got.Waits.Max != time.Second || got.Stalls.Count != 0 {
			t.Errorf("%d holds up to %v, %d waits up to %v, %d stalls", got.Holds.Count, got.Holds.Max, got.Waits.Count, got.Waits.Max, got.Stalls.Count)
		}
		got.Holds, got.Waits = lock.Histogram{}, lock.Histogram{}
		got.Attempts = 0
		want := lock.Stats{Freezes: 4, Consistent: 1, Inconsistent: 1, Timeouts: 1, Forced: 1, LongestHeld: time.Second}
		if got != want || attempts < 4 {
			t.Errorf("got %+v and %d attempts\nwant %+v", got, attempts, want)
		}
	})
}

func TestBeginEndAllocateNothing(t *testing.T) {
	g := lock.New(lock.Options{})
	ctx := t.Context()
	n := testing.AllocsPerRun(1000, func() {
		tx, err := g.Begin(ctx)
		if err != nil {
			t.Error(err)
		}
		tx.Child().End()
		tx.End()
	})
	if n != 0 {
		t.Errorf("%v allocations for a transaction and its child, want 0", n)
	}
}

func TestErrorTexts(t *testing.T) {
	tx := lock.TxInfo{Name: "import", Began: time.Unix(1, 0), Age: 3 * time.Minute}
	tests := []struct {
		err  error
		want string
	}{
		{
			&lock.TimeoutError{Waited: 2 * time.Minute, Attempts: 9, Inside: 3, Oldest: tx, Forced: 2},
			`lock: the freeze timed out after 2m0s and 9 attempts: 3 transactions were still inside, after 2 had been aborted, the oldest known: transaction "import" (running for 3m0s)`,
		},
		{
			&lock.TimeoutError{Waited: time.Second, Attempts: 1, Inside: 1},
			`lock: the freeze timed out after 1s and 1 attempts: 1 transactions were still inside`,
		},
		{
			&lock.TimeoutError{Waited: time.Second, Queued: true},
			`lock: the freeze timed out after 1s: another freeze was under way; try again when it has ended`,
		},
		{
			&lock.TimeoutError{Waited: time.Second, Pin: true},
			`lock: the freeze timed out after 1s: the pin had not returned, so the gate was opened without it`,
		},
		{
			&lock.ForcedError{Tx: lock.TxInfo{Age: time.Second}},
			`lock: transaction (running for 1s) was aborted by a freeze that had waited too long`,
		},
	}
	for _, test := range tests {
		if got := test.err.Error(); got != test.want {
			t.Errorf("got  %s\nwant %s", got, test.want)
		}
	}
}
