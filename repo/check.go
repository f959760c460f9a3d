package repo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/holdstill/holdstill/chunk"
)

// CheckOptions say how thorough a Check is.
type CheckOptions struct {
	// ReadData reads every pack and checks every chunk. Otherwise only the
	// structure is checked: manifests, file tables, indexes and the packs'
	// footers.
	ReadData bool
	// Progress, if set, is called with the bytes read of the packs and their
	// total, one call at a time. It is called with ReadData only.
	Progress func(done, total int64)
}

// A Report is what a Check found. Sizes are in bytes.
type Report struct {
	Snapshots, Indexes, Packs, Chunks int
	// Attachments is how many there are. Their content is read with ReadData only.
	Attachments int
	// PackBytes is the size of all packs.
	PackBytes int64
	// UnusedBytes is what chunks take that no readable snapshot needs. Packs of
	// sessions under way count as unused.
	UnusedBytes int64
	// Damage is what is wrong, objects in the order of their keys. Empty means
	// that all snapshots can be restored, as far as was checked.
	Damage []Damage
}

// OK reports whether nothing is damaged.
func (r *Report) OK() bool { return len(r.Damage) == 0 }

// Damage is one thing that is wrong in a repository.
type Damage struct {
	// Object is the key of the damaged or missing object; "index/" when chunks are
	// in no index, which RebuildIndex repairs unless their packs are lost too.
	Object string
	// Chunk is the chunk harmed, zero when the whole object is.
	Chunk chunk.ID
	// Offset and Length say where in the object the chunk lies, in bytes.
	Offset, Length int64
	// Err says what is wrong. It matches ErrCorrupt, ErrMissing or ErrFormat, or is
	// an error of the bucket.
	Err error
	// Snapshots are the IDs of the snapshots that cannot be restored whole because
	// of it, in order. Empty when nothing is lost.
	Snapshots []string
	// Files are the first few files harmed, as "snapshot: path".
	Files []string
}

func (d Damage) String() string {
	s := d.Object
	if !d.Chunk.IsZero() {
		s += fmt.Sprintf(", chunk %s at bytes %d to %d", d.Chunk, d.Offset, d.Offset+d.Length)
	}
	s += ": " + d.Err.Error()
	if len(d.Snapshots) > 0 {
		s += fmt.Sprintf("; harms snapshots %q", d.Snapshots)
	}
	return s
}

// maxDamageFiles is how many files a Damage names.
const maxDamageFiles = 10

// Check looks for damage and says which snapshots it harms. It changes nothing,
// and may run beside writers and collections: where something is missing that one of them
// may have moved meanwhile, it looks again from the beginning. Damage is in the report; the error is the context's
// or one of listing.
func (r *Repository) Check(ctx context.Context, opts CheckOptions) (*Report, error) {
	if err := r.use(); err != nil {
		return nil, err
	}
	for attempt := 1; ; attempt++ {
		c, err := r.checkOnce(ctx, opts)
		if err != nil {
			return nil, err
		}
		if attempt < maxListings && c.lacks() {
			// A collection may have moved what was looked for, or a snapshot have been deleted
			// meanwhile.
			moved, err := c.outdated(ctx)
			if err != nil {
				return nil, err
			}
			if moved {
				continue
			}
		}
		return c.report, nil
	}
}

// lacks says whether the check has missed something.
func (c *checker) lacks() bool {
	return slices.ContainsFunc(c.report.Damage, func(d Damage) bool { return errors.Is(d.Err, ErrMissing) })
}

// outdated says whether a snapshot or an index that the check has read is not there any more.
// Collections replace the indexes that name a pack before they delete it.
func (c *checker) outdated(ctx context.Context) (bool, error) {
	there := make(map[string]bool)
	for _, prefix := range []string{snapshotPrefix, indexPrefix} {
		if err := c.repo.store.list(ctx, prefix, func(o object) error {
			there[o.key] = true
			return nil
		}); err != nil {
			return false, err
		}
	}
	for _, m := range c.manifests {
		if !there[snapshotPrefix+m.ID] {
			return true, nil
		}
	}
	for _, x := range c.indexes {
		if !there[indexKey(x.id)] {
			return true, nil
		}
	}
	return false, nil
}

