package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/holdstill/holdstill/chunk"
)

// subject is whose chunks are being checked: those of one file of a snapshot, or
// of its file table where path is empty.
type subject struct {
	snapshot, path string
	// block takes the bytes of a block of the file table; nil for a file.
	block func(ref Ref, data []byte) (sound bool, err error)
}

// walk checks everything that one snapshot needs. The error is the context's.
func (c *checker) walk(ctx context.Context, m *Manifest) error {
	before := ""
	_, err := c.content(ctx, m.Table, subject{snapshot: m.ID, block: func(ref Ref, data []byte) (bool, error) {
		files, err := parseBlock(data, before)
		if err != nil {
			return false, err
		}
		before = files[len(files)-1].Path
		key := soundKey{Ref: ref, depth: blockDepth}
		if c.sound[key] {
			return true, nil
		}
		sound := true
		for i := range files {
			ok, err := c.content(ctx, files[i].Content, subject{snapshot: m.ID, path: files[i].Path})
			if err != nil {
				return false, err
			}
			sound = sound && ok
		}
		if sound {
			c.sound[key] = true
		}
		return sound, nil
	}})
	return err
}

// content checks the chunks of a content and all below them, and reports whether
// they are sound. The error is the context's.
func (c *checker) content(ctx context.Context, content Content, who subject) (sound bool, err error) {
	sound = true
	for _, ref := range content.Refs {
		if err := context.Cause(ctx); err != nil {
			return false, err
		}
		key := soundKey{ref, content.Depth}
		file := who.block == nil
		if file && content.Depth > 0 && c.sound[key] {
			continue
		}
		ok := c.chunk(ctx, ref, content.Depth, who)
		if ok && (content.Depth > 0 || !file) {
			if ok, err = c.below(ctx, ref, content.Depth, who); ctx.Err() != nil {
				return false, context.Cause(ctx)
			} else if err != nil {
				c.chunkDamage(ref.ID, err).harms(who.snapshot, who.path)
				ok = false
			}
			if ok && file {
				c.sound[key] = true
			}
		}
		sound = sound && ok
	}
	return sound, nil
}

// below reads a node, or a block of the file table, and checks what it lists.
func (c *checker) below(ctx context.Context, ref Ref, depth int, who subject) (bool, error) {
	if depth > 0 {
		refs, err := c.repo.readNode(ctx, ref, depth)
		if err != nil {
			return false, err
		}
		return c.content(ctx, Content{Depth: depth - 1, Refs: refs}, who)
	}
	data, err := c.repo.cachedChunk(ctx, ref.ID)
	if err != nil {
		return false, err
	}
	if int64(len(data)) != ref.Span {
		return false, fmt.Errorf("%w: block of %d bytes where %d are expected", ErrCorrupt, len(data), ref.Span)
	}
	return who.block(ref, data)
}

// chunk checks that one chunk can be found and is whole, and marks it as used. It
// reports whether it can be read.
func (c *checker) chunk(ctx context.Context, ref Ref, depth int, who subject) bool {
	span := ref.Span
	if depth > 0 {
		span = 0
	}
	whole, damaged := c.places(ctx, &ref.ID, span, false)
	switch {
	case whole && c.indexed(&ref.ID, false):
		return true
	case whole:
		damaged = []*Damage{c.notIndexed()}
	case len(damaged) == 0 && c.salvage(ctx, ref.ID, false):
		return true
	case len(damaged) == 0:
		damaged = append(damaged, c.lostChunk(ref.ID))
	}
	for _, d := range damaged {
		d.harms(who.snapshot, who.path)
	}
	return false
}

// places looks at the places of a chunk up to the first that is whole, and marks
// them as used. It returns whether there is one, and the damage of the others. With
// asBase only places count that hold the chunk in full. A span of 0 is not
// compared.
func (c *checker) places(ctx context.Context, id *chunk.ID, span int64, asBase bool) (whole bool, damaged []*Damage) {
	for i := c.actual.find(id); i < c.actual.count() && bytes.Equal(c.actual.recordID(i), id[:]); i++ {
		l := c.actual.location(i)
		if asBase && l.codec == chunk.Delta {
			continue
		}
		c.used[i] = true
		err := c.bad[i]
		if err == nil && span > 0 && int64(l.plain) != span {
			err = fmt.Errorf("%w: it has %d bytes where %d are expected", ErrCorrupt, l.plain, span)
		}
		if err != nil {
			damaged = append(damaged, c.placeDamage(*id, l, err))
			continue
		}
		if base, ok := c.bases[i]; ok {
			if hurt := c.base(ctx, *id, l, base); len(hurt) > 0 {
				damaged = append(damaged, hurt...)
				continue
			}
		}
		return true, damaged
	}
	return false, damaged
}

