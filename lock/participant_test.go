package lock_test

import (
	"context"
	"errors"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdstill/holdstill/lock"
)

// database is a participant that notes what is done to it in a journal that
// several of them share.
type database struct {
	name   string
	log    *journal
	freeze func(ctx context.Context) error // nil: succeeds
	thaw   func()
	frozen bool // guarded by log.mu
}

type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) note(line string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line)
}

// take returns the lines and empties the journal.
func (j *journal) take() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	s := strings.Join(j.lines, " ")
	j.lines = nil
	return s
}

func (d *database) Freeze(ctx context.Context) error {
	if d.freeze != nil {
		if err := d.freeze(ctx); err != nil {
			d.log.note("!" + d.name)
			return err
		}
	}
	d.log.note("+" + d.name)
	d.log.mu.Lock()
	defer d.log.mu.Unlock()
	if d.frozen {
		panic("frozen twice")
	}
	d.frozen = true
	return nil
}

func (d *database) Thaw() {
	d.log.note("-" + d.name)
	d.log.mu.Lock()
	was := d.frozen
	d.frozen = false
	d.log.mu.Unlock()
	if !was {
		panic("thawed, but was not frozen")
	}
	if d.thaw != nil {
		d.thaw()
	}
}

// three returns a gate with the participants a, b and c.
func three(t *testing.T, opts lock.Options) (*lock.Gate, *journal, map[string]*database) {
	t.Helper()
	g, j := lock.New(opts), &journal{}
	dbs := map[string]*database{}
	for _, name := range []string{"c", "a", "b"} {
		dbs[name] = &database{name: name, log: j}
		if err := g.Register(name, dbs[name]); err != nil {
			t.Fatal(err)
		}
	}
	return g, j, dbs
}

// On the clock of a bubble: a machine that stands still for longer than MaxStall makes a freeze try again.
func TestParticipantsFreezeInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, j, _ := three(t, lock.Options{})
		pin := func(context.Context) error { j.note("pin"); return nil }
		for range 2 {
			res, err := g.Freeze(t.Context(), lock.FreezeOptions{}, pin)
			if err != nil || !res.Consistent {
				t.Errorf("%+v, %v", res, err)
			}
			if got := j.take(); got != "+a +b +c pin -c -b -a" {
				t.Errorf("got %s", got)
			}
		}
		if !g.Unregister("b") || g.Unregister("b") {
			t.Error("Unregister does not tell what it did")
		}
		if _, err := g.Freeze(t.Context(), lock.FreezeOptions{}, pin); err != nil {
			t.Error(err)
		}
		if got := j.take(); got != "+a +c pin -c -a" {
			t.Errorf("got %s", got)
		}
		// Without a moment of consistency nobody is bothered.
		tx := begin(t, g)
		if _, err := g.Freeze(t.Context(), lock.FreezeOptions{Timeout: 1, AllowInconsistent: true}, pin); err != nil {
			t.Error(err)
		}
		tx.End()
		if got := j.take(); got != "pin" {
			t.Errorf("got %s", got)
		}
		usable(t, g)
	})
}

func TestRegister(t *testing.T) {
	g, j, _ := three(t, lock.Options{})
	p := &database{name: "a", log: j}
	wantErr(t, g.Register("a", p), lock.ErrRegistered)
	wantErr(t, g.Register("", p), lock.ErrBadOptions)
	wantErr(t, g.Register("d", nil), lock.ErrBadOptions)
	g.Close()
	wantErr(t, g.Register("d", p), lock.ErrClosed)
}

func TestParticipantFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, name := range []string{"a", "b", "c"} {
			g, j, dbs := three(t, lock.Options{})
			dbs[name].freeze = func(context.Context) error { return io.ErrUnexpectedEOF }
			res, err := g.Freeze(t.Context(), lock.FreezeOptions{AllowInconsistent: true}, func(context.Context) error {
				t.Error("the pin ran")
				return nil
			})
			failed, ok := errors.AsType[*lock.ParticipantError](err)
			if !ok || failed.Name != name || !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), `"`+name+`"`) {
				t.Errorf("%v", err)
			}
			if res.Consistent || res.Attempts != 1 || res.SlowParticipant != "" {
				t.Errorf("%+v", res)
			}
			want := map[string]string{"a": "!a", "b": "+a !b -a", "c": "+a +b !c -b -a"}[name]
			if got := j.take(); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
			dbs[name].freeze = nil
			usable(t, g)
		}
	})
}

