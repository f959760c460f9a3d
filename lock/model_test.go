package lock_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdstill/holdstill/lock"
)

// world is what a model run shares. guarded is written by transactions in
// cells of their own and read by pins without any synchronisation but that of
// the gate: the race detector sees every overlap.
type world struct {
	g       *lock.Gate
	inside  atomic.Int64
	guarded []int
	pinning atomic.Bool // a consistent pin runs
	closing atomic.Bool // the gate is being closed, or was

	sessions []*lock.Session // one for each cell
	member   *moody          // a participant, or nil

	admitted, refused, forced, pins, inconsistent atomic.Int64
}

func newWorld(t *testing.T, g *lock.Gate, cells int) *world {
	w := &world{g: g, guarded: make([]int, cells)}
	for range cells {
		w.sessions = append(w.sessions, g.NewSession())
	}
	return w
}

// close ends what does not end by itself, when the workers have.
func (w *world) close(t *testing.T) {
	for _, s := range w.sessions {
		s.Close()
	}
	if w.member != nil && w.member.frozen.Load() {
		t.Error("the participant is still frozen")
	}
}

// A moody participant succeeds, fails, is late or panics.
type moody struct {
	rng    *rand.Rand // used by one freeze at a time
	pause  func(*rand.Rand)
	frozen atomic.Bool
	fails  atomic.Int64
}

var errMoody = errors.New("not today")

func (m *moody) Freeze(ctx context.Context) error {
	switch m.rng.IntN(24) {
	case 0:
		m.fails.Add(1)
		return errMoody
	case 1:
		<-ctx.Done() // the attempt is given up
	case 2:
		panic(errMoody)
	default:
		m.pause(m.rng)
	}
	if m.frozen.Swap(true) {
		panic("frozen twice")
	}
	return nil
}

func (m *moody) Thaw() {
	if !m.frozen.Swap(false) {
		panic("thawed, but was not frozen")
	}
}

// inSession runs one transaction of a session in cell i.
func (w *world) inSession(t *testing.T, ctx context.Context, rng *rand.Rand, i int, pause func(*rand.Rand)) {
	s := w.sessions[i]
	if err := s.Enter(ctx); err != nil {
		if ctx.Err() == nil && !errors.Is(err, lock.ErrClosed) {
			t.Errorf("Enter: %v", err)
		}
		w.refused.Add(1)
		return
	}
	w.admitted.Add(1)
	w.work(t, i, func() { pause(rng) })
	switch rng.IntN(8) {
	case 0:
		child := s.Child()
		s.Exit()
		w.work(t, i, func() { pause(rng) })
		child.End()
		return
	case 1:
		if err := s.Enter(ctx); err != nil {
			t.Errorf("a child was refused: %v", err)
		}
		w.work(t, i, func() { pause(rng) })
		s.Exit()
	case 2:
		s.Close() // ends the transaction too
		w.sessions[i] = w.g.NewSession()
		return
	}
	s.Exit()
}

// transact runs one transaction, with children, in cell i.
func (w *world) transact(t *testing.T, ctx context.Context, rng *rand.Rand, i int, pause func(*rand.Rand)) {
	if rng.IntN(2) == 0 {
		w.inSession(t, ctx, rng, i, pause)
		return
	}
	registered := rng.IntN(3) == 0
	var tx lock.Tx
	var err error
	inner := ctx
	if registered {
		inner, tx, err = w.g.BeginContext(ctx)
	} else {
		tx, err = w.g.Begin(ctx)
	}
	if err != nil {
		if ctx.Err() == nil && !errors.Is(err, lock.ErrClosed) {
			t.Errorf("Begin: %v", err)
		}
		w.refused.Add(1)
		return
	}
	w.admitted.Add(1)
	w.work(t, i, func() { pause(rng) })
	switch rng.IntN(6) {
	case 0: // a child that outlives its parent
		child := tx.Child()
		tx.End()
		w.work(t, i, func() { pause(rng) })
		child.End()
		return
	case 1:
		if registered {
			child, err := w.g.Begin(inner)
			if err != nil && inner.Err() == nil && !errors.Is(err, lock.ErrClosed) {
				t.Errorf("a child was refused: %v", err)
			}
			if err == nil {
				w.work(t, i, func() { pause(rng) })
				child.End()
			}
			if err := w.sessions[i].Enter(inner); err == nil {
				w.work(t, i, func() { pause(rng) })
				w.sessions[i].Exit()
			} else if inner.Err() == nil && !errors.Is(err, lock.ErrClosed) {
				t.Errorf("a child was refused: %v", err)
			}
		}
	}
	if errors.Is(context.Cause(inner), lock.ErrForced) {
		w.forced.Add(1)
	}
	tx.End()
}

