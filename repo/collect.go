package repo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// CollectOptions say how a collection works. The zero value works.
type CollectOptions struct {
	// DryRun finds out what a collection would do, and changes nothing.
	DryRun bool
	// MinDead is the share of a pack, above 0 and up to 1, that must be dead for what is
	// alive in it to be stored anew so that the pack can go. At 1 only packs go that are dead
	// as a whole. Default: as many packs as it takes, the deadest first, for
	// the space afterwards to be within 5 % of what the snapshots need.
	MinDead float64
	// LeaseTimeout is how long this collection must itself have watched a session that
	// shows no sign of life before it gives the session up. Sessions renew their leases
	// every 20 seconds. What a session does after it was given up does not count, so a time that
	// is too short costs work, and no data. Default 5 minutes.
	LeaseTimeout time.Duration
	// MaxWait is how long the collection waits for sessions that may rely on what it is
	// about to delete. After it the next collection goes on from there. Default
	// LeaseTimeout and a quarter: long enough to give up a session that is dead.
	MaxWait time.Duration
	// Recompress stores chunks that are compressed by S2 anew, compressed more: what was
	// stored in a hurry takes less space from then on.
	Recompress bool
	// Progress, if set, is called with what is being done, one call at a time.
	Progress func(CollectProgress)
}

// DefaultLeaseTimeout is how long a collection watches a session that shows no sign of life.
const DefaultLeaseTimeout = 5 * time.Minute

// deadShare is how much dead data a collection leaves, measured by what is alive. The rest of the
// 5 % that are promised is for the packs' own records.
const deadShare = 0.03

func (o CollectOptions) withDefaults() (CollectOptions, error) {
	if o.LeaseTimeout == 0 {
		o.LeaseTimeout = DefaultLeaseTimeout
	}
	if o.MaxWait == 0 {
		o.MaxWait = o.LeaseTimeout + min(o.LeaseTimeout/4, math.MaxInt64-o.LeaseTimeout)
	}
	switch {
	case o.MinDead < 0 || o.MinDead > 1 || o.MinDead != o.MinDead:
		return o, fmt.Errorf("%w: CollectOptions.MinDead %v is not a share of at most 1", ErrInvalid, o.MinDead)
	case o.LeaseTimeout < 0 || o.MaxWait < 0:
		return o, fmt.Errorf("%w: a negative time in CollectOptions", ErrInvalid)
	}
	return o, nil
}

// A CollectPhase is a part of a collection.
type CollectPhase string

// The phases of a collection, in their order.
const (
	CollectMark   CollectPhase = "mark"   // finding out what snapshots need
	CollectRepack CollectPhase = "repack" // storing anew what is alive in packs that go; Done and Total are bytes
	CollectWait   CollectPhase = "wait"   // waiting for sessions; Total is how many
	CollectSweep  CollectPhase = "sweep"  // deleting packs; Done and Total count them
)

// CollectProgress says how far a collection is.
type CollectProgress struct {
	Phase       CollectPhase
	Done, Total int64
}

// A CollectResult tells what a collection did, or after a dry run what it would do. Sizes
// are in bytes.
type CollectResult struct {
	Snapshots int
	// Packs and Bytes are what there was at the beginning.
	Packs int
	Bytes int64
	// BytesLive is what the snapshots need of it, with the packs' records; the rest is
	// BytesDead.
	BytesLive, BytesDead int64
	// Chunks counts the places of chunks that indexes name, ChunksLive those that
	// snapshots need.
	Chunks, ChunksLive int64
	// PacksRepacked counts the packs whose live chunks were stored anew, in
	// BytesWritten bytes. They are among those deleted.
	PacksRepacked int
	BytesWritten  int64
	// PacksDeleted are gone, BytesFreed is what they took.
	PacksDeleted int
	BytesFreed   int64
	// PacksPending are condemned and not deleted yet, since sessions are under way that
	// may rely on them: the next collection goes on.
	PacksPending int
	BytesPending int64
	// AttachmentsDeleted counts the attachments that were deleted: those of snapshots that
	// there are not, and those that were replaced.
	AttachmentsDeleted int
	// Waited are the sessions that were waited for, GivenUp those of them that showed no
	// sign of life.
	Waited, GivenUp []string
}

