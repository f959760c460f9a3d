package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gocloud.dev/blob"
)

// A stage is a bucket on which actors stop before chosen requests, until they are let go on. So a
// scenario says in which order the requests of several processes take effect.
type stage struct {
	t      *testing.T
	driver *testDriver
	fault  collectFault
	actors []*stageActor
}

// stageActor is one process.
type stageActor struct {
	name string
	// stop has the kind and the prefix of the key of the request before which it stops.
	mu      sync.Mutex
	stop    string
	stopped chan struct{} // it stands before the request
	on      chan struct{} // closed to let it go on
	done    chan error
	ended   bool
}

type stageActorKey struct{}

func newStage(t *testing.T, fault collectFault) *stage {
	st := &stage{t: t, driver: newTestDriver(), fault: fault}
	b := blob.NewBucket(st.driver)
	defer b.Close()
	if err := Init(t.Context(), b, variantInit()); err != nil {
		t.Fatal(err)
	}
	st.driver.schedule = func(ctx context.Context, o op, effect func() error) error {
		if a, ok := ctx.Value(stageActorKey{}).(*stageActor); ok {
			a.hold(o)
		}
		return effect()
	}
	t.Cleanup(func() {
		for _, a := range st.actors {
			a.release()
			if !a.ended {
				<-a.done
			}
		}
	})
	return st
}

func (a *stageActor) hold(o op) {
	a.mu.Lock()
	if a.stop == "" || !strings.HasPrefix(o.String(), a.stop) {
		a.mu.Unlock()
		return
	}
	a.stop = ""
	close(a.stopped)
	on := a.on
	a.mu.Unlock()
	<-on
}

func (a *stageActor) release() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stop = ""
	select {
	case <-a.on:
	default:
		close(a.on)
	}
}

func (st *stage) open() *Repository {
	st.t.Helper()
	b := blob.NewBucket(st.driver)
	st.t.Cleanup(func() { _ = b.Close() })
	r := openTestRepo(st.t, b, Options{})
	r.collectFault = st.fault
	return r
}

// until begins work as a process of its own and returns when that stands before a request, such as "create
// snapshot/", or when it has ended.
func (st *stage) until(name, stop string, work func(ctx context.Context, r *Repository) error) *stageActor {
	st.t.Helper()
	a := &stageActor{name: name, stop: stop, stopped: make(chan struct{}), on: make(chan struct{}), done: make(chan error, 1)}
	st.actors = append(st.actors, a)
	r := st.open()
	go func() { a.done <- work(context.WithValue(context.Background(), stageActorKey{}, a), r) }()
	a.wait()
	return a
}

// wait returns when the actor stands or has ended.
func (a *stageActor) wait() {
	select {
	case <-a.stopped:
	case err := <-a.done:
		a.ended = true
		a.done <- err
	}
}

// onUntil lets an actor go on to its next stop.
func (a *stageActor) onUntil(stop string) {
	a.mu.Lock()
	old := a.on
	a.stop, a.stopped, a.on = stop, make(chan struct{}), make(chan struct{})
	a.mu.Unlock()
	close(old)
	a.wait()
}

// finish lets an actor go on to its end.
func (a *stageActor) finish() error {
	a.release()
	err := <-a.done
	a.done <- err
	a.ended = true
	return err
}

// session begins a session, and leaves it open.
func (st *stage) session() *Session {
	st.t.Helper()
	s, err := st.open().NewSession(st.t.Context())
	if err != nil {
		st.t.Fatal(err)
	}
	st.t.Cleanup(func() { _ = s.Abort(context.Background()) })
	return s
}

// files adds files to a session; the snapshot is for the caller to commit.
func (st *stage) files(s *Session, id string, files map[string][]byte) *Manifest {
	st.t.Helper()
	m, err := stageFiles(st.t.Context(), s, id, files, fixedCutter(st.t, 4096))
	if err == nil {
		err = s.Sync(st.t.Context())
	}
	if err != nil {
		st.t.Fatal(err)
	}
	return m
}

func (st *stage) snapshot(id string, files map[string][]byte) {
	st.t.Helper()
	mustSnapshot(st.t, st.open(), id, files, fixedCutter(st.t, 4096))
}

func (st *stage) delete(ids ...string) {
	st.t.Helper()
	for _, id := range ids {
		if err := st.open().DeleteManifest(st.t.Context(), id); err != nil {
			st.t.Fatal(err)
		}
	}
}

// collect deletes packs that are dead as a whole, and repacks none.
func (st *stage) collect(opts CollectOptions) {
	st.t.Helper()
	if _, err := st.open().Collect(st.t.Context(), opts); err != nil {
		st.t.Fatal(err)
	}
}

// whole is for packs that are dead as a whole; brief waits for nobody, and hasty gives up at once.
var (
	whole = CollectOptions{MinDead: 1}
	brief = CollectOptions{MinDead: 1, MaxWait: time.Nanosecond}
	hasty = CollectOptions{MinDead: 1, LeaseTimeout: time.Nanosecond, MaxWait: time.Minute}
)

