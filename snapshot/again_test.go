package snapshot_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"gocloud.dev/blob"

	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/snapshot"
)

// hasty gives up every session that it meets.
var hasty = repo.CollectOptions{MinDead: 1, LeaseTimeout: time.Nanosecond, MaxWait: time.Minute}

// givenUp is a source in the middle of whose reading another process collects, as it may
// while this one is suspended, for the first so many views.
type givenUp struct {
	t       testing.TB
	bucket  *blob.Bucket
	files   fstest.MapFS
	times   int32
	views   atomic.Int32
	settled atomic.Int32
	closed  atomic.Int32
	// then is called after each collection.
	then func()
}

func (g *givenUp) Pin(context.Context) (*snapshot.View, error) {
	g.views.Add(1)
	var met atomic.Int32
	collect := func() {
		if met.Add(1) > g.times {
			return
		}
		g.garbage()
		r, err := repo.Open(context.Background(), g.bucket, repo.Options{})
		if err != nil {
			g.t.Error(err)
			return
		}
		defer r.Close()
		result, err := r.Collect(context.Background(), hasty)
		if err != nil || len(result.GivenUp) == 0 {
			g.t.Errorf("the session was not given up: %+v, %v", result, err)
		}
		if g.then != nil {
			g.then()
		}
	}
	return &snapshot.View{
		// The size is met in each reading of the file once.
		FS:     faulty{FS: g.files, name: "log", after: int64(len(g.files["log"].Data)) - 1, on: collect},
		Settle: func(context.Context) error { g.settled.Add(1); return nil },
		Close:  func() error { g.closed.Add(1); return nil },
	}, nil
}

// garbage leaves something to collect, without which nobody is waited for.
func (g *givenUp) garbage() {
	e, err := snapshot.Open(context.Background(), snapshot.Config{
		Bucket: g.bucket, Sources: map[string]snapshot.Source{"other": jobSource(fstest.MapFS{"f": {Data: text(99, 1000)}})},
	})
	if err != nil {
		g.t.Error(err)
		return
	}
	s, err := e.Create(context.Background(), snapshot.CreateOptions{})
	if err == nil {
		err = e.Delete(context.Background(), s.ID)
	}
	if err = errors.Join(err, e.Close()); err != nil {
		g.t.Error(err)
	}
}