// BytesAfter is how much the packs take after the collection.
func (r *CollectResult) BytesAfter() int64 { return r.Bytes + r.BytesWritten - r.BytesFreed }

// Collect deletes the packs that no snapshot needs, and stores anew what is alive in packs
// that are mostly dead. Any number of sessions, readers and deletions may go on meanwhile, and
// other collections: see "Collection" in FORMAT.md for why nothing is lost. What a
// Checkpoint or Suspend has kept without a snapshot is deleted as well.
//
// A collection that is cancelled or killed leaves garbage at worst, and the next one goes on
// from there. It fails if anything that a snapshot needs cannot be found (ErrMissing,
// ErrCorrupt, ErrFormat), before it deletes anything; with ErrNoLeases in a repository whose
// writers need not hold leases; with ErrInvalid for options out of range; with ErrClosed, the
// context's error or the bucket's. Storing anew takes room: with ErrNoSpace what is dead as a whole
// was deleted all the same, or waits for sessions. And before it deletes anything it writes some
// small objects, and indexes without what goes: where not a byte is left, make a little room by
// other means first.
func (r *Repository) Collect(ctx context.Context, opts CollectOptions) (*CollectResult, error) {
	if err := r.use(); err != nil {
		return nil, err
	}
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	if !slices.Contains(r.config.Requires, featureLeases) {
		return nil, fmt.Errorf("%w: copy its snapshots to a new one", ErrNoLeases)
	}
	c := &collector{repo: r, opts: opts, result: &CollectResult{}, clock: r.clock, fault: r.collectFault}
	c.watched, c.damaged = make(map[sessionID]sighting), make(map[packID]bool)
	if c.clock == nil {
		c.clock = realClock{time.Now()}
	}
	if err := c.run(ctx); err != nil {
		return nil, err
	}
	return c.result, nil
}

// collector is a Collect under way.
type collector struct {
	repo   *Repository
	opts   CollectOptions
	result *CollectResult
	clock  clock
	fault  collectFault

	// ignored are the manifests that were found and do not count.
	ignored   []string
	snapshots int
	// watched says when the state of a lease was first seen.
	watched map[sessionID]sighting
	// damaged are packs with chunks that could not be read.
	damaged map[packID]bool
}

func (c *collector) progress(phase CollectPhase, done, total int64) {
	if c.opts.Progress != nil {
		c.opts.Progress(CollectProgress{phase, done, total})
	}
}

func (c *collector) run(ctx context.Context) error {
	c.progress(CollectMark, 0, 0)
	if !c.opts.DryRun {
		if err := c.tidy(ctx); err != nil {
			return err
		}
		if err := c.resume(ctx); err != nil {
			return err
		}
	}
	if err := c.strayAttachments(ctx); err != nil {
		return err
	}
	m, dead, repack, err := c.choosePacks(ctx)
	if err != nil {
		return err
	}
	c.tell(m)
	if c.opts.DryRun {
		c.foretell(m, dead, repack)
		return nil
	}
	if err := c.dropIgnored(ctx); err != nil {
		return err
	}
	moved, err := c.repack(ctx, m, repack)
	if errors.Is(err, ErrNoSpace) && len(dead) > 0 {
		c.repo.opts.Logger.Warn("there is no room to repack: what is dead goes first", "error", err)
		if err := c.condemnAll(ctx, dead); err != nil {
			return err
		}
		if m, dead, repack, err = c.choosePacks(ctx); err != nil {
			return err
		}
		moved, err = c.repack(ctx, m, repack)
	}
	if err != nil {
		return err
	}
	c.result.PacksRepacked = len(moved)
	return c.condemnAll(ctx, append(dead, moved...))
}

