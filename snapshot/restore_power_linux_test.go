package snapshot

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pullThePlug shuts down the file system that onSharing made as a loss of power does, with
// all that was not synced, and mounts it again.
func pullThePlug(t *testing.T) {
	t.Helper()
	const (
		goingDown  = 0x8004587d // XFS_IOC_GOINGDOWN
		noLogFlush = 2
	)
	dir := os.TempDir()
	if !onOwnFileSystem() {
		t.Fatalf("%s is not for this test alone", dir)
	}
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	err = unix.IoctlSetPointerInt(int(f.Fd()), goingDown, noLogFlush)
	if closeErr := f.Close(); err != nil || closeErr != nil {
		t.Fatal(err, closeErr)
	}
	for _, args := range [][]string{{"umount", dir}, {"mount", "-o", "loop", filepath.Join(filepath.Dir(dir), "image"), dir}} {
		// Others may look at what is mounted, and the system lets go of the image a moment later.
		for end := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
			out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
			if err == nil {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("%q: %v: %s", args, err, out)
			}
		}
	}
}

// syncAll makes the file system of temporary folders durable.
func syncAll(t *testing.T) {
	t.Helper()
	f, err := os.Open(os.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		t.Fatal(err)
	}
}

// What a restore has put in place survives a loss of power right after it: bytes that
// share their blocks with what stood there, those that were written over them, those whose
// blocks were set aside before, and the failsafe.
func TestRestoreSurvivesLossOfPower(t *testing.T) {
	shares := onSharing(t)
	r := newRepository(t)
	data := append(tableRows(1, 6<<20), pitted(2, 4<<20)...)
	m := storeChunked(t, r, "s", data, 64<<10)
	old := bytes.Clone(data)
	for at := 100; at < len(old); at += 20 * 64 << 10 {
		copy(old[at:], "another row")
	}
	copy(old[3<<20:], tableRows(3, 2<<20)) // enough to be set aside
	parent := tempDir(t)
	over, fresh := filepath.Join(parent, "db"), filepath.Join(parent, "new")
	writeTree(t, over, map[string]string{"data": string(old)})
	syncAll(t)
	result, err := restoreWith(t.Context(), r, m, RestoreOptions{To: over, Source: "kv", InPlace: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if shares != (result.BytesCloned > 6<<20) {
		t.Errorf("blocks can be shared: %t, and %+v", shares, result)
	}
	if _, err := restoreWith(t.Context(), r, m, RestoreOptions{To: fresh, Source: "kv"}, nil); err != nil {
		t.Fatal(err)
	}
	if onOwnFileSystem() {
		// What is written and not synced is lost as a rule, or this test would show little.
		if err := os.WriteFile(filepath.Join(parent, "unsynced"), data, 0o600); err != nil {
			t.Fatal(err)
		}
		pullThePlug(t)
		if lost, err := os.ReadFile(filepath.Join(parent, "unsynced")); err == nil && bytes.Equal(lost, data) {
			t.Log("nothing was lost: the system had written everything out already")
		}
	}
	if _, err := Recover(t.Context(), over); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string][]byte{over: data, fresh: data, result.Previous: old} {
		if got, err := os.ReadFile(filepath.Join(path, "data")); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s differs, or %v", path, err)
		}
	}
}
