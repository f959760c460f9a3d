package lock_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdstill/holdstill/lock"
)

func TestFreezeWaitsForThoseInside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := lock.New(lock.Options{})
		tx := begin(t, g)
		ended := false
		f := goFreeze(t.Context(), g, lock.FreezeOptions{}, func(context.Context) error {
			if !ended {
				t.Error("the pin runs while a transaction is inside")
			}
			time.Sleep(30 * time.Millisecond)
			return nil
		})
		time.Sleep(100 * time.Millisecond)
		ended = true
		tx.End()
		<-f.done
		if f.err != nil {
			t.Fatal(f.err)
		}
		want := lock.FreezeResult{
			Consistent: true, Attempts: 1, ClosedEpoch: 1, ThawEpoch: 1,
			Waited: 100 * time.Millisecond, PinTook: 30 * time.Millisecond,
			Held: 130 * time.Millisecond, LongestHeld: 130 * time.Millisecond,
		}
		if f.res != want {
			t.Errorf("got  %+v\nwant %+v", f.res, want)
		}
		usable(t, g)
	})
}

func TestHeldTransactionsGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := lock.New(lock.Options{})
		f, release := hold(t, g)
		var through atomic.Int64
		for range 20 {
			go func() {
				tx, err := g.Begin(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				through.Add(1)
				tx.End()
			}()
			time.Sleep(time.Millisecond)
		}
		if st := g.Stats(); st.Waiting != 20 || through.Load() != 0 {
			t.Errorf("%d wait and %d went through a frozen gate, want 20 and 0", st.Waiting, through.Load())
		}
		release()
		synctest.Wait()
		if through.Load() != 20 {
			t.Errorf("%d of 20 went on", through.Load())
		}
		if f.res.Stalled != 20 || f.res.LongestStall != 20*time.Millisecond {
			t.Errorf("stalled %d, longest %v, want 20 and 20ms", f.res.Stalled, f.res.LongestStall)
		}
		usable(t, g)
	})
}

// A backup is taken while a report runs for ten seconds. Everybody else must
// hardly notice.
func TestLongTransactionDelaysTheFreezeOnly(t *testing.T) {
	for _, registered := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			g := lock.New(lock.Options{})
			report := begin(t, g)
			if registered {
				report.End()
				ctx := lock.WithName(t.Context(), "report")
				_, tx, err := g.BeginContext(ctx)
				if err != nil {
					t.Fatal(err)
				}
				report = tx
			}
			time.AfterFunc(10*time.Second, report.End)

			f := goFreeze(t.Context(), g, lock.FreezeOptions{}, noPin)
			ctx, stop := context.WithCancel(t.Context())
			var others sync.WaitGroup
			for range 5 {
				others.Go(func() {
					for ctx.Err() == nil {
						start := time.Now()
						tx, err := g.Begin(t.Context())
						if err != nil {
							t.Error(err)
							return
						}
						if held := time.Since(start); held > lock.DefaultMaxStall {
							t.Errorf("held for %v", held)
						}
						time.Sleep(7 * time.Millisecond)
						tx.End()
						time.Sleep(3 * time.Millisecond)
					}
				})
			}
			<-f.done
			stop()
			others.Wait()
			if f.err != nil || !f.res.Consistent || f.res.Waited < 10*time.Second {
				t.Errorf("%+v, %v", f.res, f.err)
			}
			if f.res.LongestHeld > lock.DefaultMaxStall || f.res.LongestStall > lock.DefaultMaxStall {
				t.Errorf("the gate was shut for longer than the bound: %+v", f.res)
			}
			if registered {
				// Its age is known, so hopeless attempts are not made: one before
				// it was old, one after it has ended.
				if f.res.Attempts != 2 || f.res.Blocker.Name != "report" {
					t.Errorf("%d attempts, blocked by %v; want 2, report", f.res.Attempts, f.res.Blocker)
				}
			} else if f.res.Attempts < 4 || f.res.Attempts > 12 {
				t.Errorf("%d attempts in ten seconds", f.res.Attempts)
			}
			usable(t, g)
		})
	}
}

