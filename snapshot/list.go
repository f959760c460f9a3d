package snapshot

import (
	"context"
	"iter"
	"slices"
	"time"

	"github.com/holdstill/holdstill/repo"
)

// A Snapshot describes one snapshot: its ID, its sources, and its figures.
type Snapshot = repo.Manifest

// A Filter picks snapshots. The zero Filter picks all; of several conditions all
// must hold.
type Filter struct {
	// Label picks those made with this label.
	Label string
	// Source picks those that hold a source of this name.
	Source string
	// Parent picks those whose parent has this ID.
	Parent string
	// Since and Before bound the time of the cut: Since <= Created < Before. A zero
	// time is no bound.
	Since, Before time.Time
	// Metadata picks those that have all of these entries.
	Metadata map[string]string
	// NewestFirst turns the order round.
	NewestFirst bool
	// Limit ends the listing after so many. Zero is no limit.
	Limit int
}

func (f *Filter) matches(s *Snapshot) bool {
	if f.Label != "" && s.Label != f.Label ||
		f.Parent != "" && s.Parent != f.Parent ||
		!f.Since.IsZero() && s.Created.Before(f.Since) ||
		!f.Before.IsZero() && !s.Created.Before(f.Before) {
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
	return true
}

// List returns the snapshots that a filter picks, oldest first, as their IDs sort.
// A snapshot whose manifest cannot be read comes as an error that names it, and the
// listing goes on; an error of the listing itself, or of the context, ends it.
func (e *Engine) List(ctx context.Context, filter Filter) iter.Seq2[*Snapshot, error] {
	return func(yield func(*Snapshot, error) bool) {
		ctx, done, err := e.begin(ctx)
		if err != nil {
			yield(nil, err)
			return
		}
		defer done()
		found := 0
		for s, err := range e.manifests(ctx, filter.NewestFirst) {
			if err == nil && !filter.matches(s) {
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
	}
}

// manifests lists all snapshots in the order of their IDs, or against it.
func (e *Engine) manifests(ctx context.Context, newestFirst bool) iter.Seq2[*Snapshot, error] {
	if newestFirst {
		return e.repo.ManifestsReverse(ctx)
	}
	return e.repo.Manifests(ctx)
}

// Get returns a snapshot's description. It fails with ErrNotFound, ErrBadID,
// ErrClosed, or an error of the repository.
func (e *Engine) Get(ctx context.Context, id string) (*Snapshot, error) {
	ctx, done, err := e.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	return e.repo.Manifest(ctx, id)
}

// Delete removes a snapshot. Other snapshots are not harmed, those that have it
// as their parent included. The space is freed by the next Collect.
// It fails with ErrNotFound, ErrBadID, ErrClosed, or an error of the repository.
func (e *Engine) Delete(ctx context.Context, id string) error {
	ctx, done, err := e.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	return e.repo.DeleteManifest(ctx, id)
}
