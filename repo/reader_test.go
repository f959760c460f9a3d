package repo

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/holdstill/holdstill/chunk"
)

// storeContent stores data in a snapshot of its own and returns a repository that
// has read nothing yet.
func storeContent(t *testing.T, d *testDriver, c chunk.Cutter, data []byte) (*Repository, Content) {
	t.Helper()
	r := newTestRepo(t, d, Options{})
	mustSnapshot(t, r, "s", map[string][]byte{"f": data}, c)
	r = openTestRepo(t, d.bucket(t), Options{})
	m, err := r.Manifest(t.Context(), "s")
	if err != nil {
		t.Fatal(err)
	}
	for f, err := range r.Files(t.Context(), m) {
		if err != nil {
			t.Fatal(err)
		}
		return r, f.Content
	}
	t.Fatal("no file")
	return nil, Content{}
}

// Any range reads as the plain bytes do, at every depth of the tree.
func TestRangesEqualPlainBytes(t *testing.T) {
	page := rowData(77, 512)
	for _, test := range []struct {
		name  string
		data  []byte
		depth int
	}{
		{"one chunk", rowData(1, 300), 0},
		{"inline", rowData(1, 8*512), 0},
		{"one node", rowData(1, 9*512), 1},
		{"nodes", rowData(2, 700*512+13), 1},
		{"nodes of nodes", rowData(3, 4000*512+1), 2},
		{"repeats", slices.Concat(bytes.Repeat(page, 300), rowData(4, 20_000), bytes.Repeat(page, 100)), 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, c := storeContent(t, newTestDriver(), fixedCutter(t, 512), test.data)
			// Where nodes are cut depends on the IDs, which under a random key are others each time.
			deeper := encryptedVariant() && test.depth > 0 && c.Depth == test.depth+1
			if c.Depth != test.depth && !deeper || c.Size() != int64(len(test.data)) {
				t.Fatalf("depth %d, size %d of %d", c.Depth, c.Size(), len(test.data))
			}
			cr := r.NewReader(t.Context(), c)
			plain := bytes.NewReader(test.data)
			rapid.Check(t, func(t *rapid.T) {
				off := rapid.Int64Range(0, cr.Size()+600).Draw(t, "off")
				n := rapid.OneOf(rapid.IntRange(0, 1200), rapid.IntRange(0, len(test.data)+600)).Draw(t, "n")
				got, want := make([]byte, n), make([]byte, n)
				gotN, gotErr := cr.ReadAt(got, off)
				wantN, wantErr := plain.ReadAt(want, off)
				if gotN != wantN || gotErr != wantErr || !bytes.Equal(got[:gotN], want[:wantN]) {
					t.Fatalf("ReadAt(%d bytes, %d) = %d, %v, want %d, %v", n, off, gotN, gotErr, wantN, wantErr)
				}
			})
			if _, err := cr.ReadAt(make([]byte, 1), -1); err == nil {
				t.Error("a negative offset was read")
			}
			all, err := io.ReadAll(io.NewSectionReader(cr, 0, cr.Size()))
			if err != nil || !bytes.Equal(all, test.data) {
				t.Errorf("read in sequence: %v", err)
			}
		})
	}
}

func TestEmptyContent(t *testing.T) {
	r := newTestRepo(t, newTestDriver(), Options{})
	cr := r.NewReader(t.Context(), Content{})
	if n, err := cr.ReadAt(make([]byte, 5), 0); n != 0 || err != io.EOF || cr.Size() != 0 {
		t.Errorf("ReadAt = %d, %v", n, err)
	}
}

// One reader serves many goroutines.
func TestConcurrentRanges(t *testing.T) {
	data := rowData(1, 3000*512)
	r, c := storeContent(t, newTestDriver(), fixedCutter(t, 512), data)
	cr := r.NewReader(t.Context(), c)
	var group sync.WaitGroup
	for n := range 8 {
		group.Go(func() {
			buf := make([]byte, 10_000)
			for i := range 60 {
				off := (n*7919 + i*104_729) % (len(data) - len(buf))
				if _, err := cr.ReadAt(buf, int64(off)); err != nil || !bytes.Equal(buf, data[off:off+len(buf)]) {
					t.Errorf("range at %d: %v", off, err)
				}
			}
		})
	}
	group.Wait()
}

