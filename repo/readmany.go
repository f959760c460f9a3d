package repo

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/holdstill/holdstill/chunk"
)

// DefaultFetches is how many requests ReadChunks has under way where
// ReadChunksOptions do not say.
const DefaultFetches = 8

// ReadChunksOptions are the settings of ReadChunks. The zero value works.
type ReadChunksOptions struct {
	// Workers is how many chunks are decoded at once, 1 to 1024. Default GOMAXPROCS.
	Workers int
	// Fetches is how many requests may be under way at once, 1 to 1024. A distant store
	// wants more than a local one. Default DefaultFetches.
	Fetches int
	// Gap is how many bytes that nobody asked for are read to save a request. Default
	// 128 KiB; less than 0: none.
	Gap int64
	// Base is asked for the plain bytes of a chunk that others are stored as the
	// difference to, before it is fetched. It appends them to dst, or reports false. What
	// it returns is checked against the chunk's ID. It is called by several goroutines.
	// May be nil.
	Base func(id chunk.ID, dst []byte) ([]byte, bool)
}

// ReadStats counts what ReadChunks asked of the bucket. It does not count chunks that
// had to be read once more, from another place, after damage.
type ReadStats struct {
	// Requests is the number of ranges read, Bytes the sum of their lengths.
	Requests, Bytes int64
}

// ReadChunks reads many chunks, each pack once and front to back, whatever the order
// of wants. put is called once for every element of wants, with its number and the
// plain bytes, which were checked against the ID and must not be used after it
// returns. It is called by up to Workers goroutines at once, in no particular order.
// For a chunk that cannot be read put gets a *ChunkError instead. The first error that
// put returns ends the call; when it returns nil the call goes on without the chunk.
//
// A chunk that stands in wants many times is fetched and decoded once, and so is a
// chunk that others are stored as the difference to. It takes about 70 bytes of memory
// for each element of wants, 4 MiB for each of max(Workers, Fetches), and 32 MiB for
// stored differences at most.
//
// It fails with put's error, with ErrInvalid for bad options, with ErrClosed, with the
// context's error, or with the bucket's where the index cannot be read. All goroutines
// have ended when it returns.
func (r *Repository) ReadChunks(ctx context.Context, wants []Ref, opts ReadChunksOptions, put func(i int, data []byte, err error) error) (ReadStats, error) {
	if err := r.use(); err != nil {
		return ReadStats{}, err
	}
	if err := opts.complete(); err != nil {
		return ReadStats{}, err
	}
	m := manyReads{repo: r, opts: opts, tokens: make(chan struct{}, opts.Workers)}
	m.put = func(i int, c *StoredChunk, err error) error {
		if err != nil {
			return put(i, nil, err)
		}
		return put(i, c.Plain, nil)
	}
	err := m.all(ctx, wants)
	return ReadStats{Requests: m.requests.Load(), Bytes: m.bytes.Load()}, err
}

func (o *ReadChunksOptions) complete() error {
	if o.Workers == 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.Fetches == 0 {
		o.Fetches = DefaultFetches
	}
	switch {
	case o.Workers < 1 || o.Workers > 1024:
		return fmt.Errorf("%w: Workers %d is not between 1 and 1024", ErrInvalid, o.Workers)
	case o.Fetches < 1 || o.Fetches > 1024:
		return fmt.Errorf("%w: Fetches %d is not between 1 and 1024", ErrInvalid, o.Fetches)
	case o.Gap == 0:
		o.Gap = maxGap
	case o.Gap < 0:
		o.Gap = 0
	}
	return nil
}

// manyReads is one call of ReadChunks or ReadStored.
type manyReads struct {
	repo *Repository
	opts ReadChunksOptions
	put  func(i int, c *StoredChunk, err error) error
	// wantBase, if not nil, says whether a base is wanted too that nobody asked for. It is
	// put under the number -1.
	wantBase func(id chunk.ID) bool
	// planned, if not nil, is told what is going to be fetched.
	planned func(bytes int64)
	shuffle bool
	// framesOnly is ReadStoredOptions.FramesOnly, proofs what frames are checked with then.
	framesOnly bool
	proofs     frameProofs
	// tokens lets as many goroutines decode as there are workers; the others fetch.
	tokens chan struct{}
	// held are the differences whose bases are being read.
	held []heldDelta

	requests, bytes atomic.Int64
}

