package snapshot_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"gocloud.dev/blob"

	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/repo/repotest"
	"github.com/holdstill/holdstill/snapshot"
)

// distant is a store that takes its time, and counts.
type distant struct {
	mu sync.Mutex
	// requests and bytes are of reads of packs, most is how many were under way at once.
	requests, under, most int
	bytes                 int64
	// met is closed once as many were under way at once as are looked for.
	met  chan struct{}
	once sync.Once
}

// newDistant has each read of a pack wait a while for others, until so many were under way at
// once: whoever makes as many requests at once is seen to, however slow the machine.
func newDistant(t testing.TB, inner *blob.Bucket, together int) (*distant, *blob.Bucket) {
	d := &distant{met: make(chan struct{})}
	b := newHooked(t, inner)
	b.Hook(func(ctx context.Context, r repotest.Request) error {
		if r.Verb != repotest.VerbRead {
			return nil
		}
		if !strings.HasPrefix(r.Key, "pack/") {
			return nil
		}
		d.mu.Lock()
		d.requests++
		d.under++
		d.bytes += r.Length
		if d.most = max(d.most, d.under); d.under == together {
			d.once.Do(func() { close(d.met) })
		}
		d.mu.Unlock()
		defer func() {
			d.mu.Lock()
			d.under--
			d.mu.Unlock()
		}()
		select {
		case <-d.met:
			return nil
		case <-time.After(300 * time.Millisecond):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	return d, b.Bucket
}

// manyFiles is a database of large and small files in two generations, of which the
// second shares most of its chunks with the first, and repeats some.
func manyFiles(generation int) fstest.MapFS {
	files := fstest.MapFS{}
	add := func(name string, data []byte) {
		files[name] = &fstest.MapFile{Data: data, Mode: 0o600, ModTime: time.Unix(1_700_000_000, 5).UTC()}
	}
	for n := range 6 {
		add(fmt.Sprintf("%06d.sst", n), noise(uint64(n), 1<<20))
	}
	for n := range 200 {
		add(fmt.Sprintf("small/%03d", n), text(uint64(100+n), 3000))
	}
	db, log := pages(50, 8<<20), text(51, 3<<20)
	if generation > 0 {
		db, log = update(db, 5, 60), append(log, text(52, 300_000)...)
		add("000003.sst", noise(99, 1<<20))
		add("copy.sst", noise(1, 1<<20))
	}
	add("meta.db", db)
	add("tail.log", log)
	return files
}

// writableDir is t.TempDir for restored folders without permission to write in them, such as
// those that a MapFS makes up.
func writableDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() {
		if err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				err = os.Chmod(path, 0o700)
			}
			return err
		}); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func wantFiles(t testing.TB, dir string, want fstest.MapFS) {
	t.Helper()
	for name, f := range want {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Equal(got, f.Data) {
			t.Errorf("%s differs, or %v", name, err)
		}
	}
}

// A full restore reads what packs hold at most once, with several requests under way.
func TestRestoreReadsPacksOnce(t *testing.T) {
	bucket := newBucket(t)
	options := repo.Options{PackSize: 1 << 20}
	src := &memory{files: manyFiles(0), hint: pagedHint}
	e := openEngine(t, snapshot.Config{Bucket: bucket, Options: options, Workers: 2, Sources: map[string]snapshot.Source{"kv": src}})
	first := create(t, e, snapshot.CreateOptions{Label: "first"})
	stored := func() (n int64) {
		it := bucket.List(&blob.ListOptions{Prefix: "pack/"})
		for {
			o, err := it.Next(t.Context())
			if err == io.EOF {
				return n
			}
			if err != nil {
				t.Fatal(err)
			}
			n += o.Size
		}
	}
	firstSize := stored()
	src.files = manyFiles(1)
	second := create(t, e, snapshot.CreateOptions{Label: "second", Parent: first.ID})
	if second.Stats.BytesDelta == 0 {
		t.Fatalf("nothing is stored as a difference: %+v", second.Stats)
	}
	for id, size := range map[string]int64{first.ID: firstSize, second.ID: stored()} {
		d, bucket := newDistant(t, bucket, 4)
		far := openEngine(t, snapshot.Config{Bucket: bucket, Options: options})
		to := filepath.Join(writableDir(t), "to")
		result, err := far.Restore(t.Context(), id, snapshot.RestoreOptions{To: to, Source: "kv"})
		if err != nil {
			t.Fatal(err)
		}
		generation := 0
		if id == second.ID {
			generation = 1
		}
		wantFiles(t, to, manyFiles(generation))
		d.mu.Lock()
		if d.bytes > size*105/100 {
			t.Errorf("generation %d: read %d bytes in %d requests, of %d in packs", generation, d.bytes, d.requests, size)
		}
		if packs := int(size >> 20); d.requests > 3*packs+10 || d.most < 4 {
			t.Errorf("generation %d: %d requests for about %d packs, %d at once", generation, d.requests, packs, d.most)
		}
		if result.BytesFetched <= 0 || result.BytesFetched > d.bytes {
			t.Errorf("result %+v, the store sent %d bytes", result, d.bytes)
		}
		d.mu.Unlock()
	}
}

// A pack that is gone is told with the file and the chunk that need it, and nothing is
// left behind.
func TestRestoreNamesWhatIsLost(t *testing.T) {
	bucket := newBucket(t)
	src := &memory{files: manyFiles(0), hint: pagedHint}
	e := openEngine(t, snapshot.Config{Bucket: bucket, Options: repo.Options{PackSize: 1 << 20}, Sources: map[string]snapshot.Source{"kv": src}})
	s := create(t, e, snapshot.CreateOptions{})
	before := runtime.NumGoroutine()
	told := 0
	for _, key := range keys(t, bucket, "pack/") {
		data, err := bucket.ReadAll(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		if err := bucket.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		fresh := openEngine(t, snapshot.Config{Bucket: bucket})
		parent := t.TempDir()
		_, err = fresh.Restore(t.Context(), s.ID, snapshot.RestoreOptions{To: filepath.Join(parent, "to")})
		var lost *repo.ChunkError
		if err == nil || !errors.Is(err, repo.ErrMissing) || !errors.As(err, &lost) || lost.Pack != key {
			t.Errorf("without %s: %v", key, err)
		}
		if strings.Contains(err.Error(), `"kv/`) {
			told++
		}
		if entries, err := os.ReadDir(parent); err != nil || len(entries) > 0 {
			t.Errorf("left behind: %v, %v", entries, err)
		}
		if err := bucket.WriteAll(t.Context(), key, data, nil); err != nil {
			t.Fatal(err)
		}
	}
	// All but the pack with the file table concern files.
	if n := len(keys(t, bucket, "pack/")); told < n-1 || n < 5 {
		t.Errorf("%d of %d errors name a file", told, n)
	}
	settled(t, before)
}

// A snapshot whose chunks are stored as differences is restored over the one that they
// are differences to: the bases are taken from what stands there.
func TestRestoreTakesBasesFromWhatStandsThere(t *testing.T) {
	src := &memory{files: manyFiles(0), hint: pagedHint}
	e := openEngine(t, snapshot.Config{Sources: map[string]snapshot.Source{"kv": src}})
	first := create(t, e, snapshot.CreateOptions{Label: "first"})
	src.files = manyFiles(1)
	second := create(t, e, snapshot.CreateOptions{Label: "second", Parent: first.ID})
	to := filepath.Join(writableDir(t), "db")
	restore := func(id string, opts snapshot.RestoreOptions) *snapshot.RestoreResult {
		t.Helper()
		opts.To, opts.Source, opts.InPlace = to, "kv", true
		result, err := e.Restore(t.Context(), id, opts)
		if err != nil {
			t.Fatal(err)
		}
		return result
	}
	restore(first.ID, snapshot.RestoreOptions{})
	full := restore(second.ID, snapshot.RestoreOptions{NoReuse: true})
	restore(first.ID, snapshot.RestoreOptions{})
	delta := restore(second.ID, snapshot.RestoreOptions{})
	wantFiles(t, to, manyFiles(1))
	// New are two tables of 1 MiB of noise and the end of a log; all else is differences.
	if delta.BytesFetched > 2500<<10 || full.BytesFetched < 3*delta.BytesFetched || delta.BytesReused == 0 {
		t.Errorf("in full %+v\nas a difference %+v", full, delta)
	}
}
