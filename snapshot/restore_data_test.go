package snapshot

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gocloud.dev/blob/memblob"

	"github.com/holdstill/holdstill/repo"
)

// storedFile is a file, or with a trailing slash in its path a folder, of a snapshot
// that a test stores.
type storedFile struct {
	path string
	data []byte
	mode fs.FileMode
	at   time.Time
	// class is that of the file's hint.
	class Class
}

var aTime = time.Date(2024, 2, 29, 23, 59, 58, 123456789, time.UTC)

// tableRows makes n bytes like a table's: records with a key, text and noise.
func tableRows(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 7))
	b := make([]byte, 0, n+80)
	for i := 0; len(b) < n; i++ {
		b = fmt.Appendf(b, "%08d|customer-%04d|%x|", i, r.IntN(5000), r.Uint64())
	}
	return b[:n]
}

// newRepository makes an empty repository in memory.
func newRepository(t testing.TB) *repo.Repository {
	t.Helper()
	bucket := memblob.OpenBucket(nil)
	if err := repo.Init(t.Context(), bucket, repo.InitOptions{}); err != nil {
		t.Fatal(err)
	}
	r, err := repo.Open(t.Context(), bucket, repo.Options{PackSize: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if err := bucket.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// putChunks stores data in chunks of the given size.
func putChunks(t testing.TB, s *repo.Session, w *repo.Writer, data []byte, size int) repo.Content {
	t.Helper()
	var refs []repo.Ref
	for c := range slices.Chunk(data, size) {
		id, _, err := w.Add(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		refs = append(refs, repo.Ref{ID: id, Span: int64(len(c))})
	}
	content, err := s.PutContent(t.Context(), refs)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// storeFiles commits a snapshot with the given files. Its sources are the first
// parts of their paths.
func storeFiles(t testing.TB, r *repo.Repository, id string, files []storedFile) *repo.Manifest {
	t.Helper()
	return storeTable(t, r, id, func(s *repo.Session, w *repo.Writer) repo.Content {
		var table []repo.File
		for _, f := range files {
			path, isDir := strings.CutSuffix(f.path, "/")
			e := repo.File{Path: path, Mode: f.mode, ModTime: f.at, Size: int64(len(f.data)), Class: uint8(f.class)}
			if isDir {
				e.Mode |= fs.ModeDir
			} else {
				e.Content = putChunks(t, s, w, f.data, 64<<10)
			}
			table = append(table, e)
		}
		slices.SortFunc(table, func(a, b repo.File) int { return cmp.Compare(a.Path, b.Path) })
		content, err := s.PutTable(t.Context(), slices.Values(table))
		if err != nil {
			t.Fatal(err)
		}
		return content
	}, sourcesOf(files)...)
}

func sourcesOf(files []storedFile) []repo.SourceInfo {
	var out []repo.SourceInfo
	for _, f := range files {
		name, _, _ := strings.Cut(f.path, "/")
		if !slices.ContainsFunc(out, func(s repo.SourceInfo) bool { return s.Name == name }) {
			out = append(out, repo.SourceInfo{Name: name})
		}
	}
	return out
}

// storeTable commits a snapshot with the table that put makes.
func storeTable(t testing.TB, r *repo.Repository, id string, put func(*repo.Session, *repo.Writer) repo.Content, sources ...repo.SourceInfo) *repo.Manifest {
	t.Helper()
	s, err := r.NewSession(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w, err := s.NewWriter()
	if err != nil {
		t.Fatal(err)
	}
	m := &repo.Manifest{ID: id, Created: aTime, Sources: sources, Table: put(s, w)}
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if err := s.Commit(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	return m
}

// readTree describes every file and folder below dir.
func readTree(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		what := info.Mode().String()
		if info.Mode().IsRegular() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			what += " " + string(data)
		}
		out[filepath.ToSlash(name)] = what
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// writeTree writes files for a test, without their times.
func writeTree(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	for name, data := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// tempDir is t.TempDir for folders without permission to write in them.
func tempDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() {
		root, err := os.OpenRoot(filepath.Dir(dir))
		if err != nil {
			t.Error(err)
			return
		}
		defer root.Close()
		if err := openFolders(root, filepath.Base(dir)); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// listFolder lists a folder.
func listFolder(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := []string{}
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// restoreWith runs a restore as the Engine does, with changed file operations, of
// which one is asked about at a time.
func restoreWith(ctx context.Context, r *repo.Repository, m *repo.Manifest, opts RestoreOptions, ops *fileOps) (*RestoreResult, error) {
	if ops != nil && ops.before != nil {
		var mu sync.Mutex
		before := ops.before
		ops = &fileOps{noExchange: ops.noExchange, before: func(op, name string) error {
			mu.Lock()
			defer mu.Unlock()
			return before(op, name)
		}}
	}
	return (&restorer{repo: r, manifest: m, opts: opts, ops: ops}).run(ctx)
}