// A heldDelta is a stored difference, out of its seal, and where it was found.
type heldDelta struct {
	planned
	place location
	base  chunk.ID
	frame []byte
	// sound: the frame was checked, and need not be decoded.
	sound bool
	// same are other numbers under which the chunk is wanted.
	same []int32
}

// all reads the differences first, as far as they may be held, so that their bases are
// known when the packs are gone through for what is stored in full.
func (m *manyReads) all(ctx context.Context, wants []Ref) error {
	full, deltas, err := m.repo.planReads(ctx, wants, func(i int, err error) error { return m.put(i, nil, err) })
	if err != nil {
		return err
	}
	parts := deltas.stretches(min(maxFetch, maxHeld), m.opts.Gap)
	if m.planned != nil {
		m.planned(full.stored() + deltas.stored())
	}
	for {
		n, size := 0, int64(0)
		for n < len(parts) && (n == 0 || size+parts[n].end-parts[n].start <= maxHeld) {
			size += parts[n].end - parts[n].start
			n++
		}
		if err := m.hold(ctx, deltas, parts[:n]); err != nil {
			return err
		}
		parts = parts[n:]
		if err := m.planBases(ctx, full); err != nil {
			return err
		}
		stretches := full.stretches(maxFetch, m.opts.Gap)
		if m.shuffle {
			stretches = shufflePacks(stretches)
		}
		if err := m.pass(ctx, full, stretches, m.deliver); err != nil {
			return err
		}
		if len(parts) == 0 {
			return nil
		}
		full = newReadPlan()
	}
}

// hold fetches differences and keeps them as they are stored.
func (m *manyReads) hold(ctx context.Context, plan *readPlan, parts []stretch) error {
	m.held = nil
	var mu sync.Mutex
	return m.pass(ctx, plan, parts, func(ctx context.Context, _ *reader, plan *readPlan, same []planned, frame []byte, sound bool, err error) error {
		d := heldDelta{planned: same[0], place: plan.place(&same[0]), sound: sound}
		if err == nil {
			var ok bool
			if d.base, ok = chunk.DeltaBase(frame); !ok {
				err = fmt.Errorf("%w: its %d bytes are too few for a difference", ErrCorrupt, len(frame))
			}
		}
		if err != nil {
			return m.elsewhere(ctx, plan, same, err)
		}
		d.frame = bytes.Clone(frame)
		for _, it := range same[1:] {
			d.same = append(d.same, it.want)
		}
		mu.Lock()
		defer mu.Unlock()
		m.held = append(m.held, d)
		return nil
	})
}

// planBases adds the bases of the differences that are held to a plan. A difference
// whose base the caller has, or that cannot be planned for, is settled at once.
func (m *manyReads) planBases(ctx context.Context, full *readPlan) error {
	set, err := m.repo.currentIndex(ctx)
	if err != nil {
		return err
	}
	var alone []int32
	for i := range m.held {
		l, ok := set.locateFull(&m.held[i].base)
		if !ok || m.opts.Base != nil || m.ready(&m.held[i]) {
			alone = append(alone, int32(i))
			continue
		}
		full.add(m.held[i].base, l, -1, int32(i))
	}
	if len(alone) == 0 {
		return nil
	}
	var mu sync.Mutex
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range min(m.opts.Workers, len(alone)) {
		group.Go(func() error {
			rd, err := m.repo.takeReader()
			if err != nil {
				return err
			}
			defer m.repo.readers.Put(rd)
			for {
				n := int(next.Add(1)) - 1
				if n >= len(alone) {
					return nil
				}
				if err := context.Cause(ctx); err != nil {
					return err
				}
				d := &m.held[alone[n]]
				if m.ready(d) {
					if err := m.resolve(ctx, rd, d, nil, nil); err != nil {
						return err
					}
					continue
				}
				if m.opts.Base != nil && (m.wantBase == nil || !m.wantBase(d.base)) {
					base, ok := m.opts.Base(d.base, rd.base[:0])
					if ok && rd.ident.Verify(d.base, base) == nil {
						rd.base = base
						if err := m.resolve(ctx, rd, d, base, nil); err != nil {
							return err
						}
						continue
					}
				}
				if l, ok := set.locateFull(&d.base); ok {
					mu.Lock()
					full.add(d.base, l, -1, alone[n])
					mu.Unlock()
					continue
				}
				// Others may have added it since; the slow way looks for it.
				if err := m.resolve(ctx, rd, d, nil, ErrMissing); err != nil {
					return err
				}
			}
		})
	}
	return group.Wait()
}