// A slow participant is like a long transaction: the attempt is given up in
// time and another one is made.
func TestSlowParticipantCountsIntoMaxStall(t *testing.T) {
	obedient := func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) }
	deaf := func(context.Context) error { time.Sleep(time.Second); return nil }
	late := func(ctx context.Context) error { <-ctx.Done(); return nil }
	wrong := func(ctx context.Context) error { <-ctx.Done(); return io.EOF }
	for _, slow := range []func(context.Context) error{obedient, deaf, late, wrong} {
		synctest.Test(t, func(t *testing.T) {
			g, j, dbs := three(t, lock.Options{})
			calls := 0
			dbs["b"].freeze = func(ctx context.Context) error {
				if calls++; calls <= 3 {
					return slow(ctx)
				}
				time.Sleep(10 * time.Millisecond)
				return nil
			}
			f := goFreeze(t.Context(), g, lock.FreezeOptions{}, func(context.Context) error { j.note("pin"); return nil })
			for open := true; open; {
				select {
				case <-f.done:
					open = false
				default:
				}
				start := time.Now()
				begin(t, g).End()
				if held := time.Since(start); held > lock.DefaultMaxStall {
					t.Errorf("held for %v", held)
				}
				time.Sleep(5 * time.Millisecond)
			}
			if f.err != nil || !f.res.Consistent || f.res.Attempts != 4 || f.res.SlowParticipant != "b" || f.res.LongestHeld != lock.DefaultMaxStall {
				t.Errorf("%+v, %v", f.res, f.err)
			}
			if got := j.take(); !strings.HasSuffix(got, " +a +b +c pin -c -b -a") || strings.Count(got, "+") != strings.Count(got, "-") {
				t.Errorf("got %s", got)
			}
			usable(t, g)
		})
	}
}

func TestParticipantIsNeverInTime(t *testing.T) {
	for _, maxStall := range []time.Duration{0, -1, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			g, j, dbs := three(t, lock.Options{})
			dbs["c"].freeze = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
			opts := lock.FreezeOptions{Timeout: 10 * time.Second, MaxStall: maxStall}
			f := goFreeze(t.Context(), g, opts, noPin)
			<-f.done
			failed, ok := errors.AsType[*lock.TimeoutError](f.err)
			if !ok || failed.Participant != "c" || failed.Inside != 0 || !strings.Contains(f.err.Error(), `"c"`) || f.took != 10*time.Second {
				t.Errorf("after %v: %v", f.took, f.err)
			}
			opts.AllowInconsistent = true
			if res, err := g.Freeze(t.Context(), opts, noPin); err != nil || res.Consistent {
				t.Errorf("%+v, %v", res, err)
			}
			if got := j.take(); strings.Contains(got, "+c") || strings.Count(got, "+") != strings.Count(got, "-") {
				t.Errorf("got %s", got)
			}
			dbs["c"].freeze = nil
			usable(t, g)
		})
	}
}

