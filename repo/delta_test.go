package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/holdstill/holdstill/chunk"
)

// edited returns a copy of data with some bytes changed at an offset.
func edited(data []byte, at int) []byte {
	out := bytes.Clone(data)
	copy(out[at:], "CHANGED")
	return out
}

// stageDeltas is stageFiles with every chunk added as the difference to that at
// the same place of another snapshot, where it has one.
func stageDeltas(ctx context.Context, r *Repository, s *Session, id string, files map[string][]byte, parent string, c chunk.Cutter) (*Manifest, error) {
	pm, err := r.Manifest(ctx, parent)
	if err != nil {
		return nil, err
	}
	bases := make(map[string][]Ref)
	for f, err := range r.Files(ctx, pm) {
		if err != nil {
			return nil, err
		}
		if bases[f.Path], _, err = r.DataRefs(ctx, f.Content, 0, f.Size); err != nil {
			return nil, err
		}
	}
	w, err := s.NewWriter()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	m := &Manifest{ID: id, Created: testTime, Parent: parent}
	var table []File
	for _, path := range slices.Sorted(maps.Keys(files)) {
		var refs []Ref
		for data := files[path]; len(data) > 0; {
			n := c.Next(data, true)
			var id chunk.ID
			if len(refs) < len(bases[path]) {
				id, _, _, err = w.AddDelta(ctx, data[:n], bases[path][len(refs)].ID)
			} else {
				id, _, err = w.Add(ctx, data[:n])
			}
			if err != nil {
				return nil, err
			}
			refs = append(refs, Ref{id, int64(n)})
			data = data[n:]
		}
		content, err := s.PutContent(ctx, refs)
		if err != nil {
			return nil, err
		}
		table = append(table, File{Path: path, Mode: 0o640, ModTime: testTime, Size: int64(len(files[path])), Content: content})
		m.Stats.Files++
		m.Stats.Bytes += int64(len(files[path]))
	}
	if err := w.Flush(ctx); err != nil {
		return nil, err
	}
	m.Table, err = s.PutTable(ctx, slices.Values(table))
	m.Stats.BytesNew, m.Stats.BytesDelta = s.BytesNew(), s.BytesDelta()
	return m, err
}

// mustDeltaSnapshot takes a snapshot of differences to another one, and returns how
// many plain bytes were stored as such.
func mustDeltaSnapshot(t testing.TB, r *Repository, id string, files map[string][]byte, parent string, c chunk.Cutter) int64 {
	t.Helper()
	s := mustSession(t, r)
	defer s.Abort(t.Context())
	m, err := stageDeltas(t.Context(), r, s, id, files, parent, c)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	return s.BytesDelta()
}

// basesOf returns the bases that the deltas of a snapshot name, by delta.
func basesOf(t testing.TB, r *Repository, id string) map[chunk.ID]chunk.ID {
	t.Helper()
	m, err := r.Manifest(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[chunk.ID]chunk.ID)
	for u, err := range r.Uses(t.Context(), m) {
		if err != nil {
			t.Fatal(err)
		}
		stored, codec, _, err := r.ReadEncoded(t.Context(), u.ID, nil)
		if err != nil {
			t.Fatal(err)
		}
		if codec == chunk.Delta {
			out[u.ID], _ = chunk.DeltaBase(stored)
		}
	}
	return out
}

