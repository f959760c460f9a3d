package repo

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// Stretches hold every item once and in order, none is longer than it may be, unless it is a
// single chunk, and no gap that is too long is in one.
func TestStretches(t *testing.T) {
	random := rand.New(rand.NewPCG(11, 4))
	for round := range 300 {
		p := newReadPlan()
		limit, gap := int64(1000+random.IntN(9000)), int64(random.IntN(200))
		for pack := range 1 + random.IntN(4) {
			at := uint32(packHeaderSize)
			for range random.IntN(200) {
				size := uint32(1 + random.IntN(300))
				if random.IntN(50) == 0 {
					size = uint32(limit) + 77
				}
				for range 1 + random.IntN(20)/19 { // some are wanted twice
					p.add([32]byte{byte(at)}, location{pack: packID{byte(pack)}, offset: at, stored: size}, int32(len(p.items)), -1)
				}
				at += size + uint32(random.IntN(40)/38*random.IntN(400))
			}
		}
		random.Shuffle(len(p.items), func(i, k int) { p.items[i], p.items[k] = p.items[k], p.items[i] })
		var seen []planned
		for _, s := range p.stretches(limit, gap) {
			end := s.start
			for i := range s.items {
				it := &s.items[i]
				if it.pack != s.items[0].pack || int64(it.offset) > end+gap || int64(it.offset) < s.start {
					t.Fatalf("round %d: item %d of a stretch from %d to %d lies at %d of pack %d", round, i, s.start, s.end, it.offset, it.pack)
				}
				end = max(end, it.end())
			}
			if end != s.end || s.end-s.start > limit && s.items[len(s.items)-1].offset != s.items[0].offset {
				t.Errorf("round %d: a stretch from %d to %d with %d items, limit %d", round, s.start, s.end, len(s.items), limit)
			}
			if len(seen) > 0 && seen[len(seen)-1].pack == s.items[0].pack && seen[len(seen)-1].offset == s.items[0].offset {
				t.Errorf("round %d: the byte %d is in two stretches", round, s.start)
			}
			seen = append(seen, s.items...)
		}
		if !slices.Equal(seen, p.items) {
			t.Fatalf("round %d: %d of %d items came", round, len(seen), len(p.items))
		}
	}
}

// A pack that is a little longer than two requests takes three that are about as long.
func TestStretchesAreEven(t *testing.T) {
	p := newReadPlan()
	for at := uint32(packHeaderSize); at < DefaultPackSize+100<<10; at += 15 << 10 {
		p.add([32]byte{byte(at), byte(at >> 8), byte(at >> 16)}, location{offset: at, stored: 15 << 10}, int32(len(p.items)), -1)
	}
	parts := p.stretches(maxFetch, 0)
	if len(parts) != 3 {
		t.Fatalf("%d requests", len(parts))
	}
	for _, s := range parts {
		if n := s.end - s.start; n < 2<<20 || n > 3<<20 {
			t.Errorf("a request of %d bytes", n)
		}
	}
}

// Who has little to store leaves the large buffers to those who have much.
func TestLargeBuffersAreKept(t *testing.T) {
	r := newTestRepo(t, newTestDriver(), Options{PackSize: 1 << 20})
	s := mustSession(t, r)
	defer s.Abort(t.Context())
	much, little := mustWriter(t, s), mustWriter(t, s)
	for i := range uint64(40) {
		if _, _, err := much.Add(t.Context(), noiseData(i, 60_000)); err != nil {
			t.Fatal(err)
		}
	}
	if err := much.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	idle := len(s.buffers)
	if idle == 0 {
		t.Fatal("no buffer was kept")
	}
	for i := range uint64(2) {
		if _, _, err := little.Add(t.Context(), noiseData(100+i, 500)); err != nil {
			t.Fatal(err)
		}
		if n := cap(little.pack.buf); n > minPackBuffer || len(s.buffers) != idle {
			t.Errorf("a pack of one small chunk is made in %d bytes, and %d of %d buffers are left", n, len(s.buffers), idle)
		}
		if err := little.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := much.Add(t.Context(), noiseData(200, 500)); err != nil {
		t.Fatal(err)
	}
	if n := cap(much.pack.buf); n < 1<<20 || len(s.buffers) != idle-1 {
		t.Errorf("the next pack is made in %d bytes, and %d of %d buffers are left", n, len(s.buffers), idle)
	}
	if err := much.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}
