package pebblesource

import (
	"context"
	"encoding/binary"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/wal"

	"github.com/holdstill/holdstill/snapshot"
)

// Writers run through the whole of each snapshot, and the restored databases hold
// exactly what was committed at the freeze: also across two databases, where every
// transaction is in both or in neither.
func TestPinIsExact(t *testing.T) {
	const seed, writers, rounds = 7, 3, 4
	tests := []struct {
		name   string
		method string
		open   func(t *testing.T, dir string) (*pebble.DB, *Source)
	}{
		{"early release", MethodEarlyRelease, func(t *testing.T, dir string) (*pebble.DB, *Source) {
			return openPair(t, dir, smallOptions(), Options{})
		}},
		{"early release, log elsewhere", MethodEarlyRelease, func(t *testing.T, dir string) (*pebble.DB, *Source) {
			o := smallOptions()
			o.WALDir = filepath.Join(t.TempDir(), "wal")
			return openPair(t, dir, o, Options{})
		}},
		{"early release, first format", MethodEarlyRelease, func(t *testing.T, dir string) (*pebble.DB, *Source) {
			o := smallOptions()
			o.FormatMajorVersion = pebble.FormatMinSupported
			return openPair(t, dir, o, Options{})
		}},
		{"without the FS", MethodUnderGate, func(t *testing.T, dir string) (*pebble.DB, *Source) {
			db, err := pebble.Open(dir, smallOptions())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { db.Close() })
			src, err := New(db, dir, Options{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { src.Close() })
			return db, src
		}},
		{"log moved on failover", MethodUnderGate, func(t *testing.T, dir string) (*pebble.DB, *Source) {
			o := smallOptions()
			second := filepath.Join(t.TempDir(), "second")
			if err := vfs.Default.MkdirAll(second, 0o755); err != nil {
				t.Fatal(err)
			}
			o.WALFailover = &pebble.WALFailoverOptions{Secondary: walDir(second)}
			return openPair(t, dir, o, Options{})
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Log("seed", seed)
			db1, src1 := tt.open(t, filepath.Join(t.TempDir(), "one"))
			db2, src2 := tt.open(t, filepath.Join(t.TempDir(), "two"))
			w := startWorkload(t, seed, writers, db1, db2)
			for range rounds {
				views, counts := w.freeze(t, src1, src2)
				var last uint64
				for _, v := range views {
					if v.Method != tt.method {
						t.Fatalf("method %q, want %q", v.Method, tt.method)
					}
					pos, err := strconv.ParseUint(v.Position, 10, 64)
					if err != nil || pos == 0 {
						t.Fatalf("position %q: %v", v.Position, err)
					}
					last = max(last, pos)
				}
				for _, v := range views {
					checkRestored(t, openRestored(t, takeOut(t, v)), counts)
				}
			}
			w.end()
		})
	}
}

// Two snapshots of the same database overlap: pinned in the same freeze by two
// goroutines, and one pinned while another is still being settled.
func TestPinsOverlap(t *testing.T) {
	const seed = 11
	t.Log("seed", seed)
	db, src := openPair(t, t.TempDir(), smallOptions(), Options{})
	w := startWorkload(t, seed, 3, db)
	type pinned struct {
		view   *snapshot.View
		counts []uint64
	}
	var all []pinned
	for range 3 {
		w.underGate(t, func(ctx context.Context) error {
			counts := slices.Clone(w.counts)
			var mu sync.Mutex
			var wg sync.WaitGroup
			for range 3 {
				wg.Go(func() {
					v, err := src.Pin(ctx)
					if err != nil {
						t.Error("Pin:", err)
						return
					}
					mu.Lock()
					defer mu.Unlock()
					all = append(all, pinned{v, counts})
				})
			}
			wg.Wait()
			return nil
		})
	}
	for _, p := range all {
		if p.view.Method != MethodEarlyRelease {
			t.Errorf("method %q", p.view.Method)
		}
		checkRestored(t, openRestored(t, takeOut(t, p.view)), p.counts)
	}
}

// Without a freeze a view is still a point in the order of commits: it holds all
// that was committed when Pin was called, and no batch without those before it.
func TestPinWithoutFreeze(t *testing.T) {
	const seed = 13
	t.Log("seed", seed)
	db, src := openPair(t, t.TempDir(), smallOptions(), Options{})
	w := startWorkload(t, seed, 1, db)
	committed := func() (n uint64) {
		w.underGate(t, func(context.Context) error { n = w.counts[0]; return nil })
		return n
	}
	for range 8 {
		before := committed()
		v, err := src.Pin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		after := committed()
		restored := openRestored(t, takeOut(t, v))
		var n uint64
		if value, c, err := restored.Get([]byte("counter/00")); err == nil {
			n = binary.BigEndian.Uint64(value)
			c.Close()
		}
		if n < before || n > after {
			t.Errorf("%d batches, want %d to %d", n, before, after)
		}
		checkRestored(t, restored, []uint64{n})
	}
}

// Rows that were committed without a sync sit in a buffer of the log when the
// freeze begins. They belong to the snapshot, with and without a Prepare.
func TestUnsyncedRowsBelongToThePin(t *testing.T) {
	for _, prepare := range []bool{false, true} {
		db, src := openPair(t, t.TempDir(), smallOptions(), Options{})
		if prepare {
			if err := src.Prepare(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		for n := range uint64(5) {
			if err := db.Set(rowKey(0, n), rowValue(0, n), pebble.NoSync); err != nil {
				t.Fatal(err)
			}
		}
		v, err := src.Pin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Set([]byte("after"), []byte("1"), pebble.Sync); err != nil {
			t.Fatal(err)
		}
		restored := openRestored(t, takeOut(t, v))
		for n := range uint64(5) {
			if _, c, err := restored.Get(rowKey(0, n)); err != nil {
				t.Errorf("prepare %v: row %d: %v", prepare, n, err)
			} else {
				c.Close()
			}
		}
		if _, _, err := restored.Get([]byte("after")); err != pebble.ErrNotFound {
			t.Errorf("prepare %v: the row written after the pin: %v", prepare, err)
		}
	}
}

// A checkpoint that the application makes of the same database at the same
// time is complete, and so is a database that shares the FS.
func TestOtherCheckpointsAreNotCut(t *testing.T) {
	dir := t.TempDir()
	db, src := openPair(t, dir, smallOptions(), Options{})
	if err := db.Set([]byte("before"), []byte("1"), pebble.NoSync); err != nil {
		t.Fatal(err)
	}
	v, err := src.Pin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Set([]byte("after"), []byte("1"), pebble.Sync); err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(t.TempDir(), "own")
	if err := db.Checkpoint(own); err != nil {
		t.Fatal(err)
	}
	if _, c, err := openRestored(t, own).Get([]byte("after")); err != nil {
		t.Error("the application's checkpoint lacks a row:", err)
	} else {
		c.Close()
	}
	if _, _, err := openRestored(t, takeOut(t, v)).Get([]byte("after")); err != pebble.ErrNotFound {
		t.Error("the pin holds a later row:", err)
	}
	if n := len(src.watcher.logs); n > 2 {
		t.Errorf("%d logs are tracked, also those of checkpoints", n)
	}
}

func walDir(dir string) wal.Dir { return wal.Dir{FS: vfs.Default, Dirname: dir} }
