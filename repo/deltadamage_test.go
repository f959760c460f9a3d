package repo

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/holdstill/holdstill/chunk"
)

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
