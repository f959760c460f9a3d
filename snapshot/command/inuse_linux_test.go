package command

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// What a running server has open is not pulled away under it, unless it is asked for.
func TestInUse(t *testing.T) {
	for name, take := range map[string]func(*os.File) error{
		"flock": func(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_EX) },
		"posix": func(f *os.File) error {
			return syscall.FcntlFlock(f.Fd(), syscall.F_SETLK, &syscall.Flock_t{Type: syscall.F_WRLCK})
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir, id := newRepository(t)
			target := filepath.Join(t.TempDir(), "live")
			t.Setenv("HOLDSTILL_REPO", dir)
			for range 2 { // the second makes a failsafe
				if _, errOut, code := tool(t, "restore", "-to", target, "-in-place", id); code != 0 {
					t.Fatal(errOut)
				}
			}
			kept, err := filepath.Glob(target + ".previous-*")
			if err != nil || len(kept) != 1 {
				t.Fatal(kept, err)
			}
			lock, err := os.OpenFile(filepath.Join(target, "kv", "a"), os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer lock.Close()
			if err := take(lock); err != nil {
				t.Fatal(err)
			}
			before, err := os.Stat(target)
			if err != nil {
				t.Fatal(err)
			}
			for _, args := range [][]string{{"restore", "-to", target, "-in-place", id}, {"undo", target, kept[0]}} {
				_, errOut, code := tool(t, args...)
				if code != 1 || !strings.Contains(errOut, "is open") || !strings.Contains(errOut, lock.Name()) {
					t.Errorf("%v: exit %d, %s", args, code, errOut)
				}
			}
			if after, err := os.Stat(target); err != nil || !os.SameFile(before, after) {
				t.Errorf("the folder was replaced all the same: %v", err)
			}
			if left, err := filepath.Glob(target + ".previous-*"); err != nil || len(left) != 1 {
				t.Errorf("left beside it: %v, %v", left, err)
			}
			if _, errOut, code := tool(t, "undo", "-force", target, kept[0]); code != 0 {
				t.Errorf("undo -force: exit %d, %s", code, errOut)
			}
			if err := inUse(target); err != nil {
				t.Errorf("the twin that nobody has open: %v", err)
			}
		})
	}
}
