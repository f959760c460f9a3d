package repo

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/holdstill/holdstill/chunk"
)

// readPlanned reads a snapshot with Expand and ReadChunks, all files in one call.
func readPlanned(ctx context.Context, r *Repository, id string, opts ReadChunksOptions) (map[string][]byte, ReadStats, error) {
	m, err := r.Manifest(ctx, id)
	if err != nil {
		return nil, ReadStats{}, err
	}
	out := make(map[string][]byte)
	var paths []string
	var extents []Extent
	for f, err := range r.Files(ctx, m) {
		if err != nil {
			return nil, ReadStats{}, err
		}
		out[f.Path] = make([]byte, f.Size)
		paths = append(paths, f.Path)
		extents = append(extents, Extent{f.Content, 0, f.Size})
	}
	pieces, err := r.Expand(ctx, extents, 0)
	if err != nil {
		return nil, ReadStats{}, err
	}
	wants := make([]Ref, len(pieces))
	for i, p := range pieces {
		wants[i] = p.Ref
	}
	stats, err := r.ReadChunks(ctx, wants, opts, func(i int, data []byte, err error) error {
		p := pieces[i]
		copy(out[paths[p.Extent]][p.Offset:], data)
		return err
	})
	return out, stats, err
}

func packReads(log []op) (n int, bytes int64) {
	for _, o := range log {
		if o.kind == "read" && strings.HasPrefix(o.key, packPrefix) {
			n, bytes = n+1, bytes+o.length
		}
	}
	return n, bytes
}

// Many files whose chunks lie all over the packs, with many repeated, some of them
// stored as differences, are read with each byte of a pack asked for once.
func TestReadChunksReadsPacksOnce(t *testing.T) {
	d := newTestDriver()
	r := newTestRepo(t, d, Options{PackSize: 1 << 20})
	cut := fixedCutter(t, 16<<10)
	old := map[string][]byte{
		"a": noiseData(1, 3<<20), "b": rowData(2, 2<<20), "c": noiseData(3, 1<<20+77), "empty": nil,
		"same": bytes.Repeat(noiseData(9, 16<<10), 40),
	}
	mustSnapshot(t, r, "old", old, cut)
	next := maps.Clone(old)
	next["a"] = bytes.Clone(old["a"])
	for at := 100; at < len(next["a"]); at += 64 << 10 {
		copy(next["a"][at:], "a changed row")
	}
	next["d"] = slices.Concat(old["c"][:512<<10], noiseData(4, 100_000), old["a"][1<<20:2<<20])
	if n := mustDeltaSnapshot(t, r, "next", next, "old", cut); n == 0 {
		t.Fatal("nothing is stored as a difference")
	}
	var stored int64
	for _, key := range d.keys(packPrefix) {
		stored += int64(len(d.get(key)))
	}
	for _, opts := range []ReadChunksOptions{{}, {Workers: 1, Fetches: 1}, {Workers: 3, Fetches: 20, Gap: -1}} {
		for id, want := range map[string]map[string][]byte{"old": old, "next": next} {
			fresh := openTestRepo(t, d.bucket(t), Options{})
			d.take()
			got, stats, err := readPlanned(t.Context(), fresh, id, opts)
			if err != nil {
				t.Fatal(err)
			}
			for path := range want {
				if !bytes.Equal(got[path], want[path]) {
					t.Errorf("%s: %s differs", id, path)
				}
			}
			n, size := packReads(d.take())
			if size > stored*105/100 {
				t.Errorf("%s, %+v: %d bytes in %d requests read of %d bytes in packs", id, opts, size, n, stored)
			}
			if stats.Bytes > size || stats.Requests > int64(n) || stats.Bytes < size/2 {
				t.Errorf("counted %+v, asked for %d bytes in %d requests", stats, size, n)
			}
		}
	}
}

