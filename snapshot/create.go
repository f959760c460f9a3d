package snapshot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/holdstill/holdstill/lock"
	"github.com/holdstill/holdstill/repo"
)

// CreateOptions are the settings of one snapshot. The zero value takes a snapshot
// of all sources, compared with the newest one there is.
type CreateOptions struct {
	// Label becomes the last part of the ID; see CheckLabel. Empty means a UUID.
	Label string
	// ID is the snapshot's ID, where it must be known before the snapshot is made: see NewID
	// and CheckID. It must be free. From the call on, things can be attached to it with
	// Engine.Attach. Other snapshots find their parent best if IDs begin as those of NewID.
	// Empty, the default: the time of the cut and the label.
	ID string
	// Description and Metadata are kept with the snapshot.
	Description string
	Metadata    map[string]string
	// Include and Skip are patterns of what goes into the snapshot; see Pattern. With Include
	// only what one of them covers does, and the folders that lead there; what one of Skip
	// covers does not, also if it is included. Everything is pinned all the same. Such a
	// snapshot says so in Snapshot.Partial, and an in-place restore of it must be asked for.
	Include, Skip []string
	// Parent is the ID of the snapshot to compare with: what it holds is not read
	// again where the sources promise that it is the same. Empty means the newest
	// snapshot that has one of the sources, and was chosen by the same patterns.
	Parent string
	// NoParent reads everything. Chunks that the repository has are not stored
	// again all the same.
	NoParent bool
	// Freeze says how long to wait for the lock, and what to do then. It is not
	// used where Config.Lock is nil.
	Freeze lock.FreezeOptions
	// Verify reads every file that the sources call unchanged, and fails if one has
	// changed.
	Verify bool
	// Progress, if set, is told how far the snapshot is: at most ten times a
	// second, one call at a time, from several goroutines. It must return soon, and
	// must not call the Engine.
	Progress func(Progress)

	// reservation is set by StartCreate.
	reservation *reservation
}

// idAttempts is how many IDs Create tries in one second before it gives up.
const idAttempts = 10_000

// Create takes a snapshot of all sources and returns its description. Steps:
//
//  1. Every source that is a Preparer prepares, while the server runs.
//  2. The lock is frozen, every source is pinned, and the lock is open again.
//  3. The views are read, cut into chunks, and what the repository does not have
//     is stored, while the server runs.
//  4. When all of it is durable the manifest is written. From this moment the
//     snapshot is listed, and before it nothing is.
//
// When the process stood still for so long that a collection took the snapshot under way for
// dead, steps 3 and 4 are done once more, from the same views; the manifest of the first time
// is listed as well in the rare case that it was written while the collection decided.
//
// When Create fails, or ctx ends, or the engine is closed, nothing is listed and what was
// stored is deleted again; but where the store breaks off while the manifest is written, the
// snapshot exists or not, as List tells. Only with Config.CacheDir, what was stored is noted in
// the repository every 131,072 new chunks, so that the memory that a snapshot takes does not
// grow with it: that stays, and is found by the next Create, or goes with the next Collect. A
// source that fails to close its View after the snapshot was made is logged. A panic of a
// source comes out of Create, in whichever goroutine it was, after the same cleaning up.
//
// Errors: ErrBadLabel, ErrPattern, ErrNoMatch if the patterns choose nothing, ErrBadID,
// repo.ErrExists for the ID, repo.ErrInvalid for texts that are too long or not UTF-8,
// ErrNoSources, ErrNotFound for the parent, ErrClosed, what lock.Gate.Freeze fails with, such
// as a *lock.TimeoutError, a *SourceError around what a source failed with, ErrFileKind and
// ErrChanged among it, a *BrokenPromiseError, the context's cause, repo.ErrGivenUp where the
// second try met a collection as well or something was attached before it, or an error of
// the repository. A full disk matches syscall.ENOSPC.
func (e *Engine) Create(ctx context.Context, opts CreateOptions) (s *Snapshot, err error) {
	if opts.reservation != nil {
		defer e.release(opts.ID, opts.reservation)
	}
	if opts.Label != "" {
		if err := CheckLabel(opts.Label); err != nil {
			return nil, err
		}
	}
	if len(e.names) == 0 {
		return nil, ErrNoSources
	}
	picks, err := newChoice(opts.Include, opts.Skip)
	if err != nil {
		return nil, err
	}
	ctx, done, err := e.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	c := &creation{engine: e, opts: opts, picks: picks, track: newTracker(opts.Progress)}
	if opts.ID != "" && opts.reservation == nil {
		if c.opts.reservation, err = e.reserve(ctx, opts.ID); err != nil {
			return nil, err
		}
		defer e.release(opts.ID, c.opts.reservation)
	}
	// Before all of the work, not after it.
	if err := repo.CheckManifest(c.told()); err != nil {
		return nil, err
	}
	if c.parent, err = e.findParent(ctx, opts); err != nil {
		return nil, err
	}
	// After a commit this does nothing. It is needed also when a source panics.
	defer func() {
		if c.session != nil {
			err = errors.Join(err, c.session.Abort(ctx))
		}
	}()
	if err := c.announce(ctx); err != nil {
		return nil, err
	}
	if err := c.pin(ctx); err != nil {
		return nil, err
	}
	made := false
	defer func() {
		closeErr := c.closeViews()
		if made && closeErr != nil {
			// The snapshot is there: who is told that it failed would make another.
			e.log.Error("a source could not let go of what the snapshot was made from", "snapshot", s.ID, "error", closeErr)
			closeErr = nil
		}
		err = errors.Join(err, closeErr)
	}()
	s, err = c.store(ctx)
	made = err == nil
	return s, err
}

