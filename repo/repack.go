package repo

import (
	"context"
	"errors"
	"slices"

	"github.com/holdstill/holdstill/chunk"
)

// repack stores what is kept in the given packs anew, in a session of its own, and returns
// those packs of which nothing is needed any more. One that cannot be read stays.
func (c *collector) repack(ctx context.Context, m *marks, packs []packID) (moved []packID, err error) {
	if len(packs) == 0 {
		return nil, nil
	}
	s, err := c.repo.NewSession(ctx)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Abort(ctx))
		}
	}()
	// A plan that came since the look at the snapshots may have what a difference here builds
	// on, and does not wait for this session: then all this is for the next collection.
	for id := range s.there.Load().condemned {
		if n, ok := m.number[id]; ok && !m.packs[n].unusable {
			return nil, s.Abort(ctx)
		}
	}
	p := &repacker{collector: c, session: s, marks: m, moved: make(map[chunk.ID]struct{})}
	defer p.close()
	for i := range p.writers {
		if p.writers[i], err = s.NewWriter(); err != nil {
			return nil, err
		}
	}
	if c.opts.Recompress {
		if p.encoder, err = chunk.NewEncoder(chunk.EncoderOptions{Policy: chunk.Small}); err != nil {
			return nil, err
		}
	}
	if p.reader, err = c.repo.takeReader(); err != nil {
		return nil, err
	}
	defer c.repo.readers.Put(p.reader)
	var total, done int64
	for _, id := range packs {
		total += m.packs[m.number[id]].size
	}
	for _, id := range packs {
		c.progress(CollectRepack, done, total)
		info := packInfo{id, m.packs[m.number[id]].size}
		switch err := p.pack(ctx, info); {
		case err == nil:
			moved = append(moved, id)
		case ctx.Err() != nil || s.state() != nil:
			return nil, err
		default:
			c.repo.opts.Logger.Warn("a pack cannot be repacked, and stays", "pack", packKey(id), "error", err)
		}
		done += info.size
	}
	c.progress(CollectRepack, total, total)
	for _, w := range p.writers {
		if err := w.Flush(ctx); err != nil {
			return nil, err
		}
	}
	if c.fault == faultDeleteFirst {
		for _, id := range moved {
			if err := c.repo.store.remove(ctx, packKey(id)); err != nil {
				return nil, err
			}
		}
	}
	if err := s.finishMoves(ctx); err != nil {
		return nil, err
	}
	c.result.BytesWritten = s.packedBytes()
	return moved, nil
}

// repacker is a repack under way.
type repacker struct {
	*collector
	session *Session
	marks   *marks
	// writers are for files' data, and for nodes and file tables.
	writers [2]*Writer
	encoder *chunk.Encoder
	reader  *reader
	window  frameWindow
	plain   []byte
	small   []byte
	// moved are the chunks of the present pack that were stored anew.
	moved map[chunk.ID]struct{}
}

func (p *repacker) close() {
	for _, w := range p.writers {
		if w != nil {
			w.pack = nil // what was not flushed is not needed
			w.Close()
		}
	}
	if p.encoder != nil {
		p.encoder.Close()
	}
}

// pack stores what is kept in one pack anew. Nothing is stored of a chunk that is damaged.
func (p *repacker) pack(ctx context.Context, info packInfo) error {
	content, err := p.repo.readPackFooter(ctx, info)
	if err != nil {
		return err
	}
	p.window.reset()
	for _, e := range content.entries {
		if !p.marks.kept(&e.id, info.id) {
			continue
		}
		// Twice in one pack is once too often.
		if _, ok := p.moved[e.id]; ok {
			continue
		}
		if err := p.chunk(ctx, info.id, e); err != nil {
			return err
		}
		p.moved[e.id] = struct{}{}
	}
	clear(p.moved)
	return nil
}

// chunk reads a chunk, checked against its ID, and stores it.
func (p *repacker) chunk(ctx context.Context, pack packID, e packEntry) error {
	l := location{pack: pack, offset: e.offset, stored: e.stored, plain: e.plain, codec: e.codec}
	frame, err := p.window.read(ctx, p.repo.store, l)
	if err != nil {
		return chunkError(e.id, l, err)
	}
	// Reading a base uses other room than the frame stands in.
	if frame, err = p.reader.open(&p.reader.frame, e.id, l, frame); err == nil {
		p.plain, err = p.repo.decodeFrame(ctx, p.reader, nil, e.id, l, frame, p.plain[:0])
	}
	if err != nil {
		return chunkError(e.id, l, err)
	}
	codec := e.codec
	if p.encoder != nil && codec == chunk.S2 {
		// Whatever comes of it: were it left under S2, each later collection would store it
		// anew. Where it is not smaller, the difference is a few bytes.
		if p.small, codec, err = p.encoder.Encode(p.small[:0], p.plain); err != nil {
			return err
		}
		frame = p.small
	}
	w := p.writers[0]
	if p.marks.isMeta(&e.id) {
		w = p.writers[1]
	}
	return w.move(ctx, e.id, codec, frame, len(p.plain))
}

// packsToRecompress returns the packs with chunks that a recompression would store anew.
func (c *collector) packsToRecompress(m *marks) map[packID]bool {
	out := make(map[packID]bool)
	if !c.opts.Recompress {
		return out
	}
	for i, f := range m.flags {
		if f&markKept != 0 && f&markFast != 0 {
			out[m.packs[m.packOf[i]].id] = true
		}
	}
	return out
}

// packedBytes returns the size of the packs that the session has made durable.
func (s *Session) packedBytes() (n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.packs {
		if p.durable {
			n += p.size
		}
	}
	return n
}

// move stores a chunk that the repository has elsewhere.
func (w *Writer) move(ctx context.Context, id chunk.ID, codec chunk.Codec, stored []byte, size int) error {
	if err := w.room(ctx, packBaseSize+len(stored)); err != nil {
		return err
	}
	start := w.pack.begin()
	w.pack.buf = append(w.pack.buf, stored...)
	return w.added(ctx, id, start, size, codec)
}

// finishMoves makes what was moved known and ends the session.
func (s *Session) finishMoves(ctx context.Context) error {
	s.commitMu.Lock()
	defer s.commitMu.Unlock()
	if err := s.Sync(ctx); err != nil {
		return err
	}
	ctx, cancel := outlive(ctx, commitGrace)
	defer cancel()
	s.mu.Lock()
	packs := slices.Clone(s.unindexed())
	s.mu.Unlock()
	if err := s.indexPacks(ctx, packs); err != nil {
		return s.fail(err)
	}
	s.end()
	return s.release(ctx)
}
