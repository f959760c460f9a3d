package repo

import (
	"bytes"
	"context"
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
