package snapshot

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/holdstill/holdstill/repo"
)

// sampleFiles has every kind of entry, with paths whose order is not that of a
// walk: "kv/a.x" comes before "kv/a/b".
func sampleFiles() []storedFile {
	return []storedFile{
		{path: "kv/", mode: 0o750, at: aTime},
		{path: "kv/a/", mode: 0o755, at: aTime.Add(time.Hour)},
		{path: "kv/a/b", data: tableRows(1, 300_000), mode: 0o640, at: aTime.Add(2 * time.Hour)},
		{path: "kv/a.x", data: tableRows(2, 70_001), mode: 0o600, at: aTime},
		{path: "kv/empty", mode: 0o644, at: aTime},
		{path: "kv/none/", mode: 0o700, at: aTime.Add(-time.Hour)},
		{path: "kv/sealed/", mode: 0o555, at: aTime},
		{path: "kv/sealed/one", data: tableRows(3, 10), mode: 0o444, at: aTime},
		{path: "kv/unlisted/deep/er", data: tableRows(4, 5000), mode: 0o600, at: aTime},
		{path: "meta/rows.db", data: append(tableRows(5, 65536), make([]byte, 131072)...), mode: 0o660, at: aTime},
	}
}

func TestRestore(t *testing.T) {
	r := newRepository(t)
	m := storeFiles(t, r, "s", sampleFiles())
	all := func(p string) bool { return true }
	tests := []struct {
		name string
		opts RestoreOptions
		keep func(path string) (string, bool)
	}{
		{"everything", RestoreOptions{}, func(p string) (string, bool) { return p, true }},
		{"match all", RestoreOptions{Match: all, Workers: 1}, func(p string) (string, bool) { return p, true }},
		{"one source", RestoreOptions{Source: "kv"}, func(p string) (string, bool) { return strings.CutPrefix(p, "kv/") }},
		{"some files", RestoreOptions{Match: func(p string) bool { return p == "kv/a/b" || strings.HasSuffix(p, ".db") }},
			func(p string) (string, bool) {
				return p, p == "kv/" || p == "kv/a/" || p == "kv/a/b" || p == "meta/rows.db"
			}},
		{"a folder alone", RestoreOptions{Source: "kv", Match: func(p string) bool { return p == "kv/sealed" }},
			func(p string) (string, bool) { return "sealed/", p == "kv/sealed/" }},
		{"below an unlisted folder", RestoreOptions{Source: "kv", Match: func(p string) bool { return p == "kv/unlisted/deep/er" }},
			func(p string) (string, bool) { return "unlisted/deep/er", p == "kv/unlisted/deep/er" }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			parent := tempDir(t)
			tt.opts.To = filepath.Join(parent, "to")
			result, err := restoreWith(t.Context(), r, m, tt.opts, nil)
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]string{}
			var files, bytes int64
			for _, f := range sampleFiles() {
				name, ok := tt.keep(f.path)
				if !ok || name == "" {
					continue
				}
				path := filepath.Join(tt.opts.To, name)
				info, err := os.Stat(path)
				if err != nil {
					t.Fatal(err)
				}
				if !info.ModTime().Equal(f.at) {
					t.Errorf("%s has the time %v, want %v", name, info.ModTime(), f.at)
				}
				if strings.HasSuffix(name, "/") {
					want[strings.TrimSuffix(name, "/")] = (f.mode | fs.ModeDir).String()
					continue
				}
				want[name] = f.mode.String() + " " + string(f.data)
				files++
				bytes += int64(len(f.data))
				for dir := filepath.Dir(name); dir != "."; dir = filepath.Dir(dir) {
					if want[dir] == "" {
						want[dir] = (fs.ModeDir | 0o700).String()
					}
				}
			}
			for _, f := range sampleFiles() {
				if name, ok := tt.keep(f.path); ok && strings.HasSuffix(name, "/") {
					want[strings.TrimSuffix(name, "/")] = (f.mode | fs.ModeDir).String()
				}
			}
			if d := cmp.Diff(want, readTree(t, tt.opts.To)); d != "" {
				t.Errorf("restored tree (-want +got):\n%s", d)
			}
			if result.Files != files || result.Bytes != bytes || result.Directories != int64(len(want))-files || result.Previous != "" {
				t.Errorf("result %+v, want %d files, %d folders, %d bytes", result, files, int64(len(want))-files, bytes)
			}
			if d := cmp.Diff([]string{"to"}, listFolder(t, parent)); d != "" {
				t.Errorf("beside the target (-want +got):\n%s", d)
			}
		})
	}
}

