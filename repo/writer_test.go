package repo

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/holdstill/holdstill/chunk"
)

// Eight writers add overlapping data: every chunk is stored once, and all of it can
// be read.
func TestWritersShareChunks(t *testing.T) {
	ctx := t.Context()
	d := newTestDriver()
	r := newTestRepo(t, d, Options{PackSize: 1 << 20, Uploads: 3})
	s := mustSession(t, r)
	defer s.Abort(ctx)
	const writers, size = 8, 700_000
	contents := make([]Content, writers)
	fresh := make([]int, writers)
	var group sync.WaitGroup
	for n := range writers {
		group.Go(func() {
			w, err := s.NewWriter()
			if err != nil {
				t.Error(err)
				return
			}
			defer w.Close()
			// Half is the same for all, in an order of its own; half is the writer's.
			data := slices.Concat(rowData(1, size), rowData(uint64(100+n), size))
			var refs []Ref
			for at := 0; at < len(data); at += 2000 {
				part := data[at:min(at+2000, len(data))]
				id, isNew, err := w.Add(ctx, part)
				if err != nil {
					t.Error(err)
					return
				}
				if isNew {
					fresh[n]++
				}
				refs = append(refs, Ref{id, int64(len(part))})
			}
			if contents[n], err = s.PutContent(ctx, refs); err != nil {
				t.Error(err)
			}
			if err := w.Flush(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	var files []File
	for n, c := range contents {
		files = append(files, File{Path: fmt.Sprintf("w%d", n), Mode: 0o600, ModTime: testTime, Size: 2 * size, Content: c})
	}
	table, err := s.PutTable(ctx, slices.Values(files))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(ctx, &Manifest{ID: "s", Table: table}); err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, n := range fresh {
		total += n
	}
	if want := size/2000 + writers*(size/2000); total != want {
		t.Errorf("%d chunks were new, want %d", total, want)
	}
	var packBytes int64
	for _, key := range d.keys(packPrefix) {
		packBytes += int64(len(d.get(key)))
	}
	indexes := d.keys(indexPrefix)
	if len(indexes) != 1 {
		t.Fatalf("indexes %q", indexes)
	}
	if want := packBytes + int64(len(d.get(indexes[0]))); s.BytesStored() != want {
		t.Errorf("BytesStored %d, the objects have %d", s.BytesStored(), want)
	}
	want := make(map[string][]byte)
	for n := range writers {
		want[fmt.Sprintf("w%d", n)] = slices.Concat(rowData(1, size), rowData(uint64(100+n), size))
	}
	r = openTestRepo(t, d.bucket(t), Options{})
	wantSnapshot(t, r, "s", want)
	if report := wantSound(t, r); report.UnusedBytes != 0 {
		t.Errorf("%d bytes are unused", report.UnusedBytes)
	}
}

func TestUnflushedWriterCannotBeForgotten(t *testing.T) {
	for _, closed := range []bool{false, true} {
		t.Run(fmt.Sprintf("closed=%v", closed), func(t *testing.T) {
			ctx := t.Context()
			d := newTestDriver()
			r := newTestRepo(t, d, Options{})
			before := d.keys("")
			s := mustSession(t, r)
			w, err := s.NewWriter()
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := w.Add(ctx, []byte("a row")); err != nil {
				t.Fatal(err)
			}
			if closed {
				w.Close()
				w.Close()
			}
			if err := s.Commit(ctx, &Manifest{ID: "s"}); err == nil || !strings.Contains(err.Error(), "flush") {
				t.Errorf("Commit: %v", err)
			}
			w.Close()
			if after := d.keys(""); !slices.Equal(after, before) {
				t.Errorf("left behind %q", after)
			}
		})
	}
}

func TestArgumentsThatCannotBeStored(t *testing.T) {
	ctx := t.Context()
	d := newTestDriver()
	r := newTestRepo(t, d, Options{})
	s := mustSession(t, r)
	defer s.Abort(ctx)
	w := mustWriter(t, s)
	id := chunk.Identify([]byte("x"))
	add := func(codec chunk.Codec, stored, size int) func() error {
		return func() error { _, err := w.AddEncoded(ctx, id, codec, make([]byte, stored), size); return err }
	}
	for name, call := range map[string]func() error{
		"empty chunk":        func() error { _, _, err := w.Add(ctx, nil); return err },
		"large chunk":        func() error { _, _, err := w.Add(ctx, make([]byte, chunk.MaxSize+1)); return err },
		"raw, shorter":       add(chunk.Raw, 3, 4),
		"zstd, not shorter":  add(chunk.Zstd, 4, 4),
		"unknown codec":      add(77, 3, 4),
		"nothing stored":     add(chunk.Zstd, 0, 4),
		"no size":            add(chunk.Raw, 0, 0),
		"encoded, too large": add(chunk.Zstd, 10, chunk.MaxSize+1),
		"zero span":          func() error { _, err := s.PutContent(ctx, []Ref{{ID: id}}); return err },
		"negative span":      func() error { _, err := s.PutContent(ctx, []Ref{{id, -1}}); return err },
		"span of two chunks": func() error { _, err := s.PutContent(ctx, []Ref{{id, chunk.MaxSize + 1}}); return err },
	} {
		if err := call(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// None of it harmed the session.
	m, err := stageFiles(ctx, s, "s", smallFiles(1), r.Gear())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(ctx, m); err != nil {
		t.Fatal(err)
	}
}

// A pack of the smallest chunks stays within the size of packs: its footer counts.
func TestTinyChunks(t *testing.T) {
	ctx := t.Context()
	d := newTestDriver()
	r := newTestRepo(t, d, Options{PackSize: 1 << 20})
	s := mustSession(t, r)
	defer s.Abort(ctx)
	w := mustWriter(t, s)
	for n := range 40_000 {
		if _, fresh, err := w.Add(ctx, []byte{byte(n), byte(n >> 8)}); err != nil || !fresh {
			t.Fatal(fresh, err)
		}
	}
	if err := w.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(ctx, &Manifest{ID: "s"}); err != nil {
		t.Fatal(err)
	}
	for _, key := range d.keys(packPrefix) {
		if n := len(d.get(key)); n > 1<<20+1024 {
			t.Errorf("%s has %d bytes", key, n)
		}
	}
	if report := wantSound(t, r); report.Chunks != 40_000 {
		t.Errorf("%d chunks", report.Chunks)
	}
}

// The largest chunks do not make the buffers of packs grow without end.
func TestLargestChunks(t *testing.T) {
	ctx := t.Context()
	d := newTestDriver()
	r := newTestRepo(t, d, Options{})
	s := mustSession(t, r)
	defer s.Abort(ctx)
	w := mustWriter(t, s)
	data := noiseData(3, chunk.MaxSize+4)
	files := make(map[string][]byte)
	for n := range 4 {
		files[fmt.Sprint(n)] = data[n:][:chunk.MaxSize]
	}
	for _, path := range slices.Sorted(maps.Keys(files)) {
		if _, _, err := w.Add(ctx, files[path]); err != nil {
			t.Fatal(err)
		}
		if w.pack != nil && cap(w.pack.buf) > DefaultPackSize+packHeadroom {
			t.Errorf("the buffer has %d bytes", cap(w.pack.buf))
		}
	}
	m, err := stageFiles(ctx, s, "s", files, fixedCutter(t, chunk.MaxSize))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(ctx, m); err != nil {
		t.Fatal(err)
	}
	wantSnapshot(t, r, "s", files)
}

// A chunk goes from one repository to another without being encoded again.
func TestChunksMoveEncoded(t *testing.T) {
	ctx := t.Context()
	from := newTestRepo(t, newTestDriver(), Options{})
	to := newTwin(t, from)
	plains := [][]byte{rowData(1, 5000), noiseData(1, 5000), {7}}
	s := mustSession(t, from)
	w := mustWriter(t, s)
	for _, p := range plains {
		if _, _, err := w.Add(ctx, p); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(ctx, &Manifest{ID: "s"}); err != nil {
		t.Fatal(err)
	}
	s2 := mustSession(t, to)
	defer s2.Abort(ctx)
	w2 := mustWriter(t, s2)
	for _, p := range plains {
		id := identify(t, from, p)
		stored, codec, size, err := from.ReadEncoded(ctx, id, []byte("in front"))
		if err != nil || string(stored[:8]) != "in front" || size != len(p) {
			t.Fatal(size, err)
		}
		for n := range 2 {
			fresh, err := w2.AddEncoded(ctx, id, codec, stored[8:], size)
			if err != nil || fresh != (n == 0) {
				t.Fatalf("fresh=%v: %v", fresh, err)
			}
		}
		if !s2.Has(id) {
			t.Error("Has says no")
		}
	}
	if err := w2.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s2.Commit(ctx, &Manifest{ID: "s"}); err != nil {
		t.Fatal(err)
	}
	for _, p := range plains {
		got, err := to.ReadChunk(ctx, identify(t, from, p), []byte("x"))
		if err != nil || string(got) != "x"+string(p) {
			t.Errorf("ReadChunk: %v", err)
		}
	}
	_, _, _, err := to.ReadEncoded(ctx, identify(t, to, []byte("unknown")), nil)
	var ce *ChunkError
	if !errors.As(err, &ce) || !errors.Is(err, ErrMissing) {
		t.Errorf("ReadEncoded of an unknown chunk: %v", err)
	}
}
