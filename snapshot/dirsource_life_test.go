package snapshot_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/holdstill/holdstill/snapshot"
)

func TestDirClose(t *testing.T) {
	dir := newDirFolder(t)
	scratch := defaultScratchOf(dir)
	s := newDir(t, dir, snapshot.DirOptions{Hint: lsm})
	a, b := pinDir(t, s), pinDir(t, s)
	for range 6 {
		if err := s.Prepare(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if pins := pinsIn(t, scratch); len(pins) != 2+4 {
		t.Errorf("%d pins, want two views and four of Prepare", len(pins))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if pins := pinsIn(t, scratch); len(pins) != 2 {
		t.Errorf("%d pins after Close, want the two views", len(pins))
	}
	if _, err := s.Pin(t.Context()); !errors.Is(err, snapshot.ErrSourceClosed) {
		t.Errorf("Pin: %v", err)
	}
	if err := s.Prepare(t.Context()); !errors.Is(err, snapshot.ErrSourceClosed) {
		t.Errorf("Prepare: %v", err)
	}
	if err := s.Close(); !errors.Is(err, snapshot.ErrSourceClosed) {
		t.Errorf("second Close: %v", err)
	}
	closeView(t, a)
	wantContents(t, b.FS, dirFiles())
	// A source that comes now must not take the folder for a dead one's.
	other := newDir(t, dir, snapshot.DirOptions{})
	wantContents(t, b.FS, dirFiles())
	if err := other.Close(); err != nil {
		t.Error(err)
	}
	closeView(t, b)
	if left := scratchOf(t, scratch); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestDirTwoPinsAtOnce(t *testing.T) {
	dir := newDirFolder(t)
	s := newDir(t, dir, snapshot.DirOptions{Hint: lsm})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 5 {
				if err := s.Prepare(t.Context()); err != nil {
					t.Error(err)
					return
				}
				v, err := s.Pin(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				if err := v.Settle(t.Context()); err != nil {
					t.Error(err)
				}
				for name, want := range dirFiles() {
					if got, err := fs.ReadFile(v.FS, name); err != nil || string(got) != string(want) {
						t.Errorf("%s: %d bytes, %v", name, len(got), err)
					}
				}
				if err := v.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if left := scratchOf(t, defaultScratchOf(dir)); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// Sources come and go in one scratch folder, and each cleans up after the dead: none
// may take a living one for dead.
func TestDirSourcesShareScratch(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	sealed := text(16, 20_000)
	putFile(t, dir, "000002.sst", sealed)
	putFile(t, dir, "CURRENT", []byte("MANIFEST-000003\n"))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 12 {
				s, err := snapshot.Dir(dir, snapshot.DirOptions{Hint: lsm})
				if err != nil {
					t.Error(err)
					return
				}
				v, err := s.Pin(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				got, err := fs.ReadFile(v.FS, "000002.sst")
				if err != nil || !bytes.Equal(got, sealed) {
					t.Errorf("%d bytes, %v", len(got), err)
				}
				if err := errors.Join(s.Close(), v.Close()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if left := scratchOf(t, defaultScratchOf(dir)); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// childFolder makes this test binary a process that pins the folder and waits.
const childFolder = "HOLDSTILL_TEST_DIR_CHILD"

func TestDirLeftoversOfTheDead(t *testing.T) {
	if dir := os.Getenv(childFolder); dir != "" {
		s, err := snapshot.Dir(dir, snapshot.DirOptions{Hint: lsm})
		if err == nil {
			err = s.Prepare(t.Context())
		}
		if err == nil {
			_, err = s.Pin(t.Context())
		}
		if err == nil {
			err = s.Prepare(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		os.Stdout.WriteString("pinned\n")
		_, _ = io.Copy(io.Discard, os.Stdin) // until it is killed, or the parent ends
		return
	}
	dir := newDirFolder(t)
	scratch := defaultScratchOf(dir)
	cmd := exec.Command(os.Args[0], "-test.run=^TestDirLeftoversOfTheDead$")
	cmd.Env = append(os.Environ(), childFolder+"="+dir)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "pinned\n" {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		t.Fatalf("the child says %q, %v", line, err)
	}
	// While it lives nothing of it is touched.
	newDir(t, dir, snapshot.DirOptions{})
	if pins := pinsIn(t, scratch); len(pins) != 2 {
		t.Errorf("%d pins of a living process, want 2", len(pins))
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // that it was killed
	if pins := pinsIn(t, scratch); len(pins) != 2 {
		t.Fatalf("%d pins of the dead process, want 2", len(pins))
	}
	// What is not ours stays, and a folder whose lock is gone goes.
	putFile(t, scratch, "notes", []byte("keep"))
	putFile(t, scratch, "source-withoutlock/pin1/0", []byte("lost"))
	outside := filepath.Join(filepath.Dir(dir), "outside")
	putFile(t, outside, "sentinel", []byte("keep"))
	if err := os.Symlink(outside, filepath.Join(scratch, "source-trap")); err != nil {
		t.Fatal(err)
	}
	newDir(t, dir, snapshot.DirOptions{})
	if pins := pinsIn(t, scratch); len(pins) != 0 {
		t.Errorf("left behind: %v", pins)
	}
	locks, err := filepath.Glob(filepath.Join(scratch, "*.lock"))
	if err != nil || len(locks) != 2 {
		t.Errorf("locks %v, want those of the two living sources", locks)
	}
	for _, name := range []string{filepath.Join(scratch, "notes"), filepath.Join(outside, "sentinel")} {
		if _, err := os.Stat(name); err != nil {
			t.Errorf("%s is gone: %v", name, err)
		}
	}
	wantContents(t, os.DirFS(dir), dirFiles())
}

// A source whose folder is replaced as a whole, as by a restore, shows the new one.
func TestDirFolderIsReplaced(t *testing.T) {
	dir := newDirFolder(t)
	s := newDir(t, dir, snapshot.DirOptions{Hint: lsm})
	if err := s.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir, dir+".old"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Pin(t.Context()); !errors.Is(err, fs.ErrNotExist) || strings.Contains(err.Error(), "holdstill-pins") {
		t.Errorf("pin of a missing folder: %v", err)
	}
	if left := pinsIn(t, defaultScratchOf(dir)); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	want := map[string][]byte{"000001.sst": text(71, 1000)}
	putFile(t, dir, "000001.sst", want["000001.sst"])
	v := pinDir(t, s)
	defer closeView(t, v)
	wantContents(t, v.FS, want)
}

// Somebody cleans up by hand while the server runs.
func TestDirScratchIsRemoved(t *testing.T) {
	dir := newDirFolder(t)
	scratch := defaultScratchOf(dir)
	remove := false
	s := newDir(t, dir, snapshot.DirOptions{Hint: func(name string) snapshot.Hint {
		if remove {
			if err := os.RemoveAll(scratch); err != nil {
				t.Error(err)
			}
		}
		return lsm(name)
	}})
	remove = true
	if v, err := s.Pin(t.Context()); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "scratch") {
		t.Errorf("during the pin: %v, %v", v, err)
	}
	if v, err := s.Pin(t.Context()); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "scratch") {
		t.Errorf("before the pin: %v, %v", v, err)
	}
	wantContents(t, os.DirFS(dir), dirFiles())
}
