package snapshot_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"gocloud.dev/blob"

	"github.com/holdstill/holdstill/lock"
	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/repo/repotest"
	"github.com/holdstill/holdstill/snapshot"
)

// keys lists what is in a bucket below a prefix.
func keys(t testing.TB, b *blob.Bucket, prefix string) []string {
	t.Helper()
	var out []string
	it := b.List(&blob.ListOptions{Prefix: prefix})
	for {
		o, err := it.Next(context.Background())
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, o.Key)
	}
}

// faulty is a file system in which reads of one file go wrong after some bytes.
type faulty struct {
	fs.FS
	name  string
	after int64
	err   error
	// on, if set, is called when the fault is met.
	on func()
	// sequential hides io.ReaderAt.
	sequential bool
}

func (f faulty) Open(name string) (fs.File, error) {
	file, err := f.FS.Open(name)
	if err != nil || name != f.name {
		return file, err
	}
	ff := &faultyFile{File: file, fault: f}
	if f.sequential {
		return struct{ fs.File }{ff}, nil
	}
	return ff, nil
}

type faultyFile struct {
	fs.File
	fault faulty
	at    int64
}

func (f *faultyFile) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > f.fault.after {
		if f.fault.on != nil {
			f.fault.on()
		}
		if f.fault.err != nil {
			return 0, f.fault.err
		}
	}
	return f.File.(io.ReaderAt).ReadAt(p, off)
}

func (f *faultyFile) Read(p []byte) (int, error) {
	n, err := f.ReadAt(p, f.at)
	f.at += int64(n)
	return n, err
}

type viewSource struct{ view func() *snapshot.View }

func (s viewSource) Pin(context.Context) (*snapshot.View, error) { return s.view(), nil }

func TestFailuresLeaveNothing(t *testing.T) {
	big := fstest.MapFS{"good": {Data: pages(1, 4<<20)}, "zbad": {Data: pages(2, 66<<20)}} // the second of three segments goes wrong
	lost := errors.New("the disk is gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	stopped := errors.New("the operator said stop")
	for _, test := range []struct {
		name string
		ctx  context.Context
		fs   faulty
		want error
		text string
	}{
		{"source fails halfway", nil, faulty{name: "zbad", after: 34 << 20, err: lost}, lost, "read source kv, file zbad"},
		{"sequential source fails halfway", nil, faulty{name: "zbad", after: 34 << 20, err: lost, sequential: true}, lost, "read source kv, file zbad"},
		{"file shrinks", nil, faulty{name: "zbad", after: 34 << 20, err: io.EOF}, snapshot.ErrChanged, "file zbad"},
		{"context ends", ctx, faulty{name: "zbad", after: 34 << 20, on: func() { cancel(stopped) }}, stopped, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			bucket := newBucket(t)
			closed := 0
			fault := test.fs
			fault.FS = big
			src := viewSource{func() *snapshot.View {
				return &snapshot.View{FS: fault, Close: func() error { closed++; return nil }}
			}}
			options := repo.Options{PackSize: 1 << 20}
			e := openEngine(t, snapshot.Config{Bucket: bucket, Options: options, Sources: map[string]snapshot.Source{"kv": src}})
			ctx := test.ctx
			if ctx == nil {
				ctx = t.Context()
			}
			before := runtime.NumGoroutine()
			_, err := e.Create(ctx, snapshot.CreateOptions{Label: "x"})
			if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.text) {
				t.Errorf("error %v", err)
			}
			if closed != 1 {
				t.Errorf("view closed %d times", closed)
			}
			for _, prefix := range []string{"pack/", "index/", "snapshot/"} {
				if left := keys(t, bucket, prefix); len(left) > 0 {
					t.Errorf("left behind: %v", left)
				}
			}
			settled(t, before)
		})
	}
}

