package lock_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdstill/holdstill/lock"
)

// enter begins a transaction in s or fails the test.
func enter(t *testing.T, s *lock.Session) {
	t.Helper()
	if err := s.Enter(t.Context()); err != nil {
		t.Fatalf("Enter: %v", err)
	}
}

func TestFreezeWaitsForSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := lock.New(lock.Options{})
		s, other := g.NewSession(), g.NewSession()
		enter(t, s)
		ended := false
		f := goFreeze(t.Context(), g, lock.FreezeOptions{}, func(context.Context) error {
			if !ended {
				t.Error("the pin runs while a transaction is inside")
			}
			time.Sleep(30 * time.Millisecond)
			return nil
		})
		synctest.Wait()
		var through atomic.Int64
		go func() {
			enter(t, other)
			through.Add(1)
			other.Exit()
		}()
		time.Sleep(100 * time.Millisecond)
		if st := g.Stats(); st.Inside != 1 || st.Waiting != 1 || through.Load() != 0 {
			t.Errorf("%d inside, %d wait, %d went through; want 1, 1, 0", st.Inside, st.Waiting, through.Load())
		}
		enter(t, s) // a child is let through
		s.Exit()
		ended = true
		s.Exit()
		<-f.done
		synctest.Wait()
		if f.err != nil || !f.res.Consistent || f.res.Held != 130*time.Millisecond || f.res.LongestStall != 130*time.Millisecond {
			t.Errorf("%+v, %v", f.res, f.err)
		}
		st := g.Stats()
		if through.Load() != 1 || st.Stalls.Count != 1 || st.Stalls.Max != 130*time.Millisecond {
			t.Errorf("%d went through, %d stalls up to %v", through.Load(), st.Stalls.Count, st.Stalls.Max)
		}
		s.Close()
		other.Close()
		usable(t, g)
	})
}

// What is admitted by the thaw is in the way of the next freeze, also when its
// owner has not run yet.
func TestSessionIsLetInByTheThaw(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := lock.New(lock.Options{})
		_, release := hold(t, g)
		s := g.NewSession()
		go func() {
			enter(t, s)
			time.Sleep(time.Second)
			s.Exit()
		}()
		synctest.Wait()
		release()
		if n := g.Stats().Inside; n != 1 {
			t.Errorf("%d inside, want 1", n)
		}
		res, err := g.Freeze(t.Context(), lock.FreezeOptions{MaxStall: -1}, noPin)
		if err != nil || res.Waited != time.Second {
			t.Errorf("%+v, %v", res, err)
		}
		usable(t, g)
	})
}

func TestSessionWaitEnds(t *testing.T) {
	cause := errors.New("the client hung up")
	synctest.Test(t, func(t *testing.T) {
		g := lock.New(lock.Options{})
		_, release := hold(t, g)
		s := g.NewSession()
		defer s.Close()
		ended, cancel := context.WithCancelCause(t.Context())
		cancel(cause)
		wantErr(t, s.Enter(ended), context.Canceled, cause)
		soon, cancel2 := context.WithTimeout(t.Context(), time.Second)
		defer cancel2()
		wantErr(t, s.Enter(soon), context.DeadlineExceeded)
		wantPanic(t, "Exit after Enter has failed", s.Exit)
		release()
		enter(t, s)
		s.Exit()

		_, err := g.Freeze(t.Context(), lock.FreezeOptions{}, func(ctx context.Context) error {
			wantErr(t, s.Enter(ctx), lock.ErrInsidePin)
			return nil
		})
		if err != nil {
			t.Error(err)
		}

		// Closing the gate ends the wait.
		_, release = hold(t, g)
		held := make(chan error)
		go func() { held <- s.Enter(t.Context()) }()
		synctest.Wait()
		g.Close()
		wantErr(t, <-held, lock.ErrClosed)
		wantErr(t, s.Enter(t.Context()), lock.ErrClosed)
		release()
		s2 := g.NewSession()
		wantErr(t, s2.Enter(t.Context()), lock.ErrClosed)
		s2.Close()
	})
}

func TestSessionWithinTransaction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := lock.New(lock.Options{})
		s := g.NewSession()
		ctx, outer, err := g.BeginContext(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		pinned := false
		f := goFreeze(t.Context(), g, lock.FreezeOptions{MaxStall: -1}, func(context.Context) error {
			pinned = true
			return nil
		})
		synctest.Wait()
		// A session of a worker takes part in the transaction of another.
		if err := s.Enter(ctx); err != nil {
			t.Fatal(err)
		}
		enter(t, s)
		child := s.Child()
		outer.End()
		s.Exit()
		synctest.Wait()
		if pinned {
			t.Error("the pin ran while the worker was inside")
		}
		s.Exit()
		synctest.Wait()
		if pinned {
			t.Error("the pin ran while a child was inside")
		}
		child.End()
		<-f.done
		if f.err != nil || !pinned {
			t.Errorf("pinned %v, %v", pinned, f.err)
		}
		wantPanic(t, "Exit once too often", s.Exit)
		s.Close()
		usable(t, g)
	})
}

// A child, of a session or of Begin, is not overlooked when its parent leaves
// first.
func TestChildOutlivesItsParent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, session := range []bool{true, false} {
			g := lock.New(lock.Options{})
			s := g.NewSession()
			var child lock.Tx
			if session {
				enter(t, s)
				child = s.Child()
				s.Exit()
			} else {
				tx := begin(t, g)
				child = tx.Child()
				tx.End()
			}
			time.AfterFunc(time.Second, child.End)
			res, err := g.Freeze(t.Context(), lock.FreezeOptions{MaxStall: -1}, noPin)
			if err != nil || res.Waited != time.Second {
				t.Errorf("session %v: %+v, %v", session, res, err)
			}
			s.Close()
			usable(t, g)
		}
	})
}

