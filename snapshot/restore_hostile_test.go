package snapshot

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/holdstill/holdstill/chunk"
	"github.com/holdstill/holdstill/repo"
)

// forged is an entry of a file table that no writer of ours would make.
type forged struct {
	path string
	kind byte
	perm uint16
	size int64
	refs []repo.Ref
	deep byte
}

// forgeTable stores entries as they are, in the order given, in the format that
// package repo documents.
func forgeTable(t testing.TB, s *repo.Session, w *repo.Writer, entries []forged) repo.Content {
	b := binary.AppendUvarint(nil, uint64(len(entries)))
	for _, e := range entries {
		b = binary.AppendUvarint(b, uint64(len(e.path)))
		b = append(b, e.path...)
		b = append(b, e.kind)
		b = binary.LittleEndian.AppendUint16(b, e.perm)
		b = binary.AppendVarint(b, aTime.Unix())
		b = binary.AppendUvarint(b, 0)
		b = binary.AppendUvarint(b, uint64(e.size))
		b = append(b, 0, 0, 0, e.deep)
		b = binary.AppendUvarint(b, uint64(len(e.refs)))
		for _, r := range e.refs {
			b = append(b, r.ID[:]...)
			b = binary.LittleEndian.AppendUint64(b, uint64(r.Span))
		}
	}
	return putChunks(t, s, w, b, chunk.MaxSize)
}

// Whoever can write to the repository makes snapshots that reach for a file beside
// the target. None may be restored, and the file stays as it is. The last one is
// harmless, and shows that the forging itself is right.
func TestHostileTables(t *testing.T) {
	data := tableRows(1, 40_000)
	one := func(path string) []forged { return []forged{{path: path, perm: 0o600}} }
	// Built for each repository, since chunk IDs belong to it.
	tests := []struct {
		name    string
		entries func(id chunk.ID, node chunk.ID) []forged
		want    error
	}{
		{"up and out", func(_, _ chunk.ID) []forged { return one("../sentinel") }, repo.ErrCorrupt},
		{"up within", func(_, _ chunk.ID) []forged { return one("kv/../../sentinel") }, repo.ErrCorrupt},
		{"absolute", func(_, _ chunk.ID) []forged { return one("/sentinel") }, repo.ErrCorrupt},
		{"the folder itself", func(_, _ chunk.ID) []forged { return one(".") }, repo.ErrCorrupt},
		{"no name", func(_, _ chunk.ID) []forged { return one("") }, repo.ErrCorrupt},
		{"a zero byte", func(_, _ chunk.ID) []forged { return one("kv/a\x00b") }, repo.ErrCorrupt},
		{"double slash", func(_, _ chunk.ID) []forged { return one("kv//a") }, repo.ErrCorrupt},
		{"too long", func(_, _ chunk.ID) []forged { return one("kv/" + strings.Repeat("a", 4100)) }, repo.ErrCorrupt},
		{"name twice", func(_, _ chunk.ID) []forged { return append(one("kv/a"), one("kv/a")...) }, repo.ErrCorrupt},
		{"wrong order", func(_, _ chunk.ID) []forged { return append(one("kv/b"), one("kv/a")...) }, repo.ErrCorrupt},
		{"file below a file", func(_, _ chunk.ID) []forged { return append(one("kv/a"), one("kv/a/b")...) }, repo.ErrCorrupt},
		{"file far below a file", func(_, _ chunk.ID) []forged {
			return []forged{{path: "kv/a", perm: 0o600}, {path: "kv/a.x", perm: 0o600}, {path: "kv/a/b/c/d", perm: 0o600}}
		}, repo.ErrCorrupt},
		{"source that is a file", func(_, _ chunk.ID) []forged { return one("kv") }, repo.ErrCorrupt},
		{"symbolic link", func(_, _ chunk.ID) []forged { return []forged{{path: "kv/a", kind: 2, perm: 0o777}} }, repo.ErrCorrupt},
		{"set-user-ID", func(_, _ chunk.ID) []forged { return []forged{{path: "kv/a", perm: 0o4755}} }, repo.ErrCorrupt},
		{"folder with data", func(id, _ chunk.ID) []forged {
			return []forged{{path: "kv/a", kind: 1, perm: 0o700, size: 40_000, refs: []repo.Ref{{ID: id, Span: 40_000}}}}
		}, repo.ErrCorrupt},
		{"more bytes than chunks", func(id, _ chunk.ID) []forged {
			return []forged{{path: "kv/a", perm: 0o600, size: 1 << 40, refs: []repo.Ref{{ID: id, Span: 40_000}}}}
		}, repo.ErrCorrupt},
		{"fewer bytes than chunks", func(id, _ chunk.ID) []forged {
			return []forged{{path: "kv/a", perm: 0o600, size: 10, refs: []repo.Ref{{ID: id, Span: 40_000}}}}
		}, repo.ErrCorrupt},
		{"chunk shorter than said", func(id, _ chunk.ID) []forged {
			return []forged{{path: "kv/a", perm: 0o600, size: 50_000, refs: []repo.Ref{{ID: id, Span: 50_000}}}}
		}, repo.ErrCorrupt},
		{"node that spans less than said", func(_, node chunk.ID) []forged {
			return []forged{{path: "kv/a", perm: 0o600, size: 1 << 30, deep: 1, refs: []repo.Ref{{ID: node, Span: 1 << 30}}}}
		}, repo.ErrCorrupt},
		{"data taken for a node", func(id, _ chunk.ID) []forged {
			return []forged{{path: "kv/a", perm: 0o600, size: 40_000, deep: 1, refs: []repo.Ref{{ID: id, Span: 40_000}}}}
		}, repo.ErrCorrupt},
		{"sizes beyond all sums", func(_, node chunk.ID) []forged {
			big := repo.Ref{ID: node, Span: 1 << 62}
			return []forged{
				{path: "kv/a", perm: 0o600, size: 1 << 62, deep: 1, refs: []repo.Ref{big}},
				{path: "kv/b", perm: 0o600, size: 1 << 62, deep: 1, refs: []repo.Ref{big}},
			}
		}, repo.ErrCorrupt},
		{"missing chunk", func(_, _ chunk.ID) []forged {
			return []forged{{path: "kv/a", perm: 0o600, size: 9, refs: []repo.Ref{{ID: chunk.ID{1, 2, 3}, Span: 9}}}}
		}, repo.ErrMissing},
		{"harmless", func(id, _ chunk.ID) []forged {
			return []forged{{path: "kv/a", perm: 0o600, size: 40_000, refs: []repo.Ref{{ID: id, Span: 40_000}}}}
		}, nil},
	}
	for _, tt := range tests {
		for _, inPlace := range []bool{false, true} {
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
				return forgeTable(t, s, w, tt.entries(id, node))
			}, repo.SourceInfo{Name: "kv"})
			parent := tempDir(t)
			to := filepath.Join(parent, "to")
			writeTree(t, parent, map[string]string{"sentinel": "unchanged"})
			opts := RestoreOptions{To: to, Source: "kv", InPlace: inPlace, SkipSpaceCheck: true}
			if inPlace {
				writeTree(t, to, oldTree)
			}
			before := readTree(t, parent)
			_, err := restoreWith(t.Context(), r, m, opts, nil)
			if tt.want == nil {
				if err != nil {
					t.Errorf("%s: %v", tt.name, err)
				}
				continue
			}
			if !errors.Is(err, tt.want) {
				t.Errorf("%s: error %v, want %v", tt.name, err, tt.want)
			}
			if d := cmp.Diff(before, readTree(t, parent)); d != "" {
				t.Errorf("%s: something changed:\n%s", tt.name, d)
			}
		}
	}
}