func collecting(opts CollectOptions) func(context.Context, *Repository) error {
	return func(ctx context.Context, r *Repository) error {
		_, err := r.Collect(ctx, opts)
		return err
	}
}

// lost says what is listed and cannot be read, or was made and is not listed.
func (st *stage) lost(made ...string) error {
	ctx := st.t.Context()
	r := st.open()
	for m, err := range r.Manifests(ctx) {
		if err != nil {
			return err
		}
		if _, err := readSnapshot(ctx, r, m.ID); err != nil {
			return fmt.Errorf("snapshot %s is listed and cannot be read: %w", m.ID, err)
		}
		made = slices.DeleteFunc(made, func(id string) bool { return id == m.ID })
	}
	if len(made) > 0 {
		return fmt.Errorf("snapshots %q were made, and are not listed", made)
	}
	return nil
}

// commit returns the IDs of snapshots of which the session says that they are made.
func commit(t *testing.T, s *Session, m *Manifest) []string {
	t.Helper()
	err := s.Commit(t.Context(), m)
	if err == nil {
		return []string{m.ID}
	}
	if !errors.Is(err, ErrGivenUp) {
		t.Fatal(err)
	}
	return nil
}

// scenarios are stories in which one precaution of the protocol is what keeps a snapshot
// whole. Each returns what was lost.
var scenarios = []struct {
	fault collectFault
	story string
	play  func(st *stage) error
}{
	{faultNoWait, "a session that is older than the plan relies on a pack of it", func(st *stage) error {
		st.snapshot("old", worldFiles(1))
		s := st.session()
		m := st.files(s, "new", worldFiles(1))
		st.delete("old")
		st.collect(brief)
		return st.lost(commit(st.t, s, m)...)
	}},
	{faultNoRescue, "a snapshot is made between the look at all snapshots and the plan", func(st *stage) error {
		st.snapshot("old", worldFiles(1))
		st.delete("old")
		c := st.until("collector", "create garbage/plan-", collecting(whole))
		st.snapshot("new", worldFiles(1))
		if err := c.finish(); err != nil {
			return err
		}
		return st.lost("new")
	}},
	{faultIgnorePlans, "of a chunk in two packs, two collections count on the other place each", twoPlans},
	{faultForgetBases, "all that is left needs a chunk only as what another is a difference to", func(st *stage) error {
		st.snapshot("old", worldFiles(1))
		s := st.session()
		files := worldFiles(1)
		for path := range files {
			files[path] = edited(files[path], 300)
		}
		m, err := stageDeltas(st.t.Context(), s.repo, s, "new", files, "old", fixedCutter(st.t, 4096))
		if err != nil || s.BytesDelta() == 0 {
			st.t.Fatal("no differences", err)
		}
		made := commit(st.t, s, m)
		st.delete("old")
		st.collect(whole)
		return st.lost(made...)
	}},
	{faultForgetHolders, "a difference that nobody needs outlives what it builds on, and is found again", func(st *stage) error {
		cut := fixedCutter(st.t, 4096)
		old, keep := worldFiles(1), noiseData(2, 90000)
		st.snapshot("old", old)
		mustDeltaSnapshot(st.t, st.open(), "changed", map[string][]byte{"a": edited(old["a"], 300), "keep": keep}, "old", cut)
		st.snapshot("keep", map[string][]byte{"keep": keep})
		st.delete("old", "changed")
		st.collect(CollectOptions{})
		st.snapshot("new", map[string][]byte{"a": edited(old["a"], 300)})
		return st.lost("new")
	}},
	{faultDeleteFirst, "a collection dies before the index of what it moved is durable", func(st *stage) error {
		st.snapshot("old", map[string][]byte{"a": noiseData(1, 9000), "b": noiseData(2, 90000)})
		st.snapshot("new", map[string][]byte{"a": noiseData(1, 9000)})
		st.delete("old")
		// It stands there for good.
		st.until("collector", "create index/", collecting(CollectOptions{}))
		return st.lost("new")
	}},
	{faultForgetEarly, "an index written late names packs whose plan is forgotten", lateIndex},
	{faultKeepVerdicts, "a session commits after it was given up", func(st *stage) error {
		st.snapshot("old", worldFiles(1))
		s := st.session()
		m := st.files(s, "new", worldFiles(1))
		st.delete("old")
		st.collect(hasty)
		return st.lost(commit(st.t, s, m)...)
	}},
	{faultNoClosing, "a session is given up, and would not know", func(st *stage) error {
		s := st.session()
		m := st.files(s, "new", worldFiles(1))
		st.collect(hasty)
		return st.lost(commit(st.t, s, m)...)
	}},
	{faultRelyCondemned, "a session that is younger than the plan relies on a pack of it", func(st *stage) error {
		st.snapshot("old", worldFiles(1))
		st.delete("old")
		c := st.until("collector", "create garbage/plan-", collecting(brief))
		c.onUntil("list index/") // after the plan and the note of who is to be waited for
		s := st.session()
		m := st.files(s, "new", worldFiles(1))
		if err := c.finish(); err != nil {
			return err
		}
		return st.lost(commit(st.t, s, m)...)
	}},
	{faultRelyClosing, "an index comes after those of its session were taken over, and before the verdict", func(st *stage) error {
		st.snapshot("old", worldFiles(1))
		st.delete("old")
		w := st.until("writer", "create pack/", func(ctx context.Context, r *Repository) error {
			return takeSnapshot(ctx, r, "late", worldFiles(2), fixedCutter(st.t, 4096))
		})
		// The plan does not know the writer's packs yet.
		c := st.until("collector", "create garbage/plan-", collecting(hasty))
		w.onUntil("create index/")
		c.onUntil("create garbage/session-") // closing
		c.onUntil("create garbage/session-") // verdict
		w.onUntil("create snapshot/")
		s := st.session()
		made := commit(st.t, s, st.files(s, "new", worldFiles(2)))
		err := errors.Join(c.finish(), collecting(whole)(st.t.Context(), st.open()))
		if err != nil && st.fault == faultNone {
			return err
		}
		return st.lost(made...)
	}},
	{faultTrustParent, "what a snapshot is to be built on is gone before the session begins", func(st *stage) error {
		st.snapshot("old", worldFiles(1))
		parent, err := st.open().Manifest(st.t.Context(), "old")
		if err != nil {
			return err
		}
		st.delete("old")
		st.collect(whole)
		s := st.session()
		if err := s.UseSnapshot(st.t.Context(), parent); errors.Is(err, ErrNotFound) {
			return nil
		} else if err != nil {
			return err
		}
		m := *parent
		m.ID = "new"
		return st.lost(commit(st.t, s, &m)...)
	}},
	{faultMergeLate, "a session is given up while it merges indexes", func(st *stage) error {
		for n := range mergeCount - 2 {
			st.snapshot(fmt.Sprint("s", n), map[string][]byte{"f": noiseData(uint64(n), 900)})
		}
		st.snapshot("gone", worldFiles(1))
		w := st.until("writer", "create index/", func(ctx context.Context, r *Repository) error {
			return takeSnapshot(ctx, r, "new", worldFiles(2), fixedCutter(st.t, 4096))
		})
		w.onUntil("create index/") // after its own index that of many
		st.delete("gone")
		st.collect(hasty)
		if err := w.finish(); err != nil {
			return err
		}
		// The next one clears away what was written too late.
		if err := collecting(whole)(st.t.Context(), st.open()); err != nil && st.fault == faultNone {
			return err
		}
		return st.lost("new")
	}},
}

