package snapshot

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/holdstill/holdstill/repo"
)

// A file that is mostly holes is restored where its size would not fit: what was set
// aside for it, and did not fit, does not get in the way.
func TestRestoreTightOnSharing(t *testing.T) {
	onSharing(t)
	r := newRepository(t)
	unit := make([]byte, 1<<20)
	copy(unit[128<<10:], tableRows(1, 64<<10))
	const count = 400 // of 320 MiB
	m := storeRepeated(t, r, unit, count)
	to := filepath.Join(tempDir(t), "to")
	if _, err := restoreWith(t.Context(), r, m, RestoreOptions{To: to, Source: "kv", SkipSpaceCheck: true}, nil); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(filepath.Join(to, "data"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got := make([]byte, len(unit))
	for n := range int64(count) {
		if _, err := f.ReadAt(got, n<<20); err != nil || !bytes.Equal(got, unit) {
			t.Fatalf("chunk %d differs, or %v", n, err)
		}
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if taken := info.Sys().(*syscall.Stat_t).Blocks * 512; taken > count*(64<<10)+4<<20 {
		t.Errorf("%d bytes of data take %d", count*64<<10, taken)
	}
}

// storeRepeated commits a snapshot of one file, kv/data, that is one chunk many times.
func storeRepeated(t *testing.T, r *repo.Repository, unit []byte, count int) *repo.Manifest {
	t.Helper()
	return storeTable(t, r, "s", func(s *repo.Session, w *repo.Writer) repo.Content {
		id, _, err := w.Add(t.Context(), unit)
		if err != nil {
			t.Fatal(err)
		}
		content, err := s.PutContent(t.Context(), slices.Repeat([]repo.Ref{{ID: id, Span: int64(len(unit))}}, count))
		if err != nil {
			t.Fatal(err)
		}
		table, err := s.PutTable(t.Context(), func(yield func(repo.File) bool) {
			yield(repo.File{Path: "kv/data", Mode: 0o600, ModTime: aTime, Size: content.Size(), Content: content})
		})
		if err != nil {
			t.Fatal(err)
		}
		return table
	}, repo.SourceInfo{Name: "kv"})
}

// fillUp leaves so many bytes of the file system that onSharing made, and does nothing on
// one that others use, too. It says whether it did.
func fillUp(path string, left int64) (bool, error) {
	free, ok := freeSpace(path)
	if !ok || !onOwnFileSystem() || free < left {
		return false, nil
	}
	f, err := os.Create(filepath.Join(path, "ballast"))
	if err != nil {
		return false, err
	}
	return true, errors.Join(unix.Fallocate(int(f.Fd()), 0, 0, free-left), f.Close())
}

// Others take the room while a restore is under way: it ends before it writes to the file
// that does not fit, and says how much is missing.
func TestRestoreWhereRoomIsTaken(t *testing.T) {
	onSharing(t)
	r := newRepository(t)
	m := storeRepeated(t, r, tableRows(1, 1<<20), 100)
	parent := tempDir(t)
	to := filepath.Join(parent, "to")
	var full, wrote atomic.Bool
	_, err := restoreWith(t.Context(), r, m, RestoreOptions{To: to, Source: "kv"}, &fileOps{before: func(op, _ string) error {
		switch op {
		case "create":
			did, err := fillUp(parent, 50<<20)
			full.Store(full.Load() || did)
			return err
		case "write":
			wrote.Store(true)
		}
		return nil
	}})
	if !full.Load() {
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	var space *SpaceError
	if !errors.As(err, &space) || space.Needed != 100<<20 || space.Available >= space.Needed || wrote.Load() {
		t.Errorf("written: %t, and %v", wrote.Load(), err)
	}
	if left := listFolder(t, parent); !slices.Equal(left, []string{"ballast"}) {
		t.Errorf("left behind: %q", left)
	}
}

// What shares its blocks takes no room: a restore of little that differs fits where the
// whole file does not.
func TestRestoreSharesWhereNoRoomIs(t *testing.T) {
	shares := onSharing(t)
	r := newRepository(t)
	const size = 32 << 20
	data := tableRows(1, size)
	m := storeChunked(t, r, "s", data, 64<<10)
	parent := tempDir(t)
	to := filepath.Join(parent, "db")
	old := bytes.Clone(data)
	for at := 0; at < size; at += 40 * 64 << 10 {
		copy(old[at:], "another row")
	}
	writeTree(t, to, map[string]string{"data": string(old)})
	full := false
	if shares {
		// What a file needs may be reserved until it is written out.
		syncAll(t)
		var err error
		if full, err = fillUp(parent, 12<<20); err != nil {
			t.Fatal(err)
		}
	}
	opts := RestoreOptions{To: to, Source: "kv", InPlace: true}
	var space *SpaceError
	if full {
		if _, err := restoreWith(t.Context(), r, m, opts, nil); !errors.As(err, &space) {
			t.Errorf("no room: %v", err)
		}
	}
	opts.SkipSpaceCheck = true
	if _, err := restoreWith(t.Context(), r, m, opts, nil); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(to, "data")); err != nil || !bytes.Equal(got, data) {
		t.Errorf("the file differs, or %v", err)
	}
}