// Somebody who can write beside the target puts a link to another folder where the
// restored files go: nothing may appear there, and the link is not taken for the
// restored folder.
func TestPlantedStaging(t *testing.T) {
	r := newRepository(t)
	m := storeFiles(t, r, "s", sampleFiles())
	for _, when := range []string{"mkdir", "create", "exchange"} {
		for _, what := range []string{"link", "folder"} {
			outside, parent := tempDir(t), tempDir(t)
			writeTree(t, outside, map[string]string{"sentinel": "unchanged"})
			to := filepath.Join(parent, "db")
			writeTree(t, to, oldTree)
			planted := false
			ops := &fileOps{}
			ops.before = func(op, name string) error {
				if op != when || planted {
					return nil
				}
				planted = true
				staging := filepath.Join(parent, name)
				for _, n := range listFolder(t, parent) {
					if isStaging(n, "db") {
						staging = filepath.Join(parent, n)
						if err := os.Rename(staging, filepath.Join(parent, "moved")); err != nil {
							return err
						}
					}
				}
				if what == "folder" {
					return os.Mkdir(staging, 0o777)
				}
				return os.Symlink(outside, staging)
			}
			_, err := restoreWith(t.Context(), r, m, RestoreOptions{To: to, InPlace: true, Workers: 1}, ops)
			if !planted || err == nil && when != "exchange" {
				t.Errorf("%s at %s: planted %v, error %v", what, when, planted, err)
			}
			if d := cmp.Diff(map[string]string{"sentinel": "-rw------- unchanged"}, readTree(t, outside)); d != "" {
				t.Errorf("%s at %s, outside:\n%s", what, when, d)
			}
			if d := cmp.Diff(oldTreeRead(t), readTree(t, to)); d != "" {
				t.Errorf("%s at %s, at the target:\n%s", what, when, d)
			}
		}
	}
}
