package repo

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// A Manifest describes one snapshot. Its presence in the repository is the
// snapshot: what it names was durable before it was written.
type Manifest struct {
	// ID names the snapshot in its repository; see CheckID.
	ID string `json:"id"`
	// Created is the moment of the cut, in UTC.
	Created time.Time `json:"created"`
	// Label is the label the snapshot was made with, empty if none.
	Label string `json:"label,omitempty"`
	// Description is free text.
	Description string `json:"description,omitempty"`
	// Consistency says how the sources were cut.
	Consistency Consistency `json:"consistency"`
	// Parent is the ID of the snapshot that this one was compared with, empty if
	// none. The parent may be deleted: a snapshot never needs another one.
	Parent string `json:"parent,omitempty"`
	// DatabaseVersion is the version of the server that made the snapshot.
	DatabaseVersion string `json:"databaseVersion,omitempty"`
	// Metadata is free.
	Metadata map[string]string `json:"metadata,omitempty"`
	// Partial says what was left out, nil if nothing was: a snapshot that is not nil here
	// must not be taken for the whole of its sources.
	Partial *Partial `json:"partial,omitempty"`
	// Sources describe the databases in the snapshot, in the order of their names.
	Sources []SourceInfo `json:"sources"`
	// Freeze tells how the lock was held.
	Freeze FreezeInfo `json:"freeze"`
	// Stats are the snapshot's figures.
	Stats Stats `json:"stats"`
	// Table is the file table; see Repository.Files.
	Table Content `json:"table"`

	// Location is where the snapshot's data is, as section:path, if it is known here and
	// held by another repository; see snapshot.Engine.Register. Empty for those that are here.
	// It is not part of the stored form.
	Location string `json:"-"`
}

// Consistency says what a snapshot's sources have in common.
type Consistency string

const (
	// ConsistencyFrozen means that every source was pinned while the lock was
	// held without a break: they all show the same moment.
	ConsistencyFrozen Consistency = "frozen"
	// ConsistencySource means that there was no lock: each source is consistent
	// in itself, as far as it can be by its own means.
	ConsistencySource Consistency = "source"
	// ConsistencyNone means that the lock could not be had in time and the caller
	// allowed to go on without it.
	ConsistencyNone Consistency = "none"
)

// Partial says by which patterns the files of a snapshot were chosen; see
// snapshot.Pattern.
type Partial struct {
	// Include chose, all if it is empty; Skip left out again.
	Include []string `json:"include,omitempty"`
	Skip    []string `json:"skip,omitempty"`
}

// SourceInfo describes one source of a snapshot.
type SourceInfo struct {
	// Name is the source's name, and the first part of its files' paths.
	Name string `json:"name"`
	// Kind, Method, Epoch, Position and Metadata are the source's own; see
	// snapshot.View.
	Kind     string            `json:"kind,omitempty"`
	Method   string            `json:"method,omitempty"`
	Epoch    string            `json:"epoch,omitempty"`
	Position string            `json:"position,omitempty"`
	Metadata map[string]string `json:"metadata,omitempty"`
}

// FreezeInfo tells how the lock was held for a snapshot. Durations are in
// nanoseconds in the stored form.
type FreezeInfo struct {
	// Attempts is how many times the gate was closed.
	Attempts int `json:"attempts,omitempty"`
	// Waited is the time from the first attempt to the pin.
	Waited time.Duration `json:"waitedNanoseconds,omitempty"`
	// Held is the longest that the gate was closed in one attempt.
	Held time.Duration `json:"heldNanoseconds,omitempty"`
	// Stall is the longest that a transaction waited at the gate. Zero when none
	// came while it was closed.
	Stall time.Duration `json:"stallNanoseconds,omitempty"`
	// Forced is how many transactions were aborted.
	Forced int `json:"forced,omitempty"`
}

// Stats are the figures of one snapshot. Sizes are in bytes.
type Stats struct {
	Files       int64 `json:"files"`
	Directories int64 `json:"directories"`
	// Bytes is the sum of all files' sizes.
	Bytes int64 `json:"bytes"`
	// BytesRead is how much file data was read from the sources to make it.
	BytesRead int64 `json:"bytesRead"`
	// BytesVerified is how much of the data called unchanged was read to check
	// that promise. It is not part of BytesRead.
	BytesVerified int64 `json:"bytesVerified,omitempty"`
	// BytesNew is the plain size of the chunks that the repository did not have.
	BytesNew int64 `json:"bytesNew"`
	// BytesDelta is how much of BytesNew is stored as the difference to chunks of the
	// parent.
	BytesDelta int64 `json:"bytesDelta,omitempty"`
	// BytesStored is what those chunks take in the repository: the packs that were
	// written, with file tables.
	BytesStored int64 `json:"bytesStored"`
	// Duration is the time from the call to the commit.
	Duration time.Duration `json:"durationNanoseconds"`
}

// maxManifestSize bounds a manifest in bytes.
const maxManifestSize = 16 << 20