// announce begins the session before anything else where the ID is known, so that things
// can be attached to it.
func (c *creation) announce(ctx context.Context) error {
	if c.opts.reservation == nil {
		return nil
	}
	return c.begin(ctx)
}

// begin begins the session. When it fails there is none.
func (c *creation) begin(ctx context.Context) error {
	session, err := c.engine.repo.NewSession(ctx)
	if err != nil {
		return err
	}
	if r := c.opts.reservation; r != nil {
		if err := session.Reserve(ctx, c.opts.ID); err != nil {
			return errors.Join(err, session.Abort(ctx))
		}
		c.engine.offer(r, session)
	}
	c.session = session
	return nil
}

// creation is a Create under way.
type creation struct {
	engine *Engine
	opts   CreateOptions
	picks  *choice // nil chooses all
	track  *tracker
	parent *Snapshot // nil if none

	// views are in the order of engine.names.
	views    []*View
	created  time.Time
	frozen   lock.FreezeResult
	session  *repo.Session
	notes    notes
	read     counter
	verified counter
	// basesLost makes sure that one damaged parent is logged once.
	basesLost sync.Once
}

// findParent returns the snapshot to compare with, or nil.
func (e *Engine) findParent(ctx context.Context, opts CreateOptions) (*Snapshot, error) {
	if opts.NoParent {
		return nil, nil
	}
	if opts.Parent != "" {
		m, err := e.repo.Manifest(ctx, opts.Parent)
		if err != nil {
			return nil, fmt.Errorf("snapshot: parent: %w", err)
		}
		return m, nil
	}
	var newest *Snapshot
	for m, err := range e.repo.ManifestsReverse(ctx) {
		if err != nil {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			if errors.Is(err, repo.ErrCorrupt) || errors.Is(err, repo.ErrFormat) {
				// A parent saves work and is not needed: an older one will do.
				e.log.Warn("skipped a snapshot that cannot be read while looking for a parent", "error", err)
				continue
			}
			return nil, err
		}
		if newest != nil && !sameSecond(newest.ID, m.ID) {
			break
		}
		if !slices.ContainsFunc(m.Sources, func(s repo.SourceInfo) bool { return e.config.Sources[s.Name] != nil }) {
			continue
		}
		if !samePatterns(m.Partial, opts.partial()) {
			continue
		}
		// IDs of one second sort by their labels, not by their times.
		if newest == nil || m.Created.After(newest.Created) {
			newest = m
		}
	}
	return newest, nil
}

// partial is what the manifest says of the patterns.
func (o *CreateOptions) partial() *repo.Partial {
	if len(o.Include)+len(o.Skip) == 0 {
		return nil
	}
	return &repo.Partial{Include: slices.Clone(o.Include), Skip: slices.Clone(o.Skip)}
}

func samePatterns(a, b *repo.Partial) bool {
	if a == nil || b == nil {
		return a == b
	}
	return slices.Equal(a.Include, b.Include) && slices.Equal(a.Skip, b.Skip)
}

// attempts is how often the views are read, at most: once, and again if a collection has
// taken the first session for dead.
const attempts = 2

// store reads the views into the repository and commits the snapshot.
func (c *creation) store(ctx context.Context) (*Snapshot, error) {
	c.track.enter(PhaseSettle)
	if err := c.settle(ctx); err != nil {
		return nil, err
	}
	// Now that it is known what the sources say.
	if err := repo.CheckManifest(c.describe(nil)); err != nil {
		return nil, err
	}
	var given error
	for n := 1; ; n++ {
		m, err := c.attempt(ctx)
		if err == nil {
			c.track.finish()
			return m, nil
		}
		// What was stored does not count, but the views are as they were.
		if !errors.Is(err, repo.ErrGivenUp) || n == attempts || ctx.Err() != nil || !c.again() {
			return nil, errors.Join(err, given)
		}
		given = err
		c.engine.log.Warn("a collection took the snapshot under way for dead, since it had shown no sign of life: reading everything once more", "error", err)
	}
}

// again makes ready for another attempt, unless that could not keep all promises: what
// somebody has attached meanwhile went with the session.
func (c *creation) again() bool {
	if r := c.opts.reservation; r != nil && !c.engine.renew(r) {
		return false
	}
	c.session = nil
	c.read.Store(0)
	c.verified.Store(0)
	c.track.restart()
	return true
}