// findBases returns what records of actual are stored as the difference to.
func (c *checker) findBases(packs []packContent) map[int]chunk.ID {
	bases := make(map[int]chunk.ID)
	for _, p := range packs {
		for _, e := range p.entries {
			if e.base > 0 {
				bases[c.record(p.id, e)] = p.bases[e.base-1]
			}
		}
	}
	return bases
}

// base checks the base of a chunk that lies at l, marks it as used, and returns what
// keeps it from being read: nothing if it can be.
func (c *checker) base(ctx context.Context, id chunk.ID, l location, base chunk.ID) []*Damage {
	whole, damaged := c.places(ctx, &base, 0, true)
	switch {
	case whole && c.indexed(&base, true):
		return nil
	case whole:
		return []*Damage{c.notIndexed()}
	case len(damaged) > 0:
		return damaged
	case c.salvage(ctx, base, true):
		return nil
	}
	for _, x := range c.indexes {
		for i := x.find(&base); i < x.count() && bytes.Equal(x.recordID(i), base[:]); i++ {
			if at := x.location(i); at.codec != chunk.Delta {
				return []*Damage{c.placeDamage(base, at, fmt.Errorf("%w: its pack does not hold it", ErrMissing))}
			}
		}
	}
	return []*Damage{c.placeDamage(id, l, &BaseError{ID: base, Err: fmt.Errorf("%w: no readable pack holds it in full", ErrMissing)})}
}

// indexed says whether an index names a chunk; with inFull only a place that holds
// it in full counts.
func (c *checker) indexed(id *chunk.ID, inFull bool) bool {
	if inFull {
		_, ok := c.repo.indexes.Load().locateFull(id)
		return ok
	}
	return c.repo.indexes.Load().has(id)
}

// notIndexed returns the damage of chunks that readers cannot find.
func (c *checker) notIndexed() *Damage {
	return c.add(Damage{
		Object: indexPrefix,
		Err:    fmt.Errorf("%w: chunks are in packs but in no readable index: rebuild the index", ErrMissing),
	})
}

// placeDamage returns the damage of a place of a chunk: that of the whole pack, if
// it could not be read, or one of its own.
func (c *checker) placeDamage(id chunk.ID, l location, err error) *Damage {
	if d := c.damage[damageKey{object: packKey(l.pack)}]; d != nil {
		return d
	}
	return c.add(Damage{Object: packKey(l.pack), Chunk: id, Offset: int64(l.offset), Length: int64(l.stored), Err: err})
}

// salvage reports whether a chunk can be read although the footer of its pack is
// damaged; with asBase, whether it can be as the base of another.
func (c *checker) salvage(ctx context.Context, id chunk.ID, asBase bool) bool {
	key := salvageKey{id, asBase}
	ok, tried := c.salvaged[key]
	if tried {
		return ok
	}
	for _, l := range c.repo.indexes.Load().locate(&id) {
		if c.unreadable[l.pack] == nil || asBase && l.codec == chunk.Delta {
			continue
		}
		var err error
		if asBase {
			err = c.repo.tryBase(ctx, id)
		} else {
			_, err = c.repo.ReadChunk(ctx, id, nil)
		}
		ok = err == nil
		break
	}
	c.salvaged[key] = ok
	return ok
}

// chunkDamage returns the damage of a chunk that could not be read or taken apart:
// at the place where it was read, or at the first that a pack gives.
func (c *checker) chunkDamage(id chunk.ID, err error) *Damage {
	var ce *ChunkError
	if errors.As(err, &ce) && ce.Pack != "" {
		return c.add(Damage{Object: ce.Pack, Chunk: id, Offset: ce.Offset, Length: ce.Length, Err: ce.Err})
	}
	if i := c.actual.find(&id); i < c.actual.count() {
		return c.placeDamage(id, c.actual.location(i), err)
	}
	return c.add(Damage{Object: indexPrefix, Chunk: id, Err: err})
}

// lostChunk returns the damage of a chunk that no readable pack holds: that of the
// pack an index names, or one of its own.
func (c *checker) lostChunk(id chunk.ID) *Damage {
	for _, x := range c.indexes {
		if i := x.find(&id); i < x.count() {
			return c.placeDamage(id, x.location(i), fmt.Errorf("%w: its pack does not hold it", ErrMissing))
		}
	}
	return c.add(Damage{Object: indexPrefix, Chunk: id, Err: fmt.Errorf("%w: no readable pack holds the chunk", ErrMissing)})
}
