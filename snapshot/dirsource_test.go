package snapshot_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/holdstill/holdstill/lock"
	"github.com/holdstill/holdstill/snapshot"
)

func TestDirView(t *testing.T) {
	dir := newDirFolder(t)
	when := time.Date(2021, 5, 6, 7, 8, 9, 123456700, time.UTC)
	for _, name := range []string{"000002.sst", "main.db", "void"} {
		if err := os.Chtimes(filepath.Join(dir, name), when, when); err != nil {
			t.Fatal(err)
		}
	}
	s := newDir(t, dir, snapshot.DirOptions{Hint: lsm})
	for _, prepare := range []bool{false, true} {
		if prepare {
			if err := s.Prepare(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		v := pinDir(t, s)
		if err := v.Settle(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantContents(t, v.FS, dirFiles())
		if prepare { // once is enough: it reads byte by byte
			if err := fstest.TestFS(v.FS, "000001.sst", "main.db", "wal/000009.log", "deep/er/000003.sst", "void"); err != nil {
				t.Error(err)
			}
		}
		wantInfos(t, dir, v.FS)
		wantReaderAt(t, v.FS)
		if v.Kind != "dir" || !strings.HasPrefix(v.Epoch, "dir/1") {
			t.Errorf("kind %q, epoch %q", v.Kind, v.Epoch)
		}
		placed := "8"
		if prepare {
			placed = "5"
		}
		if got := v.Metadata["placed_in_pin"]; got != placed {
			t.Errorf("prepared %t: %s files placed in the pin, want %s", prepare, got, placed)
		}
		if v.Metadata["links"] != "3" || !strings.HasPrefix(v.Method, "links 3, reflinks ") || v.Metadata["folders"] != "5" {
			t.Errorf("method %q, metadata %v", v.Method, v.Metadata)
		}
		if h := v.Hint("main.db"); h.Class != snapshot.Paged || h.PageSize != 8192 || h.Identity != "" {
			t.Errorf("main.db: hint %+v", h)
		}
		if h := v.Hint("000001.sst"); h.Class != snapshot.Immutable {
			t.Errorf("000001.sst: hint %+v", h)
		}
		if h := v.Hint("no such file"); h != (snapshot.Hint{}) {
			t.Errorf("hint of nothing: %+v", h)
		}
		closeView(t, v)
		if left := pinsIn(t, defaultScratchOf(dir)); len(left) != 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}

func TestDirKeepsWhatItPinned(t *testing.T) {
	for name, change := range map[string]func(dir string) error{
		"sealed file replaced": func(dir string) error {
			tmp := filepath.Join(dir, "tmp")
			return errors.Join(os.WriteFile(tmp, text(99, 1<<20), 0o600), os.Rename(tmp, filepath.Join(dir, "000001.sst")))
		},
		"sealed file removed": func(dir string) error { return os.Remove(filepath.Join(dir, "000001.sst")) },
		"all removed":         os.RemoveAll,
		"folder moved":        func(dir string) error { return os.Rename(dir, dir+".old") },
		"new file":            func(dir string) error { return os.WriteFile(filepath.Join(dir, "new"), text(98, 10), 0o600) },
		"log appended": func(dir string) error {
			f, err := os.OpenFile(filepath.Join(dir, "wal", "000009.log"), os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.Write(text(97, 5000))
			return errors.Join(err, f.Close())
		},
		"page overwritten": func(dir string) error {
			f, err := os.OpenFile(filepath.Join(dir, "main.db"), os.O_RDWR, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteAt(text(96, 8192), 8192)
			return errors.Join(err, f.Close())
		},
		"truncated": func(dir string) error { return os.Truncate(filepath.Join(dir, "main.db"), 7) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := newDirFolder(t)
			s := newDir(t, dir, snapshot.DirOptions{Hint: lsm})
			if err := s.Prepare(t.Context()); err != nil {
				t.Fatal(err)
			}
			v := pinDir(t, s)
			defer closeView(t, v)
			if err := change(dir); err != nil {
				t.Fatal(err)
			}
			wantContents(t, v.FS, dirFiles())
		})
	}
}

// Between Prepare and Pin a server goes on: the View is what stands at the Pin.
func TestDirPinsWhatStandsAtThePin(t *testing.T) {
	dir := newDirFolder(t)
	sealed := true
	s := newDir(t, dir, snapshot.DirOptions{Hint: func(name string) snapshot.Hint {
		if name == "wal.d" && sealed {
			return snapshot.Hint{Class: snapshot.Immutable}
		}
		return lsm(name)
	}})
	if err := s.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := dirFiles()
	// Removed, replaced, rewritten in place, made anew, and no longer sealed.
	if err := os.Remove(filepath.Join(dir, "000001.sst")); err != nil {
		t.Fatal(err)
	}
	delete(want, "000001.sst")
	want["tmp"] = text(21, 300_000)
	putFile(t, dir, "tmp", want["tmp"])
	if err := os.Rename(filepath.Join(dir, "tmp"), filepath.Join(dir, "000002.sst")); err != nil {
		t.Fatal(err)
	}
	want["000002.sst"] = want["tmp"]
	delete(want, "tmp")
	want["deep/er/000003.sst"] = text(22, 70_001)
	putFile(t, dir, "deep/er/000003.sst", want["deep/er/000003.sst"])
	want["000007.sst"] = text(23, 5000)
	putFile(t, dir, "000007.sst", want["000007.sst"])
	sealed = false
	v := pinDir(t, s)
	defer closeView(t, v)
	wantContents(t, v.FS, want)
	putFile(t, dir, "wal.d", []byte("changed in place after the pin"))
	wantContents(t, v.FS, want)

	// Settle lets go of what was prepared and is not part of the View.
	pin := pinsIn(t, defaultScratchOf(dir))
	if len(pin) != 1 {
		t.Fatalf("pins %v", pin)
	}
	if err := v.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	held, err := os.ReadDir(pin[0])
	if err != nil {
		t.Fatal(err)
	}
	if len(held) != len(want) {
		t.Errorf("%d files are held, want %d", len(held), len(want))
	}
	wantContents(t, v.FS, want)
}

func TestDirUnchangedSealedFilesAreNotRead(t *testing.T) {
	dir := newDirFolder(t)
	s := newDir(t, dir, snapshot.DirOptions{Hint: lsm})
	e := openEngine(t, snapshot.Config{
		Lock:        lock.New(lock.Options{}),
		Sources:     map[string]snapshot.Source{"kv": s},
		VerifyShare: -1,
	})
	first := create(t, e, snapshot.CreateOptions{})
	if first.Stats.BytesRead != first.Stats.Bytes {
		t.Errorf("first: read %d of %d", first.Stats.BytesRead, first.Stats.Bytes)
	}
	putFile(t, dir, "000005.sst", text(31, 40_000))
	second := create(t, e, snapshot.CreateOptions{Parent: first.ID})
	// A log that did not grow is known again where files have a time of birth.
	v := pinDir(t, s)
	var mutable int64
	for name, data := range dirFiles() {
		if v.Hint(name).Identity == "" {
			mutable += int64(len(data))
		}
	}
	closeView(t, v)
	if got, want := second.Stats.BytesRead, mutable+40_000; got != want {
		t.Errorf("second: read %d bytes, want %d", got, want)
	}
	fsys, err := e.OpenFS(t.Context(), second.ID)
	if err != nil {
		t.Fatal(err)
	}
	kv, err := fs.Sub(fsys, "kv")
	if err != nil {
		t.Fatal(err)
	}
	want := dirFiles()
	want["000005.sst"] = text(31, 40_000)
	wantContents(t, kv, want)
	if info, err := fs.Stat(kv, "void"); err != nil || !info.IsDir() || info.Mode().Perm() != 0o750 {
		t.Errorf("the empty folder: %v, %v", info, err)
	}
	if left := pinsIn(t, defaultScratchOf(dir)); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}

	// The same size and the same times, but another file: it is read.
	path := filepath.Join(dir, "000002.sst")
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	putFile(t, dir, "tmp", text(32, 300_000))
	if err := errors.Join(os.Rename(filepath.Join(dir, "tmp"), path), os.Chtimes(path, info.ModTime(), info.ModTime())); err != nil {
		t.Fatal(err)
	}
	third := create(t, e, snapshot.CreateOptions{Parent: second.ID})
	if got, want := third.Stats.BytesRead, mutable+300_000; got != want {
		t.Errorf("third: read %d bytes, want %d", got, want)
	}
}

// A database that writes to a file it called sealed, and hides it, is found out when
// the promise is checked, and not before.
func TestDirBrokenPromise(t *testing.T) {
	dir := newDirFolder(t)
	s := newDir(t, dir, snapshot.DirOptions{Hint: lsm})
	e := openEngine(t, snapshot.Config{Sources: map[string]snapshot.Source{"kv": s}, VerifyShare: -1})
	first := create(t, e, snapshot.CreateOptions{})
	path := filepath.Join(dir, "000002.sst")
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte("not the bytes that stood here"), 1000)
	if err := errors.Join(err, f.Close(), os.Chtimes(path, info.ModTime(), info.ModTime())); err != nil {
		t.Fatal(err)
	}
	create(t, e, snapshot.CreateOptions{})
	_, err = e.Create(t.Context(), snapshot.CreateOptions{Verify: true, Parent: first.ID})
	var broken *snapshot.BrokenPromiseError
	if !errors.As(err, &broken) || broken.Path != "kv/000002.sst" || broken.Parent != first.ID {
		t.Errorf("got %v", err)
	}
	if left := pinsIn(t, defaultScratchOf(dir)); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// What is written to a linked file after the pin, and not hidden, is found at once.
func TestDirLinkedFileIsWrittenTo(t *testing.T) {
	dir := newDirFolder(t)
	s := newDir(t, dir, snapshot.DirOptions{Hint: lsm})
	v := pinDir(t, s)
	defer closeView(t, v)
	before, err := v.FS.Open("000002.sst")
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "000002.sst"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString("more")
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	if data, err := io.ReadAll(before); err != nil || len(data) != 300_000 {
		t.Errorf("the handle reads %d bytes, %v", len(data), err)
	}
	if err := before.Close(); !errors.Is(err, snapshot.ErrChanged) {
		t.Errorf("close: %v", err)
	}
	if _, err := v.FS.Open("000002.sst"); !errors.Is(err, snapshot.ErrChanged) || !strings.Contains(err.Error(), "000002.sst") {
		t.Errorf("open: %v", err)
	}
}

// Of a log only the tail is read, while it is the same file; one that took its name, or
// was renamed to it, is read.
func TestDirReadsTailsOfLogs(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "000001.log")
	data := text(20, 3<<20)
	appendTo := func(name string, p []byte) {
		t.Helper()
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.Write(p)
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	appendTo(path, data)
	s := newDir(t, dir, snapshot.DirOptions{Hint: func(string) snapshot.Hint { return snapshot.Hint{Class: snapshot.AppendOnly} }})
	v := pinDir(t, s)
	known := v.Hint("000001.log").Identity != ""
	closeView(t, v)
	e := openEngine(t, snapshot.Config{Sources: map[string]snapshot.Source{"kv": s}, VerifyShare: -1})
	step := func(what string, want []byte, most int64) {
		t.Helper()
		snap := create(t, e, snapshot.CreateOptions{})
		if !known {
			most = int64(len(want)) // the file system does not tell logs apart
		}
		if snap.Stats.BytesRead > most {
			t.Errorf("%s: read %d bytes, want at most %d", what, snap.Stats.BytesRead, most)
		}
		wantFile(t, e, snap.ID, "kv/000001.log", want)
	}
	step("first", data, 3<<20)
	step("unchanged", data, 0)
	appendTo(path, []byte("another record\n"))
	grown := append(bytes.Clone(data), "another record\n"...)
	step("grown", grown, 256<<10)

	other := text(21, 4<<20)
	appendTo(path+".new", other)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	step("replaced", other, 4<<20)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	again := append(text(22, 1000), other...)
	appendTo(path, again)
	step("written anew", again, 5<<20)
	wantSound(t, e)
}