// attempt reads the views and commits the snapshot, in one session.
func (c *creation) attempt(ctx context.Context) (*Snapshot, error) {
	if c.session == nil {
		if err := c.begin(ctx); err != nil {
			return nil, err
		}
	}
	c.track.count(c.session)
	var m *Snapshot
	err := c.keepParent(ctx)
	if err == nil {
		m, err = c.fill(ctx)
	}
	if err == nil {
		err = c.commit(ctx, m)
	}
	if err != nil {
		return nil, errors.Join(preferCause(ctx, err), c.session.Abort(ctx))
	}
	return m, nil
}

// keepParent makes sure that the parent is there for as long as the session is, or goes on
// without it: it may have been deleted since it was found, or a collection be about to
// move its chunks.
func (c *creation) keepParent(ctx context.Context) error {
	if c.parent == nil {
		return nil
	}
	err := c.session.UseSnapshot(ctx, c.parent)
	gone := errors.Is(err, repo.ErrNotFound) && c.opts.Parent == ""
	if gone || errors.Is(err, repo.ErrCondemned) || errors.Is(err, repo.ErrCorrupt) || errors.Is(err, repo.ErrMissing) {
		c.engine.log.Info("the parent snapshot cannot be built on: reading more than would be needed", "parent", c.parent.ID, "error", err)
		c.parent = nil
		return nil
	}
	return err
}

// preferCause returns why ctx ended, if it did and err only says that it ended.
func preferCause(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		return fmt.Errorf("%w: %w", cause, err)
	}
	return err
}

// fill stores the files and their table, and returns the manifest without its ID.
func (c *creation) fill(ctx context.Context) (*Snapshot, error) {
	files, err := c.scan(ctx)
	if err != nil {
		return nil, err
	}
	c.track.enter(PhaseRead)
	if err := c.ingest(ctx, files); err != nil {
		return nil, err
	}
	m := c.describe(files)
	table := func(yield func(repo.File) bool) {
		for _, f := range files {
			if !yield(f.File) {
				return
			}
		}
	}
	m.Table, err = c.session.PutTable(ctx, table)
	return m, err
}

// told is what the manifest has from the caller.
func (c *creation) told() *Snapshot {
	return &Snapshot{
		ID:              c.opts.ID,
		Created:         c.created,
		Label:           c.opts.Label,
		Description:     c.opts.Description,
		Consistency:     repo.ConsistencySource,
		DatabaseVersion: c.engine.config.DatabaseVersion,
		Metadata:        c.opts.Metadata,
		Partial:         c.opts.partial(),
	}
}

// describe makes the manifest.
func (c *creation) describe(files []*sourceFile) *Snapshot {
	m := c.told()
	if c.parent != nil {
		m.Parent = c.parent.ID
	}
	if c.engine.config.Lock != nil {
		m.Consistency = repo.ConsistencyFrozen
		if !c.frozen.Consistent {
			m.Consistency = repo.ConsistencyNone
		}
		m.Freeze = repo.FreezeInfo{
			Attempts: c.frozen.Attempts,
			Waited:   c.frozen.Waited,
			Held:     c.frozen.LongestHeld,
			Stall:    c.frozen.LongestStall,
			Forced:   c.frozen.Forced,
		}
	}
	for i, name := range c.engine.names {
		v := c.views[i]
		m.Sources = append(m.Sources, repo.SourceInfo{
			Name: name, Kind: v.Kind, Method: v.Method, Epoch: v.Epoch, Position: v.Position, Metadata: v.Metadata,
		})
	}
	for _, f := range files {
		if f.IsDir() {
			m.Stats.Directories++
			continue
		}
		m.Stats.Files++
		m.Stats.Bytes += f.Size
	}
	m.Stats.BytesRead = c.read.Load()
	m.Stats.BytesVerified = c.verified.Load()
	return m
}

// commit makes everything durable and writes the manifest under the first ID that
// is free.
func (c *creation) commit(ctx context.Context, m *Snapshot) error {
	c.track.enter(PhaseCommit)
	if err := c.session.Sync(ctx); err != nil {
		return err
	}
	m.Stats.BytesNew = c.session.BytesNew()
	m.Stats.BytesDelta = c.session.BytesDelta()
	m.Stats.BytesStored = c.session.BytesStored()
	if c.opts.ID != "" {
		// A manifest that does not count would keep the ID from the next attempt.
		if err := c.session.Alive(ctx); err != nil {
			return err
		}
	}
	for n := 1; ; n++ {
		m.ID = c.opts.ID
		if m.ID == "" {
			m.ID = newID(c.created, c.opts.Label, n)
		}
		m.Stats.Duration = time.Since(c.track.start)
		err := c.session.Commit(ctx, m)
		if !errors.Is(err, repo.ErrExists) || n == idAttempts || c.opts.ID != "" {
			return err
		}
	}
}
