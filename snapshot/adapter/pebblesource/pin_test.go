package pebblesource

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// blocker blocks the links of a checkpoint until it is opened.
type blocker struct {
	hookFS
	open  chan struct{}
	seen  chan struct{} // closed at the first link
	links atomic.Int64  // begun so far
}

func newBlocker() *blocker {
	b := &blocker{open: make(chan struct{}), seen: make(chan struct{})}
	b.hookFS = hookFS{FS: vfs.Default, hook: func(op, name string) error {
		if op == "link" && strings.Contains(name, pinPrefix) {
			if b.links.Add(1) == 1 {
				close(b.seen)
			}
			<-b.open
		}
		return nil
	}}
	return b
}

// openWithTables opens a database with a few tables through base.
func openWithTables(t *testing.T, dir string, base vfs.FS) (*pebble.DB, *Source) {
	t.Helper()
	o := smallOptions()
	o.FS = base
	o.DisableAutomaticCompactions = true // or there might be fewer tables soon
	db, src := openPair(t, dir, o, Options{})
	writeTables(t, db, 0, 3)
	return db, src
}

func writeTables(t testing.TB, db *pebble.DB, from, to uint64) {
	t.Helper()
	for n := from; n < to; n++ {
		if err := errors.Join(db.Set(rowKey(0, n), rowValue(0, n), pebble.NoSync), db.Flush()); err != nil {
			t.Fatal(err)
		}
	}
}

// The pin returns while not one table is linked; what is written, flushed and
// compacted then is not in the view.
func TestPinReturnsBeforeTheLinks(t *testing.T) {
	b := newBlocker()
	db, src := openWithTables(t, t.TempDir(), b)
	v, err := src.Pin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	<-b.seen
	writeTables(t, db, 3, 6)
	if err := db.Compact(t.Context(), []byte("a"), []byte("z"), false); err != nil {
		t.Fatal(err)
	}
	if err := db.Set([]byte("after"), []byte("1"), pebble.Sync); err != nil {
		t.Fatal(err)
	}

	stopped, cancel := context.WithCancelCause(t.Context())
	why := errors.New("operator")
	cancel(why)
	if err := v.Settle(stopped); !errors.Is(err, why) {
		t.Errorf("Settle with an ended context: %v", err)
	}
	close(b.open)
	restored := openRestored(t, takeOut(t, v))
	for n := range uint64(6) {
		_, c, err := restored.Get(rowKey(0, n))
		if err == nil {
			c.Close()
		}
		if (err == nil) != (n < 3) {
			t.Errorf("row %d: %v", n, err)
		}
	}
	if _, _, err := restored.Get([]byte("after")); err != pebble.ErrNotFound {
		t.Errorf("row written after the pin: %v", err)
	}
}