// Each generation is stored against the first one's chunks, and not against the one
// before it: reading costs two chunks at most, however many generations there are.
func TestDeltasMakeAStar(t *testing.T) {
	d := newTestDriver()
	r := newTestRepo(t, d, Options{})
	cut := fixedCutter(t, 4096)
	rng := rand.New(rand.NewPCG(1, 2))
	data := rowData(5, 50*4096+100)
	all := map[string]map[string][]byte{"g0": {"db": data}}
	mustSnapshot(t, r, "g0", all["g0"], cut)
	full := basesOf(t, r, "g0")
	if len(full) > 0 {
		t.Fatalf("the first generation has differences: %v", full)
	}
	m, err := r.Manifest(t.Context(), "g0")
	if err != nil {
		t.Fatal(err)
	}
	var first []chunk.ID
	for u, err := range r.Uses(t.Context(), m) {
		if err != nil {
			t.Fatal(err)
		}
		first = append(first, u.ID)
	}
	packs := 0
	for n := 1; n < 5; n++ {
		for range 30 {
			data = edited(data, rng.IntN(len(data)-10))
		}
		id := fmt.Sprint("g", n)
		all[id] = map[string][]byte{"db": data}
		before := d.keys(packPrefix)
		if got := mustDeltaSnapshot(t, r, id, all[id], fmt.Sprint("g", n-1), cut); got < 10*4096 {
			t.Errorf("%s: %d bytes are stored as differences", id, got)
		}
		size := 0
		for _, key := range d.keys(packPrefix) {
			if !slices.Contains(before, key) {
				size += len(d.get(key))
			}
		}
		if size > 20_000 {
			t.Errorf("%s takes %d bytes", id, size)
		}
		bases := basesOf(t, r, id)
		if len(bases) < 10 {
			t.Errorf("%s has %d differences", id, len(bases))
		}
		for delta, base := range bases {
			if !slices.Contains(first, base) {
				t.Errorf("%s: the base %v of %v is not of the first generation", id, base, delta)
			}
		}
		packs = len(d.keys(packPrefix))
	}
	// With the first one's manifest gone the rest stays whole, and knows what it uses.
	if err := r.DeleteManifest(t.Context(), "g0"); err != nil {
		t.Fatal(err)
	}
	delete(all, "g0")
	check := func(r *Repository) {
		t.Helper()
		for id, files := range all {
			wantSnapshot(t, r, id, files)
		}
		report := wantSound(t, r)
		// The file table and the node of the first are unused, and no data.
		if report.Packs != packs || report.UnusedBytes > 4096 {
			t.Errorf("%d packs, %d bytes unused", report.Packs, report.UnusedBytes)
		}
	}
	check(openTestRepo(t, d.bucket(t), Options{}))
	r = openTestRepo(t, d.bucket(t), Options{CacheSize: 1})
	for _, opts := range []RebuildOptions{{}, {ReadData: true}} {
		if done, err := r.RebuildIndex(t.Context(), opts); err != nil || len(done.Damaged) > 0 {
			t.Fatalf("%+v %v", done, err)
		}
		check(openTestRepo(t, d.bucket(t), Options{CacheSize: 1}))
	}
}

// Random edits of random pages over many generations, with other snapshots in
// between: what is read is what was stored, whole and in parts.
func TestRandomEditsStoredAsDeltas(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 77))
			d := newTestDriver()
			r := newTestRepo(t, d, Options{PackSize: 1 << 20, CacheSize: 1 + rng.Int64N(100_000)})
			cut := fixedCutter(t, 512<<rng.IntN(5))
			data := slices.Concat(rowData(seed, 100_000+rng.IntN(300_000)), noiseData(seed, 5000), make([]byte, 20_000))
			all := make(map[string]map[string][]byte)
			parent := ""
			for n := range 6 {
				id := fmt.Sprintf("s%d", n)
				files := map[string][]byte{"db": data, "new": rowData(seed*100+uint64(n), rng.IntN(5000))}
				if parent == "" || rng.IntN(5) == 0 {
					mustSnapshot(t, r, id, files, cut)
				} else {
					mustDeltaSnapshot(t, r, id, files, parent, cut)
				}
				all[id], parent = files, fmt.Sprintf("s%d", rng.IntN(n+1))
				for range rng.IntN(200) {
					at := rng.IntN(len(data) - 100)
					switch rng.IntN(10) {
					case 0: // a page is written anew
						data = slices.Concat(data[:at], noiseData(rng.Uint64(), 100), data[at+100:])
					case 1: // what is behind it moves
						data = slices.Insert(slices.Clone(data), at, []byte("inserted")...)
					default:
						data = edited(data, at)
					}
				}
				if rng.IntN(3) == 0 {
					data = data[:len(data)*9/10]
				}
			}
			r = openTestRepo(t, d.bucket(t), Options{CacheSize: 1})
			for id, files := range all {
				wantSnapshot(t, r, id, files)
				m, err := r.Manifest(t.Context(), id)
				if err != nil {
					t.Fatal(err)
				}
				for f, err := range r.Files(t.Context(), m) {
					if err != nil {
						t.Fatal(err)
					}
					cr, want := r.NewReader(t.Context(), f.Content), files[f.Path]
					for range 20 {
						at := rng.IntN(len(want) + 1)
						p := make([]byte, rng.IntN(len(want)-at+1))
						if n, err := cr.ReadAt(p, int64(at)); n != len(p) && err != nil || !bytes.Equal(p, want[at:at+n]) {
							t.Fatalf("%s of %s: %d bytes at %d: %v", f.Path, id, len(p), at, err)
						}
					}
				}
			}
			wantSound(t, r)
			if done, err := r.RebuildIndex(t.Context(), RebuildOptions{ReadData: true}); err != nil || len(done.Damaged) > 0 {
				t.Fatalf("%+v %v", done, err)
			}
			wantSound(t, openTestRepo(t, d.bucket(t), Options{}))
		})
	}
}

