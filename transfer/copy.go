package transfer

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdstill/holdstill/chunk"
	"github.com/holdstill/holdstill/repo"
)

// Options are the settings of one copy. The zero value works.
type Options struct {
	// Workers is how many chunks travel at once. Default: GOMAXPROCS.
	Workers int
	// Progress, if set, is told how far the copy is: at most ten times a second and
	// once at the end, one call at a time.
	Progress func(Progress)
}

// Result tells what a copy did.
type Result struct {
	// Snapshot is the description as it stands in the destination: the same as in
	// the source.
	Snapshot *repo.Manifest
	// Chunks is how many chunks were sent, BytesSent their size as stored. Chunks that
	// others are stored as the difference to are among them.
	Chunks, BytesSent int64
	// BytesNew is the plain size of those chunks, in bytes.
	BytesNew int64
	Duration time.Duration
}

// batchSize is how many chunks go to a worker at once, so that the queue costs
// nothing beside them.
const batchSize = 64

// Copy copies one snapshot to another repository, under the same ID. Chunks are not
// encoded anew, and what a chunk is stored as the difference to is sent before it;
// only where the destination holds that as a difference itself the chunk is sent in
// full. When Copy fails, or ctx ends, the destination lists nothing new and what was
// sent is deleted again. Errors: repo.ErrNotFound, repo.ErrExists
// if the destination has a snapshot with this ID, a *repo.ChunkError for a chunk
// that the source cannot read, the context's cause, or an error of a bucket.
func Copy(ctx context.Context, dst, src *repo.Repository, id string, opts Options) (_ *Result, err error) {
	c := &copying{src: src, opts: opts, start: time.Now()}
	if c.opts.Workers <= 0 {
		c.opts.Workers = runtime.GOMAXPROCS(0)
	}
	m, err := src.Manifest(ctx, id)
	if err != nil {
		return nil, err
	}
	if _, err := dst.Manifest(ctx, id); err == nil {
		return nil, fmt.Errorf("%w: %s", repo.ErrExists, id)
	} else if !errors.Is(err, repo.ErrNotFound) {
		return nil, err
	}
	c.total = m.Stats.Bytes
	if c.session, err = dst.NewSession(ctx); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.session.Abort(ctx))
		}
	}()
	if err := c.chunks(ctx, m); err != nil {
		return nil, err
	}
	if err := c.session.Commit(ctx, m); err != nil {
		return nil, err
	}
	c.report(true)
	return &Result{
		Snapshot: m, Chunks: c.sent.Load(), BytesSent: c.session.BytesStored(), BytesNew: c.session.BytesNew(),
		Duration: time.Since(c.start),
	}, nil
}

// copying is a Copy under way.
type copying struct {
	src     *repo.Repository
	session *repo.Session
	opts    Options
	start   time.Time
	total   int64

	done, sent, next atomic.Int64
	// mu is held while Options.Progress runs.
	mu sync.Mutex
}

// chunks sends everything that the snapshot needs.
func (c *copying) chunks(ctx context.Context, m *repo.Manifest) error {
	group, ctx := errgroup.WithContext(ctx)
	batches := make(chan []repo.Use)
	group.Go(func() error {
		defer close(batches)
		return c.list(ctx, m, batches)
	})
	for range c.opts.Workers {
		group.Go(func() error { return c.work(ctx, batches) })
	}
	return group.Wait()
}

// list hands out the chunks that the destination lacks, in batches.
func (c *copying) list(ctx context.Context, m *repo.Manifest, out chan<- []repo.Use) error {
	batch := make([]repo.Use, 0, batchSize)
	send := func() error {
		if len(batch) == 0 {
			return nil
		}
		select {
		case out <- batch:
			batch = make([]repo.Use, 0, batchSize)
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	for u, err := range c.src.Uses(ctx, m) {
		if err != nil {
			return err
		}
		if c.session.Has(u.ID) {
			c.finished(u)
			continue
		}
		if batch = append(batch, u); len(batch) == batchSize {
			if err := send(); err != nil {
				return err
			}
		}
	}
	return send()
}

// work sends batches. Files' data and the rest go into packs of their own, as
// where they come from.
func (c *copying) work(ctx context.Context, batches <-chan []repo.Use) error {
	var writers [2]*repo.Writer
	for i := range writers {
		w, err := c.session.NewWriter()
		if err != nil {
			return err
		}
		defer w.Close()
		writers[i] = w
	}
	var stored []byte
	for batch := range batches {
		for _, u := range batch {
			w := writers[0]
			if u.Meta {
				w = writers[1]
			}
			var err error
			if stored, err = c.chunk(ctx, w, u, stored); err != nil {
				return err
			}
		}
	}
	for _, w := range writers {
		if err := w.Flush(ctx); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// chunk sends one chunk; buf is reused.
func (c *copying) chunk(ctx context.Context, w *repo.Writer, u repo.Use, buf []byte) ([]byte, error) {
	if !c.session.Has(u.ID) {
		stored, codec, size, err := c.src.ReadEncoded(ctx, u.ID, buf[:0])
		if err != nil {
			return buf, err
		}
		buf = stored
		whole, err := c.base(ctx, w, codec, stored)
		if err != nil {
			return buf, err
		}
		var fresh bool
		if whole {
			fresh, err = w.AddEncoded(ctx, u.ID, codec, stored, size)
		} else {
			fresh, err = c.plain(ctx, w, u.ID)
		}
		if err != nil {
			return buf, err
		}
		if fresh {
			c.sent.Add(1)
		}
	}
	c.finished(u)
	return buf, nil
}

// base makes sure that the destination has what a stored chunk is the difference to,
// if it is one. It reports whether the chunk can be sent as it is: not where the
// destination has its base as the difference to yet another chunk, since no base may
// be one.
func (c *copying) base(ctx context.Context, w *repo.Writer, codec chunk.Codec, stored []byte) (bool, error) {
	if codec != chunk.Delta {
		return true, nil
	}
	id, ok := chunk.DeltaBase(stored)
	if !ok || c.session.HasFull(id) {
		return ok, nil
	}
	if c.session.Has(id) {
		return false, nil
	}
	full, codec, size, err := c.src.ReadEncoded(ctx, id, nil)
	if err != nil || codec == chunk.Delta {
		return false, err
	}
	fresh, err := w.AddEncoded(ctx, id, codec, full, size)
	if err != nil {
		return false, err
	}
	if fresh {
		c.sent.Add(1)
	}
	return c.session.HasFull(id), nil
}

// plain sends a chunk encoded anew.
func (c *copying) plain(ctx context.Context, w *repo.Writer, id chunk.ID) (bool, error) {
	data, err := c.src.ReadChunk(ctx, id, nil)
	if err != nil {
		return false, err
	}
	_, fresh, err := w.Add(ctx, data)
	return fresh, err
}

// finished counts a chunk that needs no more work.
func (c *copying) finished(u repo.Use) {
	if u.Meta {
		return
	}
	c.done.Add(u.Size)
	c.report(false)
}

// progressInterval is the shortest time between two reports.
const progressInterval = 100 * time.Millisecond

func (c *copying) report(last bool) {
	if c.opts.Progress == nil {
		return
	}
	now, due := int64(time.Since(c.start)), c.next.Load()
	if !last && (now < due || !c.next.CompareAndSwap(due, now+int64(progressInterval))) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opts.Progress(Progress{
		BytesDone: c.done.Load(), BytesTotal: c.total, BytesSent: c.session.BytesStored(), Elapsed: time.Since(c.start),
	})
}
