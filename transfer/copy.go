package transfer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/holdstill/holdstill/repo"
)

// Options are the settings of one copy. The zero value works.
type Options struct {
	// Workers is how many chunks are decoded and checked at once, at most 1024. Default:
	// GOMAXPROCS.
	Workers int
	// Fetches is how many requests to the source are under way at once, at most 1024. Each
	// holds up to 4 MiB of memory. Default repo.DefaultFetches. How many packs are written
	// at once is repo.Options.Uploads of the destination.
	Fetches int
	// Near says which of the two is cheaper to read from. What a difference is checked
	// with is read there, if that has it.
	Near Side
	// Verify says how what is read is checked before it is sent on. Default VerifyAuto.
	Verify Verify
	// CheckpointBytes is how much is sent, at most about, before what has arrived is noted
	// in the destination, so that a copy that is cut off goes on from there. Then what others
	// have sent meanwhile is looked for, and not sent again. Default: a 64th of the
	// snapshot, at least 16 and at most 256 MiB.
	CheckpointBytes int64
	// CheckpointInterval is the same for time. Default 30 seconds.
	CheckpointInterval time.Duration
	// Discard deletes what was sent when the copy fails or is aborted, as far as it was not
	// noted, instead of leaving it for the next try. Then nothing is noted before the end.
	Discard bool
	// ReadBack reads every pack back from the destination and compares it, before
	// anything names it. Without it only the packs' sizes are asked for.
	ReadBack bool
	// Progress, if set, is told how far the copy is: at most ten times a second in a phase,
	// "send", "verify" or "commit", and once at the end, one call at a time.
	Progress func(Progress)
	// Logger hears of a copy that had to begin a second session. Default: nothing is
	// logged.
	Logger *slog.Logger
}

// A Side is one of the two repositories of a copy.
type Side int

// The sides. NearSource is for uploads, NearDestination for downloads.
const (
	NearSource Side = iota
	NearDestination
)