// checkOnce does the work of Check. What is deleted meanwhile may look like damage.
func (r *Repository) checkOnce(ctx context.Context, opts CheckOptions) (*checker, error) {
	repoOpts := r.opts
	repoOpts.CacheDir = ""
	c := &checker{
		// Caches of its own, empty: what is in the bucket is looked at, not what was.
		repo:   newRepository(r.store, repoOpts),
		opts:   opts,
		report: &Report{},
		damage: make(map[damageKey]*Damage),
	}
	if err := c.checkKeys(ctx); err != nil {
		return nil, err
	}
	// Manifests first: what a manifest names was written before it.
	manifests, err := c.readManifests(ctx)
	if err != nil {
		return nil, err
	}
	if err := c.readIndexes(ctx); err != nil {
		return nil, err
	}
	if err := c.readPacks(ctx); err != nil {
		return nil, err
	}
	c.compareIndexes()
	for _, m := range manifests {
		if err := c.walk(ctx, m); err != nil {
			return nil, err
		}
	}
	if err := c.checkAttachments(ctx, manifests); err != nil {
		return nil, err
	}
	if err := c.checkRemotes(ctx); err != nil {
		return nil, err
	}
	if err := c.checkPlans(ctx); err != nil {
		return nil, err
	}
	c.manifests = manifests
	c.finish()
	return c, nil
}

// checker is a Check under way.
type checker struct {
	repo   *Repository
	opts   CheckOptions
	report *Report

	manifests []*Manifest
	indexes   []*index
	// actual is an index of what the packs' own footers say.
	actual *index
	// used marks the records of actual that a snapshot needs.
	used []bool
	// bad says what is wrong with records of actual.
	bad map[int]error
	// bases are what records of actual are stored as the difference to.
	bases map[int]chunk.ID
	// unreadable are the packs whose footer cannot be read.
	unreadable map[packID]error
	// sound holds nodes, and blocks of file tables, below which all is well.
	sound map[soundKey]bool
	// salvaged says of chunks in unreadable packs whether they can be read all the
	// same, since an index knows their place.
	salvaged map[salvageKey]bool

	damage map[damageKey]*Damage
}

type damageKey struct {
	object string
	chunk  chunk.ID
}

type soundKey struct {
	Ref
	depth int
}

type salvageKey struct {
	chunk  chunk.ID
	asBase bool
}

// blockDepth marks the key of a block of a file table, which is no node.
const blockDepth = -1

// add records damage once, however often it is met.
func (c *checker) add(d Damage) *Damage {
	key := damageKey{d.Object, d.Chunk}
	if old := c.damage[key]; old != nil {
		return old
	}
	c.damage[key] = &d
	return &d
}

func (d *Damage) harms(snapshot, path string) {
	if n := len(d.Snapshots); n == 0 || d.Snapshots[n-1] != snapshot {
		d.Snapshots = append(d.Snapshots, snapshot)
	}
	if path == "" || len(d.Files) >= maxDamageFiles {
		return
	}
	if file := snapshot + ": " + path; !slices.Contains(d.Files, file) {
		d.Files = append(d.Files, file)
	}
}

// checkKeys looks at the key slots. A damaged one harms nothing as long as another opens
// the repository.
func (c *checker) checkKeys(ctx context.Context) error {
	if !c.repo.Encrypted() {
		return nil
	}
	_, damaged, err := c.repo.keySlots(ctx)
	for _, err := range damaged {
		object := slotPrefix
		var ce *CorruptError
		var fe *FormatError
		if errors.As(err, &ce) {
			object = ce.Object
		} else if errors.As(err, &fe) {
			object = fe.Object
		}
		c.add(Damage{Object: object, Err: err})
	}
	return err
}