func TestSessionMisuse(t *testing.T) {
	g := lock.New(lock.Options{})
	s := g.NewSession()
	wantPanic(t, "Exit without Enter", s.Exit)
	wantPanic(t, "Child without Enter", func() { s.Child() })
	enter(t, s)
	s.Exit()
	wantPanic(t, "second Exit", s.Exit)
	enter(t, s)
	enter(t, s)
	s.Close() // ends both
	s.Close()
	wantPanic(t, "Exit after Close", s.Exit)
	wantErr(t, s.Enter(t.Context()), lock.ErrSessionClosed)
	wantErr(t, s.Enter(t.Context()), lock.ErrSessionClosed)
	usable(t, g)
}

func TestClosingASessionFreesTheFreeze(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, child := range []bool{false, true} {
			g := lock.New(lock.Options{})
			s, kept := g.NewSession(), g.NewSession()
			ctx, tx, err := g.BeginContext(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if !child {
				enter(t, s)
			}
			f := goFreeze(t.Context(), g, lock.FreezeOptions{MaxStall: -1}, noPin)
			synctest.Wait()
			if child {
				if err := s.Enter(ctx); err != nil {
					t.Fatal(err)
				}
			}
			tx.End()
			time.Sleep(time.Second)
			s.Close()
			<-f.done
			if f.err != nil || f.res.Waited != time.Second {
				t.Errorf("%+v, %v", f.res, f.err)
			}
			kept.Close()
			usable(t, g)
		}
	})
}

// A session that was in the way of one attempt is known after that: the next
// attempt is put off until it has left, and the result names it.
func TestOldSessionIsWaitedForWithTheGateOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := lock.New(lock.Options{})
		s, quick := g.NewSession(), g.NewSession()
		s.SetName("report")
		enter(t, s)
		time.AfterFunc(10*time.Second, s.Exit)
		f := goFreeze(t.Context(), g, lock.FreezeOptions{}, noPin)
		var longest time.Duration
		for range 300 {
			start := time.Now()
			enter(t, quick)
			longest = max(longest, time.Since(start))
			time.Sleep(10 * time.Millisecond)
			quick.Exit()
			time.Sleep(10 * time.Millisecond)
		}
		<-f.done
		if f.err != nil || f.res.Attempts != 2 || f.res.Blocker.Name != "report" || longest > lock.DefaultMaxStall {
			t.Errorf("held for %v; %+v, %v", longest, f.res, f.err)
		}
		if f.res.Waited < 10*time.Second || f.res.Waited > 10*time.Second+200*time.Millisecond {
			t.Errorf("waited %v", f.res.Waited)
		}
		synctest.Wait() // s is handed on from the timer
		// The next one knows nothing of it any more.
		enter(t, s)
		time.AfterFunc(10*time.Millisecond, s.Exit)
		res, err := g.Freeze(t.Context(), lock.FreezeOptions{}, noPin)
		if err != nil || res.Attempts != 1 || res.Blocker.Name != "" {
			t.Errorf("%+v, %v", res, err)
		}

		synctest.Wait()
		enter(t, s)
		_, err = g.Freeze(t.Context(), lock.FreezeOptions{Timeout: time.Second}, noPin)
		late, ok := errors.AsType[*lock.TimeoutError](err)
		if !ok || late.Inside != 1 || late.Oldest.Name != "report" || late.Oldest.Age <= 0 {
			t.Errorf("%v", err)
		}
		s.Close()
		quick.Close()
		usable(t, g)
	})
}

func TestEnterExitAllocateNothing(t *testing.T) {
	g := lock.New(lock.Options{})
	s := g.NewSession()
	defer s.Close()
	ctx := t.Context()
	n := testing.AllocsPerRun(1000, func() {
		if err := s.Enter(ctx); err != nil {
			t.Error(err)
		}
		s.Child().End()
		s.Exit()
	})
	if n != 0 {
		t.Errorf("%v allocations for a transaction and its child, want 0", n)
	}
}

// Sessions come and go, and are handed on, while freezes run.
func TestSessionsComeAndGo(t *testing.T) {
	g := lock.New(lock.Options{})
	handed := make(chan *lock.Session, 4)
	guarded := make([]int, 6)
	var all sync.WaitGroup
	var stop atomic.Bool
	for i := range guarded {
		all.Go(func() {
			for !stop.Load() {
				s := g.NewSession()
				select {
				case handed <- s:
					s = <-handed
				default:
				}
				for range 5 {
					enter(t, s)
					guarded[i]++
					s.Exit()
				}
				s.Close()
			}
		})
	}
	for range 500 {
		res, err := g.Freeze(t.Context(), lock.FreezeOptions{}, func(context.Context) error {
			n := 0
			for _, v := range guarded { // the race detector checks it
				n += v
			}
			for _, v := range guarded {
				n -= v
			}
			if n != 0 {
				t.Error("somebody is inside")
			}
			return nil
		})
		if err != nil || !res.Consistent {
			t.Errorf("%+v, %v", res, err)
		}
	}
	stop.Store(true)
	all.Wait()
	for len(handed) > 0 {
		(<-handed).Close()
	}
	usable(t, g)
}
