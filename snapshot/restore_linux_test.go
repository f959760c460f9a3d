package snapshot

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
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

// Blocks that were set aside for what turns out to be zeros are given back.
func TestRestoreGivesBackHoles(t *testing.T) {
	const data = 1 << 20
	for _, tt := range []struct {
		name    string
		content []byte
		limit   int64
	}{
		{"in chunks of rows", pitted(1, 8*data), data},
		{"chunks of zeros", slices.Concat(make([]byte, 30<<20), tableRows(2, data), make([]byte, 33<<20)), data},
		{"of both kinds", slices.Concat(make([]byte, 50<<20), pitted(3, 8*data), make([]byte, 6<<20)), data},
		// Each stretch of rows lies in two units of what can be a hole.
		{"elsewhere", slices.Concat(make([]byte, 1<<20), pitted(4, 8*data)[100:], make([]byte, 200_001)), 2 * data},
	} {
		t.Run(tt.name, func(t *testing.T) {
			content := tt.content
			r := newRepository(t)
			m := storeChunked(t, r, "s", content, 1<<20)
			to := filepath.Join(tempDir(t), "to")
			aside := 0
			if _, err := restoreWith(t.Context(), r, m, RestoreOptions{To: to, Workers: 4}, &fileOps{before: func(op, _ string) error {
				if op == "allocate" {
					aside++
				}
				return nil
			}}); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(to, "kv/data")
			got, err := os.ReadFile(path)
			if err != nil || !bytes.Equal(got, content) {
				t.Fatalf("the file differs, or %v", err)
			}
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if taken := info.Sys().(*syscall.Stat_t).Blocks * 512; aside == 0 || taken < data/2 || taken > tt.limit+256<<10 {
				t.Errorf("%d bytes with %d of data take %d; set aside %d times", info.Size(), data, taken, aside)
			}
		})
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
		err := os.Chown(to, int(want), int(want))
		if errors.Is(err, syscall.EINVAL) {
			want, err = 0, nil // a container that knows nobody but root
		}
		if err != nil {
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
