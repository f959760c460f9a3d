package repo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/holdstill/holdstill/chunk"
)

// logLines is a log handler that keeps what it is told.
type logLines struct {
	slog.Handler
	mu    sync.Mutex
	lines []string
}

func newLogLines() (*slog.Logger, *logLines) {
	l := &logLines{Handler: slog.DiscardHandler}
	return slog.New(l), l
}

func (l *logLines) Enabled(context.Context, slog.Level) bool { return true }

func (l *logLines) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	line := r.Message
	r.Attrs(func(a slog.Attr) bool { line += " " + a.String(); return true })
	l.lines = append(l.lines, line)
	return nil
}

// fullDisk is a file on a disk with little room.
type fullDisk struct {
	cacheFile
	left *int
}

func (f fullDisk) WriteAt(p []byte, at int64) (int, error) {
	if *f.left -= len(p); *f.left < 0 {
		return 0, &os.PathError{Op: "write", Path: f.Name(), Err: syscall.ENOSPC}
	}
	return f.cacheFile.WriteAt(p, at)
}

// Where the cache cannot be written the index is in memory, one line of the log says
// so, and nothing is left behind. When there is room again the cache is used.
func TestCacheOnFullDisk(t *testing.T) {
	b := newIndexBucket(t, 4)
	b.add(4, 100)
	for room := 0; room < 64<<10; room += segmentBlock {
		log, lines := newLogLines()
		dir := t.TempDir()
		r := cachedRepo(t, b.testDriver, dir, log)
		create, left := r.indexCache.create, room
		r.indexCache.create = func(dir, pattern string) (cacheFile, error) {
			f, err := create(dir, pattern)
			return fullDisk{f, &left}, err
		}
		for range 3 {
			set, err := r.refreshIndex(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			wantPlaces(t, set, b.want())
			if len(set.segments) > 0 {
				break
			}
		}
		names, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		if left >= 0 {
			if len(lines.lines) > 0 || len(names) != 2 {
				t.Errorf("with room for %d bytes: %q, files %v", room, lines.lines, names)
			}
			if room == 0 {
				t.Error("nothing was written")
			}
			return
		}
		if len(lines.lines) != 1 || !strings.Contains(lines.lines[0], "no space left") || len(names) != 1 {
			t.Errorf("room for %d bytes: the log says %q, files %v", room, lines.lines, names)
		}
		r.indexCache.create, r.indexCache.rest = create, time.Time{}
		if set, err := r.refreshIndex(t.Context()); err != nil || len(set.segments) != 1 {
			t.Errorf("with room again: %+v %v", set, err)
		}
	}
	t.Error("no room was enough")
}

// The folder cannot be made, or written to: a read-only mount, a file in its place.
func TestCacheFolderCannotBeUsed(t *testing.T) {
	b := newIndexBucket(t, 5)
	b.add(4, 100)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{file, filepath.Join(file, "below")} {
		log, lines := newLogLines()
		r := cachedRepo(t, b.testDriver, dir, log)
		for range 3 {
			set, err := r.refreshIndex(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			wantPlaces(t, set, b.want())
		}
		if len(lines.lines) != 1 {
			t.Errorf("%s: the log says %q", dir, lines.lines)
		}
	}
}

// A folder that can only be read is read.
func TestCacheFolderIsReadOnly(t *testing.T) {
	b, dir := warmCache(t)
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(dir, 0o700) })
	log, lines := newLogLines()
	r := cachedRepo(t, b.testDriver, dir, log)
	set, err := r.refreshIndex(t.Context())
	if err != nil || len(set.segments) != 1 || len(lines.lines) > 0 {
		t.Errorf("%+v %v, the log says %q", set, err, lines.lines)
	}
	// Whoever may write all the same, such as root, meets a failure of the write.
	r.indexCache.create = func(string, string) (cacheFile, error) { return nil, os.ErrPermission }
	b.add(4, 100)
	for range 2 {
		if set, err = r.refreshIndex(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantPlaces(t, set, b.want())
	}
	if len(lines.lines) != 1 {
		t.Errorf("the log says %q", lines.lines)
	}
}

// A cancelled context ends a build of the cache, and leaves nothing.
func TestCacheBuildIsCancelled(t *testing.T) {
	b := newIndexBucket(t, 6)
	b.add(4, 100)
	dir := t.TempDir()
	r := cachedRepo(t, b.testDriver, dir, nil)
	ctx, cancel := context.WithCancel(t.Context())
	create := r.indexCache.create
	r.indexCache.create = func(dir, pattern string) (cacheFile, error) {
		cancel()
		return create(dir, pattern)
	}
	set, err := r.refreshIndex(ctx)
	if err == nil {
		wantPlaces(t, set, b.want())
	}
	if got := segmentPaths(t, dir); len(got) > 0 {
		t.Errorf("files %q", got)
	}
	if set, err := r.refreshIndex(t.Context()); err != nil || len(set.segments) != 1 {
		t.Errorf("after that: %v %v", set, err)
	}
	// While another process holds the lock, it is waited for.
	unlock, err := r.indexCache.lock(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	if _, err := r.indexCache.lock(t.Context(), false); !errors.Is(err, errCacheBusy) && runtime.GOOS != "windows" {
		t.Errorf("locked twice: %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	if _, err := r.indexCache.lock(ctx, true); !errors.Is(err, context.Canceled) && runtime.GOOS != "windows" {
		t.Errorf("locked twice: %v", err)
	}
}

// What is left of a process that was killed goes with the next build, files of
// others stay.
func TestCacheSweeps(t *testing.T) {
	b, dir := warmCache(t)
	r := cachedRepo(t, b.testDriver, dir, nil)
	mine := filepath.Join(dir, "tmp-"+r.indexCache.prefix()+"123")
	others := []string{filepath.Join(dir, "notes.txt"), filepath.Join(dir, "tmp-0123456789abcdef-1"), filepath.Join(dir, "0123456789abcdef-7"+segmentSuffix)}
	for _, path := range append(others, mine) {
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b.add(30, 100)
	set, err := r.refreshIndex(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wantPlaces(t, set, b.want())
	if _, err := os.Stat(mine); err == nil {
		t.Error("a temporary file is left")
	}
	for _, path := range others {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
	if got := segmentPaths(t, dir); len(got) != len(set.segments)+1 {
		t.Errorf("files %q for %d segments", got, len(set.segments))
	}
}

// Two processes write to one repository, and share the folder of the cache.
func TestTwoProcessesOneCache(t *testing.T) {
	dir, cache := t.TempDir(), t.TempDir()
	openTestRepoIn(t, dir)
	names := []string{"first", "other"}
	var group sync.WaitGroup
	for _, name := range names {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), processDir+"="+dir, processName+"="+name, processCache+"="+cache)
		group.Go(func() {
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s: %v: %s", name, err, out)
			}
		})
	}
	group.Wait()
	plain, cached := openTestRepo(t, openLocal(t, dir), Options{}), openTestRepo(t, openLocal(t, dir), Options{CacheDir: cache})
	cached.indexCache.foldRecords = 20
	var sets []*indexSet
	for _, r := range []*Repository{plain, cached} {
		set, err := r.refreshIndex(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		sets = append(sets, set)
		for _, name := range names {
			for n := range processSnapshots {
				wantSnapshot(t, r, fmt.Sprintf("%s-%03d", name, n), processFiles(name, n))
			}
		}
	}
	want := make(map[chunk.ID][]location)
	for e, err := range sets[0].all() {
		if err != nil {
			t.Fatal(err)
		}
		want[e.id] = append(want[e.id], e.location)
	}
	for _, places := range want {
		slices.SortFunc(places, compareLocations)
	}
	wantPlaces(t, sets[1], want)
	if len(sets[1].segments) == 0 || len(segmentPaths(t, cache)) > 2*len(sets[1].segments)+2 {
		t.Errorf("%d segments, files %q", len(sets[1].segments), segmentPaths(t, cache))
	}
}