func (m *Manifest) check(object string) error {
	if err := CheckID(m.ID); err != nil {
		return corrupt(object, "%v", err)
	}
	if snapshotPrefix+m.ID != object {
		return corrupt(object, "it describes snapshot %s", m.ID)
	}
	if err := m.Table.check(m.Table.Size()); err != nil {
		return corrupt(object, "%v", err)
	}
	return nil
}

// checkText refuses text that JSON cannot hold: it would come back changed.
func (m *Manifest) checkText() error {
	check := func(field, s string) error {
		if utf8.ValidString(s) {
			return nil
		}
		return fmt.Errorf("%w: manifest of snapshot %s: %s %.100q is not UTF-8", ErrInvalid, m.ID, field, s)
	}
	all := func(field string, m map[string]string) (errs []error) {
		for k, v := range m {
			errs = append(errs, check("key of "+field, k), check(field, v))
		}
		return errs
	}
	errs := []error{
		check("Label", m.Label), check("Description", m.Description), check("Consistency", string(m.Consistency)),
		check("Parent", m.Parent), check("DatabaseVersion", m.DatabaseVersion),
	}
	errs = append(errs, all("Metadata", m.Metadata)...)
	if p := m.Partial; p != nil {
		for _, pattern := range slices.Concat(p.Include, p.Skip) {
			errs = append(errs, check("Partial", pattern))
		}
	}
	for _, s := range m.Sources {
		errs = append(errs,
			check("SourceInfo.Name", s.Name), check("SourceInfo.Kind", s.Kind), check("SourceInfo.Method", s.Method),
			check("SourceInfo.Epoch", s.Epoch), check("SourceInfo.Position", s.Position))
		errs = append(errs, all("SourceInfo.Metadata", s.Metadata)...)
	}
	return errors.Join(errs...)
}

// CheckManifest reports whether the texts of a manifest can be stored, as far as they are known:
// its ID need not be set. It fails with ErrBadID for one that is and cannot be, and with ErrInvalid
// for text that is not UTF-8, and for metadata that are too large. It is safe for concurrent use.
func CheckManifest(m *Manifest) error {
	known := *m
	if known.ID == "" {
		known.ID = "new"
	}
	_, _, err := renderManifest(&known, sessionID{})
	return err
}

// storedManifest is a manifest as it is stored.
type storedManifest struct {
	*Manifest
	// Session is the session that wrote it: 64 hexadecimal digits, or empty where the
	// manifest was written before there were leases.
	Session string `json:"session,omitempty"`
}

// Manifest returns the manifest of a snapshot. It fails with ErrNotFound, with
// ErrBadID, with a *CorruptError or a *FormatError, or with an error of the bucket.
func (r *Repository) Manifest(ctx context.Context, id string) (*Manifest, error) {
	if err := r.use(); err != nil {
		return nil, err
	}
	m, err := r.readManifest(ctx, id)
	if err != nil {
		return nil, err
	}
	ok, err := r.counts(ctx, m.Session, id)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, id)
	}
	return m.Manifest, nil
}

// readManifest returns a manifest whether it counts or not.
func (r *Repository) readManifest(ctx context.Context, id string) (*storedManifest, error) {
	if err := CheckID(id); err != nil {
		return nil, err
	}
	key := snapshotPrefix + id
	data, err := r.store.readAll(ctx, key, maxManifestSize)
	if errors.Is(err, errKeyMissing) {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, id)
	}
	if err != nil {
		return nil, err
	}
	m := &storedManifest{Manifest: &Manifest{}}
	if err := unseal(key, data, m); err != nil {
		return nil, err
	}
	if m.Manifest == nil {
		return nil, corrupt(key, "its document is no manifest")
	}
	if err := m.check(key); err != nil {
		return nil, err
	}
	return m, nil
}

// IDs lists the IDs of all snapshots in byte order, without reading their
// manifests. One that a session wrote after a collection had given it up is listed until the
// next collection, though Manifest says ErrNotFound of it. IDs stops after the first error.
func (r *Repository) IDs(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := r.use(); err != nil {
			yield("", err)
			return
		}
		err := r.store.list(ctx, snapshotPrefix, func(o object) error {
			id := strings.TrimPrefix(o.key, snapshotPrefix)
			if CheckID(id) != nil {
				return nil
			}
			if !yield(id, nil) {
				return errStopWalk
			}
			return nil
		})
		if err != nil && err != errStopWalk {
			yield("", err)
		}
	}
}

// Manifests lists the manifests of all snapshots, in the byte order of their IDs.
// A manifest that cannot be read comes as an error that names it, and the listing
// goes on; an error of the listing itself, or of the context, ends it. A snapshot
// that is deleted meanwhile is left out.
func (r *Repository) Manifests(ctx context.Context) iter.Seq2[*Manifest, error] {
	return func(yield func(*Manifest, error) bool) { r.eachManifest(ctx, r.IDs(ctx), yield) }
}

