package localblob

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"gocloud.dev/gcerrors"
)

// TestStrandedFiles: what a dead process left is removed when it is old enough; what a living writer uses never is.
func TestStrandedFiles(t *testing.T) {
	dir := t.TempDir()
	runChild(t, "die "+dir)
	left := temporaries(t, dir)
	if len(left) != 1 {
		t.Fatalf("the killed writer left %v, want one file", left)
	}
	bkt := openWith(t, dir, nil, osFileOps())
	if got := temporaries(t, dir); !slices.Equal(got, left) {
		t.Errorf("a young file was removed: %v", got)
	}
	if ok, err := bkt.Exists(t.Context(), "unfinished"); ok || err != nil {
		t.Errorf("unfinished object exists: %v, %v", ok, err)
	}

	w, err := bkt.NewWriter(t.Context(), "slow", plainFile())
	if err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-48 * time.Hour)
	for _, name := range temporaries(t, dir) {
		if err := os.Chtimes(filepath.Join(dir, tempDir, name), old, old); err != nil {
			t.Fatal(err)
		}
	}
	openWith(t, dir, &Options{StrandedAfter: -1}, osFileOps())
	if got := temporaries(t, dir); len(got) != 2 {
		t.Errorf("removed although told to keep: %v", got)
	}
	openWith(t, dir, nil, osFileOps())
	if got := temporaries(t, dir); len(got) != 1 || got[0] == left[0] {
		t.Errorf("after opening: %v, want the living writer's only, not %v", got, left)
	}
	if _, err := w.Write([]byte("late")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Errorf("the living writer was disturbed: %v", err)
	}
	if got := contentOf(t, bkt, "slow"); got != "late" {
		t.Errorf("holds %q", got)
	}
}

// TestStrandedWithoutLocks: where no lock tells the living from the dead, a day has to pass.
func TestStrandedWithoutLocks(t *testing.T) {
	ops := osFileOps()
	ops.lock = func(*os.File) error { return errNoLocks }
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, tempDir), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, age := range map[string]time.Duration{"young": time.Hour, "old": 25 * time.Hour} {
		file := filepath.Join(dir, tempDir, name)
		if err := os.WriteFile(file, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		when := time.Now().Add(-age)
		if err := os.Chtimes(file, when, when); err != nil {
			t.Fatal(err)
		}
	}
	openWith(t, dir, nil, ops)
	if got := temporaries(t, dir); !slices.Equal(got, []string{"young"}) {
		t.Errorf("left %v", got)
	}
}

// TestTemporaryTakenAway: should a file be removed from under a writer, the write fails and says something else than
// "not found" or "exists".
func TestTemporaryTakenAway(t *testing.T) {
	bkt, _, dir := openRecorded(t)
	w, err := bkt.NewWriter(t.Context(), "key", plainIfNew())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, tempDir)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); gcerrors.Code(err) != gcerrors.Unknown {
		t.Errorf("got %v", err)
	}
	if got := contentOf(t, bkt, "key"); got != "" {
		t.Errorf("holds %q", got)
	}
}