// Who fails first is who is told of, and not the workers that stumble over it.
func TestFirstFailureIsTold(t *testing.T) {
	lost := errors.New("the disk is gone")
	files := fstest.MapFS{"aa": {Data: text(1, 3<<20)}}
	for n := range 400 {
		files[fmt.Sprintf("small/%03d", n)] = &fstest.MapFile{Data: text(uint64(n), 2000)}
	}
	src := viewSource{func() *snapshot.View {
		return &snapshot.View{FS: faulty{FS: files, name: "aa", after: 2 << 20, err: lost}}
	}}
	for range 12 {
		e := openEngine(t, snapshot.Config{Workers: max(2, runtime.GOMAXPROCS(0)), Sources: map[string]snapshot.Source{"kv": src}})
		if _, err := e.Create(t.Context(), snapshot.CreateOptions{}); !errors.Is(err, lost) || strings.Contains(err.Error(), "not flushed") {
			t.Fatalf("error %v", err)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// settled waits for goroutines to end, for as long as a machine may need that has other things to do.
func settled(t testing.TB, before int) {
	t.Helper()
	for until := time.Now().Add(time.Minute); time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
		if runtime.NumGoroutine() <= before {
			return
		}
	}
	buf := make([]byte, 1<<16)
	t.Errorf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
}

func TestBadInput(t *testing.T) {
	src := &memory{files: fstest.MapFS{"f": {Data: []byte("1")}}}
	e := openEngine(t, snapshot.Config{Sources: map[string]snapshot.Source{"a": src}})
	for _, label := range []string{"a/b", "..\x00", "ä", "a b", "a:b", strings.Repeat("x", 300), "a\n"} {
		if _, err := e.Create(t.Context(), snapshot.CreateOptions{Label: label}); !errors.Is(err, snapshot.ErrBadLabel) {
			t.Errorf("label %.20q: %v", label, err)
		}
	}
	if _, err := e.Create(t.Context(), snapshot.CreateOptions{Label: "." + strings.Repeat("9", 211)}); err != nil {
		t.Errorf("longest label: %v", err)
	}
	for _, id := range []string{"", "../x", "a/b", ".hidden", strings.Repeat("x", 241)} {
		if _, err := e.Get(t.Context(), id); !errors.Is(err, snapshot.ErrBadID) {
			t.Errorf("Get(%.20q): %v", id, err)
		}
		if err := e.Delete(t.Context(), id); !errors.Is(err, snapshot.ErrBadID) {
			t.Errorf("Delete(%.20q): %v", id, err)
		}
	}
	if _, err := e.OpenFS(t.Context(), "nope"); !errors.Is(err, snapshot.ErrNotFound) {
		t.Errorf("OpenFS: %v", err)
	}
	if _, err := e.Create(t.Context(), snapshot.CreateOptions{Parent: "nope"}); !errors.Is(err, snapshot.ErrNotFound) {
		t.Errorf("parent: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := e.Create(ended, snapshot.CreateOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("ended context: %v", err)
	}
	src.files["link"] = &fstest.MapFile{Mode: fs.ModeSymlink | 0o777, Data: []byte("f")}
	if _, err := e.Create(t.Context(), snapshot.CreateOptions{}); !errors.Is(err, snapshot.ErrFileKind) || !strings.Contains(err.Error(), "link") {
		t.Errorf("symbolic link: %v", err)
	}
}

func TestBadConfig(t *testing.T) {
	bucket := newBucket(t)
	src := &memory{}
	for name, config := range map[string]snapshot.Config{
		"neither":     {},
		"both":        {Bucket: bucket, Repository: "local:/x"},
		"source name": {Bucket: bucket, Sources: map[string]snapshot.Source{"a/b": src}},
		"dots":        {Bucket: bucket, Sources: map[string]snapshot.Source{"..": src}},
		"nil source":  {Bucket: bucket, Sources: map[string]snapshot.Source{"a": nil}},
		"share":       {Bucket: bucket, VerifyShare: 2},
		"workers":     {Bucket: bucket, Workers: -1},
	} {
		if e, err := snapshot.Open(t.Context(), config); !errors.Is(err, snapshot.ErrConfig) {
			t.Errorf("%s: %v, %v", name, e, err)
		}
	}
	locations := repo.LocationConfig{"x": {"type": "s3", "secret_access_key": "hidden"}, "m": {"type": "memory"}, "odd": {"type": "memory", "no_such_key": "hidden"}}
	for _, where := range []string{"x:bucket", "odd:", "nowhere:a"} {
		_, err := snapshot.Open(t.Context(), snapshot.Config{Repository: where, Locations: locations})
		if !errors.Is(err, repo.ErrLocation) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: %v", where, err)
		}
	}
	inMemory := openEngine(t, snapshot.Config{Repository: "m:", Locations: locations})
	if inMemory.Repository().ID() == "" {
		t.Error("a repository in memory has no ID")
	}
	if _, err := snapshot.Open(t.Context(), snapshot.Config{Bucket: bucket, MustExist: true}); !errors.Is(err, repo.ErrNotRepository) {
		t.Errorf("MustExist: %v", err)
	}
	if _, err := snapshot.Open(t.Context(), snapshot.Config{Repository: "local:" + t.TempDir() + "/none", MustExist: true}); !errors.Is(err, repo.ErrNotRepository) {
		t.Errorf("MustExist in a missing folder: %v", err)
	}
	e := openEngine(t, snapshot.Config{Bucket: bucket})
	if _, err := e.Create(t.Context(), snapshot.CreateOptions{}); !errors.Is(err, snapshot.ErrNoSources) {
		t.Errorf("no sources: %v", err)
	}
}

func TestFailedPinsCloseTheOthers(t *testing.T) {
	boom := errors.New("boom")
	good := &memory{files: fstest.MapFS{"f": {Data: []byte("1")}}}
	gate := lock.New(lock.Options{})
	for name, bad := range map[string]*memory{
		"pin":    {pin: func() error { return boom }},
		"settle": {files: good.files, settle: func(context.Context) error { return boom }},
		"panic":  {pin: func() error { panic(boom) }},
	} {
		e := openEngine(t, snapshot.Config{Lock: gate, Sources: map[string]snapshot.Source{"a": good, "b": bad}})
		func() {
			defer func() {
				if r := recover(); (r != nil) != (name == "panic") {
					t.Errorf("%s: panic %v", name, r)
				}
			}()
			_, err := e.Create(t.Context(), snapshot.CreateOptions{})
			var se *snapshot.SourceError
			if !errors.As(err, &se) || se.Source != "b" || se.Op != name || !errors.Is(err, boom) {
				t.Errorf("%s: %v", name, err)
			}
		}()
		if good.open != 0 || bad.open != 0 {
			t.Errorf("%s: views left open: %d and %d", name, good.open, bad.open)
		}
		// The gate is open again.
		tx, err := gate.Begin(t.Context())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		tx.End()
	}
}

func TestCreateWithoutTheLock(t *testing.T) {
	gate := lock.New(lock.Options{})
	e := openEngine(t, snapshot.Config{Lock: gate, Sources: map[string]snapshot.Source{"a": &memory{files: fstest.MapFS{"f": {Data: []byte("1")}}}}})
	tx, err := gate.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	short := lock.FreezeOptions{Timeout: 20 * time.Millisecond}
	if _, err := e.Create(t.Context(), snapshot.CreateOptions{Freeze: short}); !errors.Is(err, lock.ErrTimeout) {
		t.Errorf("timeout: %v", err)
	}
	short.AllowInconsistent = true
	s, err := e.Create(t.Context(), snapshot.CreateOptions{Freeze: short})
	if err != nil || s.Consistency != repo.ConsistencyNone {
		t.Errorf("inconsistent: %+v, %v", s, err)
	}
	tx.End()
	if s := create(t, e, snapshot.CreateOptions{}); s.Consistency != repo.ConsistencyFrozen {
		t.Errorf("consistency %q", s.Consistency)
	}
}

func TestCloseEndsCalls(t *testing.T) {
	entered, once := make(chan struct{}), false
	src := &memory{files: fstest.MapFS{"f": {Data: []byte("1")}}, settle: func(ctx context.Context) error {
		if !once {
			once = true
			close(entered)
		}
		<-ctx.Done()
		return context.Cause(ctx)
	}}
	e := openEngine(t, snapshot.Config{Sources: map[string]snapshot.Source{"a": src}})
	result := make(chan error)
	go func() {
		_, err := e.Create(context.Background(), snapshot.CreateOptions{})
		result <- err
	}()
	<-entered
	go e.Close()
	if err := <-result; !errors.Is(err, snapshot.ErrClosed) {
		t.Errorf("Create: %v", err)
	}
	listed := 0
	for s, err := range e.List(t.Context(), snapshot.Filter{}) {
		if listed++; s != nil || !errors.Is(err, snapshot.ErrClosed) {
			t.Errorf("List yields %v, %v", s, err)
		}
	}
	if listed != 1 {
		t.Errorf("List yields %d times", listed)
	}
	if _, err := e.Create(t.Context(), snapshot.CreateOptions{}); !errors.Is(err, snapshot.ErrClosed) {
		t.Errorf("Create after Close: %v", err)
	}
	if src.open != 0 {
		t.Errorf("%d views left open", src.open)
	}
}

func TestProgress(t *testing.T) {
	e := openEngine(t, snapshot.Config{Sources: map[string]snapshot.Source{"a": &memory{files: sample()}}})
	var phases []snapshot.Phase
	var last snapshot.Progress
	totals := map[int64]bool{}
	s := create(t, e, snapshot.CreateOptions{Progress: func(p snapshot.Progress) {
		totals[p.FilesTotal] = true
		if len(phases) == 0 || phases[len(phases)-1] != p.Phase {
			phases = append(phases, p.Phase)
		}
		if p.BytesDone < last.BytesDone || p.FilesDone < last.FilesDone {
			t.Errorf("progress went back from %+v to %+v", last, p)
		}
		last = p
	}})
	want := []snapshot.Phase{snapshot.PhasePrepare, snapshot.PhaseFreeze, snapshot.PhaseSettle, snapshot.PhaseRead, snapshot.PhaseCommit}
	if fmt.Sprint(phases) != fmt.Sprint(want) {
		t.Errorf("phases %v", phases)
	}
	if last.BytesDone != s.Stats.Bytes || last.BytesTotal != s.Stats.Bytes || last.FilesDone != s.Stats.Files || last.FilesTotal != s.Stats.Files {
		t.Errorf("last %+v, stats %+v", last, s.Stats)
	}
	// A total is known or not: a share of one that grows would go back.
	if delete(totals, 0); len(totals) != 1 {
		t.Errorf("totals of files %v", totals)
	}
}

func TestFullDisk(t *testing.T) {
	bucket := newHooked(t, newBucket(t))
	e := openEngine(t, snapshot.Config{Bucket: bucket.Bucket, Sources: map[string]snapshot.Source{"a": &memory{files: sample()}}})
	for _, verb := range []repotest.Verb{repotest.VerbWrite, repotest.VerbCreate} {
		bucket.Hook(func(_ context.Context, r repotest.Request) error {
			if r.Verb == verb && strings.HasPrefix(r.Key, "pack/") {
				return fmt.Errorf("write %s: %w", r.Key, syscall.ENOSPC)
			}
			return nil
		})
		if _, err := e.Create(t.Context(), snapshot.CreateOptions{}); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%s: %v", verb, err)
		}
	}
	bucket.Hook(nil)
	if s := create(t, e, snapshot.CreateOptions{}); s.Stats.BytesNew == 0 {
		t.Errorf("stats %+v", s.Stats)
	}
}

// What cannot be stored is told before anything is frozen and read, not hours later.
func TestRefusedBeforeTheWork(t *testing.T) {
	src := &memory{files: fstest.MapFS{"f": {Data: text(1, 1000)}}}
	src.pin = func() error { t.Error("pinned"); return nil }
	bucket := newBucket(t)
	e := openEngine(t, snapshot.Config{Bucket: bucket, Sources: map[string]snapshot.Source{"a": src}})
	for name, opts := range map[string]snapshot.CreateOptions{
		"description": {Description: "caf\xe9"},
		"key":         {Metadata: map[string]string{"\xff": "x"}},
		"value":       {Metadata: map[string]string{"x": "\xff"}},
		"with an ID":  {ID: "2026-01-02T03.04.05Z_x", Description: "\xff"},
		"size":        {Metadata: map[string]string{"x": strings.Repeat("rows ", 4<<20)}},
	} {
		if _, err := e.Create(t.Context(), opts); !errors.Is(err, repo.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	src.pin = nil
	read := errors.New("read")
	src.files[strings.Repeat("deep/", 1000)+"f"] = &fstest.MapFile{Data: text(1, 1000)}
	src.settle = nil
	long := viewSource{func() *snapshot.View {
		return &snapshot.View{FS: faulty{FS: src.files, name: "f", err: read}}
	}}
	e = openEngine(t, snapshot.Config{Bucket: bucket, Sources: map[string]snapshot.Source{"kv": long}})
	_, err := e.Create(t.Context(), snapshot.CreateOptions{})
	if se := (*snapshot.SourceError)(nil); !errors.Is(err, repo.ErrInvalid) || !errors.As(err, &se) || se.Source != "kv" || errors.Is(err, read) {
		t.Errorf("a path that is too long: %v", err)
	}
	odd := viewSource{func() *snapshot.View {
		return &snapshot.View{FS: faulty{FS: src.files, name: "f", err: read}, Position: "\xff"}
	}}
	e = openEngine(t, snapshot.Config{Bucket: bucket, Sources: map[string]snapshot.Source{"kv": odd}})
	if _, err := e.Create(t.Context(), snapshot.CreateOptions{}); !errors.Is(err, repo.ErrInvalid) || errors.Is(err, read) || !strings.Contains(err.Error(), "Position") {
		t.Errorf("a position that is no text: %v", err)
	}
	for _, prefix := range []string{"pack/", "session/", "snapshot/", "attachment/"} {
		if left := keys(t, bucket, prefix); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}

// readsFS has every file but folders read by a function.
type readsFS struct {
	fs.FS
	read func(f fs.File, p []byte) (int, error)
}

type readsFile struct {
	fs.File
	read func(f fs.File, p []byte) (int, error)
}

func (f readsFile) Read(p []byte) (int, error) { return f.read(f.File, p) }

func (r readsFS) Open(name string) (fs.File, error) {
	f, err := r.FS.Open(name)
	if err == nil && name != "." {
		return readsFile{f, r.read}, nil
	}
	return f, err
}

// A file whose reads bring neither data nor an error fails the snapshot, which would never end.
// One that is only slow does not.
func TestReadsThatBringNothing(t *testing.T) {
	data, reads := text(1, 1000), 0
	for name, read := range map[string]func(fs.File, []byte) (int, error){
		"nothing": func(fs.File, []byte) (int, error) { return 0, nil },
		"little": func(f fs.File, p []byte) (int, error) {
			if reads++; reads%3 > 0 {
				return 0, nil
			}
			return f.Read(p[:1])
		},
	} {
		src := viewSource{func() *snapshot.View {
			return &snapshot.View{FS: readsFS{fstest.MapFS{"f": {Data: data}}, read}}
		}}
		e := openEngine(t, snapshot.Config{Sources: map[string]snapshot.Source{"kv": src}})
		s, err := e.Create(t.Context(), snapshot.CreateOptions{})
		if name == "nothing" {
			if !errors.Is(err, io.ErrNoProgress) {
				t.Errorf("error %v", err)
			}
			continue
		}
		if err != nil || !bytes.Equal(readAll(t, e, s.ID, "kv/f"), data) {
			t.Errorf("it holds something else, error %v", err)
		}
	}
}
