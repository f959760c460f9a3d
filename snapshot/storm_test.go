package snapshot_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/holdstill/holdstill/lock"
	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/transfer"
)

// weather is a source that fails now and then, at any step, and counts its views. The state
// of its files goes by one number: file i of state n has the content of i and n/(i+1), so that
// some change more often than others.
type weather struct {
	state atomic.Int64
	trips atomic.Int64 // one in so many steps fails; 0: none
	rand  atomic.Uint64
	open  atomic.Int64
	twice atomic.Bool
}

var errWeather = errors.New("the weather")

func (w *weather) fails() error {
	n := w.trips.Load()
	if n > 0 && rand.New(rand.NewPCG(w.rand.Add(1), 3)).Int64N(n) == 0 {
		return errWeather
	}
	return nil
}

func weatherFile(i, n int64) []byte {
	return text(uint64(i*1000+n/(i+1)), 20_000+int(i*n%7)*30_000)
}

func (w *weather) files(n int64) fstest.MapFS {
	out := fstest.MapFS{"state": {Data: fmt.Appendf(nil, "%d", n)}}
	for i := range int64(4) {
		out[fmt.Sprintf("f%d", i)] = &fstest.MapFile{Data: weatherFile(i, n)}
	}
	return out
}

func (w *weather) Prepare(context.Context) error { return w.fails() }

func (w *weather) Pin(context.Context) (*snapshot.View, error) {
	if err := w.fails(); err != nil {
		return nil, err
	}
	n := w.state.Load()
	w.open.Add(1)
	var closed atomic.Bool
	return &snapshot.View{
		FS: tripping{w.files(n), w}, Epoch: "weather", Position: fmt.Sprint(n),
		Hint: func(name string) snapshot.Hint {
			var i int64
			if _, err := fmt.Sscanf(name, "f%d", &i); err != nil {
				return snapshot.Hint{}
			}
			return snapshot.Hint{Class: snapshot.Class(i), Identity: fmt.Sprintf("%d of %d", i, n/(i+1)*100+i*n%7)}
		},
		Settle: func(context.Context) error { return w.fails() },
		Close: func() error {
			if closed.Swap(true) {
				w.twice.Store(true)
			}
			w.open.Add(-1)
			return w.fails()
		},
	}, nil
}

// tripping is a file system of which opening fails now and then.
type tripping struct {
	fs.FS
	w *weather
}

func (f tripping) Open(name string) (fs.File, error) {
	if err := f.w.fails(); err != nil {
		return nil, err
	}
	return f.FS.Open(name)
}

// Whatever is done at once, and whatever fails meanwhile: what is listed at the end is whole, and
// nothing is left open, nor running, nor behind.
func TestStorm(t *testing.T) {
	for seed := range uint64(2) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { storm(t, seed) })
	}
}