// Close without Settle gives the checkpoint up: it ends at its next step.
func TestCloseGivesUp(t *testing.T) {
	b := newBlocker()
	dir := t.TempDir()
	db, src := openWithTables(t, dir, b)
	v, err := src.Pin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	<-b.seen
	closed := make(chan error)
	go func() { closed <- v.Close() }()
	for k := range src.live {
		for !errors.Is(k.cap.check(), errAborted) {
			runtime.Gosched()
		}
	}
	close(b.open)
	if err := <-closed; err != nil {
		t.Error("Close:", err)
	}
	if n := b.links.Load() - 1; n > 0 {
		t.Errorf("%d links made after Close", n)
	}
	if left := pinsLeft(t, dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := v.Close(); err != nil {
		t.Error("second Close:", err)
	}
	if err := db.Set([]byte("k"), []byte("v"), pebble.Sync); err != nil {
		t.Error(err)
	}
}

// A pin whose context ends returns the cause and leaves nothing, wherever it waits.
func TestPinHonoursContext(t *testing.T) {
	why := errors.New("operator")
	for _, early := range []bool{true, false} {
		t.Run(fmt.Sprintf("early=%v", early), func(t *testing.T) {
			dir := t.TempDir()
			db, src := openWithTables(t, dir, vfs.Default)
			if !early {
				src.why = ErrNotCaptured
			}
			if _, err := src.Pin(expired(t)); !errors.Is(err, context.Canceled) {
				t.Errorf("Pin with an ended context: %v", err)
			}
			if err := src.Prepare(expired(t)); !errors.Is(err, context.Canceled) {
				t.Errorf("Prepare with an ended context: %v", err)
			}

			ctx, cancel := context.WithCancelCause(t.Context())
			proceed := make(chan struct{})
			src.make = func(db *pebble.DB, dest string, opts ...pebble.CheckpointOption) error {
				cancel(why)
				<-proceed
				return db.Checkpoint(dest, opts...)
			}
			if _, err := src.Pin(ctx); !errors.Is(err, why) {
				t.Errorf("Pin: %v", err)
			}
			if err := db.Set([]byte("k"), []byte("v"), pebble.Sync); err != nil {
				t.Error(err)
			}
			close(proceed)
			if err := src.Close(); err != nil {
				t.Error(err)
			}
			if left := pinsLeft(t, dir); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			if n := len(src.watcher.captures); n > 0 {
				t.Errorf("%d captures left", n)
			}
			if n := src.watcher.unmarked.Load(); n != 0 {
				t.Errorf("%d marks are still waited for", n)
			}
		})
	}
}

// An error of the checkpoint comes out of Settle, or of Pin under the gate.
func TestCheckpointFails(t *testing.T) {
	full := errors.New("disk full")
	failing := &hookFS{FS: vfs.Default}
	failing.hook = func(op, name string) error {
		if op == "create" && strings.Contains(name, pinPrefix) && isLog(name) {
			return full
		}
		return nil
	}
	dir := t.TempDir()
	_, src := openWithTables(t, dir, failing)
	v, err := src.Pin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Settle(t.Context()); !errors.Is(err, full) {
		t.Errorf("Settle: %v", err)
	}
	if err := v.Close(); err != nil {
		t.Error(err)
	}
	src.why = ErrNotCaptured
	if _, err := src.Pin(t.Context()); !errors.Is(err, full) {
		t.Errorf("Pin under the gate: %v", err)
	}
	if err := src.Close(); err != nil {
		t.Error(err)
	}
	if left := pinsLeft(t, dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// Where a checkpoint does not show when it begins it is completed inside the pin,
// and says so.
func TestPinFallsBackByItself(t *testing.T) {
	db, src := openWithTables(t, t.TempDir(), vfs.Default)
	src.make = func(db *pebble.DB, dest string, _ ...pebble.CheckpointOption) error {
		if err := db.Checkpoint(dest + "x"); err != nil {
			return err
		}
		return src.fs.Rename(dest+"x", dest)
	}
	v, err := src.Pin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if v.Method != MethodUnderGate || v.Settle != nil {
		t.Errorf("method %q", v.Method)
	}
	if err := db.Set([]byte("after"), []byte("1"), pebble.Sync); err != nil {
		t.Fatal(err)
	}
	if _, _, err := openRestored(t, takeOut(t, v)).Get([]byte("after")); err != pebble.ErrNotFound {
		t.Errorf("row written after the pin: %v", err)
	}
}

// From Prepare to Pin obsolete tables are not deleted, so that the checkpoint has
// no deletion to wait for; afterwards they are.
func TestPrepareStopsDeletion(t *testing.T) {
	dir := t.TempDir()
	db, src, err := Open(dir, smallOptions(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	writeTables(t, db, 0, 1)
	for range 2 { // a second Prepare takes the place of the first
		if err := src.Prepare(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	old, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err != nil || len(old) == 0 {
		t.Fatalf("tables: %v, %v", old, err)
	}
	writeTables(t, db, 0, 4)
	if err := db.Compact(t.Context(), []byte("a"), []byte("z"), false); err != nil {
		t.Fatal(err)
	}
	for _, name := range old {
		if _, err := os.Stat(name); err != nil {
			t.Errorf("deleted before the pin: %v", err)
		}
	}
	v, err := src.Pin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(v.Settle(t.Context()), v.Close(), src.Close(), db.Close()); err != nil {
		t.Fatal(err)
	}
	for _, name := range old {
		if _, err := os.Stat(name); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s was not deleted: %v", name, err)
		}
	}
	if left := pinsLeft(t, dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