// What the caller has of the bases is not fetched, and what it has wrong is found out.
func TestReadChunksWithBasesOfTheCaller(t *testing.T) {
	d := newTestDriver()
	r := newTestRepo(t, d, Options{})
	cut := fixedCutter(t, 64<<10)
	data := noiseData(1, 2<<20)
	next := bytes.Clone(data)
	for at := 1000; at < len(next); at += 64 << 10 {
		copy(next[at:], "a changed row")
	}
	mustSnapshot(t, r, "full", map[string][]byte{"f": data}, cut)
	mustDeltaSnapshot(t, r, "deltas", map[string][]byte{"f": next}, "full", cut)
	have := make(map[chunk.ID][]byte)
	for p := range slices.Chunk(data, 64<<10) {
		have[identify(t, r, p)] = p
	}
	for _, tt := range []struct {
		name  string
		base  func(chunk.ID, []byte) ([]byte, bool)
		bytes int64
	}{
		{"right", func(id chunk.ID, dst []byte) ([]byte, bool) { return append(dst, have[id]...), have[id] != nil }, 1 << 20},
		{"wrong", func(_ chunk.ID, dst []byte) ([]byte, bool) { return append(dst, data[:64<<10]...), true }, 3 << 20},
		{"none", func(_ chunk.ID, dst []byte) ([]byte, bool) { return dst, false }, 3 << 20},
	} {
		fresh := openTestRepo(t, d.bucket(t), Options{})
		got, stats, err := readPlanned(t.Context(), fresh, "deltas", ReadChunksOptions{Base: tt.base})
		if err != nil || !bytes.Equal(got["f"], next) {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if stats.Bytes > tt.bytes {
			t.Errorf("%s: %d bytes fetched", tt.name, stats.Bytes)
		}
	}
}

// A lost pack, a lost base and a damaged chunk are told for every place that needs
// them, and nothing else is lost.
func TestReadChunksTellsWhatIsLost(t *testing.T) {
	base, _, star, _ := deltaFaultRepo(t)
	sound := openTestRepo(t, base.bucket(t), Options{})
	m, err := sound.Manifest(t.Context(), "star")
	if err != nil {
		t.Fatal(err)
	}
	var content Content
	for f, err := range sound.Files(t.Context(), m) {
		if err != nil {
			t.Fatal(err)
		}
		content = f.Content
	}
	pieces, err := sound.Expand(t.Context(), []Extent{{content, 0, content.Size()}}, 0)
	if err != nil {
		t.Fatal(err)
	}
	var wants []Ref
	for _, p := range pieces {
		wants = append(wants, p.Ref, p.Ref)
	}
	set, err := sound.currentIndex(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for round := range 60 {
		d := base.copy()
		r := openTestRepo(t, d.bucket(t), Options{CacheSize: 1})
		p := wants[random.IntN(len(wants))]
		l := set.locate(&p.ID)[0]
		if round%3 == 0 {
			d.put(packKey(l.pack), nil)
		} else {
			d.damage(l)
		}
		var mu sync.Mutex
		told := make([]int, len(wants))
		lost := 0
		_, err := r.ReadChunks(t.Context(), wants, ReadChunksOptions{}, func(i int, data []byte, err error) error {
			mu.Lock()
			defer mu.Unlock()
			told[i]++
			var ce *ChunkError
			want := star["db"][pieces[i/2].Offset:][:pieces[i/2].Span]
			alone, aloneErr := r.ReadChunk(t.Context(), wants[i].ID, nil)
			switch {
			case (err == nil) != (aloneErr == nil) || err != nil && data != nil:
				t.Errorf("round %d: chunk %d: %v, alone %v", round, i, err, aloneErr)
			case err != nil:
				lost++
				if !errors.As(err, &ce) || ce.ID != wants[i].ID || ce.Pack == "" || !typed(err) {
					t.Errorf("round %d: chunk %d: %v", round, i, err)
				}
			case !bytes.Equal(data, want) || !bytes.Equal(alone, want):
				t.Errorf("round %d: chunk %d has other bytes", round, i)
			}
			return nil
		})
		if err != nil || lost == 0 {
			t.Errorf("round %d: %d lost, %v", round, lost, err)
		}
		if i := slices.IndexFunc(told, func(n int) bool { return n != 1 }); i >= 0 {
			t.Errorf("round %d: chunk %d was handed out %d times", round, i, told[i])
		}
	}
}

// Of a pack that was cut off all chunks in front of the cut can be read, however many are asked for
// with one request.
func TestPackIsCutOff(t *testing.T) {
	const size, whole = 16 << 10, 40
	base := newTestDriver()
	data := noiseData(1, 64*size)
	r := newTestRepo(t, base, Options{})
	mustSnapshot(t, r, "s", map[string][]byte{"f": data}, fixedCutter(t, size))
	refs := storedRefs(t, r, "s")
	set, err := r.currentIndex(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l := set.locate(&refs[whole].ID)[0]
	for _, cut := range []uint32{0, 1, l.stored - 1} {
		d := base.copy()
		d.put(packKey(l.pack), d.get(packKey(l.pack))[:l.offset+cut])
		r := openTestRepo(t, d.bucket(t), Options{Retry: Retry{Attempts: 1}})
		errs := make([]error, len(refs))
		var mu sync.Mutex
		_, err := r.ReadChunks(t.Context(), refs, ReadChunksOptions{}, func(i int, got []byte, err error) error {
			mu.Lock()
			defer mu.Unlock()
			if errs[i] = err; err == nil && !bytes.Equal(got, data[i*size:][:size]) {
				t.Errorf("cut off after %d: chunk %d has other bytes", cut, i)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for i, err := range errs {
			if (err != nil) != (i >= whole) || err != nil && !errors.Is(err, ErrCorrupt) {
				t.Errorf("cut off after %d: chunk %d: %v", cut, i, err)
			}
		}
		m, err := r.Manifest(t.Context(), "s")
		if err != nil {
			t.Fatal(err)
		}
		for f, err := range r.Files(t.Context(), m) {
			if err != nil {
				t.Fatal(err)
			}
			got := make([]byte, f.Size)
			n, err := r.NewReader(t.Context(), f.Content).ReadAt(got, 0)
			if !errors.Is(err, ErrCorrupt) || n != whole*size || !bytes.Equal(got[:n], data[:n]) {
				t.Errorf("cut off after %d: the file reads to byte %d, %v", cut, n, err)
			}
		}
	}
}

func TestReadChunksEnds(t *testing.T) {
	d := newTestDriver()
	r := newTestRepo(t, d, Options{PackSize: 1 << 20})
	mustSnapshot(t, r, "s", map[string][]byte{"f": noiseData(1, 6<<20)}, fixedCutter(t, 64<<10))
	// The caller's error ends it.
	stop := errors.New("disk full")
	var mu sync.Mutex
	calls := 0
	m, err := r.Manifest(t.Context(), "s")
	if err != nil {
		t.Fatal(err)
	}
	var wants []Ref
	for f := range r.Files(t.Context(), m) {
		if wants, _, err = r.DataRefs(t.Context(), f.Content, 0, f.Size); err != nil {
			t.Fatal(err)
		}
	}
	// Those that have read their stretch may still take their turn before they hear of it.
	_, err = r.ReadChunks(t.Context(), wants, ReadChunksOptions{Workers: 1, Fetches: 3}, func(int, []byte, error) error {
		mu.Lock()
		defer mu.Unlock()
		calls++
		return stop
	})
	if !errors.Is(err, stop) || calls > 3 {
		t.Errorf("after %d calls: %v", calls, err)
	}
	// So does the context, while requests hang.
	cause := errors.New("operator pressed the button")
	ctx, cancel := context.WithCancelCause(t.Context())
	d.before.set(func(ctx context.Context, _ op) error {
		cancel(cause)
		<-ctx.Done()
		return ctx.Err()
	})
	_, err = r.ReadChunks(ctx, wants, ReadChunksOptions{}, func(_ int, _ []byte, err error) error { return err })
	if !errors.Is(err, cause) {
		t.Errorf("error %v, want the context's cause", err)
	}
	d.before.set(nil)
	// A chunk that is nowhere.
	lost := 0
	_, err = r.ReadChunks(t.Context(), []Ref{{fakeID(1), 10}, wants[0]}, ReadChunksOptions{}, func(i int, data []byte, err error) error {
		if i == 0 && errors.Is(err, ErrMissing) {
			lost++
			return nil
		}
		return err
	})
	if err != nil || lost != 1 {
		t.Errorf("%d lost, %v", lost, err)
	}
	for _, opts := range []ReadChunksOptions{{Workers: -1}, {Fetches: 2000}, {Workers: 1025}} {
		if _, err := r.ReadChunks(t.Context(), wants, opts, nil); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v", opts, err)
		}
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.ReadChunks(t.Context(), wants, ReadChunksOptions{}, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("error %v, want ErrClosed", err)
	}
	if _, err := r.Expand(t.Context(), nil, 0); !errors.Is(err, ErrClosed) {
		t.Errorf("error %v, want ErrClosed", err)
	}
}

// Expand gives the chunks that begin in an extent, so that extents which meet share none.
func TestExpandDividesContents(t *testing.T) {
	d := newTestDriver()
	r := newTestRepo(t, d, Options{})
	s := mustSession(t, r)
	refs := fakeRefs(20_000)
	c, err := s.PutContent(t.Context(), refs)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(t.Context(), &Manifest{ID: "s"}); err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(3, 4))
	size := c.Size()
	for range 50 {
		a := random.Int64N(size)
		b := a + random.Int64N(size-a)
		pieces, err := r.Expand(t.Context(), []Extent{{c, 0, a}, {c, a, b}, {Content{}, 0, 9}, {c, b, size}}, 0)
		if err != nil {
			t.Fatal(err)
		}
		var at int64
		for i, p := range pieces {
			if p.Ref != refs[i] || p.Offset != at {
				t.Fatalf("piece %d is %+v, want %+v at %d", i, p, refs[i], at)
			}
			if want := []int64{0, 1, 3}[b2i(at >= a)+b2i(at >= b)]; p.Extent != int(want) {
				t.Fatalf("piece %d at %d is of extent %d: %d %d", i, at, p.Extent, a, b)
			}
			at += p.Span
		}
		if len(pieces) != len(refs) {
			t.Fatalf("%d pieces of %d", len(pieces), len(refs))
		}
	}
}

func TestExpandHasALimit(t *testing.T) {
	d := newTestDriver()
	r := newTestRepo(t, d, Options{})
	s := mustSession(t, r)
	c, err := s.PutContent(t.Context(), fakeRefs(20_000))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(t.Context(), &Manifest{ID: "s"}); err != nil {
		t.Fatal(err)
	}
	for limit, want := range map[int]error{0: nil, 20_000: nil, 19_999: ErrTooManyChunks, 128: ErrTooManyChunks} {
		if _, err := r.Expand(t.Context(), []Extent{{c, 0, c.Size()}}, limit); !errors.Is(err, want) {
			t.Errorf("limit %d: %v", limit, err)
		}
	}
	for at := int64(0); at < c.Size(); at += c.Size()/20 + 1 {
		if p, err := r.Expand(t.Context(), []Extent{{c, at, at + 1}}, 128); err != nil || len(p) > 1 {
			t.Errorf("byte %d: %d pieces, %v", at, len(p), err)
		}
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// A chunk that is whole and no node is damage with its ID, whichever way it is met.
func TestNoNode(t *testing.T) {
	r := newTestRepo(t, newTestDriver(), Options{})
	mustSnapshot(t, r, "s", map[string][]byte{"f": noiseData(1, 4096)}, fixedCutter(t, 4096))
	id := storedRefs(t, r, "s")[0].ID
	content := Content{Depth: 1, Refs: []Ref{{ID: id, Span: 1 << 20}}}
	for name, read := range map[string]func() error{
		"DataRefs": func() error {
			_, _, err := r.DataRefs(t.Context(), content, 0, 100)
			return err
		},
		"ReadAt": func() error {
			_, err := r.NewReader(t.Context(), content).ReadAt(make([]byte, 100), 0)
			return err
		},
	} {
		err := read()
		var at *ChunkError
		if !errors.As(err, &at) || at.ID != id || !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