func readAll(t testing.TB, e *snapshot.Engine, id, name string) []byte {
	t.Helper()
	fsys, err := e.OpenFS(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	data, err := fs.ReadFile(fsys, name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// A process that stood still for so long that a collection took its session for dead makes
// its snapshot all the same, from the same view.
func TestCreateOnceMore(t *testing.T) {
	for _, test := range []struct {
		name string
		opts snapshot.CreateOptions
	}{
		{"label", snapshot.CreateOptions{Label: "nightly"}},
		{"ID", snapshot.CreateOptions{ID: "2026-01-02T03.04.05Z_mine"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			bucket := newBucket(t)
			src := &givenUp{t: t, bucket: bucket, times: 1, files: fstest.MapFS{"log": {Data: text(1, 3<<20)}, "map": {Data: text(2, 50_000)}}}
			var log bytes.Buffer
			e := openEngine(t, snapshot.Config{
				Bucket: bucket, Workers: 1, Sources: map[string]snapshot.Source{"kv": src}, Logger: slog.New(slog.NewTextHandler(&log, nil)),
			})
			opts := test.opts
			opts.Progress = func(p snapshot.Progress) {
				if p.BytesDone > p.BytesTotal || p.FilesDone > p.FilesTotal {
					t.Errorf("more is done than there is: %+v", p)
				}
			}
			s := create(t, e, opts)
			if opts.ID != "" && s.ID != opts.ID {
				t.Errorf("it is called %s", s.ID)
			}
			if src.views.Load() != 1 || src.settled.Load() != 1 || src.closed.Load() != 1 {
				t.Errorf("%d pins, %d settled, %d closed", src.views.Load(), src.settled.Load(), src.closed.Load())
			}
			if want := int64(3<<20 + 50_000); s.Stats.BytesRead != want || s.Stats.Bytes != want {
				t.Errorf("of %d bytes %d were read", s.Stats.Bytes, s.Stats.BytesRead)
			}
			if !strings.Contains(log.String(), "once more") {
				t.Errorf("nothing of it in the log: %s", log.String())
			}
			if !bytes.Equal(readAll(t, e, s.ID, "kv/log"), src.files["log"].Data) {
				t.Error("it holds something else")
			}
			found := 0
			for s, err := range e.List(t.Context(), snapshot.Filter{}) {
				if err != nil {
					t.Fatal(err)
				}
				if found++; found > 1 {
					t.Errorf("%s is listed as well", s.ID)
				}
			}
			for range 2 {
				if _, err := e.Collect(t.Context(), hasty); err != nil {
					t.Fatal(err)
				}
			}
			if report, err := e.Repository().Check(t.Context(), repo.CheckOptions{ReadData: true}); err != nil || !report.OK() || report.Snapshots != 1 {
				t.Errorf("%+v, %v", report, err)
			}
		})
	}
}

// It is tried once more, not for ever, and leaves nothing.
func TestCreateGivenUpTwice(t *testing.T) {
	bucket := newBucket(t)
	src := &givenUp{t: t, bucket: bucket, times: 9, files: fstest.MapFS{"log": {Data: text(1, 300_000)}}}
	e := openEngine(t, snapshot.Config{Bucket: bucket, Sources: map[string]snapshot.Source{"kv": src}})
	if _, err := e.Create(t.Context(), snapshot.CreateOptions{}); !errors.Is(err, repo.ErrGivenUp) {
		t.Errorf("error %v", err)
	}
	if src.views.Load() != 1 || src.closed.Load() != 1 {
		t.Errorf("%d pins, %d closed", src.views.Load(), src.closed.Load())
	}
	for s, err := range e.List(t.Context(), snapshot.Filter{}) {
		t.Errorf("listed: %v, %v", s, err)
	}
}

// What was attached with a session that was given up is lost. Who attached it was told that it
// is durable, so there must be no snapshot without it.
func TestAttachedBeforeItWasGivenUp(t *testing.T) {
	for _, when := range []string{"before", "after"} {
		t.Run(when, func(t *testing.T) {
			bucket := newBucket(t)
			src := &givenUp{t: t, bucket: bucket, times: 1, files: fstest.MapFS{"log": {Data: text(1, 300_000)}}}
			e := openEngine(t, snapshot.Config{Bucket: bucket, Sources: map[string]snapshot.Source{"kv": src}})
			const id = "2026-01-02T03.04.05Z_mine"
			attached := make(chan error, 1)
			attach := func() { attached <- e.Attach(t.Context(), id, "log", strings.NewReader("one")) }
			src.then = attach
			if when == "after" {
				// While the second attempt is under way.
				src.then = func() {}
				src.files["zz"] = &fstest.MapFile{Data: text(3, 1000)}
				opts := snapshot.CreateOptions{ID: id}
				restarted := false
				opts.Progress = func(p snapshot.Progress) {
					if p.Phase == snapshot.PhaseCommit && !restarted {
						restarted = true
						go attach()
					}
				}
				s, err := e.Create(t.Context(), opts)
				if err := <-attached; err != nil && !errors.Is(err, snapshot.ErrNotFound) {
					t.Fatal(err)
				} else if s != nil && err == nil {
					if got := attachments(t, e, id); got["log"] != "one" {
						t.Errorf("attachments %q", got)
					}
				}
				if err != nil && !errors.Is(err, repo.ErrGivenUp) {
					t.Error(err)
				}
				return
			}
			_, err := e.Create(t.Context(), snapshot.CreateOptions{ID: id})
			if err := <-attached; err != nil {
				t.Fatal(err)
			}
			if !errors.Is(err, repo.ErrGivenUp) {
				t.Errorf("error %v", err)
			}
			if _, err := e.Get(t.Context(), id); !errors.Is(err, snapshot.ErrNotFound) {
				t.Errorf("it is there: %v", err)
			}
			// The ID is free for another try.
			src.times = 0
			create(t, e, snapshot.CreateOptions{ID: id})
			if got := attachments(t, e, id); len(got) != 0 {
				t.Errorf("attachments of the first try: %q", got)
			}
		})
	}
}

// A panic of a source, wherever it runs, comes to the one who called: it must not end the
// process, which is a database. Nothing is left of the snapshot.
func TestPanicsOfSources(t *testing.T) {
	boom := errors.New("boom")
	for name, src := range map[string]func(*snapshot.View) snapshot.Source{
		"prepare": func(v *snapshot.View) snapshot.Source {
			return preparing{viewSource{func() *snapshot.View { return v }}, func() { panic(boom) }}
		},
		"pin": func(*snapshot.View) snapshot.Source {
			return viewSource{func() *snapshot.View { panic(boom) }}
		},
		"settle": func(v *snapshot.View) snapshot.Source {
			v.Settle = func(context.Context) error { panic(boom) }
			return viewSource{func() *snapshot.View { return v }}
		},
		"hint": func(v *snapshot.View) snapshot.Source {
			v.Hint = func(string) snapshot.Hint { panic(boom) }
			return viewSource{func() *snapshot.View { return v }}
		},
		"read": func(v *snapshot.View) snapshot.Source {
			v.FS = faulty{FS: v.FS, name: "f", after: 1000, on: func() { panic(boom) }}
			return viewSource{func() *snapshot.View { return v }}
		},
		"close": func(v *snapshot.View) snapshot.Source {
			closed := v.Close
			v.Close = func() error { _ = closed(); panic(boom) }
			v.Settle = func(context.Context) error { return errors.New("not now") }
			return viewSource{func() *snapshot.View { return v }}
		},
	} {
		t.Run(name, func(t *testing.T) {
			bucket := newBucket(t)
			bad, good := 0, &memory{files: fstest.MapFS{"f": {Data: text(2, 100_000)}}}
			view := &snapshot.View{FS: fstest.MapFS{"f": {Data: text(1, 100_000)}}, Close: func() error { bad++; return nil }}
			e := openEngine(t, snapshot.Config{Bucket: bucket, Sources: map[string]snapshot.Source{"a": src(view), "b": good}})
			func() {
				defer func() {
					p := recover()
					err, _ := p.(error)
					if !errors.Is(err, boom) {
						t.Errorf("panic %v", p)
					}
				}()
				_, err := e.Create(t.Context(), snapshot.CreateOptions{ID: "2026-01-02T03.04.05Z_mine"})
				t.Errorf("no panic, and the error %v", err)
			}()
			if pinned := name != "prepare" && name != "pin"; bad != map[bool]int{true: 1}[pinned] || good.open != 0 {
				t.Errorf("closed %d times; %d others left open", bad, good.open)
			}
			for _, prefix := range []string{"pack/", "index/", "snapshot/", "session/"} {
				if left := keys(t, bucket, prefix); len(left) > 0 {
					t.Errorf("left behind: %v", left)
				}
			}
			job, err := e.StartCreate(t.Context(), snapshot.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if err := job.Wait(t.Context()); err == nil || !strings.Contains(err.Error(), "boom") || strings.Contains(err.Error(), "\n") {
				t.Errorf("the job's error: %v", err)
			}
		})
	}
}

type preparing struct {
	snapshot.Source
	prepare func()
}

func (p preparing) Prepare(context.Context) error { p.prepare(); return nil }

// A snapshot that was made is made, also if its source cannot let go of the view.
func TestFailureToCloseAView(t *testing.T) {
	stuck := errors.New("the transaction does not end")
	var log bytes.Buffer
	src := viewSource{func() *snapshot.View {
		return &snapshot.View{FS: fstest.MapFS{"f": {Data: text(1, 1000)}}, Close: func() error { return stuck }}
	}}
	e := openEngine(t, snapshot.Config{Sources: map[string]snapshot.Source{"a": src}, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	s, err := e.Create(t.Context(), snapshot.CreateOptions{})
	if err != nil {
		t.Fatalf("a snapshot that is listed failed: %v", err)
	}
	if _, err := e.Get(t.Context(), s.ID); err != nil {
		t.Error(err)
	}
	if !strings.Contains(log.String(), stuck.Error()) || !strings.Contains(log.String(), s.ID) {
		t.Errorf("log %q", log.String())
	}
	if _, err := e.Create(t.Context(), snapshot.CreateOptions{Include: []string{"nothing/**"}}); !errors.Is(err, stuck) || !errors.Is(err, snapshot.ErrNoMatch) {
		t.Errorf("error %v", fmt.Sprint(err))
	}
}