// ready reports whether a difference can be handed out without its base.
func (m *manyReads) ready(d *heldDelta) bool { return d.sound && !m.wants(d.base) }

// A handler takes the stored bytes of a chunk, or the reason why they could not be
// read, for all that the plan has at this place. sound says that they were checked, and need not
// be decoded.
type handler func(ctx context.Context, rd *reader, plan *readPlan, same []planned, frame []byte, sound bool, err error) error

// pass fetches the stretches of a plan, several at once, and has each chunk handled.
func (m *manyReads) pass(ctx context.Context, plan *readPlan, parts []stretch, handle handler) error {
	if m.framesOnly {
		if err := m.proofs.plan(ctx, m.repo, plan, parts); err != nil {
			return err
		}
	}
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range min(max(m.opts.Workers, m.opts.Fetches), len(parts)) {
		group.Go(func() error {
			buf, _ := m.repo.fetchBuffers.Get().(*[]byte)
			if buf == nil {
				buf = new([]byte)
			}
			defer m.repo.fetchBuffers.Put(buf)
			for {
				n := int(next.Add(1)) - 1
				if n >= len(parts) {
					return nil
				}
				if err := context.Cause(ctx); err != nil {
					return err
				}
				if err := m.stretch(ctx, plan, &parts[n], buf, handle); err != nil {
					return err
				}
			}
		})
	}
	return group.Wait()
}