func storm(t *testing.T, seed uint64) {
	before := runtime.NumGoroutine()
	bucket, other := newBucket(t), newBucket(t)
	w := &weather{}
	w.rand.Store(seed << 32)
	w.trips.Store(60)
	gate := lock.New(lock.Options{})
	config := snapshot.Config{Bucket: bucket, Lock: gate, Workers: 2, VerifyShare: 0.3, Options: repo.Options{PackSize: 1 << 20}, Sources: map[string]snapshot.Source{"kv": w}}
	e, err := snapshot.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	known := func(err error) bool {
		for _, is := range []error{
			nil, errWeather, snapshot.ErrClosed, snapshot.ErrNotFound, repo.ErrExists, repo.ErrGivenUp, repo.ErrNoAttachment, transfer.ErrAborted,
			transfer.ErrInterrupted, transfer.ErrJobBusy, context.Canceled, context.DeadlineExceeded, snapshot.ErrNotFound, lock.ErrTimeout,
		} {
			if errors.Is(err, is) || err == nil {
				return true
			}
		}
		return false
	}
	var mu sync.Mutex
	made := map[string]string{} // ID to state
	deleted := map[string]bool{}
	any := func(r *rand.Rand) string {
		mu.Lock()
		defer mu.Unlock()
		var ids []string
		for id := range made {
			ids = append(ids, id)
		}
		if len(ids) == 0 {
			return "none"
		}
		return ids[r.IntN(len(ids))]
	}
	// Somebody may delete a snapshot that another one reads, and a third collect its chunks.
	unlessGone := func(id string, err error) error {
		mu.Lock()
		defer mu.Unlock()
		if deleted[id] && (errors.Is(err, repo.ErrMissing) || errors.Is(err, repo.ErrCorrupt)) {
			return nil
		}
		return err
	}
	step := func(r *rand.Rand, worker, round int) error {
		ctx := t.Context()
		if r.IntN(4) == 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, time.Duration(r.IntN(20_000))*time.Microsecond)
			defer cancel()
		}
		switch n := r.IntN(20); {
		case n < 6:
			opts := snapshot.CreateOptions{Label: "x", Verify: r.IntN(4) == 0, NoParent: r.IntN(5) == 0}
			if r.IntN(2) == 0 {
				opts.ID = fmt.Sprintf("2026-01-02T03.04.%02dZ_%d.%d", round%60, worker, round)
			}
			s, err := e.Create(ctx, opts)
			if err == nil {
				mu.Lock()
				made[s.ID] = s.Sources[0].Position
				mu.Unlock()
			}
			return err
		case n < 9:
			id := fmt.Sprintf("2026-01-02T03.05.%02dZ_%d.%d", round%60, worker, round)
			job, err := e.StartCreate(ctx, snapshot.CreateOptions{ID: id})
			if err != nil {
				return err
			}
			attached := e.Attach(ctx, id, "note", strings.NewReader(id))
			if !known(attached) {
				return attached
			}
			if r.IntN(3) == 0 {
				job.Abort()
			}
			if err := job.Wait(context.WithoutCancel(ctx)); err != nil {
				return err
			}
			s, err := e.Get(t.Context(), id)
			if err != nil {
				return err
			}
			mu.Lock()
			made[id] = s.Sources[0].Position
			mu.Unlock()
			if attached != nil {
				return nil
			}
			a, err := e.OpenAttachment(t.Context(), id, "note")
			if err != nil {
				return fmt.Errorf("what was attached to %s: %v", id, err)
			}
			return a.Close()
		case n < 11:
			id := any(r)
			mu.Lock()
			delete(made, id)
			deleted[id] = true
			mu.Unlock()
			return e.Delete(t.Context(), id)
		case n == 11:
			opts := repo.CollectOptions{MinDead: 1, MaxWait: time.Nanosecond}
			if r.IntN(2) == 0 {
				opts = hasty
			}
			_, err := e.Collect(ctx, opts)
			return err
		case n == 12:
			for s, err := range e.List(ctx, snapshot.Filter{NewestFirst: r.IntN(2) == 0, Registered: true}) {
				if err != nil {
					return err
				}
				if r.IntN(5) == 0 {
					_ = s
					break
				}
			}
			return nil
		case n < 15:
			id := any(r)
			job, err := e.Upload(ctx, id, "", snapshot.TransferOptions{Bucket: other})
			if err != nil {
				return err
			}
			if r.IntN(3) == 0 {
				job.Abort()
			}
			for s := range job.Progress() {
				if s.Progress.BytesDone > s.Progress.BytesTotal || s.Progress.FilesDone > s.Progress.FilesTotal {
					return fmt.Errorf("progress %+v", s.Progress)
				}
			}
			return unlessGone(id, job.Wait(context.WithoutCancel(ctx)))
		case n == 15:
			id := any(r)
			fsys, err := e.OpenFS(ctx, id)
			if err != nil {
				return unlessGone(id, err)
			}
			_, err = fs.ReadFile(fsys, "kv/f1")
			return unlessGone(id, err)
		case n == 16:
			var b bytes.Buffer
			id := any(r)
			return unlessGone(id, e.Export(ctx, id, &b, snapshot.ExportOptions{}))
		default:
			tx, err := gate.Begin(ctx)
			if err != nil {
				return err
			}
			w.state.Add(1)
			tx.End()
			return nil
		}
	}
	var group sync.WaitGroup
	for worker := range 6 {
		group.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(worker)))
			for round := range 20 {
				if err := step(r, worker, round); !known(err) {
					t.Errorf("worker %d, round %d: %v", worker, round, err)
				}
			}
		})
	}
	group.Wait()
	// Closed in the middle of some more.
	for range 3 {
		group.Go(func() {
			for range 20 {
				if _, err := e.Create(t.Context(), snapshot.CreateOptions{}); !known(err) {
					t.Error(err)
				} else if errors.Is(err, snapshot.ErrClosed) {
					return
				}
			}
		})
	}
	runtime.Gosched()
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	group.Wait()
	if w.open.Load() != 0 || w.twice.Load() {
		t.Errorf("%d views are open; closed twice: %v", w.open.Load(), w.twice.Load())
	}
	w.trips.Store(0)
	again := openEngine(t, config)
	for range 3 {
		if _, err := again.Collect(t.Context(), hasty); err != nil {
			t.Fatal(err)
		}
	}
	for id, state := range made {
		var n int64
		if _, err := fmt.Sscan(state, &n); err != nil {
			t.Fatal(err)
		}
		for name, f := range w.files(n) {
			if !bytes.Equal(readAll(t, again, id, "kv/"+name), f.Data) {
				t.Errorf("%s: %s has not the content of state %d", id, name, n)
			}
		}
	}
	report, err := again.Repository().Check(t.Context(), repo.CheckOptions{ReadData: true})
	if err != nil || !report.OK() {
		t.Errorf("check: %+v, %v", report, err)
	}
	t.Logf("%d snapshots of %d states; %d deleted", len(made), w.state.Load(), len(deleted))
	if len(made) < 5 {
		t.Error("this test tests too little")
	}
	if left := keys(t, bucket, "session/"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	_ = again.Close()
	settled(t, before)
}