// twoPlans: the chunk x is in the packs P and Q. One collection finds P dead, as x is in Q; by
// the time the next one looks, Q is dead, as x is in P.
func twoPlans(st *stage) error {
	x, y, z := noiseData(1, 4096), noiseData(2, 40960), noiseData(3, 40960)
	p, q := st.session(), st.session()
	py := st.files(p, "xy", map[string][]byte{"x": x, "y": y})
	qz := st.files(q, "xz", map[string][]byte{"x": x, "z": z})
	commit(st.t, p, py)
	commit(st.t, q, qz)
	st.snapshot("x", map[string][]byte{"x": x})
	st.snapshot("y", map[string][]byte{"y": y})
	st.snapshot("z", map[string][]byte{"z": z})
	st.delete("xy", "xz", "y")
	// Q is full of life, so x is kept there.
	first := st.until("first", "create garbage/plan-", collecting(whole))
	st.snapshot("y", map[string][]byte{"y": y})
	st.delete("z")
	second := st.until("second", "create garbage/plan-", collecting(whole))
	st.delete("y")
	// Both have their plans out before either looks, and have looked before either decides.
	for _, stop := range []string{"list snapshot/", "create garbage/plan-"} {
		first.onUntil(stop)
		second.onUntil(stop)
	}
	if err := errors.Join(first.finish(), second.finish()); err != nil {
		return err
	}
	return st.lost("x")
}

// lateIndex: one index names the packs of two plans. While one collection writes it anew
// without its own packs, another one is done with the other packs.
func lateIndex(st *stage) error {
	st.snapshot("ab", worldFiles(1)) // a pack of data and one with the file table
	more := worldFiles(1)
	more["c"] = noiseData(7, 700)
	st.snapshot("abc", more)
	st.delete("ab")
	first := st.until("first", "create garbage/plan-", collecting(whole))
	st.delete("abc")
	second := st.until("second", "create garbage/plan-", collecting(whole))
	first.onUntil("create session/")
	second.onUntil("list snapshot/") // who it waits for is settled
	first.onUntil("create index/")
	if err := errors.Join(second.finish(), first.finish()); err != nil {
		return err
	}
	st.snapshot("new", worldFiles(1))
	return st.lost("new")
}

// Every precaution is needed: with it nothing is lost, without it something is.
func TestCollectScenarios(t *testing.T) {
	for _, sc := range scenarios {
		t.Run(sc.story, func(t *testing.T) {
			if err := sc.play(newStage(t, faultNone)); err != nil {
				t.Errorf("with every precaution: %v", err)
			}
			err := sc.play(newStage(t, sc.fault))
			if err == nil {
				t.Fatal("nothing is lost without the precaution")
			}
			t.Log("without the precaution:", err)
		})
	}
}