func (o Options) withDefaults() (Options, error) {
	if o.Workers == 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.Fetches == 0 {
		o.Fetches = repo.DefaultFetches
	}
	if o.CheckpointInterval == 0 {
		o.CheckpointInterval = 30 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Workers < 0 || o.Workers > 1024 || o.Fetches < 0 || o.Fetches > 1024 {
		return o, fmt.Errorf("%w: transfer.Options.Workers %d and Fetches %d must be from 1 to 1024", repo.ErrInvalid, o.Workers, o.Fetches)
	}
	if o.Verify < VerifyAuto || o.Verify > VerifyStored {
		return o, fmt.Errorf("%w: transfer.Options.Verify %d is none of the values it may have", repo.ErrInvalid, o.Verify)
	}
	if o.CheckpointBytes < 0 || o.CheckpointInterval < 0 {
		return o, fmt.Errorf("%w: transfer.Options.CheckpointBytes and CheckpointInterval must not be negative", repo.ErrInvalid)
	}
	return o, nil
}

// Result tells what a copy did.
type Result struct {
	// Snapshot is the description as it stands in the destination: the same as in
	// the source.
	Snapshot *repo.Manifest
	// Chunks is how many chunks were sent, BytesSent the size of the packs and indexes with
	// them. Chunks that others are stored as the difference to are among them. All are 0 if
	// the destination had the snapshot already.
	Chunks, BytesSent int64
	// Reencoded is set where chunks could not travel as they are stored, since the two
	// repositories name them differently.
	Reencoded bool
	// BytesNew is the plain size of those chunks, in bytes.
	BytesNew int64
	// BytesFetched is how much was read from the source for that, and Requests with how many
	// requests, without the file table and its like.
	BytesFetched, Requests int64
	Duration               time.Duration
}

// Copy copies one snapshot to another repository, under the same ID. Only what the
// destination lacks is read, in the order in which it lies in the source's packs, checked
// (see Options.Verify), and sent as it is stored; what a chunk is stored as the difference to
// is sent before it, and only where the destination holds that as a difference itself the
// chunk is sent in full. Where the two name chunks differently (see repo.Repository.SameIdentity)
// everything is read, and encoded anew. When all packs are durable, and the destination has confirmed
// their sizes, the snapshot appears there.
//
// What is attached to the snapshot is copied with it. A destination that has the very same
// snapshot is left as it is, but for attachments that it lacks or has otherwise, which is no error. When
// Copy fails, or ctx ends, the destination lists nothing new; what had arrived stays, and
// a copy that is run again, by whomever, sends the rest (see Options.Discard). Copies of
// the same data that go on at the same time share what each has noted. When ctx
// ends Copy returns within a second, unless that is during the last step, the commit, which
// goes on for up to ten; when Copy fails it may take half a minute to note in a slow
// destination what had arrived. A bucket that does not heed its contexts may leave
// goroutines behind until it does.
//
// Where this process stood still for so long that a collection of the destination took the copy
// for dead, it goes on in a second session, from what it had noted, once.
//
// Errors: repo.ErrNotFound, repo.ErrGivenUp if that happened a second time or during the commit, repo.ErrExists if the destination has another snapshot with
// this ID, a *repo.ChunkError for a chunk that the source cannot read, an error that
// matches repo.ErrCorrupt or repo.ErrMissing for a pack that did not arrive as it was
// sent, repo.ErrInvalid for bad options, the context's cause, or an error of a bucket.
func Copy(ctx context.Context, dst, src *repo.Repository, id string, opts Options) (*Result, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &copying{src: src, dst: dst, opts: opts, start: time.Now(), alike: src.SameIdentity(dst), due: make(chan struct{}, 1), turn: make(chan struct{}, 1)}
	c.retriesBefore = src.Traffic().Retries + dst.Traffic().Retries
	return c.attended(ctx, id)
}

// present reports whether the destination has this snapshot.
func (c *copying) present(ctx context.Context) (bool, error) {
	there, err := c.dst.Manifest(ctx, c.manifest.ID)
	if errors.Is(err, repo.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	ours := *c.manifest
	if !c.alike {
		// The same content has other names there.
		there.Table, ours.Table = repo.Content{}, repo.Content{}
	}
	want, err := json.Marshal(&ours)
	if err != nil {
		return false, err
	}
	got, err := json.Marshal(there)
	if err != nil {
		return false, err
	}
	if !bytes.Equal(got, want) {
		return false, fmt.Errorf("%w: %s, and it is not the same one", repo.ErrExists, c.manifest.ID)
	}
	c.walked.Store(c.filesTotal)
	c.bytesDone.Store(c.bytesTotal)
	return true, nil
}

// preferCause returns why ctx ended, if it did and err only says that it ended.
func preferCause(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		return fmt.Errorf("%w: %w", cause, err)
	}
	return err
}

// A copy that was told to end may go on tidying up as long as suspendGrace, and is waited
// for as long as stopGrace. One that failed by itself has failGrace: nobody is in a hurry,
// and what it does not note by then is sent again.
const (
	suspendGrace = 500 * time.Millisecond
	stopGrace    = 900 * time.Millisecond
	failGrace    = 30 * time.Second
)

// tidying returns a context for tidying up after a failure under ctx.
func tidying(ctx context.Context) (context.Context, context.CancelFunc) {
	out, cancel := context.WithTimeout(context.WithoutCancel(ctx), failGrace)
	stop := context.AfterFunc(ctx, func() {
		timer := time.NewTimer(suspendGrace)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel()
		case <-out.Done():
		}
	})
	return out, func() {
		stop()
		cancel()
	}
}

// What a copy and the one who waits for it agree on.
const (
	stageSend = iota
	// stageCommit: the end is near, and is waited for.
	stageCommit
	// stageLeft: nobody waits any more, and nothing may be committed.
	stageLeft
)

// attended runs the copy and does not wait for it much longer than ctx.
func (c *copying) attended(ctx context.Context, id string) (*Result, error) {
	type outcome struct {
		result *Result
		err    error
	}
	done := make(chan outcome, 1)
	go func() {
		result, err := c.run(ctx, id)
		done <- outcome{result, err}
	}()
	select {
	case out := <-done:
		return out.result, out.err
	case <-ctx.Done():
	}
	timer := time.NewTimer(stopGrace)
	defer timer.Stop()
	select {
	case out := <-done:
		return out.result, out.err
	case <-timer.C:
	}
	if c.stage.CompareAndSwap(stageSend, stageLeft) {
		return nil, context.Cause(ctx)
	}
	out := <-done
	return out.result, out.err
}

