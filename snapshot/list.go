package snapshot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/holdstill/holdstill/repo"
)

// A Snapshot describes one snapshot: its ID, its sources, and its figures.
type Snapshot = repo.Manifest

// An Order is that of a listing.
type Order int

const (
	// OrderID is the byte order of the IDs. Those that Create makes begin with the time
	// of the cut, so that it is the order of time to the second.
	OrderID Order = iota
	// OrderCreated is the order of Snapshot.Created, and of the IDs where that is equal.
	// The listing reads all manifests before it returns the first, and holds those that
	// the filter picks in memory.
	OrderCreated
)

// A Filter picks snapshots, and says which part of the list is wanted. The zero Filter
// picks all; of several conditions all must hold.
type Filter struct {
	// IDs picks those with one of these IDs. IDs that no snapshot has are no error.
	IDs []string
	// Label picks those made with this label.
	Label string
	// Description picks those whose description contains this text, as it is written.
	Description string
	// DatabaseVersion picks those of this version of the server.
	DatabaseVersion string
	// Source picks those that hold a source of this name.
	Source string
	// Parent picks those whose parent has this ID.
	Parent string
	// Since and Before bound the time of the cut: Since <= Created < Before. A zero
	// time is no bound.
	Since, Before time.Time
	// Metadata picks those that have all of these entries.
	Metadata map[string]string
	// Registered also lists snapshots that other repositories hold, see Engine.Register: those
	// with Snapshot.Location set. By default only those are listed that are here.
	Registered bool
	// Match, if set, picks those for which it returns true. It is asked last. It must not
	// change the snapshot.
	Match func(*Snapshot) bool

	// Order is that of the listing, OrderID by default; NewestFirst turns it round.
	Order       Order
	NewestFirst bool
	// After is the ID of the last snapshot of the page before: the listing begins with the
	// one that comes after it. In OrderID it need not exist any more; in OrderCreated it
	// must, or the listing fails with ErrNotFound.
	After string
	// Offset leaves out so many of those that the filter picks. Pages by After stay in step
	// when snapshots come and go, pages by Offset do not.
	Offset int
	// Limit ends the listing after so many. Zero is no limit. To know whether there are
	// more, ask for one more.
	Limit int
}

func (f *Filter) check() error {
	for _, id := range f.IDs {
		if err := CheckID(id); err != nil {
			return fmt.Errorf("snapshot: Filter.IDs: %w", err)
		}
	}
	if f.After != "" {
		if err := CheckID(f.After); err != nil {
			return fmt.Errorf("snapshot: Filter.After: %w", err)
		}
	}
	switch {
	case f.Offset < 0 || f.Limit < 0:
		return fmt.Errorf("%w: Offset %d and Limit %d must not be negative", ErrFilter, f.Offset, f.Limit)
	case f.Order != OrderID && f.Order != OrderCreated:
		return fmt.Errorf("%w: there is no order %d", ErrFilter, f.Order)
	}
	return nil
}

func (f *Filter) matches(s *Snapshot) bool {
	if f.Label != "" && s.Label != f.Label ||
		f.Parent != "" && s.Parent != f.Parent ||
		f.DatabaseVersion != "" && s.DatabaseVersion != f.DatabaseVersion ||
		!strings.Contains(s.Description, f.Description) ||
		!f.Since.IsZero() && s.Created.Before(f.Since) ||
		!f.Before.IsZero() && !s.Created.Before(f.Before) ||
		len(f.IDs) > 0 && !slices.Contains(f.IDs, s.ID) {
		return false
	}
	if f.Source != "" && !slices.ContainsFunc(s.Sources, func(i repo.SourceInfo) bool { return i.Name == f.Source }) {
		return false
	}
	for k, v := range f.Metadata {
		if got, ok := s.Metadata[k]; !ok || got != v {
			return false
		}
	}
	return f.Match == nil || f.Match(s)
}

// List returns the snapshots that a filter picks, in the order of their IDs, which is
// oldest first, or as Filter.Order says. A snapshot whose manifest cannot be read comes as
// an error that names it, and the listing goes on; an error of the listing itself, or of
// the context, ends it. It fails with ErrFilter or ErrBadID for a filter that cannot be,
// with ErrNotFound for Filter.After in OrderCreated, and with ErrClosed.
func (e *Engine) List(ctx context.Context, filter Filter) iter.Seq2[*Snapshot, error] {
	return func(yield func(*Snapshot, error) bool) {
		if err := filter.check(); err != nil {
			yield(nil, err)
			return
		}
		ctx, done, err := e.begin(ctx)
		if err != nil {
			yield(nil, err)
			return
		}
		defer done()
		skip, found, told := filter.Offset, 0, false
		for s, err := range e.picked(ctx, &filter) {
			told = told || err != nil && ctx.Err() != nil
			if err == nil && skip > 0 {
				skip--
				continue
			}
			if !yield(s, err) {
				return
			}
			if err == nil {
				if found++; found == filter.Limit {
					return
				}
			}
		}
		// Wherever the context ended it, it must not look like the end of the list.
		if err := context.Cause(ctx); err != nil && !told {
			yield(nil, err)
		}
	}
}

