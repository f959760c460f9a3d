package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"gocloud.dev/blob/memblob"
	"gocloud.dev/secrets/localsecrets"

	"github.com/holdstill/holdstill/repo"
)

// reuseFiles is a database: sealed tables, a file of pages, a log.
func reuseFiles() []storedFile {
	files := []storedFile{
		{path: "kv/", mode: 0o700, at: aTime},
		{path: "kv/meta.db", data: tableRows(1, 40*64<<10), mode: 0o600, at: aTime, class: Paged},
		{path: "kv/wal.log", data: tableRows(2, 5*64<<10+777), mode: 0o600, at: aTime, class: AppendOnly},
		{path: "kv/CURRENT", data: []byte("MANIFEST-000004\n"), mode: 0o600, at: aTime},
		{path: "kv/empty", mode: 0o600, at: aTime},
	}
	for n := range 8 {
		files = append(files, storedFile{path: fmt.Sprintf("kv/%06d.sst", n), data: tableRows(uint64(10+n), 3*64<<10+n), mode: 0o640, at: aTime, class: Immutable})
	}
	return files
}

// standAs writes files as they are in a snapshot.
func standAs(t *testing.T, dir string, files []storedFile) {
	t.Helper()
	for _, f := range files {
		path := filepath.Join(dir, strings.TrimPrefix(f.path, "kv/"))
		if strings.HasSuffix(f.path, "/") {
			if err := os.MkdirAll(path, 0o700); err != nil {
				t.Fatal(err)
			}
			continue
		}
		// Chmod does not ask the umask.
		if err := errors.Join(os.WriteFile(path, f.data, f.mode), os.Chmod(path, f.mode), os.Chtimes(path, time.Time{}, f.at)); err != nil {
			t.Fatal(err)
		}
	}
}

func wantStored(t *testing.T, dir string, files []storedFile) {
	t.Helper()
	want := map[string]string{}
	for _, f := range files {
		if !strings.HasSuffix(f.path, "/") {
			want[strings.TrimPrefix(f.path, "kv/")] = f.mode.String() + " " + string(f.data)
		}
	}
	got := readTree(t, dir)
	if len(got) != len(want) {
		t.Errorf("%d entries, want %d", len(got), len(want))
	}
	for name, data := range want {
		if got[name] != data {
			t.Errorf("%s differs", name)
		}
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || !info.ModTime().Equal(aTime) {
			t.Errorf("%s: time %v, %v", name, info, err)
		}
	}
}

