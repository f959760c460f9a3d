package transfer

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdstill/holdstill/chunk"
	"github.com/holdstill/holdstill/repo"
)

// copying is a Copy under way.
type copying struct {
	src, dst *repo.Repository
	manifest *repo.Manifest
	session  *repo.Session
	opts     Options
	start    time.Time
	// retriesBefore is what both repositories had counted before the copy.
	retriesBefore int64

	// alike: both repositories name chunks alike.
	alike bool
	// stage is one of those below stageSend.
	stage atomic.Int32
	// data and meta are the packs under way: files' data and the rest go into packs of
	// their own, as where they come from. Whoever has put a token into turn adds to
	// them, which is no more than a copy in memory.
	data, meta *repo.Writer
	turn       chan struct{}

	bytesTotal, filesTotal int64
	bytesDone              atomic.Int64
	// walked is how many files the list of uses has come to, waiting how many of these
	// have chunks that are still to be sent.
	walked, waiting atomic.Int64
	// planned is the stored size of what was found missing so far; looked is how much
	// files' data was looked at for that.
	planned, looked atomic.Int64

	sent, fetched, requests atomic.Int64

	// noted is what BytesStored was at the last checkpoint; due asks for the next one.
	noted atomic.Int64
	due   chan struct{}

	// next is the earliest time of the next report, in nanoseconds after start.
	next atomic.Int64
	// mu is held while Options.Progress runs, and guards phase.
	mu    sync.Mutex
	phase string
}

// windowSize is how many missing chunks are put in the order of the packs at a time. It
// bounds the memory, at about 130 bytes each.
const windowSize = 1 << 17

// window is a list of chunks that are to be sent.
type window struct {
	wants []repo.Ref
	meta  []bool
	// file is the number of the file that a chunk is of, counted from first.
	file  []int32
	first int64
	// left counts the chunks of each of these files that are still to be sent.
	left []int32
	// counted: the chunk has come.
	counted []atomic.Bool
	// plain are the numbers of chunks that must be decoded to be sent. Whoever has the turn
	// adds to it.
	plain []int
}

// transfer sends everything that the snapshot needs and waits until it is durable.
func (c *copying) transfer(ctx context.Context) (err error) {
	if c.data, err = c.session.NewWriter(); err != nil {
		return err
	}
	defer c.data.Close()
	if c.meta, err = c.session.NewWriter(); err != nil {
		return err
	}
	defer c.meta.Close()
	group, groupCtx := errgroup.WithContext(ctx)
	finished := make(chan struct{})
	group.Go(func() error {
		defer close(finished)
		if c.alike {
			return c.windows(groupCtx)
		}
		c.enter(phaseSend)
		m, err := c.reencode(groupCtx)
		if err == nil {
			c.manifest = m
		}
		return err
	})
	group.Go(func() error { return c.checkpoints(groupCtx, finished) })
	if err := group.Wait(); err != nil {
		return err
	}
	for _, w := range []*repo.Writer{c.data, c.meta} {
		if err := w.Flush(ctx); err != nil {
			return err
		}
	}
	if err := c.session.Sync(ctx); err != nil {
		return err
	}
	c.enter(phaseVerify)
	if err := c.session.VerifyPacks(ctx, c.opts.ReadBack); err != nil || c.opts.Discard {
		return err
	}
	// The commit would write this index too, but could not leave the packs for the next try
	// if that failed.
	return c.session.Checkpoint(ctx)
}

// windows goes through what the snapshot needs and sends what is missing.
func (c *copying) windows(ctx context.Context) error {
	c.enter(phaseSend)
	var w window
	for u, err := range c.src.Uses(ctx, c.manifest) {
		if err != nil {
			return err
		}
		c.walked.Store(u.File)
		if !u.Meta {
			c.looked.Add(u.Size)
		}
		if c.session.Has(u.ID) {
			c.finished(u.Size, u.Meta)
			continue
		}
		if w.add(u) {
			c.waiting.Add(1)
		}
		if len(w.wants) == windowSize {
			if err := c.send(ctx, &w); err != nil {
				return err
			}
			w = window{}
		}
	}
	if err := c.send(ctx, &w); err != nil {
		return err
	}
	c.walked.Store(c.filesTotal)
	return nil
}

// add reports whether the chunk is the first of its file in the window.
func (w *window) add(u repo.Use) bool {
	if len(w.wants) == 0 {
		w.first = u.File
	}
	n := int32(u.File - w.first)
	for len(w.left) <= int(n) {
		w.left = append(w.left, 0)
	}
	w.left[n]++
	w.wants = append(w.wants, repo.Ref{ID: u.ID, Span: u.Size})
	w.meta = append(w.meta, u.Meta)
	w.file = append(w.file, n)
	return w.left[n] == 1
}

// send sends the chunks of one window.
func (c *copying) send(ctx context.Context, w *window) error {
	if len(w.wants) == 0 {
		return nil
	}
	w.counted = make([]atomic.Bool, len(w.wants))
	if err := c.read(ctx, w, nil, c.framesOnly()); err != nil || len(w.plain) == 0 {
		return err
	}
	return c.read(ctx, w, w.plain, false)
}