// deltaOf returns the first delta of a snapshot by ID, its place, and that of its base.
func deltaOf(t testing.TB, r *Repository, id string) (delta, base chunk.ID, at, baseAt location) {
	t.Helper()
	bases := basesOf(t, r, id)
	if len(bases) == 0 {
		t.Fatalf("%s has no differences", id)
	}
	delta = slices.SortedFunc(maps.Keys(bases), chunk.ID.Compare)[0]
	base = bases[delta]
	set, err := r.currentIndex(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	at, ok := set.locateOne(&delta)
	baseAt, ok2 := set.locateFull(&base)
	if !ok || !ok2 {
		t.Fatal("not in the index")
	}
	return delta, base, at, baseAt
}

// damage flips a bit in the middle of what is stored at a place.
func (d *testDriver) damage(l location) {
	pack := bytes.Clone(d.get(packKey(l.pack)))
	pack[l.offset+l.stored/2] ^= 0x40
	d.put(packKey(l.pack), pack)
}

// Damage of a base harms the snapshots of what is stored as the difference to it, also
// when none of them lists the base. The error names both chunks.
func TestDamagedBase(t *testing.T) {
	d, snapshots := tinyRepo(t)
	r := openTestRepo(t, d.bucket(t), Options{})
	delta, base, _, baseAt := deltaOf(t, r, "third")
	for _, id := range []string{"first", "second"} {
		if err := r.DeleteManifest(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	d.damage(baseAt)
	left := map[string]map[string][]byte{"third": snapshots["third"]}
	lost, objects := examine(t, "damaged base", d, left)
	if !slices.Equal(lost, []string{"third"}) || !slices.Equal(objects, []string{packKey(baseAt.pack)}) {
		t.Errorf("lost %q, damaged %q", lost, objects)
	}
	r = openTestRepo(t, d.bucket(t), Options{})
	report, err := r.Check(t.Context(), CheckOptions{ReadData: true})
	if err != nil || len(report.Damage) != 1 {
		t.Fatalf("%+v %v", report, err)
	}
	got := report.Damage[0]
	if got.Chunk != base || got.Offset != int64(baseAt.offset) || !slices.Equal(got.Files, []string{"third: a"}) {
		t.Errorf("damage %+v", got)
	}
	wantBaseError := func(err error) {
		t.Helper()
		var ce *ChunkError
		var be *BaseError
		if !errors.As(err, &ce) || ce.ID != delta || !errors.As(err, &be) || be.ID != base || !errors.Is(err, ErrCorrupt) ||
			!strings.Contains(err.Error(), delta.String()) || !strings.Contains(err.Error(), base.String()) {
			t.Errorf("error %v", err)
		}
	}
	_, err = r.ReadChunk(t.Context(), delta, nil)
	wantBaseError(err)
	_, _, _, err = r.ReadEncoded(t.Context(), delta, nil)
	wantBaseError(err)

	// A rebuild leaves both out, so the next snapshot stores both again, and all is
	// whole.
	done, err := r.RebuildIndex(t.Context(), RebuildOptions{ReadData: true})
	if err != nil || len(done.Damaged) != 2 {
		t.Fatalf("%+v %v", done, err)
	}
	var named []chunk.ID
	for _, err := range done.Damaged {
		var ce *ChunkError
		if !errors.As(err, &ce) {
			t.Fatal(err)
		}
		named = append(named, ce.ID)
	}
	if !slices.Contains(named, delta) || !slices.Contains(named, base) {
		t.Errorf("left out %v", named)
	}
	mustSnapshot(t, r, "fourth", snapshots["third"], fixedCutter(t, 512))
	wantSnapshot(t, r, "third", snapshots["third"])
	wantSnapshot(t, r, "fourth", snapshots["third"])
}

// The pack of the bases is gone: what is stored as the difference to them goes out of
// a rebuilt index, with or without reading data.
func TestMissingBase(t *testing.T) {
	for _, readData := range []bool{false, true} {
		d, snapshots := tinyRepo(t)
		r := openTestRepo(t, d.bucket(t), Options{})
		delta, base, _, baseAt := deltaOf(t, r, "third")
		delete(d.objects, packKey(baseAt.pack))
		examine(t, "missing base", d, snapshots)
		r = openTestRepo(t, d.bucket(t), Options{})
		_, err := r.ReadChunk(t.Context(), delta, nil)
		var be *BaseError
		if !errors.As(err, &be) || be.ID != base || !errors.Is(err, ErrMissing) {
			t.Errorf("error %v", err)
		}
		done, err := r.RebuildIndex(t.Context(), RebuildOptions{ReadData: readData})
		if err != nil || len(done.Damaged) != 1 {
			t.Fatalf("%+v %v", done, err)
		}
		for _, err := range done.Damaged {
			if !errors.As(err, &be) || !errors.Is(err, ErrMissing) {
				t.Errorf("left out: %v", err)
			}
		}
		examine(t, "rebuilt without the base", d, snapshots)
		mustSnapshot(t, r, "again", snapshots["third"], fixedCutter(t, 512))
		wantSnapshot(t, r, "again", snapshots["third"])
	}
}

// The second place of a base serves when the first is damaged.
func TestBaseInTwoPlaces(t *testing.T) {
	d, snapshots := tinyRepo(t)
	ctx := t.Context()
	r := openTestRepo(t, d.bucket(t), Options{})
	delta, base, _, baseAt := deltaOf(t, r, "third")
	plain, err := r.ReadChunk(ctx, base, nil)
	if err != nil {
		t.Fatal(err)
	}
	// A second place, as two writers make it that do not know of each other.
	b := packBuilder{keys: r.store.keys}
	b.reset()
	start := b.begin()
	b.buf = append(b.buf, plain...)
	b.add(base, start, len(plain), chunk.Raw)
	id := b.finish()
	d.put(packKey(id), b.buf)
	_, x := buildIndex([]packContent{{packInfo: packInfo{id, int64(len(b.buf))}, entries: b.entries}}, nil)
	data, _ := buildIndex([]packContent{{packInfo: packInfo{id, int64(len(b.buf))}, entries: b.entries}}, nil)
	d.put(indexKey(x.id), r.store.keys.sealObject(indexKey(x.id), data))
	for _, hurt := range []location{baseAt, {pack: id, offset: uint32(start), stored: b.entries[0].stored}} {
		copied := d.copy()
		copied.damage(hurt)
		r := openTestRepo(t, copied.bucket(t), Options{})
		if _, err := r.ReadChunk(ctx, delta, nil); err != nil {
			t.Error(err)
		}
		if lost, objects := examine(t, "one of two bases", copied, snapshots); len(lost) > 0 || !slices.Equal(objects, []string{packKey(hurt.pack)}) {
			t.Errorf("lost %q, damaged %q", lost, objects)
		}
	}
}

// putPack puts a pack of chunks into the bucket, with an index.
func putPack(d *testDriver, add func(*packBuilder)) packID {
	var b packBuilder
	b.reset()
	add(&b)
	id := b.finish()
	d.put(packKey(id), b.buf)
	data, x := buildIndex([]packContent{{packInfo: packInfo{id, int64(len(b.buf))}, entries: b.entries}}, nil)
	d.put(indexKey(x.id), data)
	return id
}

// What no writer makes: a delta of a delta, of itself, of nothing, or one whose frame and
// footer disagree. All are errors that say which chunks they are about.
func TestImpossibleDeltas(t *testing.T) {
	ctx := t.Context()
	full := rowData(1, 2000)
	noise := noiseData(1, 2000)
	one, two := edited(full, 100), edited(edited(full, 100), 900)
	encoder, err := chunk.NewEncoder(chunk.EncoderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer encoder.Close()
	delta := func(b *packBuilder, plain []byte, name chunk.ID, base []byte) {
		start := len(b.buf)
		out, ok, err := encoder.EncodeDelta(b.buf, plain, name, base)
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		b.buf = out
		b.add(chunk.Identify(plain), start, len(plain), chunk.Delta)
	}
	raw := func(b *packBuilder, plain []byte) {
		start := len(b.buf)
		b.buf = append(b.buf, plain...)
		b.add(chunk.Identify(plain), start, len(plain), chunk.Raw)
	}
	fullID, oneID, twoID := chunk.Identify(full), chunk.Identify(one), chunk.Identify(two)
	for name, tt := range map[string]struct {
		add  func(b *packBuilder)
		base chunk.ID // that the error names
		want error
	}{
		"of a delta": {func(b *packBuilder) {
			raw(b, full)
			delta(b, one, fullID, full)
			delta(b, two, oneID, one)
		}, oneID, ErrCorrupt},
		"of itself":        {func(b *packBuilder) { delta(b, two, twoID, two) }, twoID, ErrCorrupt},
		"in a circle":      {func(b *packBuilder) { delta(b, one, twoID, two); delta(b, two, oneID, one) }, oneID, ErrCorrupt},
		"of nothing there": {func(b *packBuilder) { delta(b, two, fullID, full) }, fullID, ErrMissing},
		"of another base":  {func(b *packBuilder) { raw(b, noise); delta(b, two, chunk.Identify(noise), full) }, chunk.ID{}, ErrCorrupt},
		"footer says another": {func(b *packBuilder) {
			raw(b, full)
			delta(b, two, fullID, full)
			b.bases[0] = oneID
			raw(b, one)
		}, chunk.ID{}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			d := newTestDriver()
			r := newTestRepo(t, d, Options{})
			pack := putPack(d, tt.add)
			s := mustSession(t, r)
			content, err := s.PutContent(ctx, []Ref{{twoID, 2000}})
			if err != nil {
				t.Fatal(err)
			}
			table, err := s.PutTable(ctx, slices.Values([]File{{Path: "f", Size: 2000, Content: content}}))
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Commit(ctx, &Manifest{ID: "s", Table: table}); err != nil {
				t.Fatal(err)
			}
			got, err := r.ReadChunk(ctx, twoID, nil)
			var be *BaseError
			if tt.want == nil && (err != nil || !bytes.Equal(got, two)) || !errors.Is(err, tt.want) || errors.As(err, &be) && be.ID != tt.base {
				t.Errorf("ReadChunk: %v", err)
			}
			if be == nil && !tt.base.IsZero() {
				t.Errorf("the error does not name the base: %v", err)
			}
			report, err := r.Check(ctx, CheckOptions{ReadData: true})
			if err != nil || report.OK() || report.Damage[0].Object != packKey(pack) {
				t.Fatalf("Check: %+v %v", report, err)
			}
			for _, dm := range report.Damage {
				if !typed(dm.Err) || !slices.Equal(dm.Snapshots, []string{"s"}) && dm.Chunk == twoID {
					t.Errorf("damage %+v", dm)
				}
			}
			done, err := r.RebuildIndex(ctx, RebuildOptions{ReadData: true})
			if err != nil || len(done.Damaged) == 0 {
				t.Fatalf("%+v %v", done, err)
			}
			// What was left out is stored again.
			mustSnapshot(t, r, "again", map[string][]byte{"f": two, "g": one}, fixedCutter(t, 2000))
			wantSnapshot(t, r, "s", map[string][]byte{"f": two})
			wantSnapshot(t, r, "again", map[string][]byte{"f": two, "g": one})
		})
	}
}

// Bases that lie one behind the other are fetched together: reading differences takes few
// requests more than reading chunks in full.
func TestDeltasAreReadInFewRequests(t *testing.T) {
	d := newTestDriver()
	r := newTestRepo(t, d, Options{CacheSize: 1})
	data := noiseData(1, 12<<20)
	cut := fixedCutter(t, 64<<10)
	mustSnapshot(t, r, "full", map[string][]byte{"f": data}, cut)
	next := bytes.Clone(data)
	for at := 1000; at < len(next); at += 64 << 10 {
		copy(next[at:], "a changed row")
	}
	requests := func() (n int, bytes int64) {
		for _, o := range d.take() {
			if o.kind == "read" && strings.HasPrefix(o.key, packPrefix) {
				n, bytes = n+1, bytes+o.length
			}
		}
		return n, bytes
	}
	requests()
	if n := mustDeltaSnapshot(t, r, "deltas", map[string][]byte{"f": next}, "full", cut); n != int64(len(next)) {
		t.Fatalf("%d bytes are stored as differences", n)
	}
	if n, size := requests(); n > 30 || size > int64(len(data))*12/10 {
		t.Errorf("storing them took %d requests for %d bytes", n, size)
	}
	wantSnapshot(t, r, "deltas", map[string][]byte{"f": next})
	if n, size := requests(); n > 30 || size > int64(len(data))*12/10 {
		t.Errorf("reading them took %d requests for %d bytes", n, size)
	}
	wantSound(t, r)
	if n, size := requests(); n > 60 || size > int64(len(data))*25/10 {
		t.Errorf("checking all took %d requests for %d bytes", n, size)
	}
}