// ManifestsReverse is Manifests in the opposite order: where IDs begin with a
// time, newest first. It lists all IDs before it reads the first manifest.
func (r *Repository) ManifestsReverse(ctx context.Context) iter.Seq2[*Manifest, error] {
	return func(yield func(*Manifest, error) bool) {
		var ids []string
		for id, err := range r.IDs(ctx) {
			if err != nil {
				yield(nil, err)
				return
			}
			ids = append(ids, id)
		}
		backward := func(yield func(string, error) bool) {
			for _, id := range slices.Backward(ids) {
				if !yield(id, nil) {
					return
				}
			}
		}
		r.eachManifest(ctx, backward, yield)
	}
}

// ManifestsOf returns the manifests of the given snapshots, in the order of the IDs, as
// Manifests does. An ID that no snapshot has is left out; an error among the IDs ends the
// listing.
func (r *Repository) ManifestsOf(ctx context.Context, ids iter.Seq2[string, error]) iter.Seq2[*Manifest, error] {
	return func(yield func(*Manifest, error) bool) {
		if err := r.use(); err != nil {
			yield(nil, err)
			return
		}
		r.eachManifest(ctx, ids, yield)
	}
}

// maxManifestBatch is how many manifests are read before it is asked, in one request,
// which of them count.
const maxManifestBatch = 32

// eachManifest yields the manifests of the given IDs. It reads one at first, then ever
// more at a time: many callers want only the first.
func (r *Repository) eachManifest(ctx context.Context, ids iter.Seq2[string, error], yield func(*Manifest, error) bool) {
	batch := manifestBatch{repo: r, yield: yield, limit: 1}
	for id, err := range ids {
		if err != nil {
			if batch.flush(ctx) {
				yield(nil, err)
			}
			return
		}
		m, err := r.readManifest(ctx, id)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		batch.items = append(batch.items, manifestItem{m, err})
		if len(batch.items) >= batch.limit && !batch.flush(ctx) {
			return
		}
	}
	batch.flush(ctx)
}

type manifestItem struct {
	*storedManifest
	err error
}

type manifestBatch struct {
	repo  *Repository
	yield func(*Manifest, error) bool
	items []manifestItem
	limit int
}

// flush yields what is in the batch and counts, and says whether to go on.
func (b *manifestBatch) flush(ctx context.Context) bool {
	items := b.items
	b.items, b.limit = nil, min(2*b.limit, maxManifestBatch)
	var verdicts map[sessionID]bool
	for i, item := range items {
		if i > 0 && ctx.Err() != nil {
			// Without a word the listing would pass for a whole one.
			b.yield(nil, endedError(ctx, "list", snapshotPrefix, context.Cause(ctx)))
			return false
		}
		err := item.err
		if err == nil && verdicts == nil && !b.repo.knownToCount(item.Session) {
			var view *garbageView
			if view, err = b.repo.listGarbage(ctx); err == nil {
				verdicts = view.verdicts
			}
		}
		ok := err == nil
		if ok {
			if id, leased := parseSessionID(item.Session); leased && verdicts[id] {
				ok, err = b.repo.counts(ctx, item.Session, item.ID)
			}
		}
		switch {
		case err != nil:
			ended := ctx.Err() != nil && errors.Is(err, ctx.Err())
			if !b.yield(nil, err) || ended {
				return false
			}
		case ok:
			if !b.yield(item.Manifest, nil) {
				return false
			}
		}
	}
	return true
}

// knownToCount says whether what a session wrote needs no question.
func (r *Repository) knownToCount(session string) bool {
	id, ok := parseSessionID(session)
	if !ok {
		return true
	}
	return r.ended.has(id)
}

// DeleteManifest removes a snapshot and its attachments. Its data stays until no snapshot needs it
// and the repository is collected; see Collect. It fails with ErrNotFound or ErrBadID.
func (r *Repository) DeleteManifest(ctx context.Context, id string) error {
	if err := r.use(); err != nil {
		return err
	}
	if err := CheckID(id); err != nil {
		return err
	}
	m, err := r.readManifest(ctx, id)
	switch {
	case err == nil:
		if err := r.disown(ctx, m); err != nil {
			return err
		}
	case !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrFormat):
		return err
	}
	// Listed now: as soon as the ID is free, what stands under it may be of a new snapshot.
	had, err := r.listAttachments(ctx, id, "")
	if err != nil {
		return err
	}
	err = r.store.removeExisting(ctx, snapshotPrefix+id)
	if errors.Is(err, errKeyMissing) {
		return fmt.Errorf("%w: %s", ErrNotFound, id)
	}
	if err == nil {
		r.dropAttachments(ctx, id, had)
	}
	return err
}

// disown makes sure that a manifest does not count any more if the session that wrote it
// was given up: a request of that session may yet write it again.
func (r *Repository) disown(ctx context.Context, m *storedManifest) error {
	id, ok := parseSessionID(m.Session)
	if !ok || r.knownToCount(m.Session) {
		return nil
	}
	if _, err := r.store.readAll(ctx, verdictKey(id), maxVerdictSize); errors.Is(err, errKeyMissing) {
		return nil
	} else if err != nil {
		return err
	}
	err := r.createDocument(ctx, deletedKey(id), verdict{Snapshots: []string{m.ID}})
	if errors.Is(err, errKeyExists) {
		return nil
	}
	return err
}