func TestParticipantsAreThawedWhateverHappens(t *testing.T) {
	hangUp := errors.New("the client hung up")
	type end struct {
		name   string
		after  time.Duration // when the gate is open again
		err    error         // nil with panics
		panics bool
		setup  func(g *lock.Gate, dbs map[string]*database, cancel context.CancelCauseFunc)
		pin    func(ctx context.Context) error
	}
	sleep := func(context.Context) error { time.Sleep(time.Minute); return nil }
	tests := []end{
		{name: "pin fails", pin: func(context.Context) error { return io.EOF }, err: io.EOF},
		{name: "pin panics", panics: true, pin: func(context.Context) error { panic("pin") }},
		{name: "pin hangs", after: 10 * time.Second, err: lock.ErrTimeout, pin: sleep},
		{name: "context ends while the pin runs", after: time.Second, err: hangUp, pin: sleep,
			setup: func(_ *lock.Gate, _ map[string]*database, cancel context.CancelCauseFunc) {
				time.AfterFunc(time.Second, func() { cancel(hangUp) })
			}},
		{name: "gate is closed while the pin runs", after: time.Second, err: lock.ErrClosed, pin: sleep,
			setup: func(g *lock.Gate, _ map[string]*database, _ context.CancelCauseFunc) {
				time.AfterFunc(time.Second, func() { g.Close() })
			}},
		{name: "context ends while one freezes", after: 100 * time.Millisecond, err: hangUp,
			setup: func(_ *lock.Gate, dbs map[string]*database, cancel context.CancelCauseFunc) {
				dbs["b"].freeze = sleep
				time.AfterFunc(100*time.Millisecond, func() { cancel(hangUp) })
			}},
		{name: "gate is closed while one freezes", after: 100 * time.Millisecond, err: lock.ErrClosed,
			setup: func(g *lock.Gate, dbs map[string]*database, _ context.CancelCauseFunc) {
				dbs["b"].freeze = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
				time.AfterFunc(100*time.Millisecond, func() { g.Close() })
			}},
		{name: "one panics", panics: true,
			setup: func(_ *lock.Gate, dbs map[string]*database, _ context.CancelCauseFunc) {
				dbs["c"].freeze = func(context.Context) error { panic("c") }
			}},
		{name: "one panics after its time", after: lock.DefaultMaxStall, panics: true,
			setup: func(_ *lock.Gate, dbs map[string]*database, _ context.CancelCauseFunc) {
				dbs["c"].freeze = func(context.Context) error { time.Sleep(time.Second); panic("c") }
			}},
		{name: "a thaw panics", panics: true,
			setup: func(_ *lock.Gate, dbs map[string]*database, _ context.CancelCauseFunc) {
				dbs["b"].thaw = func() { panic("b") }
			}},
		{name: "a thaw panics under a late pin", after: 10 * time.Second, panics: true, pin: sleep,
			setup: func(_ *lock.Gate, dbs map[string]*database, _ context.CancelCauseFunc) {
				dbs["b"].thaw = func() { panic("b") }
			}},
		{name: "goroutine ends in the pin", panics: true, pin: func(context.Context) error { runtime.Goexit(); return nil }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g, j, dbs := three(t, lock.Options{})
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				if test.setup != nil {
					test.setup(g, dbs, cancel)
				}
				pin := test.pin
				if pin == nil {
					pin = noPin
				}
				var res lock.FreezeResult
				var err error
				returned, done := false, make(chan struct{})
				go func() {
					defer close(done)
					defer func() { _ = recover() }()
					res, err = g.Freeze(ctx, lock.FreezeOptions{Timeout: 10 * time.Second}, pin)
					returned = true
				}()
				synctest.Wait()
				start := time.Now()
				tx, beginErr := g.Begin(t.Context())
				if after := time.Since(start); after != test.after {
					t.Errorf("the gate was open, or closed for good, after %v, want %v", after, test.after)
				}
				synctest.Wait()
				j.mu.Lock()
				for name, db := range dbs {
					if db.frozen {
						t.Errorf("%s is still frozen", name)
					}
				}
				j.mu.Unlock()
				<-done
				if returned == test.panics {
					t.Errorf("returned: %v", returned)
				}
				if test.err != nil {
					wantErr(t, err, test.err)
				}
				if res.Consistent {
					t.Errorf("called consistent: %+v", res)
				}
				got := strings.Fields(j.take())
				for _, name := range []string{"a", "b", "c"} {
					if n := slices.Index(got, "-"+name); slices.Contains(got, "+"+name) != (n >= 0) {
						t.Errorf("%s: %v", name, got)
					}
				}
				if beginErr == nil {
					tx.End()
					for _, db := range dbs {
						db.freeze, db.thaw = nil, nil
					}
					usable(t, g)
				}
			})
		})
	}
}

// Gates can take part in each other's freezes.
type otherGate struct {
	g    *lock.Gate
	thaw chan struct{}
	done chan struct{}
}

func (o *otherGate) Freeze(ctx context.Context) error {
	frozen := make(chan struct{})
	failed := make(chan error, 1)
	o.thaw, o.done = make(chan struct{}), make(chan struct{})
	go func() {
		defer close(o.done)
		_, err := o.g.Freeze(ctx, lock.FreezeOptions{}, func(context.Context) error {
			close(frozen)
			<-o.thaw
			return nil
		})
		failed <- err
	}()
	select {
	case <-frozen:
		return nil
	case err := <-failed:
		return err
	}
}

func (o *otherGate) Thaw() { close(o.thaw) }

func TestTwoServersFreezeAsOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := lock.New(lock.Options{}), lock.New(lock.Options{})
		o := &otherGate{g: second}
		if err := first.Register("second", o); err != nil {
			t.Fatal(err)
		}
		tx := begin(t, second)
		time.AfterFunc(time.Second, tx.End)
		res, err := first.Freeze(t.Context(), lock.FreezeOptions{}, func(context.Context) error {
			if first.Stats().Inside != 0 || second.Stats().Inside != 0 {
				t.Error("a transaction is inside")
			}
			return nil
		})
		if err != nil || !res.Consistent || res.SlowParticipant != "second" || res.LongestHeld > lock.DefaultMaxStall {
			t.Errorf("%+v, %v", res, err)
		}
		<-o.done
		usable(t, second)
		usable(t, first)
		<-o.done
	})
}