// Chunks that lie together are fetched together.
func TestSequentialReadIsFewRequests(t *testing.T) {
	count := func(log []op) (n int, bytes int64) {
		for _, o := range log {
			if o.kind == "read" && len(o.key) > len(packPrefix)+64 {
				n, bytes = n+1, bytes+o.length
			}
		}
		return n, bytes
	}
	t.Run("in order", func(t *testing.T) {
		d := newTestDriver()
		data := noiseData(1, 12<<20)
		r, c := storeContent(t, d, fixedCutter(t, 64<<10), data)
		buf := make([]byte, len(data))
		d.take()
		if _, err := r.NewReader(t.Context(), c).ReadAt(buf, 0); err != nil || !bytes.Equal(buf, data) {
			t.Fatal(err)
		}
		// 192 chunks in one pack of 12 MiB: nodes, and one run for each request that may
		// be under way at once.
		if n, size := count(d.take()); n > DefaultFetches+3 || size > int64(len(data))+200_000 {
			t.Errorf("%d requests for %d bytes", n, size)
		}
	})
	t.Run("one chunk repeated", func(t *testing.T) {
		d := newTestDriver()
		data := bytes.Repeat(rowData(1, 4096), 1000)
		r, c := storeContent(t, d, fixedCutter(t, 4096), data)
		buf := make([]byte, len(data))
		d.take()
		if _, err := r.NewReader(t.Context(), c).ReadAt(buf, 0); err != nil || !bytes.Equal(buf, data) {
			t.Fatal(err)
		}
		if n, _ := count(d.take()); n > 9 {
			t.Errorf("%d requests", n)
		}
	})
	t.Run("small steps", func(t *testing.T) {
		d := newTestDriver()
		data := rowData(1, 16*64<<10)
		r, c := storeContent(t, d, fixedCutter(t, 64<<10), data)
		cr := r.NewReader(t.Context(), c)
		buf := make([]byte, 5000)
		d.take()
		for at := 0; at < len(data); at += len(buf) {
			n, err := cr.ReadAt(buf, int64(at))
			if err != nil && err != io.EOF || !bytes.Equal(buf[:n], data[at:][:n]) {
				t.Fatal(err)
			}
		}
		// 16 chunks, and a node: each is fetched once.
		if n, _ := count(d.take()); n > 18 {
			t.Errorf("%d requests for 16 chunks", n)
		}
	})
}

// Where a chunk is stored twice, damage to one place is not noticed by a reader.
func TestSecondPlaceServes(t *testing.T) {
	d := newTestDriver()
	a := newTestRepo(t, d, Options{})
	b := openTestRepo(t, d.bucket(t), Options{})
	data := noiseData(1, 40*512)
	ctx := t.Context()
	// Both sessions begin before either ends: neither sees the other's chunks.
	sa := mustSession(t, a)
	sb := mustSession(t, b)
	for id, s := range map[string]*Session{"a": sa, "b": sb} {
		m, err := stageFiles(ctx, s, id, map[string][]byte{"f": data}, fixedCutter(t, 512))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Commit(ctx, m); err != nil {
			t.Fatal(err)
		}
	}
	packs := d.keys(packPrefix)
	if len(packs) != 4 {
		t.Fatalf("%d packs", len(packs))
	}
	for _, key := range packs {
		// Any one pack may be damaged anywhere, or gone.
		for _, damage := range []func([]byte) []byte{
			func(p []byte) []byte { p[len(p)/3] ^= 4; return p },
			func(p []byte) []byte { p[packHeaderSize] ^= 4; return p },
			func(p []byte) []byte { return p[:len(p)/2] },
			func(p []byte) []byte { return nil },
		} {
			hurt := d.copy()
			if p := damage(slices.Clone(hurt.get(key))); p != nil {
				hurt.put(key, p)
			} else {
				delete(hurt.objects, key)
			}
			r := openTestRepo(t, hurt.bucket(t), Options{})
			for _, id := range []string{"a", "b"} {
				wantSnapshot(t, r, id, map[string][]byte{"f": data})
			}
			report, err := r.Check(ctx, CheckOptions{ReadData: true})
			if err != nil || report.OK() {
				t.Fatalf("Check: %v", err)
			}
			for _, dm := range report.Damage {
				if len(dm.Snapshots) > 0 || dm.Object != key {
					t.Errorf("nothing is lost, yet: %v", dm)
				}
			}
		}
	}
}

