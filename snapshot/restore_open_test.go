package snapshot

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/holdstill/holdstill/repo"
)

// storeInterleaved stores files whose heads lie in the first packs and whose tails lie
// in later ones, so that a restore has all of them half-written at once.
func storeInterleaved(t *testing.T, r *repo.Repository, count int) (m *repo.Manifest, data func(n int) []byte) {
	const half = 8 << 10
	data = func(n int) []byte { return tableRows(uint64(1000+n), 2*half) }
	m = storeTable(t, r, "s", func(s *repo.Session, w *repo.Writer) repo.Content {
		refs := make([][]repo.Ref, count)
		for part := range 2 {
			for n := range refs {
				id, _, err := w.Add(t.Context(), data(n)[part*half:][:half])
				if err != nil {
					t.Fatal(err)
				}
				refs[n] = append(refs[n], repo.Ref{ID: id, Span: half})
			}
		}
		content, err := s.PutTable(t.Context(), func(yield func(repo.File) bool) {
			for n := range refs {
				c, err := s.PutContent(t.Context(), refs[n])
				if err != nil {
					t.Fatal(err)
				}
				if !yield(repo.File{Path: fmt.Sprintf("kv/%05d", n), Mode: 0o600, ModTime: aTime, Size: 2 * half, Content: c}) {
					return
				}
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		return content
	}, repo.SourceInfo{Name: "kv"})
	return m, data
}

// More files are half-written than may be open.
func TestRestoreOpensFewFiles(t *testing.T) {
	r := newRepository(t)
	const count = 3 * maxOpen
	m, data := storeInterleaved(t, r, count)
	to := filepath.Join(tempDir(t), "to")
	created, most, synced := 0, 0, 0
	ops := &fileOps{before: func(op, _ string) error {
		switch op {
		case "create":
			created++
		case "sync":
			synced++
		case "dress":
			created--
		}
		most = max(most, created)
		return nil
	}}
	if _, err := restoreWith(t.Context(), r, m, RestoreOptions{To: to, Source: "kv", Workers: 3}, ops); err != nil {
		t.Fatal(err)
	}
	for n := range count {
		name := filepath.Join(to, fmt.Sprintf("%05d", n))
		got, err := os.ReadFile(name)
		if err != nil || !bytes.Equal(got, data(n)) {
			t.Fatalf("%s differs, or %v", name, err)
		}
		if info, err := os.Stat(name); err != nil || !info.ModTime().Equal(aTime) {
			t.Errorf("%s has the time %v, %v", name, info.ModTime(), err)
		}
	}
	if most <= maxOpen || synced <= count {
		t.Errorf("at most %d files were half-written, %d syncs: this test shows nothing", most, synced)
	}
}

// Each change fails in turn: the error comes through, files are closed, and nothing is
// left.
func TestRestoreFailsWithManyFilesOpen(t *testing.T) {
	r := newRepository(t)
	m, _ := storeInterleaved(t, r, maxOpen+20)
	failure := errors.New("bad sector")
	for n := 1; n < 3000; n += 397 {
		parent := tempDir(t)
		seen := 0
		before := openHandles(t)
		_, err := restoreWith(t.Context(), r, m, RestoreOptions{To: filepath.Join(parent, "to"), Workers: 2}, &fileOps{before: func(op, _ string) error {
			if seen++; seen == n && op != "remove" {
				return failure
			}
			return nil
		}})
		if seen < n {
			return
		}
		if !errors.Is(err, failure) {
			t.Fatalf("change %d failed: %v", n, err)
		}
		if left := listFolder(t, parent); len(left) > 0 {
			t.Fatalf("change %d failed: left behind %q", n, left)
		}
		if after := openHandles(t); after > before {
			t.Fatalf("change %d failed: %d handles, %d before", n, after, before)
		}
	}
	t.Fatal("the restore makes more changes than this test expects")
}

// openHandles counts this process's open files, where the system tells.
func openHandles(t *testing.T) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(entries)
}
