package repo

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/holdstill/holdstill/chunk"
)

// Whatever is wrong with the base, the chunk itself is stored.
func TestAddDeltaWithoutABase(t *testing.T) {
	ctx := t.Context()
	plain := rowData(9, 3000)
	for name, hurt := range map[string]func(d *testDriver, baseAt location){
		"sound":   func(*testDriver, location) {},
		"damaged": func(d *testDriver, l location) { d.damage(l) },
		"missing": func(d *testDriver, l location) { delete(d.objects, packKey(l.pack)) },
		"cut off": func(d *testDriver, l location) { d.put(packKey(l.pack), d.get(packKey(l.pack))[:l.offset+1]) },
	} {
		t.Run(name, func(t *testing.T) {
			d := newTestDriver()
			r := newTestRepo(t, d, Options{})
			mustSnapshot(t, r, "base", map[string][]byte{"f": plain}, fixedCutter(t, 4096))
			base := identify(t, r, plain)
			places, err := r.locate(ctx, base)
			if err != nil {
				t.Fatal(err)
			}
			hurt(d, places[0])
			var log bytes.Buffer
			r = openTestRepo(t, d.bucket(t), Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
			s := mustSession(t, r)
			defer s.Abort(ctx)
			w := mustWriter(t, s)
			for n := range 3 {
				if _, fresh, delta, err := w.AddDelta(ctx, edited(plain, 100*n), base); err != nil || !fresh || delta != (name == "sound") {
					t.Fatal(fresh, delta, err)
				}
				if _, fresh, delta, err := w.AddDelta(ctx, edited(plain, 100*n), base); err != nil || fresh || delta {
					t.Fatal(fresh, delta, err)
				}
			}
			// Not known, or of this session: neither is durable.
			for n, other := range []chunk.ID{{}, identify(t, r, []byte("unknown")), identify(t, r, edited(plain, 0))} {
				if _, fresh, delta, err := w.AddDelta(ctx, edited(plain, 700+100*n), other); err != nil || !fresh || delta {
					t.Fatal(fresh, delta, err)
				}
			}
			// A chunk that has nothing of its base.
			if _, _, _, err := w.AddDelta(ctx, noiseData(4, 3000), base); err != nil {
				t.Fatal(err)
			}
			if err := w.Flush(ctx); err != nil {
				t.Fatal(err)
			}
			if err := s.Commit(ctx, &Manifest{ID: "s"}); err != nil {
				t.Fatal(err)
			}
			want := int64(0)
			if name == "sound" {
				want = 3 * 3000
			}
			if s.BytesDelta() != want {
				t.Errorf("%d bytes are stored as differences, want %d", s.BytesDelta(), want)
			}
			if lines := strings.Count(log.String(), "\n"); lines > 1 || (lines == 1) != (name != "sound") {
				t.Errorf("logged %q", log.String())
			}
			for n := range 3 {
				if got, err := r.ReadChunk(ctx, identify(t, r, edited(plain, 100*n)), nil); err != nil || !bytes.Equal(got, edited(plain, 100*n)) {
					t.Errorf("chunk %d: %v", n, err)
				}
			}
		})
	}
}

// A context that ends while a base is read ends the session, as anywhere else.
func TestAddDeltaContext(t *testing.T) {
	d, _ := tinyRepo(t)
	r := openTestRepo(t, d.bucket(t), Options{})
	_, base, _, _ := deltaOf(t, r, "third")
	before := d.keys("")
	s := mustSession(t, r)
	w := mustWriter(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, _, err := w.AddDelta(ctx, []byte("some rows"), base); !errors.Is(err, context.Canceled) {
		t.Errorf("AddDelta: %v", err)
	}
	for _, plain := range [][]byte{nil, make([]byte, chunk.MaxSize+1)} {
		if _, _, _, err := w.AddDelta(t.Context(), plain, base); !errors.Is(err, ErrInvalid) {
			t.Errorf("%d bytes: %v", len(plain), err)
		}
	}
	if err := s.Abort(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := w.AddDelta(t.Context(), []byte("some rows"), base); !errors.Is(err, ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
	if after := d.keys(""); !slices.Equal(before, after) {
		t.Errorf("left behind: %q", after)
	}
}

// A delta that is encoded already is taken only where its base is, in full.
func TestAddEncodedDelta(t *testing.T) {
	ctx := t.Context()
	d, _ := tinyRepo(t)
	from := openTestRepo(t, d.bucket(t), Options{})
	delta, base, _, _ := deltaOf(t, from, "third")
	stored, codec, size, err := from.ReadEncoded(ctx, delta, nil)
	if err != nil || codec != chunk.Delta {
		t.Fatal(codec, err)
	}
	full, fullCodec, fullSize, err := from.ReadEncoded(ctx, base, nil)
	if err != nil {
		t.Fatal(err)
	}
	to := newTwin(t, from)
	s := mustSession(t, to)
	defer s.Abort(ctx)
	w := mustWriter(t, s)
	var be *BaseError
	if _, err := w.AddEncoded(ctx, delta, codec, stored, size); !errors.Is(err, ErrInvalid) || !errors.As(err, &be) || be.ID != base {
		t.Errorf("without the base: %v", err)
	}
	if _, err := w.AddEncoded(ctx, base, codec, stored, size); !errors.Is(err, ErrInvalid) {
		t.Errorf("as its own base: %v", err)
	}
	if _, err := w.AddEncoded(ctx, delta, codec, stored[:32], size); !errors.Is(err, ErrInvalid) {
		t.Errorf("too short: %v", err)
	}
	if s.HasFull(base) || s.Has(delta) {
		t.Error("taken for stored")
	}
	if fresh, err := w.AddEncoded(ctx, base, fullCodec, full, fullSize); err != nil || !fresh || !s.HasFull(base) {
		t.Fatal(fresh, err)
	}
	if fresh, err := w.AddEncoded(ctx, delta, codec, stored, size); err != nil || !fresh || s.HasFull(delta) || !s.Has(delta) {
		t.Fatal(fresh, err)
	}
	// What may be a difference is no base, in this session or a later one.
	if _, err := w.AddEncoded(ctx, chunk.Identify([]byte("x")), codec, append(bytes.Clone(delta[:]), stored[32:]...), size); !errors.As(err, &be) || be.ID != delta {
		t.Errorf("a delta of a delta: %v", err)
	}
	if err := w.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(ctx, &Manifest{ID: "s"}); err != nil {
		t.Fatal(err)
	}
	if s2, err := to.NewSession(ctx); err != nil || s2.HasFull(delta) || !s2.HasFull(base) || s2.Abort(ctx) != nil {
		t.Errorf("a later session: %v", err)
	}
	wantSound(t, to)
	want, err := from.ReadChunk(ctx, delta, nil)
	if got, err2 := to.ReadChunk(ctx, delta, nil); err != nil || err2 != nil || !bytes.Equal(got, want) {
		t.Error(err, err2)
	}
}

// NoDeltas stores in full what would be a difference, and reads no base for it.
func TestNoDeltas(t *testing.T) {
	ctx := t.Context()
	plain := rowData(9, 3000)
	d := newTestDriver()
	r := newTestRepo(t, d, Options{})
	mustSnapshot(t, r, "base", map[string][]byte{"f": plain}, fixedCutter(t, 4096))
	r = openTestRepo(t, d.bucket(t), Options{NoDeltas: true})
	s := mustSession(t, r)
	defer s.Abort(ctx)
	w := mustWriter(t, s)
	for _, wantFresh := range []bool{true, false} {
		id, fresh, delta, err := w.AddDelta(ctx, edited(plain, 100), chunk.Identify(plain))
		if err != nil || fresh != wantFresh || delta || !s.HasFull(id) || w.bases != nil {
			t.Errorf("fresh %t, delta %t, in full %t, error %v", fresh, delta, s.HasFull(id), err)
		}
	}
	if err := w.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	if s.BytesDelta() != 0 {
		t.Errorf("%d bytes as differences", s.BytesDelta())
	}
}
