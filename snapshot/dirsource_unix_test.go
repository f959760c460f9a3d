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
