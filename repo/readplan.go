package repo

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"slices"

	"github.com/holdstill/holdstill/chunk"
)

const (
	// maxFetch is how much ReadChunks asks of the bucket at once, in bytes, unless a
	// single chunk is larger.
	maxFetch = 4 << 20
	// fetchRound is what the lengths of buffers for that are multiples of, in bytes.
	fetchRound = 128 << 10
	// maxHeld bounds the stored differences that ReadChunks keeps until their bases
	// come by, in bytes.
	maxHeld = 32 << 20
)

// planned is one chunk to be fetched from one place.
type planned struct {
	id chunk.ID
	// pack counts the packs of the plan in the order of their first use.
	pack   int32
	offset uint32
	stored uint32
	plain  uint32
	codec  chunk.Codec
	// want is the number of the chunk in the caller's list, or -1 for a base that is
	// fetched for the sake of a difference alone.
	want int32
	// held is the number of the difference that waits for this base, or -1.
	held int32
}

func (p *planned) end() int64 { return int64(p.offset) + int64(p.stored) }

// readPlan is the chunks of one pass through the packs.
type readPlan struct {
	packs   []packID
	numbers map[packID]int32
	items   []planned
}

func newReadPlan() *readPlan { return &readPlan{numbers: make(map[packID]int32)} }

func (p *readPlan) add(id chunk.ID, l location, want, held int32) {
	n, ok := p.numbers[l.pack]
	if !ok {
		n = int32(len(p.packs))
		p.numbers[l.pack] = n
		p.packs = append(p.packs, l.pack)
	}
	p.items = append(p.items, planned{id, n, l.offset, l.stored, l.plain, l.codec, want, held})
}

func (p *readPlan) place(it *planned) location {
	return location{pack: p.packs[it.pack], offset: it.offset, stored: it.stored, plain: it.plain, codec: it.codec}
}

// stored returns the bytes that the chunks take, those that are wanted several times once
// if the items are in the order of the packs.
func (p *readPlan) stored() int64 {
	var n int64
	for i := range p.items {
		it := &p.items[i]
		if i == 0 || it.pack != p.items[i-1].pack || it.offset != p.items[i-1].offset {
			n += int64(it.stored)
		}
	}
	return n
}

// A stretch is items of one plan that are fetched with one request.
type stretch struct {
	items      []planned
	start, end int64
}

// stretches puts the items in the order of the packs and divides them. Every byte of
// a pack is in one stretch at most. A gap of up to gap bytes that nobody asked for is
// read to save a request. What is longer than limit is divided evenly, so that a pack a little longer
// than two requests does not take two large ones and a tiny one.
func (p *readPlan) stretches(limit, gap int64) []stretch {
	slices.SortFunc(p.items, func(a, b planned) int {
		return cmp.Or(cmp.Compare(a.pack, b.pack), cmp.Compare(a.offset, b.offset), cmp.Compare(a.want, b.want))
	})
	var out []stretch
	from := 0
	var end int64
	for i := range p.items {
		it, first := &p.items[i], &p.items[from]
		if i > from && (it.pack != first.pack || int64(it.offset) > end+gap) {
			out = divide(out, stretch{p.items[from:i], int64(first.offset), end}, limit)
			from, end = i, 0
		}
		end = max(end, it.end())
	}
	if from < len(p.items) {
		out = divide(out, stretch{p.items[from:], int64(p.items[from].offset), end}, limit)
	}
	return out
}

// divide appends a stretch to others, in parts if it is longer than limit. Only a single chunk
// makes a part longer than that.
func divide(out []stretch, s stretch, limit int64) []stretch {
	length := s.end - s.start
	if length <= limit {
		return append(out, s)
	}
	// Parts end with a chunk, so they are planned to be a little shorter than they may be.
	parts := (length + limit*7/8 - 1) / (limit * 7 / 8)
	part := func(it *planned) int64 { return (int64(it.offset) - s.start) * parts / length }
	from := 0
	var end int64
	for i := range s.items {
		it, first := &s.items[i], &s.items[from]
		if i > from && it.end() > end && (part(it) > part(first) || it.end()-int64(first.offset) > limit) {
			out = append(out, stretch{s.items[from:i], int64(first.offset), end})
			from, end = i, 0
		}
		end = max(end, it.end())
	}
	return append(out, stretch{s.items[from:], int64(s.items[from].offset), end})
}

// shufflePacks puts stretches that are in the order of the packs in a random order of the
// packs.
func shufflePacks(in []stretch) []stretch {
	var packs [][]stretch
	from := 0
	for i := range in {
		if i+1 == len(in) || in[i+1].items[0].pack != in[i].items[0].pack {
			packs = append(packs, in[from:i+1])
			from = i + 1
		}
	}
	rand.Shuffle(len(packs), func(i, k int) { packs[i], packs[k] = packs[k], packs[i] })
	return slices.Concat(packs...)
}

// planReads looks up where the wanted chunks are. Those stored as differences are in a
// plan of their own. A chunk that is nowhere is told to the caller's function.
func (r *Repository) planReads(ctx context.Context, wants []Ref, lost func(i int, err error) error) (full, deltas *readPlan, err error) {
	set, err := r.currentIndex(ctx)
	if err != nil {
		return nil, nil, err
	}
	full, deltas = newReadPlan(), newReadPlan()
	full.items = make([]planned, 0, len(wants))
	for i, ref := range wants {
		l, ok := set.locateOne(&ref.ID)
		if ok && l.codec == chunk.Delta {
			if whole, found := set.locateFull(&ref.ID); found {
				l = whole
			}
		}
		if !ok || ref.Span > 0 && int64(l.plain) != ref.Span {
			if l, err = r.locateSpan(ctx, ref); err != nil {
				var at *ChunkError
				if !errors.As(err, &at) || ctx.Err() != nil {
					return nil, nil, err
				}
				if err = lost(i, err); err != nil {
					return nil, nil, err
				}
				continue
			}
		}
		plan := full
		if l.codec == chunk.Delta {
			plan = deltas
		}
		plan.add(ref.ID, l, int32(i), -1)
	}
	return full, deltas, nil
}