func TestRestoreTopFolder(t *testing.T) {
	r := newRepository(t)
	m := storeFiles(t, r, "s", sampleFiles())
	parent := tempDir(t)
	standing := filepath.Join(parent, "standing")
	// Chmod, unlike Mkdir, does not ask the umask.
	if err := errors.Join(os.Mkdir(standing, 0o700), os.Chmod(standing, 0o711)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		to, source string
		want       fs.FileMode
	}{{"fresh", "", 0o700}, {"source", "kv", 0o750}, {"standing", "kv", 0o711}} {
		to := filepath.Join(parent, tt.to)
		if _, err := restoreWith(t.Context(), r, m, RestoreOptions{To: to, Source: tt.source}, nil); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(to)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != tt.want {
			t.Errorf("%s has permissions %v, want %v", tt.to, info.Mode().Perm(), tt.want)
		}
	}
}

// A file of several segments, each of other chunks, and with runs of zeros across
// the borders of segments and buffers.
func TestRestoreSegments(t *testing.T) {
	r := newRepository(t)
	blocks := make([][]byte, 9)
	for i := range blocks {
		blocks[i] = tableRows(uint64(40+i), 1<<20)
	}
	clear(blocks[8])
	const count = 4*32 + 5
	at := func(i int) []byte {
		if i >= 30 && i < 38 || i == 100 {
			return blocks[8]
		}
		return blocks[(i*i+i/7)%8]
	}
	tail := tableRows(99, 12345)
	m := storeTable(t, r, "large", func(s *repo.Session, w *repo.Writer) repo.Content {
		var refs []repo.Ref
		for i := range count + 1 {
			data := tail
			if i < count {
				data = at(i)
			}
			id, _, err := w.Add(t.Context(), data)
			if err != nil {
				t.Fatal(err)
			}
			refs = append(refs, repo.Ref{ID: id, Span: int64(len(data))})
		}
		content, err := s.PutContent(t.Context(), refs)
		if err != nil {
			t.Fatal(err)
		}
		table, err := s.PutTable(t.Context(), func(yield func(repo.File) bool) {
			yield(repo.File{Path: "kv/large", Mode: 0o600, ModTime: aTime, Size: content.Size(), Content: content})
		})
		if err != nil {
			t.Fatal(err)
		}
		return table
	}, repo.SourceInfo{Name: "kv"})
	to := filepath.Join(tempDir(t), "to")
	var last Progress
	calls := 0
	var inside atomic.Bool
	result, err := restoreWith(t.Context(), r, m, RestoreOptions{To: to, Workers: 3, Progress: func(p Progress) {
		if inside.Swap(true) {
			t.Error("Progress is called twice at once")
		}
		if p.BytesDone < last.BytesDone || p.BytesDone > p.BytesTotal || p.FilesTotal != 1 {
			t.Errorf("progress %+v after %+v", p, last)
		}
		last = p
		calls++
		inside.Store(false)
	}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if last.Phase != PhaseExchange || last.BytesDone != result.Bytes || last.BytesTotal != result.Bytes || last.FilesDone != 1 {
		t.Errorf("the last progress is %+v, want %d bytes", last, result.Bytes)
	}
	f, err := os.Open(filepath.Join(to, "kv/large"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	buf := make([]byte, 1<<20)
	for i := range count {
		if _, err := f.ReadAt(buf, int64(i)<<20); err != nil || !bytes.Equal(buf, at(i)) {
			t.Fatalf("MiB %d differs, or %v", i, err)
		}
	}
	info, err := f.Stat()
	if err != nil || info.Size() != count<<20+int64(len(tail)) {
		t.Fatalf("the size is %d, %v", info.Size(), err)
	}
	if n, err := f.ReadAt(buf[:len(tail)], count<<20); err != nil || !bytes.Equal(buf[:n], tail) {
		t.Fatalf("the tail differs, or %v", err)
	}
}

func TestRestoreCancelled(t *testing.T) {
	r := newRepository(t)
	m := storeFiles(t, r, "s", sampleFiles())
	cause := errors.New("operator pressed the button")
	before := runtime.NumGoroutine()
	// The call ends at each of its changes to the file system in turn.
	for n := 1; ; n++ {
		parent := tempDir(t)
		to := filepath.Join(parent, "db")
		writeTree(t, to, oldTree)
		ctx, cancel := context.WithCancelCause(t.Context())
		seen, exchanged := 0, false
		starts := 0
		ops := &fileOps{before: func(op, _ string) error {
			if seen++; seen == n {
				cancel(cause)
			}
			exchanged = exchanged || op == "exchange" && seen <= n
			return nil
		}}
		_, err := restoreWith(ctx, r, m, RestoreOptions{To: to, InPlace: true, Workers: 1,
			Stop:  func(context.Context) error { starts--; return nil },
			Start: func(ctx context.Context) error { starts++; return ctx.Err() }}, ops)
		cancel(nil)
		if starts != 0 {
			t.Fatalf("cancelled at change %d: %d starts more than stops", n, starts)
		}
		if seen < n {
			break
		}
		if err != nil {
			if !errors.Is(err, cause) {
				t.Fatalf("cancelled at change %d: error %v", n, err)
			}
			if d := cmp.Diff([]string{"db"}, listFolder(t, parent)); d != "" {
				t.Fatalf("cancelled at change %d, beside the target:\n%s", n, d)
			}
			if d := cmp.Diff(oldTreeRead(t), readTree(t, to)); d != "" {
				t.Fatalf("cancelled at change %d, at the target:\n%s", n, d)
			}
		} else if !exchanged {
			t.Fatalf("cancelled at change %d, before the exchange, without an error", n)
		}
	}
	for end := time.Now().Add(time.Minute); runtime.NumGoroutine() > before; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
	}
}

func TestRestoreSpace(t *testing.T) {
	r := newRepository(t)
	// A file of zeros that is larger than any disk: one chunk, named many times over.
	m := storeTable(t, r, "huge", func(s *repo.Session, w *repo.Writer) repo.Content {
		id, _, err := w.Add(t.Context(), make([]byte, 1<<20))
		if err != nil {
			t.Fatal(err)
		}
		refs := make([]repo.Ref, 2000)
		for i := range refs {
			refs[i] = repo.Ref{ID: id, Span: 1 << 20}
		}
		content, err := s.PutContent(t.Context(), refs)
		if err != nil {
			t.Fatal(err)
		}
		table, err := s.PutTable(t.Context(), func(yield func(repo.File) bool) {
			for _, c := range "abcdefghijklmnopqrstuvwxyz" {
				for _, d := range "abcdefghijklmnopqrstuvwxyz" {
					if !yield(repo.File{Path: "kv/" + string(c) + string(d), Size: content.Size(), Content: content}) {
						return
					}
				}
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		return table
	}, repo.SourceInfo{Name: "kv"})
	parent := tempDir(t)
	opts := RestoreOptions{To: filepath.Join(parent, "to")}
	full := &fileOps{before: func(op, _ string) error {
		if op == "truncate" {
			return syscall.ENOSPC
		}
		return nil
	}}
	_, err := restoreWith(t.Context(), r, m, opts, full)
	var space *SpaceError
	if free, ok := freeSpace(parent); ok && free < 676*2000<<20 {
		if !errors.As(err, &space) || !errors.Is(err, syscall.ENOSPC) || space.Needed != 676*2000<<20 || space.Available <= 0 {
			t.Fatalf("error %v (%+v), want a *SpaceError", err, space)
		}
	}
	// The disk being full shows when writing, too.
	opts.SkipSpaceCheck = true
	if _, err := restoreWith(t.Context(), r, m, opts, full); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("error %v, want ENOSPC", err)
	}
	if d := cmp.Diff([]string{}, listFolder(t, parent)); d != "" {
		t.Errorf("left behind:\n%s", d)
	}
}

func TestEngineRestore(t *testing.T) {
	dir := filepath.Join(tempDir(t), "repository")
	e, err := Open(t.Context(), Config{Repository: "local:" + dir})
	if err != nil {
		t.Fatal(err)
	}
	storeFiles(t, e.repo, "s", sampleFiles())
	to := filepath.Join(filepath.Dir(dir), "to")
	result, err := e.Restore(t.Context(), "s", RestoreOptions{To: to, Source: "meta"})
	if err != nil || result.To != to || result.Files != 1 {
		t.Fatalf("result %+v, %v", result, err)
	}
	for _, tt := range []struct {
		id   string
		opts RestoreOptions
		want error
	}{
		{"none", RestoreOptions{To: to + "2"}, ErrNotFound},
		{"s/../s", RestoreOptions{To: to + "2"}, ErrBadID},
		{"s", RestoreOptions{To: dir, InPlace: true}, ErrTarget},
		{"s", RestoreOptions{To: filepath.Join(dir, "inside")}, ErrTarget},
		{"s", RestoreOptions{To: filepath.Dir(dir), InPlace: true}, ErrTarget},
		{"s", RestoreOptions{To: to + "2", Workers: -1}, ErrRestoreOptions},
	} {
		if _, err := e.Restore(t.Context(), tt.id, tt.opts); !errors.Is(err, tt.want) {
			t.Errorf("%s to %+v: error %v, want %v", tt.id, tt.opts, err, tt.want)
		}
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Restore(t.Context(), "s", RestoreOptions{To: to + "2"}); !errors.Is(err, ErrClosed) {
		t.Errorf("error %v, want ErrClosed", err)
	}
}
