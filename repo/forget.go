package repo

import (
	"slices"

	"github.com/holdstill/holdstill/chunk"
)

// Held returns how many new chunks the session keeps in memory, at about 60 bytes each. A
// Checkpoint and then a Refresh let go of those that are durable by then: the repository's
// index knows them, which with Options.CacheDir takes no memory.
func (s *Session) Held() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pending.n
}

// forget drops the chunks of packs that the session has found in the repository, as if
// others had stored them. The caller holds commitMu, since chunks get other numbers.
func (s *Session) forget() {
	there := s.there.Load()
	s.mu.Lock()
	known := slices.DeleteFunc(slices.Clone(s.packs), func(p *sessionPack) bool { return !p.indexed || len(p.rows) == 0 })
	s.mu.Unlock()
	known = slices.DeleteFunc(known, func(p *sessionPack) bool { return there.condemned[p.id] || !there.base.namesPack(p.id) })
	if len(known) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return
	}
	old := s.pending
	drop := make([]bool, old.n)
	for _, p := range known {
		for _, row := range p.rows {
			drop[row.number] = true
		}
		p.rows, p.bases = nil, nil
	}
	s.packed = 0
	for _, p := range s.packs {
		s.packed += len(p.rows)
		for _, row := range p.rows {
			drop[row.number] = false
		}
	}
	// What is neither dropped nor in a pack is in one that a Writer has not finished.
	numbers := make(map[uint32]uint32)
	s.pending = newPendingSet()
	for n := range uint32(old.n) {
		if !drop[n] {
			numbers[n] = uint32(s.pending.n)
			s.pending.add(old.id(n), old.isFull(n))
		}
	}
	for _, p := range s.packs {
		for i := range p.rows {
			p.rows[i].number = numbers[p.rows[i].number]
		}
		p.bases = slices.DeleteFunc(p.bases, func(id chunk.ID) bool { return there.full(&id) })
	}
}