// A restore of what stands there already fetches nothing, and one after a small change
// only what differs.
func TestRestoreReuses(t *testing.T) {
	r := newRepository(t)
	files := reuseFiles()
	m := storeFiles(t, r, "s", files)
	var total int64
	for _, f := range files {
		total += int64(len(f.data))
	}
	change := func(t *testing.T, dir string) {
		path := filepath.Join(dir, "meta.db")
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		copy(data[10*64<<10+5:], "a changed row")
		copy(data[30*64<<10-3:], "across two chunks")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	links := int64(8)
	if runtime.GOOS == "windows" {
		links = 0
	}
	for _, tt := range []struct {
		name           string
		opts           RestoreOptions
		change         func(t *testing.T, dir string)
		reused, linked int64
	}{
		{"the same", RestoreOptions{}, nil, total, links},
		{"the same, no links", RestoreOptions{NoLinks: true}, nil, total, 0},
		{"the same, not reused", RestoreOptions{NoReuse: true}, nil, 0, 0},
		{"three chunks changed", RestoreOptions{Workers: 1}, change, total - 3*64<<10, links},
		{"a table changed its mode", RestoreOptions{}, func(t *testing.T, dir string) {
			if err := os.Chmod(filepath.Join(dir, "000003.sst"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, total, max(links-1, 0)},
		{"a table changed its time", RestoreOptions{}, func(t *testing.T, dir string) {
			if err := os.Chtimes(filepath.Join(dir, "000003.sst"), time.Time{}, aTime.Add(1)); err != nil {
				t.Fatal(err)
			}
		}, total, max(links-1, 0)},
		{"a log that grew, and one cut short", RestoreOptions{}, func(t *testing.T, dir string) {
			if err := os.Truncate(filepath.Join(dir, "meta.db"), 20*64<<10+9); err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(filepath.Join(dir, "wal.log"), 9*64<<10); err != nil {
				t.Fatal(err)
			}
		}, total - 20*64<<10, links},
	} {
		t.Run(tt.name, func(t *testing.T) {
			to := filepath.Join(tempDir(t), "db")
			standAs(t, to, files)
			if tt.change != nil {
				tt.change(t, to)
			}
			before := readTree(t, to)
			tt.opts.To, tt.opts.Source, tt.opts.InPlace = to, "kv", true
			result, err := restoreWith(t.Context(), r, m, tt.opts, nil)
			if err != nil {
				t.Fatal(err)
			}
			wantStored(t, to, files)
			if d := cmp.Diff(before, readTree(t, result.Previous)); d != "" {
				t.Errorf("the failsafe has changed:\n%s", d)
			}
			if result.BytesReused != tt.reused || result.FilesLinked != tt.linked || (result.BytesFetched == 0) != (tt.reused == total) {
				t.Errorf("reused %d bytes, linked %d, fetched %d; want %d, %d", result.BytesReused, result.FilesLinked, result.BytesFetched, tt.reused, tt.linked)
			}
		})
	}
}

// A database that writes to what was restored, in place, changes nothing of the failsafe,
// which can be put back.
func TestReusedFilesAreOnesOwn(t *testing.T) {
	r := newRepository(t)
	files := reuseFiles()
	m := storeFiles(t, r, "s", files)
	to := filepath.Join(tempDir(t), "db")
	standAs(t, to, files)
	before := readTree(t, to)
	result, err := restoreWith(t.Context(), r, m, RestoreOptions{To: to, Source: "kv", InPlace: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if f.class == Immutable || len(f.data) == 0 {
			continue // what no database writes to
		}
		path := filepath.Join(to, strings.TrimPrefix(f.path, "kv/"))
		file, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		for at := 3; at < len(f.data); at += 4096 {
			if _, err := file.WriteAt([]byte("written in place"), int64(at)); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(file.Truncate(int64(len(f.data)+100)), file.Chmod(0o666), file.Close()); err != nil {
			t.Fatal(err)
		}
	}
	// Tables are compacted away and others are made.
	for n := range 4 {
		name := filepath.Join(to, fmt.Sprintf("%06d.sst", n))
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte("another table under an old number"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if d := cmp.Diff(before, readTree(t, result.Previous)); d != "" {
		t.Errorf("the failsafe has changed:\n%s", d)
	}
	if _, err := Undo(t.Context(), to, result.Previous); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(before, readTree(t, to)); d != "" {
		t.Errorf("what was put back differs:\n%s", d)
	}
}

// Random trees over random other trees: what stands there is of another kind, size or
// content, or leads elsewhere, and the restored tree is right in every case.
func TestRestoreOverAnything(t *testing.T) {
	r := newRepository(t)
	outside := filepath.Join(t.TempDir(), "outside")
	const seed = 20260314
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	for round := range 40 {
		var files []storedFile
		for n := range 1 + random.IntN(12) {
			class := []Class{Opaque, Immutable, Paged, AppendOnly}[random.IntN(4)]
			data := tableRows(random.Uint64(), 1+random.IntN(200_000))
			if n > 0 && random.IntN(4) == 0 {
				data = files[n-1].data // shared by two files
			}
			files = append(files, storedFile{path: fmt.Sprintf("kv/f%02d", n), data: data, mode: 0o600, at: aTime, class: class})
		}
		m := storeFiles(t, r, fmt.Sprint("s", round), files)
		parent := tempDir(t)
		to := filepath.Join(parent, "db")
		standAs(t, to, append([]storedFile{{path: "kv/"}}, files...))
		for _, f := range files {
			spoil(t, random, filepath.Join(to, strings.TrimPrefix(f.path, "kv/")), f.data, outside)
		}
		secret := tableRows(uint64(round), 100_000)
		if random.IntN(2) == 0 {
			secret = files[0].data
		}
		if err := os.WriteFile(outside, secret, 0o600); err != nil {
			t.Fatal(err)
		}
		opts := RestoreOptions{To: to, Source: "kv", InPlace: true, Workers: 1 + random.IntN(3), NoLinks: random.IntN(2) == 0}
		if random.IntN(3) == 0 {
			opts.ReuseFrom, opts.To, opts.InPlace = to, filepath.Join(parent, "new"), false
		}
		before := readTree(t, to)
		result, err := restoreWith(t.Context(), r, m, opts, nil)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		wantStored(t, opts.To, files)
		old := result.Previous
		if old == "" {
			old = to
		}
		if d := cmp.Diff(before, readTree(t, old)); d != "" {
			t.Fatalf("round %d: what stood there has changed:\n%s", round, d)
		}
		if got, err := os.ReadFile(outside); err != nil || !bytes.Equal(got, secret) {
			t.Fatalf("round %d: a file outside has changed, or %v", round, err)
		}
		for _, f := range files {
			info, err := os.Lstat(filepath.Join(opts.To, strings.TrimPrefix(f.path, "kv/")))
			if err != nil || !info.Mode().IsRegular() {
				t.Fatalf("round %d: %s: %v, %v", round, f.path, info, err)
			}
		}
		if t.Failed() {
			t.Fatalf("round %d", round)
		}
	}
}

// spoil makes something else of a file, or leaves it.
func spoil(t *testing.T, random *rand.Rand, path string, data []byte, outside string) {
	t.Helper()
	remove := func() error { return os.RemoveAll(path) }
	var err error
	switch random.IntN(9) {
	case 0: // left as it is
	case 1: // same size and time, other bytes
		changed := bytes.Clone(data)
		changed[random.IntN(len(changed))] ^= 1
		err = errors.Join(os.WriteFile(path, changed, 0o600), os.Chtimes(path, time.Time{}, aTime))
	case 2:
		err = os.Truncate(path, int64(random.IntN(len(data)+1)))
	case 3:
		err = os.Truncate(path, int64(len(data)+random.IntN(100_000)))
	case 4:
		err = errors.Join(remove(), os.MkdirAll(filepath.Join(path, "sub"), 0o700))
	case 5: // a link elsewhere, perhaps to the right bytes
		err = errors.Join(remove(), os.Symlink(outside, path))
	case 6:
		err = remove()
	case 7:
		err = errors.Join(remove(), os.WriteFile(path, tableRows(random.Uint64(), len(data)), 0o600))
	case 8:
		if os.Geteuid() != 0 { // readTree has to read it, too
			return
		}
		err = os.Chmod(path, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Each change of a restore that links fails in turn, or all from one on: what stood there
// is never touched, and a refused link or clone is made up for by a copy.
func TestReuseFailsAtEveryChange(t *testing.T) {
	r := newRepository(t)
	files := reuseFiles()[:7]
	m := storeFiles(t, r, "s", files)
	for _, onward := range []bool{false, true} {
		for n := 1; ; n++ {
			more := false
			// Each in a test of its own, which removes its files: not all fit on a small disk.
			if !t.Run(fmt.Sprintf("change %d, onward %t", n, onward), func(t *testing.T) { more = reuseFailsAt(t, r, m, files, n, onward) }) {
				return
			}
			if !more {
				break
			}
		}
	}
}

// reuseFailsAt lets the n-th change fail, and with onward all from there on. It reports false if
// there are not so many.
func reuseFailsAt(t *testing.T, r *repo.Repository, m *repo.Manifest, files []storedFile, n int, onward bool) bool {
	failure := errors.New("bad sector")
	to := filepath.Join(tempDir(t), "db")
	standAs(t, to, files)
	before := readTree(t, to)
	seen, hit := 0, ""
	result, err := restoreWith(t.Context(), r, m, RestoreOptions{To: to, Source: "kv", InPlace: true, Workers: 1}, &fileOps{before: func(op, _ string) error {
		if seen++; seen == n || onward && seen > n {
			if hit == "" {
				hit = op
			}
			return failure
		}
		return nil
	}})
	if hit == "" {
		return false
	}
	switch {
	case err == nil && (hit == "link" || hit == "remove" || hit == "clone"):
		wantStored(t, to, files)
	case err == nil:
		t.Fatalf("%s failed without an error", hit)
	case !errors.Is(err, failure):
		t.Fatalf("%s: %v", hit, err)
	}
	old := to
	if result != nil && result.Previous != "" {
		old = result.Previous
	}
	if onward {
		recovered, err := Recover(t.Context(), to)
		if err != nil {
			t.Fatalf("%s: Recover: %v", hit, err)
		}
		if recovered.Previous != "" {
			old = recovered.Previous
		}
	}
	if got := readTree(t, old); !cmp.Equal(before, got) {
		t.Fatalf("%s: what stood there has changed:\n%s", hit, cmp.Diff(before, got))
	}
	return true
}

// The call is cancelled at each of its changes in turn: before the exchange nothing of it is
// left, and no file of what stands there was touched.
func TestReuseCancelled(t *testing.T) {
	r := newRepository(t)
	files := reuseFiles()[:7]
	m := storeFiles(t, r, "s", files)
	cause := errors.New("operator pressed the button")
	for n := 1; ; n += 2 {
		parent := tempDir(t)
		to := filepath.Join(parent, "db")
		standAs(t, to, files)
		before := readTree(t, to)
		ctx, cancel := context.WithCancelCause(t.Context())
		seen, exchanged := 0, false
		result, err := restoreWith(ctx, r, m, RestoreOptions{To: to, Source: "kv", InPlace: true}, &fileOps{before: func(op, _ string) error {
			if seen++; seen == n {
				cancel(cause)
			}
			exchanged = exchanged || op == "exchange" && seen <= n
			return nil
		}})
		cancel(nil)
		if seen < n {
			return
		}
		old := to
		switch {
		case err == nil && !exchanged:
			t.Fatalf("cancelled at change %d, before the exchange, without an error", n)
		case err == nil:
			old = result.Previous
		case !errors.Is(err, cause):
			t.Fatalf("cancelled at change %d: %v", n, err)
		case len(listFolder(t, parent)) != 1:
			t.Fatalf("cancelled at change %d: left behind %q", n, listFolder(t, parent))
		}
		if d := cmp.Diff(before, readTree(t, old)); d != "" {
			t.Fatalf("cancelled at change %d, what stood there has changed:\n%s", n, d)
		}
	}
}

// In an encrypted repository local bytes are compared by keyed hashes.
func TestRestoreReusesWithKeys(t *testing.T) {
	bucket := memblob.OpenBucket(nil)
	t.Cleanup(func() { bucket.Close() })
	key := repo.Keeper(localsecrets.NewKeeper([32]byte{7, 31: 9}))
	if err := repo.Init(t.Context(), bucket, repo.InitOptions{Encryption: &repo.Encryption{Key: key}}); err != nil {
		t.Fatal(err)
	}
	r, err := repo.Open(t.Context(), bucket, repo.Options{Key: key})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	files := reuseFiles()
	m := storeFiles(t, r, "s", files)
	to := filepath.Join(tempDir(t), "db")
	standAs(t, to, files)
	if err := os.Truncate(filepath.Join(to, "meta.db"), 30*64<<10); err != nil {
		t.Fatal(err)
	}
	result, err := restoreWith(t.Context(), r, m, RestoreOptions{To: to, Source: "kv", InPlace: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	wantStored(t, to, files)
	if missing := result.Bytes - result.BytesReused; missing != 10*64<<10 {
		t.Errorf("%d bytes were not found, want ten chunks: %+v", missing, result)
	}
}

func TestReuseOptions(t *testing.T) {
	r := newRepository(t)
	m := storeFiles(t, r, "s", reuseFiles())
	to := filepath.Join(tempDir(t), "to")
	for _, opts := range []RestoreOptions{
		{To: to, NoReuse: true, ReuseFrom: t.TempDir()},
		{To: to, ReuseFrom: to + "/none"},
		{To: to, Fetches: -1},
		{To: to, Fetches: 1025},
	} {
		if _, err := restoreWith(t.Context(), r, m, opts, nil); !errors.Is(err, ErrRestoreOptions) {
			t.Errorf("%+v: %v", opts, err)
		}
		if left := listFolder(t, filepath.Dir(to)); len(left) > 0 {
			t.Errorf("left behind %q", left)
		}
	}
}
