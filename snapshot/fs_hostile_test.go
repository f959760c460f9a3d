package snapshot

import (
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"testing"

	"github.com/holdstill/holdstill/repo"
)

// Whoever can write to the repository gives a file a size that no memory has. Reading it fails,
// and takes no more than what there is.
func TestForgedSizesInFS(t *testing.T) {
	data := tableRows(1, 40_000)
	for _, size := range []int64{1 << 40, 1 << 62} {
		r := newRepository(t)
		m := storeTable(t, r, "s", func(s *repo.Session, w *repo.Writer) repo.Content {
			id, _, err := w.Add(t.Context(), data)
			if err != nil {
				t.Fatal(err)
			}
			node, _, err := w.Add(t.Context(), binary.LittleEndian.AppendUint64(append([]byte{}, id[:]...), 40_000))
			if err != nil {
				t.Fatal(err)
			}
			return forgeTable(t, s, w, []forged{
				{path: "kv", kind: 1, perm: 0o700},
				{path: "kv/a", perm: 0o600, size: size, deep: 1, refs: []repo.Ref{{ID: node, Span: size}}},
				{path: "kv/b", perm: 0o600, size: 40_000, refs: []repo.Ref{{ID: id, Span: 40_000}}},
			})
		}, repo.SourceInfo{Name: "kv"})
		fsys, err := newFS(t.Context(), r, m, r.Files(t.Context(), m))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := fsys.ReadFile("kv/a"); !errors.Is(err, repo.ErrCorrupt) {
			t.Errorf("ReadFile of %d bytes: %d, %v", size, len(got), err)
		}
		f, err := fsys.Open("kv/a")
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, f); !errors.Is(err, repo.ErrCorrupt) {
			t.Errorf("a copy of %d bytes: %d, %v", size, n, err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		if got, err := fs.ReadFile(fsys, "kv/b"); err != nil || string(got) != string(data) {
			t.Errorf("the file beside it: %d bytes, %v", len(got), err)
		}
	}
}
