package pebblesource

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"github.com/holdstill/holdstill/snapshot"
)

func TestNewRefuses(t *testing.T) {
	t.Run("no database", func(t *testing.T) {
		db, _ := openPair(t, t.TempDir(), smallOptions(), Options{})
		for _, dir := range []string{t.TempDir(), filepath.Join(t.TempDir(), "missing")} {
			if _, err := New(db, dir, Options{}); !errors.Is(err, ErrNotDatabase) {
				t.Errorf("%s: %v", dir, err)
			}
		}
	})
	t.Run("no log", func(t *testing.T) {
		o := smallOptions()
		o.DisableWAL = true
		if _, _, err := Open(t.TempDir(), o, Options{}); !errors.Is(err, ErrNoWAL) {
			t.Error(err)
		}
	})
	t.Run("read-only", func(t *testing.T) {
		dir := t.TempDir()
		db, err := pebble.Open(dir, smallOptions())
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		o := smallOptions()
		o.ReadOnly = true
		if _, _, err := Open(dir, o, Options{}); !errors.Is(err, pebble.ErrReadOnly) {
			t.Error(err)
		}
	})
	t.Run("closed database", func(t *testing.T) {
		dir := t.TempDir()
		db, err := pebble.Open(dir, smallOptions())
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := New(db, dir, Options{}); !errors.Is(err, pebble.ErrClosed) {
			t.Error(err)
		}
	})
	t.Run("two sources", func(t *testing.T) {
		dir := t.TempDir()
		db, src := openPair(t, dir, smallOptions(), Options{})
		if _, err := New(db, dir, Options{}); !errors.Is(err, ErrScratchInUse) {
			t.Error(err)
		}
		second, err := New(db, dir, Options{FS: src.fs, ScratchDir: t.TempDir()})
		if err != nil {
			t.Fatal("with a scratch folder of its own:", err)
		}
		if err := errors.Join(second.Close(), src.Close()); err != nil {
			t.Error(err)
		}
		third, err := New(db, dir, Options{FS: src.fs})
		if err != nil {
			t.Fatal("after Close:", err)
		}
		if err := third.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestOpenLeavesOptionsAlone(t *testing.T) {
	o := smallOptions()
	openPair(t, t.TempDir(), o, Options{})
	if o.FS != nil {
		t.Error("Open set the FS of the caller's options")
	}
	openPair(t, t.TempDir(), nil, Options{})
}

func TestClosedSource(t *testing.T) {
	dir := t.TempDir()
	_, src := openWithTables(t, dir, vfs.Default)
	v, err := src.Pin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := src.Close(); err != nil {
		t.Error(err)
	}
	if left := pinsLeft(t, dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if _, err := v.FS.Open("OPTIONS-000003"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("read from a view that Source.Close has ended: %v", err)
	}
	if err := v.Close(); err != nil {
		t.Error("View.Close after Source.Close:", err)
	}
	if err := src.Close(); err != nil {
		t.Error("second Close:", err)
	}
	if _, err := src.Pin(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("Pin: %v", err)
	}
	if err := src.Prepare(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("Prepare: %v", err)
	}
}

// What a crash left behind is removed when the database is opened again; what is
// not ours is not touched, and Pebble does not mind the folder.
func TestLeftoversOfACrash(t *testing.T) {
	dir := t.TempDir()
	db, src, err := Open(dir, smallOptions(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	writeTables(t, db, 0, 3)
	if err := errors.Join(src.Close(), db.Close()); err != nil {
		t.Fatal(err)
	}
	scratch := filepath.Join(dir, scratchName)
	for name, data := range map[string]string{
		"pin-000001/000004.sst": "half a table", "pin-000007/MANIFEST-000001": "", "notes.txt": "of the operator",
	} {
		path := filepath.Join(scratch, filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(data), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	_, src = openPair(t, dir, smallOptions(), Options{})
	if left := pinsLeft(t, dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if _, err := os.Stat(filepath.Join(scratch, "notes.txt")); err != nil {
		t.Error(err)
	}
	v, err := src.Pin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	takeOut(t, v)
}

func TestViewIsAFileSystem(t *testing.T) {
	_, src := openWithTables(t, t.TempDir(), vfs.Default)
	v, err := src.Pin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	settle(t, v)
	var names []string
	classes := map[snapshot.Class]int{}
	err = fs.WalkDir(v.FS, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		names = append(names, name)
		h := v.Hint(name)
		classes[h.Class]++
		if (h.Class == snapshot.Immutable || isLog(name)) != (h.Identity != "") || len(h.Identity) > 255 {
			t.Errorf("%s: %+v", name, h)
		}
		f, err := v.FS.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return err
		}
		whole := readAll(t, v.FS, name)
		tail := make([]byte, len(whole)/2)
		if _, err := f.(io.ReaderAt).ReadAt(tail, int64(len(whole)-len(tail))); err != nil && err != io.EOF {
			return err
		}
		if int64(len(whole)) != info.Size() || !strings.HasSuffix(string(whole), string(tail)) {
			t.Errorf("%s: %d bytes read, %d announced", name, len(whole), info.Size())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[snapshot.Class]int{snapshot.Immutable: 3, snapshot.AppendOnly: 2, snapshot.Opaque: 3}
	if diff := cmp.Diff(want, classes); diff != "" {
		t.Errorf("classes of %v (-want +got):\n%s", names, diff)
	}
	if err := fstest.TestFS(v.FS, names...); err != nil {
		t.Error(err)
	}
	if v.Kind != "pebble" || v.Epoch == "" || v.Metadata["wal"] == "" || v.Metadata["wal_length"] == "0" {
		t.Errorf("%+v", v)
	}
	if _, err := v.FS.Open("missing.sst"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	if h := v.Hint("missing.sst"); h.Identity != "" {
		t.Errorf("missing file has the identity %q", h.Identity)
	}
}

// A table keeps its identity from one pin to the next, and over a restart; a table
// that was written anew has another, even under the same name.
func TestIdentity(t *testing.T) {
	dir := t.TempDir()
	identities := func(src *Source) map[string]string {
		t.Helper()
		v, err := src.Pin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		settle(t, v)
		names, err := fs.Glob(v.FS, "*.sst")
		if err != nil {
			t.Fatal(err)
		}
		ids := map[string]string{}
		for _, name := range names {
			ids[name] = v.Hint(name).Identity
		}
		return ids
	}
	o := smallOptions()
	o.DisableAutomaticCompactions = true
	db, src, err := Open(dir, o, Options{})
	if err != nil {
		t.Fatal(err)
	}
	writeTables(t, db, 0, 3)
	first := identities(src)
	if len(first) != 3 || len(slices.Compact(slices.Sorted(maps.Values(first)))) != 3 {
		t.Fatalf("identities: %v", first)
	}
	writeTables(t, db, 3, 4)
	second := identities(src)
	for name, id := range first {
		if second[name] != id {
			t.Errorf("%s: %q, then %q", name, id, second[name])
		}
	}
	if err := errors.Join(src.Close(), db.Close()); err != nil {
		t.Fatal(err)
	}

	var same string
	for same = range first {
		break
	}
	path := filepath.Join(dir, same)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	// Both exist for a moment, so that the file system cannot give the new one the
	// number of the old one.
	anew := path + ".anew"
	err = errors.Join(os.WriteFile(anew, data, 0o644), os.Chtimes(anew, info.ModTime(), info.ModTime()), os.Rename(anew, path))
	if err != nil {
		t.Fatal(err)
	}
	db, src = openPair(t, dir, o, Options{})
	third := identities(src)
	for name, id := range second {
		if changed := third[name] != id; changed != (name == same) {
			t.Errorf("%s: %q, then %q", name, id, third[name])
		}
	}
	if err := db.Compact(t.Context(), []byte("a"), []byte("z"), false); err != nil {
		t.Fatal(err)
	}
	for name, id := range identities(src) {
		if slices.Contains(slices.Collect(maps.Values(third)), id) {
			t.Errorf("%s has the identity of an older table", name)
		}
	}
}

// A database in memory works too, without identities.
func TestInMemory(t *testing.T) {
	o := smallOptions()
	o.FS = vfs.NewMem()
	db, src := openPair(t, "db", o, Options{RequireEarlyRelease: true})
	writeTables(t, db, 0, 2)
	v, err := src.Pin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Set([]byte("after"), []byte("1"), pebble.Sync); err != nil {
		t.Fatal(err)
	}
	settle(t, v)
	names, err := fs.Glob(v.FS, "*.sst")
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	if h := v.Hint(names[0]); h.Class != snapshot.Immutable || h.Identity != "" {
		t.Errorf("%+v", h)
	}
	restored := openRestored(t, takeOut(t, v))
	for n := range uint64(2) {
		if _, c, err := restored.Get(rowKey(0, n)); err != nil {
			t.Errorf("row %d: %v", n, err)
		} else {
			c.Close()
		}
	}
	if _, _, err := restored.Get([]byte("after")); err != pebble.ErrNotFound {
		t.Errorf("row written after the pin: %v", err)
	}
}