func (w *world) work(t *testing.T, i int, pause func()) {
	w.inside.Add(1)
	w.guarded[i]++
	pause()
	if w.pinning.Load() {
		t.Error("a transaction is inside while a consistent pin runs")
	}
	w.inside.Add(-1)
}

// freeze runs one freeze and checks its result.
func (w *world) freeze(t *testing.T, ctx context.Context, rng *rand.Rand, opts lock.FreezeOptions, pause func(*rand.Rand)) {
	sum, n := 0, int64(0)
	fail := rng.IntN(10) == 0
	var pinCtx context.Context
	errPin := errors.New("pin")
	// Whether the pin is behind a shut gate shows after the freeze, so a pin
	// that may be consistent is one before the timeout.
	strict := !opts.AllowInconsistent
	defer func() {
		if v := recover(); v != nil {
			w.pins.Add(1)
			if v != errMoody { // from the participant
				panic(v)
			}
		}
	}()
	res, err := w.g.Freeze(ctx, opts, func(ctx context.Context) error {
		pinCtx = ctx
		n = w.inside.Load()
		if strict {
			w.pinning.Store(true)
			defer w.pinning.Store(false)
			if w.member != nil && !w.member.frozen.Load() {
				t.Error("the participant is not frozen")
			}
			for _, v := range w.guarded {
				sum += v
			}
		}
		pause(rng)
		n += w.inside.Load()
		if fail {
			return errPin
		}
		return nil
	})
	w.pins.Add(1)
	switch {
	case err == nil && res.Consistent:
		if n != 0 {
			t.Errorf("called consistent with %d inside", n)
		}
		if res.ClosedEpoch == 0 || res.ClosedEpoch != res.ThawEpoch {
			t.Errorf("consistent without proof: %+v", res)
		}
	case err == nil:
		w.inconsistent.Add(1)
		if strict {
			t.Errorf("inconsistent without permission: %+v", res)
		}
	case res.Consistent:
		t.Errorf("consistent with error %v", err)
	case errors.Is(err, errMoody):
		if name, ok := errors.AsType[*lock.ParticipantError](err); !ok || name.Name != "moody" || pinCtx != nil {
			t.Errorf("%v", err)
		}
	case w.closing.Load() && errors.Is(err, lock.ErrClosed): // also when the pin ran, but its participant was thawed
	case pinCtx == nil && errors.Is(err, errPin), pinCtx != nil && !errors.Is(err, errPin) && ctx.Err() == nil && !errors.Is(err, lock.ErrTimeout):
		t.Errorf("pin run %v, error %v", pinCtx != nil, err)
	}
	if pinCtx != nil && pinCtx.Err() == nil {
		t.Error("the context of the pin outlives it")
	}
}

// Under real concurrency, for the race detector and the scheduler to find
// what they can.
func TestModelStress(t *testing.T) {
	for name, g := range map[string]*lock.Gate{
		"barrier": lock.New(lock.Options{}), "no barrier": lock.NewWithoutBarrier(lock.Options{}),
	} {
		t.Run(name, func(t *testing.T) { stress(t, g) })
	}
}