// stretch fetches one stretch, waits for its turn, and has its chunks handled.
func (m *manyReads) stretch(ctx context.Context, plan *readPlan, s *stretch, buf *[]byte, handle handler) error {
	n := int(s.end - s.start)
	if cap(*buf) < n {
		// Not by append, which would make room for more, and with a little to spare, since others
		// are about as long.
		*buf = make([]byte, (n+fetchRound-1)/fetchRound*fetchRound)
	}
	stored := (*buf)[:n]
	m.requests.Add(1)
	m.bytes.Add(int64(n))
	// Both at once: a distant store takes its time for each.
	proof := m.proof(ctx, s.items[0].pack)
	key := packKey(plan.packs[s.items[0].pack])
	// A pack that was cut off has the chunks in front of the cut.
	got, fetchErr := m.repo.store.readSome(ctx, key, stored, s.start, int(s.items[0].stored))
	proof.wait()
	defer proof.done()
	select {
	case m.tokens <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-m.tokens }()
	rd, err := m.repo.takeReader()
	if err != nil {
		return err
	}
	defer m.repo.readers.Put(rd)
	for items := s.items; len(items) > 0; {
		n := 1
		for n < len(items) && items[n].offset == items[0].offset {
			n++
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
		frame := stored[int64(items[0].offset)-s.start:][:items[0].stored]
		err, sound := fetchErr, false
		if err == nil {
			err = cutOff(key, s.start+int64(got), items[0].end())
		}
		if err == nil {
			sound = proof.covers(&items[0], frame)
			frame, err = rd.open(&rd.frame, items[0].id, plan.place(&items[0]), frame)
		}
		if err := handle(ctx, rd, plan, items[:n], frame, sound, err); err != nil {
			return err
		}
		items = items[n:]
	}
	return nil
}

// deliver hands out a chunk that is stored in full, and the differences to it that are held.
// It decodes it, unless it is sound and nobody needs to know what it holds.
func (m *manyReads) deliver(ctx context.Context, rd *reader, plan *readPlan, same []planned, frame []byte, sound bool, err error) error {
	it := &same[0]
	c := StoredChunk{ID: it.id, Codec: it.codec, Stored: frame, Size: int(it.plain)}
	if err == nil && (!sound || m.decodesWith(same)) {
		rd.base, err = rd.decode(it.id, plan.place(it), frame, rd.base[:0])
		c.Plain = rd.base
	}
	if err != nil {
		return m.elsewhere(ctx, plan, same, err)
	}
	// The chunk itself first: who stores the differences needs it before them.
	alone := true
	for i := range same {
		if same[i].want >= 0 {
			alone = false
			if err := m.put(int(same[i].want), &c, nil); err != nil {
				return err
			}
		}
	}
	if alone && m.wants(it.id) {
		if err := m.put(-1, &c, nil); err != nil {
			return err
		}
	}
	for i := range same {
		if same[i].want < 0 {
			if err := m.resolve(ctx, rd, &m.held[same[i].held], c.Plain, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// decodesWith reports whether a difference to a chunk has to be decoded.
func (m *manyReads) decodesWith(same []planned) bool {
	return slices.ContainsFunc(same, func(it planned) bool { return it.want < 0 && !m.held[it.held].sound })
}

func (m *manyReads) wants(base chunk.ID) bool { return m.wantBase != nil && m.wantBase(base) }

// resolve decodes a difference, unless it is sound, and hands it out. Without a base, because of
// cause, it looks for other places of both chunks.
func (m *manyReads) resolve(ctx context.Context, rd *reader, d *heldDelta, base []byte, cause error) error {
	err := cause
	if err == nil && d.sound {
		return m.handHeld(ctx, d, &StoredChunk{ID: d.id, Codec: d.codec, Stored: d.frame, Size: int(d.plain)}, nil)
	}
	if err == nil {
		rd.plain, err = rd.decoder.DecodeDelta(rd.plain[:0], d.frame, base, int(d.plain))
		if err == nil {
			err = rd.ident.Verify(d.id, rd.plain)
		}
		if err != nil {
			err = fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
	} else if ctx.Err() == nil {
		// The base is looked for in all its places.
		own, takeErr := m.repo.takeReader()
		if takeErr != nil {
			return takeErr
		}
		rd.plain, err = m.repo.decodeFrame(ctx, own, nil, d.id, d.place, d.frame, rd.plain[:0])
		m.repo.readers.Put(own)
	}
	c := StoredChunk{ID: d.id, Codec: d.codec, Stored: d.frame, Plain: rd.plain, Size: int(d.plain)}
	if err != nil {
		c.Stored = nil
		c.Plain, err = m.readElsewhere(ctx, &d.planned, d.place, err)
	}
	return m.handHeld(ctx, d, &c, err)
}

// handHeld hands out a difference for all who want it, and lets go of it.
func (m *manyReads) handHeld(ctx context.Context, d *heldDelta, c *StoredChunk, err error) error {
	d.frame = nil
	if err := m.hand(ctx, int(d.want), c, err); err != nil {
		return err
	}
	for _, want := range d.same {
		if err := m.hand(ctx, int(want), c, err); err != nil {
			return err
		}
	}
	return nil
}

// elsewhere hands out a chunk that could not be read from its first place, because of
// cause, and the differences to it.
func (m *manyReads) elsewhere(ctx context.Context, plan *readPlan, same []planned, cause error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	c := StoredChunk{ID: same[0].id, Codec: same[0].codec, Size: int(same[0].plain)}
	var err error
	var looked bool
	for i := range same {
		it := &same[i]
		if it.want < 0 {
			rd, takeErr := m.repo.takeReader()
			if takeErr != nil {
				return takeErr
			}
			err := m.resolve(ctx, rd, &m.held[it.held], nil, cause)
			m.repo.readers.Put(rd)
			if err != nil {
				return err
			}
			continue
		}
		if !looked {
			c.Plain, err = m.readElsewhere(ctx, it, plan.place(it), cause)
			looked = true
		}
		if err := m.hand(ctx, int(it.want), &c, err); err != nil {
			return err
		}
	}
	return nil
}

func (m *manyReads) readElsewhere(ctx context.Context, it *planned, tried location, cause error) ([]byte, error) {
	data, err := m.repo.readElsewhere(ctx, Ref{it.id, int64(it.plain)}, tried, cause)
	if err == nil {
		err = checkSpan(Ref{it.id, int64(it.plain)}, data)
	}
	return data, err
}

// hand calls put, unless an error only says that the call is over.
func (m *manyReads) hand(ctx context.Context, want int, c *StoredChunk, err error) error {
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		c = nil
	}
	return m.put(want, c, err)
}
