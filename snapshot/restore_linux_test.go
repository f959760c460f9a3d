package snapshot

import (
	"bytes"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestRestoreKeepsHoles(t *testing.T) {
	r := newRepository(t)
	data := bytes.Join([][]byte{
		make([]byte, 6<<20), tableRows(1, 64<<10), make([]byte, 64<<10), tableRows(2, 1000), make([]byte, 3<<20+17),
	}, nil)
	m := storeFiles(t, r, "s", []storedFile{{path: "kv/sparse", data: data, mode: 0o600}})
	to := filepath.Join(tempDir(t), "to")
	if _, err := restoreWith(t.Context(), r, m, RestoreOptions{To: to}, nil); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(to, "kv/sparse")
	got, err := os.ReadFile(name)
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("the file differs, or %v", err)
	}
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	if taken := info.Sys().(*syscall.Stat_t).Blocks * 512; taken > 256<<10 {
		t.Errorf("a file of %d bytes with 66 KiB of data takes %d", info.Size(), taken)
	}
}

// A restore by root leaves the files to whoever owned the target.
func TestRestoreKeepsOwner(t *testing.T) {
	r := newRepository(t)
	m := storeFiles(t, r, "s", newFiles())
	to := filepath.Join(tempDir(t), "db")
	writeTree(t, to, oldTree)
	want := uint32(os.Geteuid())
	if want == 0 {
		want = 12345
		if err := os.Chown(to, int(want), int(want)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := restoreWith(t.Context(), r, m, RestoreOptions{To: to, Source: "kv", InPlace: true}, nil); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "sst", "sst/000001.sst", "CURRENT"} {
		info, err := os.Stat(filepath.Join(to, name))
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Sys().(*syscall.Stat_t).Uid; got != want {
			t.Errorf("%q belongs to %d, want %d", name, got, want)
		}
	}
}