// condemnAll condemns packs, in as many plans as it takes.
func (c *collector) condemnAll(ctx context.Context, packs []packID) error {
	for len(packs) > 0 {
		n := min(len(packs), maxPlanPacks)
		if err := c.condemn(ctx, packs[:n]); err != nil {
			return err
		}
		packs = packs[n:]
	}
	return nil
}

// choosePacks finds out what snapshots need, and says which packs are dead and which are to be
// repacked.
func (c *collector) choosePacks(ctx context.Context) (m *marks, dead, repack []packID, err error) {
	for {
		if m, err = c.mark(ctx, planID{}, nil); err != nil {
			return nil, nil, nil, err
		}
		dead, repack = c.pick(m)
		if c.fault != faultForgetHolders {
			dead, repack = m.settle(dead, repack, c.opts.MinDead > 0)
			if err := m.unknown(slices.Concat(dead, repack)); err != nil {
				return nil, nil, nil, err
			}
		}
		// Each time around it knows of more packs that are damaged.
		damage, err := c.verifyKept(ctx, m, slices.Concat(dead, repack))
		if err != nil || !damage {
			return m, dead, repack, err
		}
	}
}

// tell fills in what was found.
func (c *collector) tell(m *marks) {
	r := c.result
	r.Snapshots = c.snapshots
	r.Chunks = int64(len(m.keys))
	for i := range m.packs {
		p := &m.packs[i]
		if p.size == 0 {
			continue
		}
		r.Packs++
		r.Bytes += p.size
		r.ChunksLive += int64(p.records)
		r.BytesLive += p.need()
	}
	r.BytesDead = r.Bytes - r.BytesLive
}

// foretell fills in what would be done.
func (c *collector) foretell(m *marks, dead, repack []packID) {
	r := c.result
	r.PacksRepacked = len(repack)
	r.PacksDeleted = len(dead) + len(repack)
	for _, id := range slices.Concat(dead, repack) {
		r.BytesFreed += m.packs[m.number[id]].size
	}
	for _, id := range repack {
		r.BytesWritten += m.packs[m.number[id]].need()
	}
}

// need is what of a pack the snapshots need, in bytes.
func (p *markedPack) need() int64 {
	if p.records == 0 {
		return 0
	}
	return max(0, p.size-(p.all-p.live)-int64(p.named-p.records)*packRecordSize)
}

// pick says which packs are dead, and which are to be repacked.
func (c *collector) pick(m *marks) (dead, repack []packID) {
	var partly []*markedPack
	var live, waste int64
	for i := range m.packs {
		p := &m.packs[i]
		switch {
		case p.size == 0 || p.unusable:
		case p.records == 0:
			dead = append(dead, p.id)
		default:
			live += p.need()
			waste += p.size - p.need()
			partly = append(partly, p)
		}
	}
	slices.SortFunc(partly, func(a, b *markedPack) int {
		if n := cmp.Compare((b.size-b.need())*a.size, (a.size-a.need())*b.size); n != 0 {
			return n
		}
		return slices.Compare(a.id[:], b.id[:])
	})
	also := c.packsToRecompress(m)
	if c.opts.MinDead == 0 {
		c.smallPacks(partly, live, also)
	}
	for _, p := range partly {
		gone := p.size - p.need()
		enough := float64(waste) <= deadShare*float64(live)
		if c.opts.MinDead > 0 {
			enough = float64(gone) < c.opts.MinDead*float64(p.size)
		}
		if !enough || also[p.id] {
			waste -= gone
			repack = append(repack, p.id)
		}
	}
	return dead, repack
}

// smallPacks adds the small packs to those that are to be repacked, when they are so many that
// what each takes for itself shows, or that each more is a request to restores. What comes of
// them is a small pack of each kind at most, so the next collection leaves that alone.
func (c *collector) smallPacks(partly []*markedPack, live int64, repack map[packID]bool) {
	var small []*markedPack
	for _, p := range partly {
		if p.size < int64(c.repo.opts.PackSize)/4 {
			small = append(small, p)
		}
	}
	fixed := int64(len(small)) * packFixedSize
	if len(small) < manyPacks && (len(small) <= 2*packKinds || float64(fixed) <= fixedShare*float64(live)) {
		return
	}
	for _, p := range small {
		repack[p.id] = true
	}
}

