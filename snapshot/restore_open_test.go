package snapshot

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
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

// More files are half-written than may be open. One worker takes the chunks in the order
// of the packs, so that it does not depend on the scheduler how many those are.
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
	if _, err := restoreWith(t.Context(), r, m, RestoreOptions{To: to, Source: "kv", Workers: 1, Fetches: 1}, ops); err != nil {
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
		seen, failed := 0, false
		before := openHandles(t)
		_, err := restoreWith(t.Context(), r, m, RestoreOptions{To: filepath.Join(parent, "to"), Workers: 2}, &fileOps{before: func(op, _ string) error {
			// How many changes there are depends on who was how fast; what is removed at the end
			// may stay.
			if seen++; seen >= n && !failed && op != "remove" {
				failed = true
				return failure
			}
			return nil
		}})
		if !failed {
			if err != nil {
				t.Fatal(err)
			}
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

// Files are restored in parts where a batch ends within them, or has too many chunks.
func TestRestoreInSmallBatches(t *testing.T) {
	r := newRepository(t)
	files := reuseFiles()
	// A file of many small chunks, most of them in nodes.
	large := tableRows(77, 3<<20)
	m := storeTable(t, r, "s", func(s *repo.Session, w *repo.Writer) repo.Content {
		var table []repo.File
		for _, f := range append(files[1:], storedFile{path: "kv/large", data: large, mode: 0o600, at: aTime}) {
			size := 64 << 10
			if f.path == "kv/large" {
				size = 512
			}
			table = append(table, repo.File{Path: f.path, Mode: f.mode, ModTime: f.at, Size: int64(len(f.data)), Class: uint8(f.class), Content: putChunks(t, s, w, f.data, size)})
		}
		slices.SortFunc(table, func(a, b repo.File) int { return strings.Compare(a.Path, b.Path) })
		content, err := s.PutTable(t.Context(), slices.Values(table))
		if err != nil {
			t.Fatal(err)
		}
		return content
	}, repo.SourceInfo{Name: "kv"})
	files = append(files, storedFile{path: "kv/large", data: large, mode: 0o600, at: aTime})
	for _, limits := range []batchLimits{
		{bytes: 100_001, files: 1000, chunks: 512 << 10},
		{bytes: 1 << 40, files: 1000, chunks: 128},
		{bytes: 1 << 40, files: 2, chunks: 1000},
		{bytes: 65 << 10, files: 3, chunks: 128},
	} {
		to := filepath.Join(tempDir(t), "db")
		for range 2 { // fresh, then over what stands there
			x := restorer{repo: r, manifest: m, opts: RestoreOptions{To: to, Source: "kv", InPlace: true}, limits: limits}
			if _, err := x.run(t.Context()); err != nil {
				t.Fatalf("%+v: %v", limits, err)
			}
			wantStored(t, to, files)
			if err := os.Truncate(filepath.Join(to, "large"), 1<<20); err != nil {
				t.Fatal(err)
			}
		}
	}
}
