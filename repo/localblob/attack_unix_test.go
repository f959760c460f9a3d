//go:build unix

package localblob

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"
)

// Somebody can write into the folder of the bucket, a share say, and wants the server to read or destroy what lies
// outside it. They plant symbolic links, as folders and as objects, and wait for the server to use them. Outside stands
// a sentinel. The harmless twin of each step, inside the folder, must go on working.
func TestPlantedLinks(t *testing.T) {
	ctx := t.Context()
	outside := t.TempDir()
	sentinel := filepath.Join(outside, "sentinel")
	const secret = "private key of the host"
	if err := os.WriteFile(sentinel, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	bkt, _, dir := openRecorded(t)
	putAll(t, bkt, []string{"pack/aa/1"})
	plant := func(target, name string) {
		t.Helper()
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	plant(outside, "pack/bb")
	plant(sentinel, "object")
	relative, err := filepath.Rel(dir, outside)
	if err != nil {
		t.Fatal(err)
	}
	plant(relative, "pack/cc")
	plant("loop", "loop")

	for _, key := range []string{"pack/bb/sentinel", "object", "pack/cc/sentinel", "loop", "../" + filepath.Base(outside) + "/sentinel"} {
		if got, err := bkt.ReadAll(ctx, key); err == nil {
			t.Errorf("read through %q: %q", key, got)
		}
		if _, err := bkt.Attributes(ctx, key); err == nil {
			t.Errorf("attributes through %q", key)
		}
		if err := bkt.Copy(ctx, "stolen", key, nil); err == nil {
			t.Errorf("copied through %q", key)
		}
		if err := bkt.Delete(ctx, key); err == nil {
			t.Errorf("deleted through %q", key)
		}
	}
	for _, key := range []string{"pack/bb/sentinel", "pack/bb/new", "pack/cc/new"} {
		for _, opts := range []*blob.WriterOptions{plainFile(), plainIfNew()} {
			if err := bkt.WriteAll(ctx, key, []byte("owned"), opts); err == nil {
				t.Errorf("wrote through %q", key)
			}
		}
	}
	// Writing the very key of a link replaces the link, not what it points to.
	if err := bkt.WriteAll(ctx, "object", []byte("ours"), plainFile()); err != nil {
		t.Errorf("overwrite of a link: %v", err)
	}
	// Nor is a temporary folder that leads outside used, or swept.
	if err := os.Remove(filepath.Join(dir, tempDir)); err != nil {
		t.Fatal(err)
	}
	plant(outside, tempDir)
	old := time.Now().Add(-30 * 24 * time.Hour)
	if err := os.Chtimes(sentinel, old, old); err != nil {
		t.Fatal(err)
	}
	swept := openWith(t, dir, &Options{StrandedAfter: 1}, osFileOps())
	if err := swept.WriteAll(ctx, "pack/aa/2", []byte("x"), plainFile()); err == nil {
		t.Error("wrote a temporary file outside")
	}
	if err := os.Remove(filepath.Join(dir, tempDir)); err != nil {
		t.Fatal(err)
	}

	got, err := os.ReadFile(sentinel)
	if err != nil || string(got) != secret {
		t.Errorf("sentinel: %q, %v", got, err)
	}
	if found, err := os.ReadDir(outside); err != nil || len(found) != 1 {
		t.Errorf("outside: %v, %v", found, err)
	}
	// The twin: the same operations on true folders.
	putAll(t, bkt, []string{"pack/aa/2", "pack/dd/1"})
	for _, key := range []string{"pack/aa/1", "pack/aa/2", "pack/dd/1"} {
		if got := contentOf(t, bkt, key); got != "object "+key {
			t.Errorf("%q holds %q", key, got)
		}
	}
}

// A FIFO in the place of an object must not hold the reader until somebody opens its other end.
func TestPlantedFIFO(t *testing.T) {
	bkt, _, dir := openRecorded(t)
	putAll(t, bkt, []string{"pack/1"})
	if err := syscall.Mkfifo(filepath.Join(dir, "pack", "2"), 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := bkt.ReadAll(t.Context(), "pack/2")
		done <- err
	}()
	select {
	case err := <-done:
		if gcerrors.Code(err) != gcerrors.NotFound {
			t.Errorf("got %v, want NotFound", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("the reader hangs")
	}
	if err := bkt.Delete(t.Context(), "pack/2"); gcerrors.Code(err) != gcerrors.NotFound {
		t.Errorf("delete: got %v, want NotFound", err)
	}
}

func TestPermissions(t *testing.T) {
	umask := syscall.Umask(0o022) // a stricter one would take away what is looked for
	t.Cleanup(func() { syscall.Umask(umask) })
	dir := filepath.Join(t.TempDir(), "new")
	bkt := openWith(t, dir, &Options{CreateDir: true}, osFileOps())
	putAll(t, bkt, []string{"d/1"})
	open := openWith(t, dir, &Options{FileMode: 0o640, DirMode: 0o750}, osFileOps())
	putAll(t, open, []string{"e/1"})
	for name, want := range map[string]os.FileMode{
		"": 0o700, "d": 0o700, "d/1": 0o600, "e": 0o750, "e/1": 0o640, tempDir: 0o700,
	} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%q has mode %v, want %v", name, got, want)
		}
	}
}

// TestListOfRenamedBucket: the bucket goes with its folder when that is renamed.
func TestListOfRenamedBucket(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "before")
	bkt := openWith(t, dir, &Options{CreateDir: true}, osFileOps())
	putAll(t, bkt, []string{"a/b"})
	if err := os.Rename(dir, dir+" and after"); err != nil {
		t.Fatal(err)
	}
	if o, err := bkt.List(nil).Next(t.Context()); err != nil || o.Key != "a/b" || o.Size != int64(len("object a/b")) {
		t.Errorf("listed %+v, %v", o, err)
	}
}
