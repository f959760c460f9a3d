package repo

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/holdstill/holdstill/chunk"
)

// The set says what a map says, also of IDs that differ in little, and numbers chunks
// in the order in which they came.
func TestPendingSet(t *testing.T) {
	for seed := range uint64(6) {
		rng := rand.New(rand.NewPCG(seed, 9))
		s := newPendingSet()
		if s.has(&chunk.ID{}) || s.hasFull(&chunk.ID{}) {
			t.Fatal("an empty set has a chunk")
		}
		known := make(map[chunk.ID]bool)
		var order []chunk.ID
		for range 5000 {
			id := chunk.ID(madeID(rng))
			switch rng.IntN(4) {
			case 0:
				if len(order) > 0 {
					id = order[rng.IntN(len(order))]
				}
			case 1: // all in one place of the table
				binary.LittleEndian.PutUint64(id[16:], 7)
			case 2:
				if len(order) > 0 {
					id = order[rng.IntN(len(order))]
					id[rng.IntN(32)] ^= 1
				}
			}
			full := rng.IntN(2) == 0
			_, there := known[id]
			if s.has(&id) != there || s.hasFull(&id) != known[id] {
				t.Fatalf("chunk %v: %v %v", id, s.has(&id), s.hasFull(&id))
			}
			if s.add(&id, full) == there {
				t.Fatalf("chunk %v was there: %v", id, there)
			}
			if !there {
				known[id] = full
				order = append(order, id)
			}
		}
		view := s.view()
		for n, id := range order {
			if got, _, ok := s.find(&id); !ok || got != uint32(n) || *view.id(got) != id {
				t.Fatalf("chunk %d is number %d, %v", n, got, ok)
			}
			if s.hasFull(&id) != known[id] {
				t.Fatalf("chunk %d in full: %v", n, s.hasFull(&id))
			}
		}
		if s.n != len(order) || view.has(&order[0]) {
			t.Errorf("%d chunks, want %d", s.n, len(order))
		}
		// An index of them is the same as one of whole entries.
		packs := madePacks(rng, 5, 300)
		s = newPendingSet()
		var session []*sessionPack
		for _, p := range packs {
			for i := range p.entries {
				s.add(&p.entries[i].id, true)
			}
			session = append(session, &sessionPack{packInfo: p.packInfo, rows: s.rows(p.entries)})
		}
		superseded := []indexID{madeID(rng)}
		got, x := s.view().index(session, superseded)
		want, y := buildIndex(packs, superseded)
		if string(got) != string(want) || x.id != y.id {
			t.Error("the indexes differ")
		}
		if _, err := parseIndex("index", x.id, got); err != nil {
			t.Error(err)
		}
	}
}
