package snapshot

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/holdstill/holdstill/repo"
)

// storeChunked commits a snapshot of one file, kv/data, in chunks of the given size.
func storeChunked(t testing.TB, r *repo.Repository, id string, data []byte, size int) *repo.Manifest {
	t.Helper()
	return storeTable(t, r, id, func(s *repo.Session, w *repo.Writer) repo.Content {
		f := repo.File{Path: "kv/data", Mode: 0o600, ModTime: aTime, Size: int64(len(data))}
		f.Content = putChunks(t, s, w, data, size)
		content, err := s.PutTable(t.Context(), func(yield func(repo.File) bool) { yield(f) })
		if err != nil {
			t.Fatal(err)
		}
		return content
	}, repo.SourceInfo{Name: "kv"})
}

// pitted is n bytes of which one part in eight is rows, and the rest runs of zeros that no
// chunk of 1 MiB consists of.
func pitted(seed uint64, n int) []byte {
	out := make([]byte, n)
	for at := 0; at+(64<<10) <= n; at += 512 << 10 {
		copy(out[at:], tableRows(seed+uint64(at), 64<<10))
	}
	return out
}

// Whatever an error of a call to set blocks aside means, the file is right in the end, or
// the error is told and nothing is left.
func TestRestoreWithoutAllocation(t *testing.T) {
	r := newRepository(t)
	data := append(tableRows(1, 5<<20), pitted(2, 4<<20)...)
	m := storeChunked(t, r, "s", data, 1<<20)
	for _, tt := range []struct {
		name  string
		err   error
		tight bool
		fails bool
	}{
		{"set aside", nil, false, false},
		{"not supported", syscall.EOPNOTSUPP, false, false},
		{"nonsense", syscall.EBADMSG, false, false},
		{"full", syscall.ENOSPC, false, true},
		{"over the quota", syscall.EDQUOT, false, true},
		{"full, and known to be tight", syscall.ENOSPC, true, false},
		{"over the quota, and known to be tight", syscall.EDQUOT, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			parent := tempDir(t)
			to := filepath.Join(parent, "to")
			asked := 0
			_, err := restoreWith(t.Context(), r, m, RestoreOptions{To: to, Source: "kv", SkipSpaceCheck: tt.tight}, &fileOps{before: func(op, _ string) error {
				if op != "allocate" {
					return nil
				}
				asked++
				if tt.err == nil {
					return nil
				}
				return &fs.PathError{Op: "fallocate", Path: "x", Err: tt.err}
			}})
			if asked != 1 {
				t.Errorf("asked %d times to set blocks aside, want once", asked)
			}
			if tt.fails {
				if !errors.Is(err, tt.err) {
					t.Errorf("error %v", err)
				}
				if left := listFolder(t, parent); len(left) > 0 {
					t.Errorf("left behind %q", left)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(filepath.Join(to, "data")); err != nil || !bytes.Equal(got, data) {
				t.Errorf("the file differs, or %v", err)
			}
		})
	}
}

// What is lacking is told by its size where the file system knows.
func TestRestoreTellsWhatIsLacking(t *testing.T) {
	st := stager{to: filepath.Join(t.TempDir(), "not made yet")}
	var space *SpaceError
	if err := st.lacking(1<<62, syscall.ENOSPC); !errors.As(err, &space) || space.Needed != 1<<62 || space.To != st.to {
		t.Errorf("more than any disk has: %v", err)
	}
	if err := st.lacking(1, syscall.EDQUOT); errors.As(err, &space) || !errors.Is(err, syscall.EDQUOT) {
		t.Errorf("a quota: %v", err)
	}
}

// Chunks of zeros are not fetched, whatever their size, and whether or not something lies
// where they belong.
func TestRestoreLeavesOutZeros(t *testing.T) {
	r := newRepository(t)
	rows := tableRows(3, 3<<20)
	data := bytes.Join([][]byte{rows[:1<<20], make([]byte, 4<<20), rows[1<<20 : 2<<20], make([]byte, 1<<20), rows[:1<<20]}, nil)
	for _, size := range []int{64 << 10, 1 << 20, 2 << 20} {
		m := storeChunked(t, r, "zeros", data, size)
		for _, stands := range [][]byte{nil, tableRows(4, len(data)), data} {
			to := filepath.Join(tempDir(t), "to")
			if stands != nil {
				writeTree(t, to, map[string]string{"data": string(stands)})
			}
			var written atomic.Int64
			result, err := restoreWith(t.Context(), r, m, RestoreOptions{To: to, Source: "kv", InPlace: stands != nil}, &fileOps{before: func(op, _ string) error {
				if op == "write" {
					written.Add(1)
				}
				return nil
			}})
			if err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(filepath.Join(to, "data")); err != nil || !bytes.Equal(got, data) {
				t.Errorf("chunks of %d: the file differs, or %v", size, err)
			}
			if limit := int64(3<<20/size + 5); written.Load() > limit {
				t.Errorf("chunks of %d: %d writes, want at most %d", size, written.Load(), limit)
			}
			if same := bytes.Equal(stands, data); (result.BytesReused == int64(len(data))) != same {
				t.Errorf("chunks of %d: %+v", size, result)
			}
		}
		if err := r.DeleteManifest(t.Context(), "zeros"); err != nil {
			t.Fatal(err)
		}
	}
}