// A content that claims another length than its chunks have is an error wherever
// the false one is touched, not a wrong or missing byte.
func TestContentOfFalseSpans(t *testing.T) {
	data := rowData(1, 3*512)
	r, c := storeContent(t, newTestDriver(), fixedCutter(t, 512), data)
	for i := range c.Refs {
		for _, change := range []int64{-511, -1, 1, 5000} {
			lie := Content{Refs: slices.Clone(c.Refs)}
			lie.Refs[i].Span += change
			start, end := int64(i)*512, int64(i)*512+512+change
			cr := r.NewReader(t.Context(), lie)
			for _, length := range []int64{cr.Size(), 1, 300} {
				for off := int64(0); off < cr.Size(); off += 128 {
					buf := make([]byte, length)
					n, err := cr.ReadAt(buf, off)
					what := fmt.Sprintf("ref %d, span %+d: %d bytes at %d", i, change, length, off)
					if off < end && off+length > start {
						if !errors.Is(err, ErrCorrupt) || off+int64(n) > start && n > 0 {
							t.Fatalf("%s: read %d, %v", what, n, err)
						}
						continue
					}
					from := off
					if off >= end {
						from -= change
					}
					if err != nil && err != io.EOF || !bytes.Equal(buf[:n], data[from:][:n]) {
						t.Fatalf("%s: %v", what, err)
					}
				}
			}
		}
	}
}

// A chunk that is in no index is looked for in what others have added, and the
// number of requests for one that is nowhere is bounded.
func TestMissingChunk(t *testing.T) {
	d := newTestDriver()
	r := newTestRepo(t, d, Options{})
	other := openTestRepo(t, d.bucket(t), Options{})
	if _, err := r.ReadChunk(t.Context(), identify(t, r, []byte("x")), nil); !errors.Is(err, ErrMissing) {
		t.Fatal(err)
	}
	data := rowData(5, 5000)
	mustSnapshot(t, other, "s", map[string][]byte{"f": data}, fixedCutter(t, 8192))
	if got, err := r.ReadChunk(t.Context(), identify(t, r, data), nil); err != nil || !bytes.Equal(got, data) {
		t.Fatal(err)
	}
	d.take()
	_, err := r.ReadChunk(t.Context(), identify(t, r, []byte("y")), nil)
	var ce *ChunkError
	if !errors.As(err, &ce) || ce.ID != identify(t, r, []byte("y")) || ce.Pack != "" || !errors.Is(err, ErrMissing) {
		t.Errorf("error %v", err)
	}
	if log := d.take(); fmt.Sprint(log) != "[list index/ list index/]" {
		t.Errorf("requests %v", log)
	}
}

// A reader whose indexes are from before a collection finds all chunks of a stretch that was
// moved, and not only the first, which makes it look at the indexes anew.
func TestReadMovedStretch(t *testing.T) {
	ways := map[string]func(r *Repository, m *Manifest) error{
		"content": func(r *Repository, m *Manifest) error {
			_, err := readSnapshot(t.Context(), r, m.ID)
			return err
		},
		"many chunks": func(r *Repository, m *Manifest) error {
			var wants []Ref
			for u, err := range r.Uses(t.Context(), m) {
				if err != nil {
					return err
				}
				wants = append(wants, Ref{ID: u.ID})
			}
			_, err := r.ReadChunks(t.Context(), wants, ReadChunksOptions{Workers: 1, Fetches: 1}, func(_ int, _ []byte, err error) error { return err })
			return err
		},
	}
	for name, read := range ways {
		t.Run(name, func(t *testing.T) {
			d := newTestDriver()
			r := newTestRepo(t, d, Options{})
			cut := fixedCutter(t, 4096)
			kept := map[string][]byte{"f": noiseData(1, 40<<10)}
			mustSnapshot(t, r, "gone", map[string][]byte{"f": kept["f"], "g": noiseData(2, 120<<10)}, cut)
			mustSnapshot(t, r, "kept", kept, cut)
			reader := openTestRepo(t, d.bucket(t), Options{})
			m, err := reader.Manifest(t.Context(), "kept")
			if err != nil {
				t.Fatal(err)
			}
			if err := read(reader, m); err != nil {
				t.Fatal(err)
			}
			reader.cache.clear()
			if err := r.DeleteManifest(t.Context(), "gone"); err != nil {
				t.Fatal(err)
			}
			if result := mustCollect(t, r, CollectOptions{}); result.PacksRepacked == 0 {
				t.Fatalf("nothing was moved: %+v", result)
			}
			if err := read(reader, m); err != nil {
				t.Error(err)
			}
		})
	}
}