// run is Copy.
func (c *copying) run(ctx context.Context, id string) (_ *Result, err error) {
	if c.manifest, err = c.src.Manifest(ctx, id); err != nil {
		return nil, preferCause(ctx, err)
	}
	c.bytesTotal, c.filesTotal = c.manifest.Stats.Bytes, c.manifest.Stats.Files
	if c.opts.CheckpointBytes == 0 {
		c.opts.CheckpointBytes = min(max(c.bytesTotal/64, 16<<20), 256<<20)
	}
	there, err := c.present(ctx)
	switch {
	case err == nil && !there:
		err = c.deliver(ctx)
	case err == nil:
		err = c.attachMissing(ctx)
	}
	if err != nil {
		return nil, preferCause(ctx, err)
	}
	c.report(true)
	return c.result(), nil
}

// attempts is how often a copy is tried, at most: once, and again if a collection of the
// destination has taken its session for dead.
const attempts = 2

// deliver sends what is missing and commits the snapshot, in a second session if need be.
func (c *copying) deliver(ctx context.Context) error {
	original := c.manifest
	var given error
	for n := 1; ; n++ {
		err := c.attempt(ctx)
		if err == nil {
			return nil
		}
		if !errors.Is(err, repo.ErrGivenUp) || n == attempts || ctx.Err() != nil {
			return errors.Join(err, given)
		}
		given = err
		c.opts.Logger.Warn("a collection of the destination took the copy for dead, since it had shown no sign of life: going on from what it had noted",
			"snapshot", original.ID, "error", err)
		c.manifest = original
		c.stage.CompareAndSwap(stageCommit, stageSend)
		for _, count := range []*atomic.Int64{&c.bytesDone, &c.walked, &c.waiting, &c.planned, &c.looked, &c.noted, &c.sent} {
			count.Store(0)
		}
	}
}

// attempt does it in one session.
func (c *copying) attempt(ctx context.Context) (err error) {
	if c.session, err = c.dst.NewSession(ctx); err != nil {
		return err
	}
	if err = c.transfer(ctx); err == nil {
		err = c.attach(ctx)
	}
	if err == nil || errors.Is(err, repo.ErrExists) { // commit finds out whose it is
		err = c.commit(ctx)
	}
	if err == nil {
		return nil
	}
	if errors.Is(err, repo.ErrMissing) {
		// The collection that takes a session for dead deletes what it has not noted.
		if alive := c.session.Alive(ctx); errors.Is(alive, repo.ErrGivenUp) {
			err = errors.Join(alive, err)
		}
	}
	if c.opts.Discard {
		return errors.Join(err, c.session.Abort(ctx))
	}
	grace, cancel := tidying(ctx)
	defer cancel()
	if stopErr := c.session.Suspend(grace); stopErr != nil && ctx.Err() == nil {
		// Not when it was told to end: the store may be why.
		err = errors.Join(err, stopErr)
	}
	return err
}

func (c *copying) commit(ctx context.Context) error {
	c.enter(phaseCommit)
	if err := context.Cause(ctx); err != nil {
		return err
	}
	// A manifest that does not count would be in the way of the next attempt.
	if err := c.session.Alive(ctx); err != nil {
		return err
	}
	if !c.stage.CompareAndSwap(stageSend, stageCommit) {
		return context.Cause(ctx)
	}
	err := c.session.Commit(ctx, c.manifest)
	if !errors.Is(err, repo.ErrExists) {
		return err
	}
	// Somebody else may have sent it meanwhile.
	there, presentErr := c.present(ctx)
	if !there {
		return errors.Join(err, presentErr)
	}
	if err := c.session.Abort(ctx); err != nil {
		return err
	}
	return c.attachMissing(ctx)
}

func (c *copying) result() *Result {
	r := &Result{
		Snapshot: c.manifest, Reencoded: !c.alike, Chunks: c.sent.Load(), BytesFetched: c.fetched.Load(), Requests: c.requests.Load(),
		Duration: time.Since(c.start),
	}
	if c.session != nil {
		r.BytesSent, r.BytesNew = c.session.BytesStored(), c.session.BytesNew()
	}
	return r
}
