//go:build unix

package sqlitesource

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// childEnv makes the test binary play another process, which asks who has locked
// the file in its value.
const childEnv = "SQLITESOURCE_TEST_CHILD"

func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		fmt.Print(askLocks(path))
		return
	}
	os.Exit(m.Run())
}

// askLocks asks the kernel whether this process could have the locks for itself
// that SQLite puts on a database (see os.h there: the shared range) and on its
// shared memory (wal.c: the five read locks and the one that says "in use").
func askLocks(path string) string {
	free := func(path string, start, length int64) string {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err.Error()
		}
		defer f.Close()
		lock := syscall.Flock_t{Type: syscall.F_WRLCK, Whence: io.SeekStart, Start: start, Len: length}
		if err := syscall.FcntlFlock(f.Fd(), syscall.F_GETLK, &lock); err != nil {
			return err.Error()
		}
		if lock.Type == syscall.F_UNLCK {
			return "free"
		}
		return "held"
	}
	return fmt.Sprintf("database %s, readers %s, in use %s",
		free(path, 1<<30+2, 510), free(path+"-shm", 123, 5), free(path+"-shm", 128, 1))
}

func askFromChild(t *testing.T, path string) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), childEnv+"="+path)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("child: %v: %s", err, out)
	}
	return string(out)
}

// Only its locks keep other processes from changing a database under the server
// that has it open. A whole snapshot must not cost it those. Opening and closing
// the file once does, which is why this package never does it, and shows that
// the test can tell.
func TestServerKeepsItsLocks(t *testing.T) {
	db, path := openServer(t)
	if err := write(t.Context(), db, rand.New(rand.NewPCG(1, 1)), 1, 100); err != nil {
		t.Fatal(err)
	}
	src := newSource(t, path, Options{})
	for range 3 {
		v := pin(t, src)
		settle(t, v)
		if v.Method != methodOverlay {
			t.Errorf("the method is %q", v.Method)
		}
		readView(t, v)
		if got, want := askFromChild(t, path), "database held, readers held, in use held"; got != want {
			t.Errorf("with a view open: %s; want %s", got, want)
		}
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := src.Close(); err != nil {
		t.Fatal(err)
	}
	if got, want := askFromChild(t, path), "database held, readers free, in use held"; got != want {
		t.Errorf("after a snapshot: %s; want %s", got, want)
	}

	_, path = openServer(t)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if got, want := askFromChild(t, path), "database free, readers free, in use held"; got != want {
		t.Errorf("after a descriptor was opened and closed: %s; want %s", got, want)
	}
}

// A pinned view outlives the server's connections without losing its hold, and
// nothing is cleaned away under it.
func TestViewOutlivesTheServer(t *testing.T) {
	db, path := openServer(t)
	if err := write(t.Context(), db, rand.New(rand.NewPCG(1, 1)), 1, 100); err != nil {
		t.Fatal(err)
	}
	v := pin(t, newSource(t, path, Options{}))
	defer v.Close()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if got, want := askFromChild(t, path), "database held, readers held, in use held"; got != want {
		t.Errorf("locks: %s; want %s", got, want)
	}
	openCopy(t, readView(t, v))
	if names, err := filepath.Glob(path + "*"); err != nil || len(names) != 3 {
		t.Errorf("files: %v, %v", names, err)
	}
}
