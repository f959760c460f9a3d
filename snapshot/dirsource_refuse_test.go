package snapshot_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdstill/holdstill/snapshot"
)

func TestDirRefusesOtherKinds(t *testing.T) {
	dir := newDirFolder(t)
	if err := os.Symlink("000001.sst", filepath.Join(dir, "wal", "link")); err != nil {
		t.Fatal(err)
	}
	// The path of a socket may have about a hundred bytes only.
	t.Chdir(dir)
	l, err := net.Listen("unix", "sock")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var skip []string
	s := newDir(t, dir, snapshot.DirOptions{Hint: lsm, Skip: func(name string) bool { return slices.Contains(skip, name) }})
	for _, name := range []string{"sock", "wal/link"} {
		for op, call := range map[string]func() error{
			"Pin":     func() error { _, err := s.Pin(t.Context()); return err },
			"Prepare": func() error { return s.Prepare(t.Context()) },
		} {
			err := call()
			var path *fs.PathError
			if !errors.Is(err, snapshot.ErrFileKind) || !errors.As(err, &path) || path.Path != name || !strings.Contains(err.Error(), "DirOptions.Skip") {
				t.Errorf("%s: %s: %v", op, name, err)
			}
			if left := pinsIn(t, defaultScratchOf(dir)); len(left) != 0 {
				t.Errorf("%s: %s: left behind: %v", op, name, left)
			}
		}
		skip = append(skip, name)
	}
	v := pinDir(t, s)
	defer closeView(t, v)
	wantContents(t, v.FS, dirFiles())
}

func TestDirSkip(t *testing.T) {
	dir := newDirFolder(t)
	s := newDir(t, dir, snapshot.DirOptions{Hint: lsm, Skip: func(name string) bool { return name == "deep" || name == "CURRENT" }})
	v := pinDir(t, s)
	defer closeView(t, v)
	want := dirFiles()
	delete(want, "CURRENT")
	delete(want, "deep/er/000003.sst")
	wantContents(t, v.FS, want)
	if _, err := fs.Stat(v.FS, "deep"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder: %v", err)
	}
}

func TestDirNames(t *testing.T) {
	dir := newDirFolder(t)
	want := dirFiles()
	for i, name := range []string{" ", "a\nb", "käse", "-rf", "..data", "x.lock", strings.Repeat("n", 255)} {
		want[name] = text(uint64(50+i), 100+i)
		putFile(t, dir, name, want[name])
	}
	s := newDir(t, dir, snapshot.DirOptions{Hint: lsm})
	v := pinDir(t, s)
	defer closeView(t, v)
	wantContents(t, v.FS, want)
	for _, name := range []string{"", "/", "../data", "a//b", "void/", "nothing"} {
		if f, err := v.FS.Open(name); err == nil {
			f.Close()
			t.Errorf("%q can be opened", name)
		}
	}
	for _, name := range []string{"CURRENT", "nothing"} {
		if _, err := fs.ReadDir(v.FS, name); err == nil {
			t.Errorf("%q can be listed", name)
		}
	}
	if _, err := fs.ReadFile(v.FS, "void"); err == nil {
		t.Error("a folder can be read")
	}
}

func TestDirBadSettings(t *testing.T) {
	dir := newDirFolder(t)
	for name, c := range map[string]struct {
		path, scratch string
		is            error
	}{
		"no path":                 {"", "", nil},
		"missing":                 {filepath.Join(dir, "nothing"), "", fs.ErrNotExist},
		"a file":                  {filepath.Join(dir, "CURRENT"), "", nil},
		"scratch is a file":       {dir, filepath.Join(dir, "CURRENT"), nil},
		"scratch is the source":   {dir, dir, nil},
		"scratch is below a file": {dir, filepath.Join(dir, "CURRENT", "x"), nil},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := snapshot.Dir(c.path, snapshot.DirOptions{Scratch: c.scratch})
			if s != nil || !errors.Is(err, snapshot.ErrConfig) || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("got %v, %v", s, err)
			}
		})
	}
	wantContents(t, os.DirFS(dir), dirFiles())
}

func TestDirScratchWithin(t *testing.T) {
	dir := newDirFolder(t)
	scratch := filepath.Join(dir, "var", "pins")
	s := newDir(t, dir, snapshot.DirOptions{Hint: lsm, Scratch: scratch})
	if err := s.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	v := pinDir(t, s)
	defer closeView(t, v)
	wantContents(t, v.FS, dirFiles())
	if _, err := fs.Stat(v.FS, "var"); err != nil {
		t.Error(err)
	}
	if _, err := fs.Stat(v.FS, "var/pins"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the scratch folder is in the view: %v", err)
	}
}

// A scratch folder elsewhere costs copies, never the snapshot.
func TestDirScratchOnAnotherFileSystem(t *testing.T) {
	dir := newDirFolder(t)
	scratch, err := os.MkdirTemp("/dev/shm", "holdstill")
	if err != nil {
		scratch = t.TempDir()
	}
	defer os.RemoveAll(scratch)
	s := newDir(t, dir, snapshot.DirOptions{Hint: lsm, Scratch: scratch})
	if err := s.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	v := pinDir(t, s)
	wantContents(t, v.FS, dirFiles())
	if v.Metadata["placed_in_pin"] != "5" {
		t.Errorf("%s files placed in the pin, want the 5 that are not sealed", v.Metadata["placed_in_pin"])
	}
	switch v.Metadata["link_error"] {
	case "":
		if v.Metadata["links"] != "3" {
			t.Errorf("links were possible: %v", v.Metadata)
		}
	default:
		if v.Metadata["links"] != "0" || v.Metadata["copies"] == "0" && v.Metadata["reflinks"] == "0" {
			t.Errorf("links were not possible: %v", v.Metadata)
		}
	}
	t.Logf("%s %v", v.Method, v.Metadata)
	closeView(t, v)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if left := scratchOf(t, scratch); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// A repository inside the source would be taken into every snapshot.
func TestDirRefusesToHoldItsRepository(t *testing.T) {
	data := t.TempDir()
	repository := filepath.Join(data, "var", "snapshots")
	if err := os.MkdirAll(repository, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		skip func(string) bool
		want error
	}{
		"no skip":            {nil, snapshot.ErrConfig},
		"skips another":      {func(name string) bool { return name == "snapshots" }, snapshot.ErrConfig},
		"skips it":           {func(name string) bool { return name == "var/snapshots" }, nil},
		"skips what it's in": {func(name string) bool { return name == "var" }, nil},
	} {
		src, err := snapshot.Dir(data, snapshot.DirOptions{Skip: test.skip})
		if err != nil {
			t.Fatal(err)
		}
		e, err := snapshot.Open(t.Context(), snapshot.Config{Repository: "local:" + repository, Sources: map[string]snapshot.Source{"d": src}})
		if !errors.Is(err, test.want) {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		}
		if err := src.Close(); err != nil {
			t.Error(err)
		}
	}
}