// picked lists what a filter picks, in its order, from After on.
func (e *Engine) picked(ctx context.Context, f *Filter) iter.Seq2[*Snapshot, error] {
	return func(yield func(*Snapshot, error) bool) {
		if f.Order == OrderCreated {
			e.pickedByTime(ctx, f, yield)
			return
		}
		for s, err := range e.candidates(ctx, f) {
			if err == nil && !f.matches(s) {
				continue
			}
			if !yield(s, err) {
				return
			}
		}
	}
}

// candidates lists what may be picked, in the order of the IDs or against it.
func (e *Engine) candidates(ctx context.Context, f *Filter) iter.Seq2[*Snapshot, error] {
	here := e.repo.ManifestsOf(ctx, e.ids(ctx, f))
	if !f.Registered {
		return here
	}
	return e.withRegistered(ctx, f, here)
}

// wanted says whether a page in the order of the IDs may have an ID.
func (f *Filter) wanted(id string) bool {
	if len(f.IDs) > 0 && !slices.Contains(f.IDs, id) {
		return false
	}
	return f.After == "" || f.NewestFirst && id < f.After || !f.NewestFirst && id > f.After
}

// ids lists the IDs that may be picked, in order of the IDs or against it, so that only
// their manifests are read.
func (e *Engine) ids(ctx context.Context, f *Filter) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		var known []string
		switch {
		case len(f.IDs) > 0:
			known = slices.Clone(f.IDs)
			slices.Sort(known)
			known = slices.Compact(known)
		case !f.NewestFirst:
			for id, err := range e.repo.IDs(ctx) {
				if (err != nil || f.wanted(id)) && !yield(id, err) {
					return
				}
			}
			return
		default:
			for id, err := range e.repo.IDs(ctx) {
				if err != nil {
					yield("", err)
					return
				}
				known = append(known, id)
			}
		}
		if f.NewestFirst {
			slices.Reverse(known)
		}
		for _, id := range known {
			if f.wanted(id) && !yield(id, nil) {
				return
			}
		}
	}
}

// pickedByTime yields the errors of the listing first, and then what is picked.
func (e *Engine) pickedByTime(ctx context.Context, f *Filter, yield func(*Snapshot, error) bool) {
	order := func(a, b *Snapshot) int {
		n := cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
		if f.NewestFirst {
			return -n
		}
		return n
	}
	var after *Snapshot
	if f.After != "" {
		var err error
		if after, err = e.known(ctx, f.After); err != nil {
			yield(nil, fmt.Errorf("snapshot: Filter.After: %w", err))
			return
		}
	}
	all := *f
	all.After, all.NewestFirst = "", false
	var found []*Snapshot
	for s, err := range e.candidates(ctx, &all) {
		switch {
		case err != nil:
			if !yield(nil, err) {
				return
			}
		case f.matches(s) && (after == nil || order(after, s) < 0):
			found = append(found, s)
		}
	}
	if ctx.Err() != nil {
		return
	}
	slices.SortFunc(found, order)
	for _, s := range found {
		if err := context.Cause(ctx); err != nil {
			yield(nil, err)
			return
		}
		if !yield(s, nil) {
			return
		}
	}
}

// Get returns a snapshot's description, also of one that is registered and not here, with
// Snapshot.Location set. It fails with ErrNotFound, ErrBadID,
// ErrClosed, or an error of the repository.
func (e *Engine) Get(ctx context.Context, id string) (*Snapshot, error) {
	ctx, done, err := e.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	return e.known(ctx, id)
}

// CheckID reports whether a string can be the ID of a snapshot; see repo.CheckID. Any
// other fails with ErrBadID.
func CheckID(id string) error { return repo.CheckID(id) }

// damaged says whether an error is that of one snapshot whose manifest cannot be read.
func damaged(err error) bool {
	return errors.Is(err, repo.ErrCorrupt) || errors.Is(err, repo.ErrFormat)
}