// read sends those chunks of a window that numbers has, or all if it is nil.
func (c *copying) read(ctx context.Context, w *window, numbers []int, framesOnly bool) error {
	wants := w.wants
	if numbers != nil {
		wants = make([]repo.Ref, len(numbers))
		for i, n := range numbers {
			wants[i] = w.wants[n]
		}
	}
	opts := repo.ReadStoredOptions{
		ReadChunksOptions: repo.ReadChunksOptions{Workers: c.opts.Workers, Fetches: c.opts.Fetches, Gap: maxGap},
		WantBase:          func(id chunk.ID) bool { return !c.session.Has(id) },
		Shuffle:           true,
		FramesOnly:        framesOnly,
	}
	if numbers == nil {
		opts.Planned = func(n int64) { c.planned.Add(n) }
	}
	if c.opts.Near == NearDestination {
		opts.Base = func(id chunk.ID, buf []byte) ([]byte, bool) {
			if !c.dst.HasFull(id) {
				return nil, false
			}
			data, err := c.dst.ReadChunk(ctx, id, buf)
			return data, err == nil
		}
	}
	stats, err := c.src.ReadStored(ctx, wants, opts, func(i int, sc *repo.StoredChunk, err error) error {
		if err != nil {
			return err
		}
		if i >= 0 && numbers != nil {
			i = numbers[i]
		}
		sent, err := c.put(ctx, w, i, sc)
		if sent && i >= 0 && !w.counted[i].Swap(true) {
			c.arrived(w, i)
		}
		return err
	})
	c.fetched.Add(stats.Bytes)
	c.requests.Add(stats.Requests)
	return err
}

// maxGap is how many bytes that are not needed are read to save a request. It is little,
// since the request may be cheap and the bytes may cost money.
const maxGap = 4 << 10

// take waits for the right to add to the packs under way, which give ends.
func (c *copying) take(ctx context.Context) error {
	select {
	case c.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (c *copying) give() { <-c.turn }

// addPlain adds one chunk of files' data, encoded anew.
func (c *copying) addPlain(ctx context.Context, data []byte) (chunk.ID, error) {
	if err := c.take(ctx); err != nil {
		return chunk.ID{}, err
	}
	defer c.give()
	id, fresh, err := c.data.Add(ctx, data)
	c.added(fresh)
	return id, err
}

// put adds one chunk to the packs under way, as it is stored if possible. It reports false if the
// chunk has to be decoded for that, and was not; then it is noted for later.
func (c *copying) put(ctx context.Context, win *window, i int, sc *repo.StoredChunk) (sent bool, err error) {
	if err := c.take(ctx); err != nil {
		return false, err
	}
	defer c.give()
	w := c.data
	if i >= 0 && win.meta[i] {
		w = c.meta
	}
	asStored := sc.Stored != nil
	if asStored && sc.Codec == chunk.Delta {
		// No base may be a difference itself: it would cost every read a chunk more.
		base, ok := chunk.DeltaBase(sc.Stored)
		asStored = ok && c.session.HasFull(base)
	}
	var fresh bool
	switch {
	case asStored:
		fresh, err = w.AddEncoded(ctx, sc.ID, sc.Codec, sc.Stored, sc.Size)
	case sc.Plain == nil && i >= 0:
		win.plain = append(win.plain, i)
		return false, nil
	default:
		_, fresh, err = w.Add(ctx, sc.Plain)
	}
	c.added(fresh)
	return err == nil, err
}

// added counts a chunk, and sees whether a checkpoint is due.
func (c *copying) added(fresh bool) {
	if fresh {
		c.sent.Add(1)
	}
	if c.session.BytesStored()-c.noted.Load() >= c.opts.CheckpointBytes {
		select {
		case c.due <- struct{}{}:
		default:
		}
	}
}

// arrived counts a chunk of a window.
func (c *copying) arrived(w *window, i int) {
	if atomic.AddInt32(&w.left[w.file[i]], -1) == 0 {
		c.waiting.Add(-1)
	}
	c.finished(w.wants[i].Span, w.meta[i])
}

// finished counts a chunk that needs no more work.
func (c *copying) finished(size int64, meta bool) {
	if !meta {
		c.bytesDone.Add(size)
	}
	c.report(false)
}

// checkpoints notes now and then what has arrived, until the sending is finished.
func (c *copying) checkpoints(ctx context.Context, finished <-chan struct{}) error {
	if c.opts.Discard {
		return nil
	}
	timer := time.NewTimer(c.opts.CheckpointInterval)
	defer timer.Stop()
	for {
		select {
		case <-finished:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-timer.C:
		case <-c.due:
		}
		// What arrives while this goes on is for the next time.
		if stored := c.session.BytesStored(); stored > c.noted.Load() {
			if err := c.session.VerifyPacks(ctx, c.opts.ReadBack); err != nil {
				return err
			}
			if err := c.session.Checkpoint(ctx); err != nil {
				return err
			}
			c.noted.Store(stored)
			// Others may send the same at the same time.
			if err := c.session.Refresh(ctx); err != nil {
				return err
			}
		}
		timer.Reset(c.opts.CheckpointInterval)
	}
}