// checkPlans looks at what collections have written. Damage to it harms no snapshot, and keeps new
// ones from being made.
func (c *checker) checkPlans(ctx context.Context) error {
	return c.repo.damagedPlans(ctx, func(_ planID, key string, _ map[string]bool, err error) error {
		c.add(Damage{Object: key, Err: err})
		return nil
	})
}

func (c *checker) readManifests(ctx context.Context) ([]*Manifest, error) {
	var out []*Manifest
	for id, err := range c.repo.IDs(ctx) {
		if err != nil {
			return nil, err
		}
		m, err := c.repo.Manifest(ctx, id)
		switch {
		case err == nil:
			out = append(out, m)
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case errors.Is(err, ErrNotFound):
			continue
		default:
			c.add(Damage{Object: snapshotPrefix + id, Err: outward(err)}).harms(id, "")
		}
		c.report.Snapshots++
	}
	return out, nil
}

// outward adds the error that callers know to one of a key that is not there.
func outward(err error) error {
	if errors.Is(err, errKeyMissing) && !errors.Is(err, ErrMissing) {
		return fmt.Errorf("%w: %w", ErrMissing, err)
	}
	return err
}

func (c *checker) readPacks(ctx context.Context) error {
	footers, err := c.repo.readAllFooters(ctx)
	if err != nil {
		return err
	}
	c.unreadable = make(map[packID]error)
	var good []packContent
	for _, f := range footers {
		if errors.Is(f.err, errKeyMissing) {
			continue // an aborted session took it back since the listing
		}
		c.report.Packs++
		c.report.PackBytes += f.size
		if f.err != nil {
			c.unreadable[f.id] = f.err
			c.add(Damage{Object: packKey(f.id), Err: f.err})
			continue
		}
		good = append(good, f.packContent)
		c.report.Chunks += len(f.entries)
	}
	_, c.actual = buildIndex(good, nil)
	c.used = make([]bool, c.actual.count())
	c.bad = make(map[int]error)
	c.sound = make(map[soundKey]bool)
	c.salvaged = make(map[salvageKey]bool)
	c.bases = c.findBases(good)
	if !c.opts.ReadData {
		return nil
	}
	var done, total int64
	for _, p := range good {
		total += p.size
	}
	return c.repo.verifyPacks(ctx, good, c.actual, func(p packContent, bad []badFrame, err error) {
		if err != nil {
			err = outward(err)
			// One that is gone was taken back by an aborted session, unless a snapshot
			// needs it.
			if !errors.Is(err, ErrMissing) {
				c.add(Damage{Object: packKey(p.id), Err: err})
			}
			for _, e := range p.entries {
				c.bad[c.record(p.id, e)] = err
			}
		}
		for _, b := range bad {
			if b.base {
				continue // found where the base is
			}
			if !b.readable {
				c.bad[c.record(p.id, b.entry)] = b.err
			}
			c.add(Damage{Object: packKey(p.id), Chunk: b.entry.id, Offset: int64(b.entry.offset), Length: int64(b.entry.stored), Err: b.err})
		}
		done += p.size
		if c.opts.Progress != nil {
			c.opts.Progress(done, total)
		}
	})
}

// record returns the number of an entry's record in actual.
func (c *checker) record(pack packID, e packEntry) int {
	for i := c.actual.find(&e.id); i < c.actual.count(); i++ {
		if l := c.actual.location(i); l.pack == pack && l.offset == e.offset {
			return i
		}
	}
	return -1
}

// finish sorts the findings and adds up what is not used.
func (c *checker) finish() {
	for i, used := range c.used {
		if !used {
			c.report.UnusedBytes += int64(c.actual.location(i).stored)
		}
	}
	for _, d := range c.damage {
		c.report.Damage = append(c.report.Damage, *d)
	}
	slices.SortFunc(c.report.Damage, func(a, b Damage) int {
		if n := cmp.Compare(a.Object, b.Object); n != 0 {
			return n
		}
		if n := cmp.Compare(a.Offset, b.Offset); n != 0 {
			return n
		}
		return a.Chunk.Compare(b.Chunk)
	})
}
