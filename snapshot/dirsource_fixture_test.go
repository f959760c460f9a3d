package snapshot_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/holdstill/holdstill/snapshot"
)

// lsm calls files as an LSM tree has them by their class.
func lsm(name string) snapshot.Hint {
	switch filepath.Ext(name) {
	case ".sst":
		return snapshot.Hint{Class: snapshot.Immutable}
	case ".db":
		return snapshot.Hint{Class: snapshot.Paged, PageSize: 8192}
	case ".log":
		return snapshot.Hint{Class: snapshot.AppendOnly}
	}
	return snapshot.Hint{}
}

// dirFiles is what newDirFolder makes. The map is the caller's, the content is not.
func dirFiles() map[string][]byte { return maps.Clone(dirContent()) }

var dirContent = sync.OnceValue(func() map[string][]byte {
	return map[string][]byte{
		"000001.sst":         text(11, 1<<20),
		"000002.sst":         text(12, 300_000),
		"main.db":            text(13, 512<<10),
		"CURRENT":            []byte("MANIFEST-000003\n"),
		"empty":              {},
		"wal/000009.log":     text(14, 100_001),
		"wal.d":              []byte("sorts between wal and wal/"),
		"deep/er/000003.sst": text(15, 70_000),
	}
})

// newDirFolder makes a folder of a database, and next to it room for scratch.
func newDirFolder(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	for name, data := range dirFiles() {
		putFile(t, dir, name, data)
	}
	void := filepath.Join(dir, "void")
	if err := errors.Join(os.Mkdir(void, 0o750), os.Chmod(void, 0o750)); err != nil { // whatever the umask
		t.Fatal(err)
	}
	return dir
}

func putFile(t testing.TB, dir, name string, data []byte) {
	t.Helper()
	path := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o640); err != nil {
		t.Fatal(err)
	}
}

func newDir(t testing.TB, path string, opts snapshot.DirOptions) *snapshot.DirSource {
	t.Helper()
	s, err := snapshot.Dir(path, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil && !errors.Is(err, snapshot.ErrSourceClosed) {
			t.Error(err)
		}
	})
	return s
}

func pinDir(t testing.TB, s *snapshot.DirSource) *snapshot.View {
	t.Helper()
	v, err := s.Pin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func closeView(t testing.TB, v *snapshot.View) {
	t.Helper()
	if err := v.Close(); err != nil {
		t.Error(err)
	}
}

// contents returns the regular files of fsys.
func contents(t testing.TB, fsys fs.FS) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		out[name], err = fs.ReadFile(fsys, name)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func wantContents(t testing.TB, fsys fs.FS, want map[string][]byte) {
	t.Helper()
	got := contents(t, fsys)
	for name, data := range want {
		if g, ok := got[name]; !ok {
			t.Errorf("%s is missing", name)
		} else if !bytes.Equal(g, data) {
			t.Errorf("%s has other content: %d bytes, want %d", name, len(g), len(data))
		}
		delete(got, name)
	}
	for name := range got {
		t.Errorf("%s should not be there", name)
	}
}

// scratchOf returns what lies in a scratch folder, two levels deep.
func scratchOf(t testing.TB, dir string) []string {
	t.Helper()
	a, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return append(a, b...)
}

// pinsIn returns the folders of pins that a scratch folder holds.
func pinsIn(t testing.TB, dir string) []string {
	t.Helper()
	pins, err := filepath.Glob(filepath.Join(dir, "source-*", "pin*"))
	if err != nil {
		t.Fatal(err)
	}
	return pins
}

func defaultScratchOf(dir string) string {
	return filepath.Join(filepath.Dir(dir), "."+filepath.Base(dir)+".holdstill-pins")
}

// wantInfos compares kinds, permissions and times with the originals.
func wantInfos(t *testing.T, dir string, fsys fs.FS) {
	t.Helper()
	type facts struct {
		Mode    fs.FileMode
		ModTime time.Time
	}
	list := func(fsys fs.FS) map[string]facts {
		out := map[string]facts{}
		err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err == nil {
				out[name] = facts{info.Mode(), info.ModTime().UTC()}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if diff := cmp.Diff(list(os.DirFS(dir)), list(fsys)); diff != "" {
		t.Error(diff)
	}
}

func wantReaderAt(t *testing.T, fsys fs.FS) {
	t.Helper()
	f, err := fsys.Open("main.db")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	buf := make([]byte, 5000)
	n, err := f.(io.ReaderAt).ReadAt(buf, 512<<10-3000)
	if n != 3000 || err != io.EOF || !bytes.Equal(buf[:n], dirFiles()["main.db"][512<<10-3000:]) {
		t.Errorf("ReadAt over the end: %d, %v", n, err)
	}
}