func stress(t *testing.T, g *lock.Gate) {
	const seed = 20260131
	before := runtime.NumGoroutine()
	w := newWorld(t, g, 16)
	pause := func(rng *rand.Rand) {
		for range rng.IntN(4) {
			runtime.Gosched()
		}
		if rng.IntN(50) == 0 {
			time.Sleep(time.Duration(rng.IntN(300)) * time.Microsecond)
		}
	}
	w.member = &moody{rng: rand.New(rand.NewPCG(seed, 0)), pause: func(*rand.Rand) {}}
	if err := g.Register("moody", w.member); err != nil {
		t.Fatal(err)
	}
	var workers sync.WaitGroup
	var stop atomic.Bool
	for i := range w.guarded {
		workers.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			for !stop.Load() {
				ctx, cancel := t.Context(), context.CancelFunc(func() {})
				if rng.IntN(4) == 0 {
					ctx, cancel = context.WithTimeout(ctx, time.Duration(rng.IntN(400))*time.Microsecond)
				}
				w.transact(t, ctx, rng, i, pause)
				cancel()
			}
		})
	}
	var freezers sync.WaitGroup
	for i := range 4 {
		freezers.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(1000+i)))
			for range 100 {
				opts := lock.FreezeOptions{
					// Long enough that a pin is never late for its own context
					// unless the machine stands still.
					Timeout:           time.Minute,
					MaxStall:          []time.Duration{10 * time.Millisecond, 200 * time.Microsecond, time.Millisecond, 20 * time.Millisecond}[rng.IntN(4)],
					Force:             rng.IntN(2) == 0,
					AllowInconsistent: rng.IntN(3) == 0,
				}
				if rng.IntN(3) == 0 && (opts.AllowInconsistent || opts.Force) {
					opts.Timeout = time.Duration(1 + rng.IntN(int(time.Millisecond)))
					opts.AllowInconsistent = true
				}
				ctx, cancel := t.Context(), context.CancelFunc(func() {})
				if rng.IntN(5) == 0 {
					ctx, cancel = context.WithTimeout(ctx, time.Minute)
				}
				w.freeze(t, ctx, rng, opts, pause)
				cancel()
			}
		})
	}
	freezers.Wait()
	stop.Store(true)
	workers.Wait()
	st := g.Stats()
	t.Logf("seed %d: %d admitted, %d refused, %d forced, %d freezes, %d inconsistent, %d attempts; stalls: %d, p99 %v, longest %v", seed,
		w.admitted.Load(), w.refused.Load(), w.forced.Load(), w.pins.Load(), w.inconsistent.Load(), st.Attempts,
		st.Stalls.Count, st.Stalls.Quantile(0.99), st.Stalls.Max)
	if w.pins.Load() != 400 || w.admitted.Load() == 0 || w.member.fails.Load() == 0 {
		t.Error("somebody made no progress")
	}
	w.close(t)
	g.Unregister("moody")
	usable(t, w.g)
	for begin := time.Now(); time.Since(begin) < time.Minute; time.Sleep(time.Millisecond) {
		if runtime.NumGoroutine() <= before {
			return
		}
	}
	t.Errorf("%d goroutines, %d before", runtime.NumGoroutine(), before)
}

// With the clock of a bubble: every run of a seed draws the same times, minutes
// pass at once, and a goroutine left behind fails the test.
func TestModelSimulation(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { simulate(t, seed) })
		})
	}
}

func simulate(t *testing.T, seed uint64) {
	w := newWorld(t, lock.New(lock.Options{}), 8)
	defer w.close(t)
	// How long transactions and pins take differs from seed to seed.
	longest := []time.Duration{time.Millisecond, 40 * time.Millisecond, 2 * time.Second, time.Minute}[seed%4]
	pause := func(rng *rand.Rand) {
		time.Sleep(time.Duration(rng.Int64N(int64(longest)))/time.Duration(1+rng.IntN(200)) + 1)
	}
	if seed%2 == 0 {
		w.member = &moody{rng: rand.New(rand.NewPCG(seed, 0)), pause: pause}
		if err := w.g.Register("moody", w.member); err != nil {
			t.Fatal(err)
		}
	}
	var all sync.WaitGroup
	var stop atomic.Bool
	for i := range w.guarded {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			for !stop.Load() {
				ctx, cancel := context.WithTimeout(t.Context(), 1+time.Duration(rng.Int64N(int64(2*longest))))
				w.transact(t, ctx, rng, i, pause)
				cancel()
				time.Sleep(time.Duration(rng.Int64N(int64(10*time.Millisecond))) + 1)
			}
		})
	}
	var freezers sync.WaitGroup
	for i := range 3 {
		freezers.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(1000+i)))
			for range 8 {
				opts := lock.FreezeOptions{
					Timeout:           time.Duration(1 + rng.Int64N(int64(4*longest))),
					MaxStall:          []time.Duration{0, -1, time.Millisecond}[rng.IntN(3)],
					Force:             rng.IntN(2) == 0,
					AllowInconsistent: true,
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rng.Int64N(int64(20*longest)))+1)
				w.freeze(t, ctx, rng, opts, pause)
				cancel()
			}
		})
	}
	if seed%5 == 0 {
		time.AfterFunc(3*longest, func() { w.closing.Store(true); w.g.Close() })
		time.Sleep(4 * longest)
		stop.Store(true)
		freezers.Wait()
		all.Wait()
		if st := w.g.Stats(); st.Inside != 0 || st.Waiting != 0 {
			t.Errorf("after Close: %+v", st)
		}
		return
	}
	freezers.Wait()
	stop.Store(true)
	all.Wait()
	w.g.Unregister("moody")
	usable(t, w.g)
}