const (
	// manyPacks is how many small packs a collection leaves standing.
	manyPacks = 64
	// packKinds: files' data is in other packs than nodes and file tables.
	packKinds = 2
	// packFixedSize is what a pack takes besides frames and their records, in bytes.
	packFixedSize = packHeaderSize + footerHeadSize + packTrailerSize
	// fixedShare is how much of that a collection leaves, measured by what is alive.
	fixedShare = 0.01
)

// readManifests reads all manifests, whether they count or not.
func (c *collector) readManifests(ctx context.Context) ([]*storedManifest, error) {
	var out []*storedManifest
	for id, err := range c.repo.IDs(ctx) {
		if err != nil {
			return nil, err
		}
		m, err := c.repo.readManifest(ctx, id)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("repo: collect: what snapshot %s needs is unknown: %w; delete it or restore its manifest, nothing was deleted", id, err)
		}
		out = append(out, m)
	}
	return out, nil
}

// stillCounts says whether a manifest counts, and remembers it if not.
func (c *collector) stillCounts(ctx context.Context, view *garbageView, m *storedManifest) (bool, error) {
	id, ok := parseSessionID(m.Session)
	if !ok || !view.verdicts[id] {
		return true, nil
	}
	counts, err := c.repo.counts(ctx, m.Session, m.ID)
	if err == nil && !counts {
		c.ignored = append(c.ignored, m.ID)
	}
	return counts, err
}

// dropIgnored deletes manifests that do not count.
func (c *collector) dropIgnored(ctx context.Context) error {
	slices.Sort(c.ignored)
	for _, id := range slices.Compact(c.ignored) {
		// The ID may have been used again since: marking takes its time.
		if _, err := c.repo.Manifest(ctx, id); !errors.Is(err, ErrNotFound) {
			if err != nil && !isDamage(err) {
				return err
			}
			continue
		}
		if err := c.repo.store.remove(ctx, snapshotPrefix+id); err != nil {
			return err
		}
	}
	return nil
}

// freshIndex returns the indexes as they are now, without those that do not count. None may
// be damaged: what it named would be taken for dead.
func (c *collector) freshIndex(ctx context.Context) (*indexSet, error) {
	var before *indexSet
	for attempt := 1; ; attempt++ {
		set, err := c.repo.refreshIndex(ctx)
		if err != nil {
			return nil, err
		}
		// After the indexes: one may have come from a session that was given up before.
		view, err := c.repo.listGarbage(ctx)
		if err == nil && set.of(view.verdicts) {
			set, err = c.repo.indexWithout(ctx, view.verdicts)
		}
		if err != nil {
			return nil, err
		}
		if err := set.brokenErr(); err != nil {
			return nil, fmt.Errorf("repo: collect: an index cannot be used, RebuildIndex replaces it: %w", err)
		}
		// A listing takes time, and an index may be replaced by one whose name it has
		// passed. Then another one is missing that was there before. Those of new snapshots do not
		// matter, and writers who are busy make some all the time.
		if before != nil && set.follows(before) {
			return set, nil
		}
		if attempt == 2*maxListings {
			return nil, fmt.Errorf("%w: the indexes do not come to rest: collect again later", ErrUnavailable)
		}
		before = set
	}
}

// listPacks lists the packs that there are.
func (c *collector) listPacks(ctx context.Context) ([]packInfo, error) {
	var out []packInfo
	err := c.repo.store.list(ctx, packPrefix, func(o object) error {
		if id, ok := parsePackKey(o.key); ok && o.size > 0 {
			out = append(out, packInfo{id, o.size})
		}
		return nil
	})
	return out, err
}
