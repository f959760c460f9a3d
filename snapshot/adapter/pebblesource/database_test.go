package pebblesource

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/holdstill/holdstill/lock"
	"github.com/holdstill/holdstill/snapshot"
)

// smallOptions has memtables rotate, flushes and compactions run after little data.
func smallOptions() *pebble.Options {
	o := &pebble.Options{
		MemTableSize:          128 << 10,
		L0CompactionThreshold: 2,
		LBaseMaxBytes:         1 << 20,
		FormatMajorVersion:    pebble.FormatNewest,
		Logger:                quiet{},
	}
	o.TargetFileSizes[0] = 64 << 10
	return o
}

// openPair opens a database and its source for the length of the test.
func openPair(t testing.TB, dir string, dbOpts *pebble.Options, opts Options) (*pebble.DB, *Source) {
	t.Helper()
	db, src, err := Open(dir, dbOpts, opts)
	if err != nil {
		t.Fatal(err)
	}
	openSources.Add(1)
	t.Cleanup(func() {
		if err := src.Close(); err != nil {
			t.Error("Source.Close:", err)
		}
		// What belongs to which Source does not show.
		if openSources.Add(-1) == 0 {
			checkNothingRuns(t)
		}
		if err := db.Close(); err != nil {
			t.Error("DB.Close:", err)
		}
	})
	return db, src
}

// openSources counts those of openPair.
var openSources atomic.Int64

// checkNothingRuns fails if a goroutine of a Source has outlived its Close.
func checkNothingRuns(t testing.TB) {
	t.Helper()
	buf := make([]byte, 4<<20)
	buf = buf[:runtime.Stack(buf, true)]
	for stack := range bytes.SplitSeq(buf, []byte("\n\n")) {
		for _, f := range []string{"(*checkpoint).run(", "(*checkpoint).close(", "(*Source).mark.func"} {
			if bytes.Contains(stack, []byte("pebblesource."+f)) {
				t.Errorf("still running after Source.Close:\n%s", stack)
			}
		}
	}
}

func settle(t testing.TB, v *snapshot.View) {
	t.Helper()
	if v.Settle != nil {
		if err := v.Settle(t.Context()); err != nil {
			t.Fatal("Settle:", err)
		}
	}
}

// takeOut copies a View to a new folder, as a restore does, and closes it.
func takeOut(t testing.TB, v *snapshot.View) string {
	t.Helper()
	settle(t, v)
	dir := filepath.Join(t.TempDir(), "restored")
	if err := os.CopyFS(dir, v.FS); err != nil {
		t.Fatal("copy of the view:", err)
	}
	if err := v.Close(); err != nil {
		t.Fatal("View.Close:", err)
	}
	return dir
}

// openRestored opens what takeOut made, with the options the log was written with.
func openRestored(t testing.TB, dir string) *pebble.DB {
	t.Helper()
	o := smallOptions()
	db, err := pebble.Open(dir, o)
	if err != nil {
		t.Fatal("open the restored database:", err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// A workload writes rows with a known sequence, by several writers, to one or more
// databases at once, behind a gate.
type workload struct {
	dbs     []*pebble.DB
	gate    *lock.Gate
	counts  []uint64 // transactions committed, by writer; by the gate
	stop    chan struct{}
	writers sync.WaitGroup
	// left is how many transactions may be made until the next freeze: on a slow
	// machine the databases would else grow faster than they are looked at.
	left atomic.Int64
}

const untilFreeze = 1500

// startWorkload runs writers until the function it returns is called.
func startWorkload(t testing.TB, seed uint64, writers int, dbs ...*pebble.DB) *workload {
	w := &workload{dbs: dbs, gate: lock.New(lock.Options{}), counts: make([]uint64, writers), stop: make(chan struct{})}
	w.left.Store(untilFreeze)
	for id := range writers {
		w.writers.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(id)))
			for {
				select {
				case <-w.stop:
					return
				default:
				}
				if w.left.Load() <= 0 {
					time.Sleep(time.Millisecond)
					continue
				}
				w.left.Add(-1)
				if err := w.transact(context.Background(), id, rng); err != nil {
					t.Error("writer", id, ":", err)
					return
				}
			}
		})
	}
	t.Cleanup(w.end)
	return w
}

func (w *workload) end() {
	select {
	case <-w.stop:
	default:
		close(w.stop)
	}
	w.writers.Wait()
}

// transact writes row number n of the writer to every database, and overwrites its
// counter there.
func (w *workload) transact(ctx context.Context, id int, rng *rand.Rand) error {
	tx, err := w.gate.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.End()
	n := w.counts[id]
	for _, db := range w.dbs {
		b := db.NewBatch()
		if err := b.Set(rowKey(id, n), rowValue(id, n), nil); err != nil {
			return err
		}
		if err := b.Set(fmt.Appendf(nil, "counter/%02d", id), binary.BigEndian.AppendUint64(nil, n+1), nil); err != nil {
			return err
		}
		sync := pebble.NoSync
		if rng.IntN(8) == 0 {
			sync = pebble.Sync
		}
		if err := b.Commit(sync); err != nil {
			return err
		}
		if rng.IntN(400) == 0 {
			if _, err := db.AsyncFlush(); err != nil {
				return err
			}
		}
	}
	w.counts[id] = n + 1
	return nil
}

