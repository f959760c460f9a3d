package repo

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"gocloud.dev/blob"

	"github.com/holdstill/holdstill/chunk"
)

// rowData returns n bytes such as a database stores: rows of text with keys that go
// up, words that repeat and parts that do not.
func rowData(seed uint64, n int) []byte {
	rng := rand.New(rand.NewPCG(seed, 1))
	words := []string{"pending", "shipped", "returned", "blue", "kettle", "lamp", "north", "express", "gift"}
	var b []byte
	for i := 0; len(b) < n; i++ {
		b = fmt.Appendf(b, `{"id":%012d,"state":%q,"item":%q,"token":"%016x","price":%d}`+"\n",
			uint64(i)+seed<<20, words[rng.IntN(len(words))], words[rng.IntN(len(words))], rng.Uint64(), rng.IntN(99999))
	}
	return b[:n]
}

// noiseData returns n bytes that do not compress.
func noiseData(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), 7})
	_, _ = r.Read(b)
	return b
}

var testTime = time.Date(2026, 3, 14, 15, 9, 26, 535897932, time.UTC)

func fixedCutter(t testing.TB, size int) chunk.Cutter {
	t.Helper()
	c, err := chunk.NewFixed(size)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// newTestRepo makes a repository in d and opens it.
func newTestRepo(t testing.TB, d *testDriver, opts Options) *Repository {
	t.Helper()
	b := d.bucket(t)
	if err := Init(t.Context(), b, variantInit()); err != nil {
		t.Fatal(err)
	}
	return openTestRepo(t, b, opts)
}

func openTestRepo(t testing.TB, b *blob.Bucket, opts Options) *Repository {
	t.Helper()
	r, err := Open(t.Context(), b, variant(opts))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func mustSession(t testing.TB, r *Repository) *Session {
	t.Helper()
	s, err := r.NewSession(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// vanish does to a session what the end of its process does, and a collection that gives it up: its
// lease is gone and is not renewed any more, and nothing is cleaned up.
func (d *testDriver) vanish(s *Session) {
	s.lease.token <- struct{}{}
	defer func() { <-s.lease.token }()
	s.lease.timer.Stop()
	s.lease.timer = nil
	for _, key := range d.keys(leaseKey(s.lease.id)) {
		d.remove(key)
	}
}

// mustWriter returns a writer that is closed when the test has ended.
func mustWriter(t testing.TB, s *Session) *Writer {
	t.Helper()
	w, err := s.NewWriter()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

// addContent cuts data and adds it.
func addContent(ctx context.Context, s *Session, w *Writer, c chunk.Cutter, data []byte) (Content, error) {
	var refs []Ref
	for len(data) > 0 {
		n := c.Next(data, true)
		id, _, err := w.Add(ctx, data[:n])
		if err != nil {
			return Content{}, err
		}
		refs = append(refs, Ref{id, int64(n)})
		data = data[n:]
	}
	return s.PutContent(ctx, refs)
}

// stageFiles adds files and their table to a session and returns a manifest to
// commit.
func stageFiles(ctx context.Context, s *Session, id string, files map[string][]byte, c chunk.Cutter) (*Manifest, error) {
	w, err := s.NewWriter()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	var table []File
	m := &Manifest{ID: id, Created: testTime, Consistency: ConsistencySource}
	for _, path := range slices.Sorted(maps.Keys(files)) {
		content, err := addContent(ctx, s, w, c, files[path])
		if err != nil {
			return nil, err
		}
		f := File{Path: path, Mode: 0o640, ModTime: testTime, Size: int64(len(files[path])), Content: content}
		table = append(table, f)
		m.Stats.Files++
		m.Stats.Bytes += f.Size
	}
	if err := w.Flush(ctx); err != nil {
		return nil, err
	}
	if m.Table, err = s.PutTable(ctx, slices.Values(table)); err != nil {
		return nil, err
	}
	m.Stats.BytesNew = s.BytesNew()
	return m, nil
}

// takeSnapshot makes a snapshot of files in a session of its own.
func takeSnapshot(ctx context.Context, r *Repository, id string, files map[string][]byte, c chunk.Cutter) error {
	s, err := r.NewSession(ctx)
	if err != nil {
		return err
	}
	m, err := stageFiles(ctx, s, id, files, c)
	if err != nil {
		return fmt.Errorf("%w (abort: %v)", err, s.Abort(ctx))
	}
	return s.Commit(ctx, m)
}

func mustSnapshot(t testing.TB, r *Repository, id string, files map[string][]byte, c chunk.Cutter) {
	t.Helper()
	if err := takeSnapshot(t.Context(), r, id, files, c); err != nil {
		t.Fatal(err)
	}
}

// readSnapshot returns the files of a snapshot.
func readSnapshot(ctx context.Context, r *Repository, id string) (map[string][]byte, error) {
	m, err := r.Manifest(ctx, id)
	if err != nil {
		return nil, err
	}
	out := make(map[string][]byte)
	for f, err := range r.Files(ctx, m) {
		if err != nil {
			return out, err
		}
		cr := r.NewReader(ctx, f.Content)
		data := make([]byte, f.Size)
		if n, err := cr.ReadAt(data, 0); err != nil && err != io.EOF {
			return out, fmt.Errorf("%s: after %d bytes: %w", f.Path, n, err)
		}
		out[f.Path] = data
	}
	return out, nil
}

func wantSnapshot(t testing.TB, r *Repository, id string, want map[string][]byte) {
	t.Helper()
	got, err := readSnapshot(t.Context(), r, id)
	if err != nil {
		t.Fatalf("snapshot %s: %v", id, err)
	}
	if !slices.Equal(slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want))) {
		t.Fatalf("snapshot %s has files %q, want %q", id, slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
	for path := range want {
		if !bytes.Equal(got[path], want[path]) {
			t.Fatalf("snapshot %s: the bytes of %s differ", id, path)
		}
	}
}

// wantSound fails unless all that the repository lists can be read to the last byte.
func wantSound(t testing.TB, r *Repository) *Report {
	t.Helper()
	report, err := r.Check(t.Context(), CheckOptions{ReadData: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range report.Damage {
		t.Errorf("damage: %v", d)
	}
	if t.Failed() {
		t.FailNow()
	}
	return report
}

func listIDs(t testing.TB, r *Repository) []string {
	t.Helper()
	var ids []string
	for id, err := range r.IDs(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	return ids
}

// smallFiles is a little of everything: an empty file, one of a byte, one cut
// into many chunks, data that repeats, and data that does not compress.
func smallFiles(seed uint64) map[string][]byte {
	page := rowData(seed, 512)
	return map[string][]byte{
		"db/CURRENT":      []byte("MANIFEST-000004\n"),
		"db/LOCK":         {},
		"db/one":          {byte(seed)},
		"db/000012.sst":   noiseData(seed, 3000),
		"meta/bolt.db":    rowData(seed+100, 512*20+77),
		"meta/repeat.db":  slices.Concat(page, page, page, page),
		"meta/übergröße":  rowData(seed+200, 700),
		"zz/last file.db": rowData(seed+300, 1),
	}
}
