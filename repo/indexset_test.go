package repo

import (
	"encoding/binary"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/holdstill/holdstill/chunk"
)

// madePacks returns packs of random chunks. Some chunks are in several packs, some
// IDs begin alike.
func madePacks(rng *rand.Rand, packs, each int) []packContent {
	var out []packContent
	var known []chunk.ID
	for range packs {
		p := packContent{packInfo: packInfo{id: packID(madeID(rng)), size: packHeaderSize + packTrailerSize}}
		offset := uint32(packHeaderSize)
		for range each {
			id := chunk.ID(madeID(rng))
			switch rng.IntN(20) {
			case 0:
				binary.BigEndian.PutUint64(id[:], 0)
			case 1:
				binary.BigEndian.PutUint64(id[:], 1<<64-1)
			case 2, 3:
				if len(known) > 0 {
					id = known[rng.IntN(len(known))]
				}
			}
			known = append(known, id)
			plain := 1 + rng.Uint32N(70000)
			e := packEntry{id: id, offset: offset, plain: plain, stored: 1 + rng.Uint32N(plain), codec: chunk.Codec(rng.IntN(4))}
			offset += e.stored
			p.entries = append(p.entries, e)
			p.size += int64(e.stored)
		}
		out = append(out, p)
	}
	return out
}

func madeID(rng *rand.Rand) (id [32]byte) {
	for i := range 4 {
		binary.LittleEndian.PutUint64(id[8*i:], rng.Uint64())
	}
	return id
}

// placesOf says what indexes of packs should know, by chunk, each list sorted.
func placesOf(packs []packContent) map[chunk.ID][]location {
	out := make(map[chunk.ID][]location)
	for _, p := range packs {
		for _, e := range p.entries {
			out[e.id] = append(out[e.id], location{p.id, e.offset, e.stored, e.plain, e.codec})
		}
	}
	for _, places := range out {
		slices.SortFunc(places, compareLocations)
	}
	return out
}

func compareLocations(a, b location) int {
	if c := slices.Compare(a.pack[:], b.pack[:]); c != 0 {
		return c
	}
	return int(a.offset) - int(b.offset)
}

// wantPlaces fails unless the set knows exactly these places, by every way of asking.
func wantPlaces(t testing.TB, s *indexSet, want map[chunk.ID][]location) {
	t.Helper()
	for id, places := range want {
		got := s.locate(&id)
		if !slices.IsSortedFunc(got, func(a, b location) int { return deltaOrder(a) - deltaOrder(b) }) {
			t.Fatalf("chunk %v: deltas come before chunks in full: %v", id, got)
		}
		slices.SortFunc(got, compareLocations)
		if !slices.Equal(got, places) {
			t.Fatalf("chunk %v is at %v, want %v", id, got, places)
		}
		if l, ok := s.locateOne(&id); !ok || !slices.Contains(places, l) || !s.has(&id) {
			t.Fatalf("chunk %v: one place is %v %v", id, l, ok)
		}
		full := slices.ContainsFunc(places, func(l location) bool { return l.codec != chunk.Delta })
		if l, ok := s.locateFull(&id); ok != full || ok && (l.codec == chunk.Delta || !slices.Contains(places, l)) {
			t.Fatalf("chunk %v: in full at %v %v, want %v", id, l, ok, full)
		}
		for bit := range 8 {
			other := id
			other[bit*4] ^= 1 << (bit % 8)
			if _, there := want[other]; !there && (s.has(&other) || len(s.locate(&other)) > 0) {
				t.Fatalf("chunk %v is there, and should not be", other)
			}
		}
	}
	got := make(map[chunk.ID][]location)
	var last chunk.ID
	for e, err := range s.all() {
		if err != nil {
			t.Fatal(err)
		}
		if e.id.Compare(last) < 0 {
			t.Fatalf("%v comes after %v", e.id, last)
		}
		last = e.id
		got[e.id] = append(got[e.id], e.location)
	}
	for _, places := range got {
		slices.SortFunc(places, compareLocations)
	}
	if !maps.EqualFunc(got, want, slices.Equal) {
		t.Fatalf("going through all %d chunks differs from the %d that are there", len(got), len(want))
	}
}

func TestIndexSetAnswers(t *testing.T) {
	for seed := range uint64(8) {
		rng := rand.New(rand.NewPCG(seed, 3))
		packs := madePacks(rng, 1+rng.IntN(12), 1+rng.IntN(400))
		set := &indexSet{}
		for rest := packs; len(rest) > 0; {
			n := 1 + rng.IntN(len(rest))
			_, x := buildIndex(rest[:n], nil)
			set, _ = set.with(x)
			// What two indexes both say counts once.
			if rng.IntN(2) == 0 {
				_, again := buildIndex(rest[:n], []indexID{madeID(rng)})
				set, _ = set.with(again)
			}
			rest = rest[n:]
		}
		wantPlaces(t, set, placesOf(packs))
		if len(set.infos()) != len(set.indexes) {
			t.Errorf("%d lines of %d indexes", len(set.infos()), len(set.indexes))
		}
		for _, p := range packs {
			other := p.id
			other[31] ^= 1
			if !set.namesPack(p.id) || set.namesPack(other) {
				t.Errorf("packs are not known for what they are")
			}
		}
	}
}

// The filter never denies what is there, and seldom affirms what is not.
func TestFilter(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 7))
	const n = 200_000
	var records []byte
	for range n {
		id := madeID(rng)
		records = appendIndexRecord(records, id[:], 0, 0, 0, 0)
	}
	f := newFilter(records)
	for i := range n {
		if id := chunk.ID(records[i*indexRecordSize:]); !f.has(&id) {
			t.Fatalf("chunk %v is denied", id)
		}
	}
	wrong := 0
	for range n {
		if id := chunk.ID(madeID(rng)); f.has(&id) {
			wrong++
		}
	}
	if share := float64(wrong) / n; share > 0.02 || wrong == 0 {
		t.Errorf("%.4f of the absent chunks are affirmed", share)
	}
	if size := float64(len(f.blocks)) / n; size > 1.3 {
		t.Errorf("%.3f bytes a chunk", size)
	}
}
