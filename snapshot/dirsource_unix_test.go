//go:build unix

package snapshot_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/holdstill/holdstill/snapshot"
)

// A server that keeps its versions side by side turns a link to the new one. What counts is where
// the link leads at the Pin, and not at the Prepare before.
func TestDirLinkIsTurned(t *testing.T) {
	top := t.TempDir()
	link := filepath.Join(top, "current")
	turn := func(to string) {
		t.Helper()
		if err := errors.Join(os.Symlink(to, link+".new"), os.Rename(link+".new", link)); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string][]byte{"000001.sst": text(1, 5000), "CURRENT": []byte("two\n")}
	putFile(t, filepath.Join(top, "one"), "000001.sst", text(2, 5000))
	putFile(t, filepath.Join(top, "one"), "CURRENT", []byte("one\n"))
	for name, data := range want {
		putFile(t, filepath.Join(top, "two"), name, data)
	}
	turn("one")
	s := newDir(t, link, snapshot.DirOptions{Hint: lsm})
	if err := s.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	turn("two")
	v := pinDir(t, s)
	defer closeView(t, v)
	wantContents(t, v.FS, want)
}

// A pipe is refused, and one that takes the place of a file during the pin must not
// make it wait for a writer.
func TestDirPipes(t *testing.T) {
	for name, becomes := range map[string]func(path string) error{
		"pipe":          func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"symbolic link": func(path string) error { return os.Symlink("/etc/hostname", path) },
		"folder":        func(path string) error { return os.Mkdir(path, 0o700) },
	} {
		for _, file := range []string{"main.db", "000001.sst"} {
			t.Run(name+" for "+file, func(t *testing.T) {
				dir := newDirFolder(t)
				changed := false
				s := newDir(t, dir, snapshot.DirOptions{Hint: func(name string) snapshot.Hint {
					if name == file && !changed {
						changed = true
						path := filepath.Join(dir, file)
						if err := errors.Join(os.Remove(path), becomes(path)); err != nil {
							t.Error(err)
						}
					}
					return lsm(name)
				}})
				v, err := s.Pin(t.Context())
				if name == "folder" {
					if err != nil {
						t.Fatal(err)
					}
					want := dirFiles()
					delete(want, file)
					wantContents(t, v.FS, want)
					closeView(t, v)
				} else if !errors.Is(err, snapshot.ErrFileKind) || !strings.Contains(err.Error(), file) {
					t.Errorf("got %v, %v", v, err)
				}
				if left := pinsIn(t, defaultScratchOf(dir)); len(left) != 0 {
					t.Errorf("left behind: %v", left)
				}
			})
		}
	}
}