func TestWhenTheTimeIsOver(t *testing.T) {
	const timeout = 10 * time.Second
	type tc struct {
		name       string
		opts       lock.FreezeOptions
		stubborn   bool // the transaction in the way does not end when aborted
		plain      bool // it was begun with Begin
		took       time.Duration
		err        error
		consistent bool
		forced     int
	}
	tests := []tc{
		{name: "neither", took: timeout, err: lock.ErrTimeout},
		{name: "inconsistent", opts: lock.FreezeOptions{AllowInconsistent: true}, took: timeout},
		{name: "force", opts: lock.FreezeOptions{Force: true}, consistent: true, forced: 1},
		{name: "force wins", opts: lock.FreezeOptions{Force: true, AllowInconsistent: true}, consistent: true, forced: 1},
		{name: "force in vain", opts: lock.FreezeOptions{Force: true}, stubborn: true, took: 2 * timeout, err: lock.ErrTimeout, forced: 1},
		{name: "force in vain, inconsistent", opts: lock.FreezeOptions{Force: true, AllowInconsistent: true}, stubborn: true, took: 2 * timeout, forced: 1},
		{name: "force cannot reach it", opts: lock.FreezeOptions{Force: true}, plain: true, took: 2 * timeout, err: lock.ErrTimeout},
	}
	for _, maxStall := range []time.Duration{0, -1, time.Millisecond, timeout, time.Hour} {
		for _, test := range tests {
			t.Run(test.name+"/"+maxStall.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					g := lock.New(lock.Options{})
					gone := make(chan struct{})
					ended := make(chan struct{})
					var cause error
					if test.plain {
						tx := begin(t, g)
						go func() { <-gone; tx.End(); close(ended) }()
					} else {
						ctx, tx, err := g.BeginContext(lock.WithName(t.Context(), "import"))
						if err != nil {
							t.Fatal(err)
						}
						go func() {
							defer close(ended)
							defer tx.End()
							if test.stubborn {
								<-gone
								cause = context.Cause(ctx)
								return
							}
							select {
							case <-ctx.Done():
								cause = context.Cause(ctx)
							case <-gone:
							}
						}()
					}
					opts := test.opts
					opts.Timeout, opts.MaxStall = timeout, maxStall
					pinned := false
					f := goFreeze(t.Context(), g, opts, func(ctx context.Context) error {
						pinned = true
						if !test.consistent {
							begin(t, g).End() // the gate is open
						}
						return ctx.Err()
					})
					<-f.done
					close(gone)
					<-ended

					if !errors.Is(f.err, test.err) || (f.err == nil) != pinned {
						t.Errorf("error %v, pinned %v; want %v", f.err, pinned, test.err)
					}
					if f.res.Consistent != test.consistent || f.res.Forced != test.forced || f.res.Attempts == 0 {
						t.Errorf("result %+v", f.res)
					}
					if test.took != 0 && f.took != test.took {
						t.Errorf("took %v, want %v", f.took, test.took)
					}
					if test.took == 0 && (f.took < timeout || f.took > 2*timeout) {
						t.Errorf("took %v, want a little more than %v", f.took, timeout)
					}
					if late, ok := errors.AsType[*lock.TimeoutError](f.err); ok {
						if late.Inside != 1 || late.Attempts != f.res.Attempts || late.Forced != test.forced || !late.Timeout() {
							t.Errorf("%+v", late)
						}
						if !test.plain && (late.Oldest.Name != "import" || late.Oldest.Age <= 0 || late.Oldest.Age > f.took) {
							t.Errorf("the oldest is %v", late.Oldest)
						}
					}
					if test.forced > 0 {
						forced, ok := errors.AsType[*lock.ForcedError](cause)
						if !ok || forced.Tx.Name != "import" || !errors.Is(cause, lock.ErrForced) {
							t.Errorf("the cause is %v", cause)
						}
					} else if cause != nil && !errors.Is(cause, context.Canceled) {
						t.Errorf("aborted without being asked: %v", cause)
					}
					usable(t, g)
				})
			})
		}
	}
}

// Force is for what is in the way, not for those who would have ended anyway.
func TestForceLeavesShortTransactionsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := lock.New(lock.Options{})
		ctx, stuck, err := g.BeginContext(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		context.AfterFunc(ctx, stuck.End)
		run, stop := context.WithCancel(t.Context())
		var others sync.WaitGroup
		for range 4 {
			others.Go(func() {
				for run.Err() == nil {
					ctx, tx, err := g.BeginContext(t.Context())
					if err != nil {
						t.Error(err)
						return
					}
					time.Sleep(20 * time.Millisecond)
					if ctx.Err() != nil {
						t.Errorf("aborted: %v", context.Cause(ctx))
					}
					tx.End()
				}
			})
		}
		res, err := g.Freeze(t.Context(), lock.FreezeOptions{Timeout: 5 * time.Second, Force: true}, noPin)
		stop()
		others.Wait()
		if err != nil || res.Forced != 1 || !res.Consistent {
			t.Errorf("%+v, %v", res, err)
		}
	})
}

func TestWaitingForItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, other := lock.New(lock.Options{}), lock.New(lock.Options{})
		_, err := g.Freeze(t.Context(), lock.FreezeOptions{}, func(ctx context.Context) error {
			_, err := g.Begin(ctx)
			wantErr(t, err, lock.ErrInsidePin)
			_, _, err = g.BeginContext(ctx)
			wantErr(t, err, lock.ErrInsidePin)
			_, err = g.Freeze(ctx, lock.FreezeOptions{}, noPin)
			wantErr(t, err, lock.ErrInsidePin)
			// Two gates may be frozen together.
			_, err = other.Freeze(ctx, lock.FreezeOptions{}, noPin)
			return err
		})
		if err != nil {
			t.Error(err)
		}
		ctx, tx, err := g.BeginContext(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, err = g.Freeze(ctx, lock.FreezeOptions{}, noPin)
		wantErr(t, err, lock.ErrInsideTx)
		if _, err := other.Freeze(ctx, lock.FreezeOptions{}, noPin); err != nil {
			t.Error(err)
		}
		tx.End()
		usable(t, g)
	})
}

func TestFreezesQueueInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := lock.New(lock.Options{})
		_, release := hold(t, g)
		var order []int // pins never overlap, which the race detector checks too
		var fs []*frozen
		for i := range 10 {
			fs = append(fs, goFreeze(t.Context(), g, lock.FreezeOptions{}, func(context.Context) error {
				order = append(order, i)
				return nil
			}))
			synctest.Wait()
		}
		ctx, cancel := context.WithCancel(t.Context())
		left := goFreeze(ctx, g, lock.FreezeOptions{}, noPin)
		late := goFreeze(t.Context(), g, lock.FreezeOptions{Timeout: time.Second}, noPin)
		lateForce := goFreeze(t.Context(), g, lock.FreezeOptions{Timeout: time.Second, Force: true}, noPin)
		inTime := goFreeze(t.Context(), g, lock.FreezeOptions{Timeout: time.Minute, AllowInconsistent: true}, noPin)
		synctest.Wait()
		cancel()
		<-left.done
		wantErr(t, left.err, context.Canceled)
		<-late.done
		<-lateForce.done
		for _, f := range []*frozen{late, lateForce} {
			if e, ok := errors.AsType[*lock.TimeoutError](f.err); !ok || !e.Queued || e.Attempts != 0 {
				t.Errorf("behind another freeze: %v", f.err)
			}
		}
		if late.took != time.Second || lateForce.took != 2*time.Second {
			t.Errorf("took %v and %v", late.took, lateForce.took)
		}
		time.Sleep(70 * time.Second) // past the timeout of the last, which still gets its attempt
		release()
		for _, f := range append(fs, inTime) {
			<-f.done
			if f.err != nil || !f.res.Consistent {
				t.Errorf("%+v, %v", f.res, f.err)
			}
		}
		if want := []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}; !slices.Equal(order, want) {
			t.Errorf("order %v", order)
		}
		usable(t, g)
	})
}

func TestFreezeContextEnds(t *testing.T) {
	cause := errors.New("the client hung up")
	for _, after := range []time.Duration{0, 10 * time.Millisecond, 300 * time.Millisecond, 5 * time.Second} {
		t.Run(after.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := lock.New(lock.Options{})
				ctx, cancel := context.WithCancelCause(t.Context())
				tx := begin(t, g)
				f := goFreeze(ctx, g, lock.FreezeOptions{AllowInconsistent: true, Force: true}, func(context.Context) error {
					t.Error("the pin was run")
					return nil
				})
				time.Sleep(after)
				cancel(cause)
				<-f.done
				wantErr(t, f.err, cause, context.Canceled)
				if f.took != after {
					t.Errorf("took %v, want %v", f.took, after)
				}
				begin(t, g).End()
				tx.End()
				usable(t, g)
			})
		})
	}
}

func TestBadFreezeOptions(t *testing.T) {
	g := lock.New(lock.Options{})
	_, err := g.Freeze(t.Context(), lock.FreezeOptions{Timeout: -1}, noPin)
	wantErr(t, err, lock.ErrBadOptions)
	_, err = g.Freeze(t.Context(), lock.FreezeOptions{}, nil)
	wantErr(t, err, lock.ErrBadOptions)
	_, err = lock.New(lock.Options{Timeout: -1}).Freeze(t.Context(), lock.FreezeOptions{}, noPin)
	wantErr(t, err, lock.ErrBadOptions)
	// The longest there is: the sum of two must not wrap around.
	opts := lock.FreezeOptions{Timeout: 1<<63 - 1, MaxStall: 1<<63 - 1, Force: true}
	if _, err := g.Freeze(t.Context(), opts, noPin); err != nil {
		t.Error(err)
	}
	usable(t, g)
}