func rowKey(id int, n uint64) []byte { return fmt.Appendf(nil, "row/%02d/%010d", id, n) }

// rowValue is text-like, and sometimes larger than a block of the log or than a
// memtable takes.
func rowValue(id int, n uint64) []byte {
	rng := rand.New(rand.NewPCG(uint64(id), n))
	size := 20 + rng.IntN(300)
	switch {
	case n%331 == 17:
		size = 200 << 10
	case n%29 == 3:
		size = 40 << 10
	}
	v := make([]byte, 0, size+16)
	for len(v) < size {
		v = fmt.Appendf(v, "%x;", rng.Uint64())
	}
	return v
}

// freeze pins the sources while no transaction runs, and returns how many each
// writer had committed.
func (w *workload) freeze(t testing.TB, srcs ...*Source) ([]*snapshot.View, []uint64) {
	t.Helper()
	for _, s := range srcs {
		if err := s.Prepare(t.Context()); err != nil {
			t.Fatal("Prepare:", err)
		}
	}
	var counts []uint64
	views := make([]*snapshot.View, len(srcs))
	w.underGate(t, func(ctx context.Context) error {
		counts = slices.Clone(w.counts)
		for i, s := range srcs {
			v, err := s.Pin(ctx)
			if err != nil {
				return err
			}
			views[i] = v
		}
		return nil
	})
	return views, counts
}

// underGate calls pin while no transaction runs.
func (w *workload) underGate(t testing.TB, pin func(ctx context.Context) error) {
	t.Helper()
	result, err := w.gate.Freeze(t.Context(), lock.FreezeOptions{}, pin)
	if err != nil {
		t.Fatal("Freeze:", err)
	}
	if !result.Consistent {
		t.Fatal("the gate opened during the pin")
	}
	w.left.Store(untilFreeze)
}

// checkRestored fails unless db holds exactly the first counts[id] rows of each
// writer and nothing else.
func checkRestored(t testing.TB, db *pebble.DB, counts []uint64) {
	t.Helper()
	it, err := db.NewIter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer it.Close()
	it.First()
	next := func(key, value []byte) {
		t.Helper()
		switch {
		case !it.Valid():
			t.Fatalf("the database ends before %q: %v", key, it.Error())
		case !bytes.Equal(it.Key(), key):
			t.Fatalf("found %q instead of %q", it.Key(), key)
		case !bytes.Equal(it.Value(), value):
			t.Fatalf("%q has a wrong value of %d bytes, want %d", key, len(it.Value()), len(value))
		}
		it.Next()
	}
	for id, n := range counts {
		if n > 0 {
			next(fmt.Appendf(nil, "counter/%02d", id), binary.BigEndian.AppendUint64(nil, n))
		}
	}
	for id, n := range counts {
		for i := range n {
			next(rowKey(id, i), rowValue(id, i))
		}
	}
	if it.Valid() {
		t.Fatalf("%q was committed after the freeze", it.Key())
	}
	if err := it.Error(); err != nil {
		t.Fatal(err)
	}
}

// hookFS calls its hooks before operations. A hook may block, or fail them.
type hookFS struct {
	vfs.FS
	hook func(op, name string) error
}

func (h *hookFS) Unwrap() vfs.FS { return h.FS }

func (h *hookFS) Link(oldname, newname string) error {
	if err := h.hook("link", newname); err != nil {
		return err
	}
	return h.FS.Link(oldname, newname)
}

func (h *hookFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := h.hook("create", name); err != nil {
		return nil, err
	}
	return h.FS.Create(name, c)
}

func (h *hookFS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	if err := h.hook("open", name); err != nil {
		return nil, err
	}
	return h.FS.Open(name, opts...)
}

func (h *hookFS) Stat(name string) (vfs.FileInfo, error) {
	if err := h.hook("stat", name); err != nil {
		return nil, err
	}
	return h.FS.Stat(name)
}

func (h *hookFS) MkdirAll(dir string, perm os.FileMode) error {
	if err := h.hook("mkdir", dir); err != nil {
		return err
	}
	return h.FS.MkdirAll(dir, perm)
}

// pinsLeft lists what stands in the scratch folder of a database.
func pinsLeft(t testing.TB, scratchParent string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(scratchParent, scratchName))
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), pinPrefix) {
			left = append(left, e.Name())
		}
	}
	return left
}

func readAll(t testing.TB, fsys fs.FS, name string) []byte {
	t.Helper()
	f, err := fsys.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func expired(t testing.TB) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}
