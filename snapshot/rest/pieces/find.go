package pieces

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/transfer"
)

// A found is what a name stands for: a snapshot, or the job of a backup that has none, or
// none yet.
type found struct {
	backup   backup
	snapshot *snapshot.Snapshot // nil if there is none
	creation *transfer.Status   // nil if the records know none
}

// A missingError tells of a backup that is not there. Pieces OS counts it as an error of the
// server in all calls but those for a status.
type missingError struct{ name string }

func (e *missingError) Error() string { return fmt.Sprintf("there is no backup %q", e.name) }

// find looks up the backup that a path names.
func (h *Handler) find(ctx context.Context, text string) (*found, error) {
	n, err := parseName(text)
	if err != nil {
		return nil, err
	}
	// Jobs come first: one that completes meanwhile has left a snapshot by then.
	f, err := h.findCreation(ctx, &n)
	if err != nil {
		return nil, err
	}
	s, err := h.findSnapshot(ctx, &n)
	if err != nil {
		return nil, err
	}
	switch {
	case s != nil:
		f.snapshot, f.backup = s, h.describe(s)
	case f.creation == nil, f.creation.State == transfer.StateCompleted:
		// What was completed and is no more was deleted.
		return nil, &missingError{text}
	}
	return f, nil
}

// findCreation looks for the job that makes or made a backup. It is not an error if there is
// none.
func (h *Handler) findCreation(ctx context.Context, n *name) (*found, error) {
	filter := transfer.JobFilter{Kinds: []transfer.Kind{transfer.KindCreate}, NewestFirst: true}
	for status, err := range h.engine.Jobs(ctx, filter) {
		if err != nil {
			return nil, err
		}
		if b, ok := h.describeCreation(&status); ok && n.means(&b, status.Snapshot) {
			return &found{backup: b, creation: &status}, nil
		}
	}
	return &found{}, nil
}

// describeCreation returns the Backup that a job makes. That of a job which was not begun
// here has no name before it ends.
func (h *Handler) describeCreation(s *transfer.Status) (backup, bool) {
	id := s.Details["label"]
	at, ok := idTime(id)
	if !ok {
		if s.Snapshot == "" {
			return backup{}, false
		}
		id, at = s.Snapshot, s.Created
	}
	return h.newBackup(id, h.engine.DatabaseVersion(), at, s.Progress.BytesDone), true
}

// findSnapshot looks for a snapshot, and returns nil if there is none.
func (h *Handler) findSnapshot(ctx context.Context, n *name) (*snapshot.Snapshot, error) {
	if snapshot.CheckID(n.text) == nil {
		s, err := h.engine.Get(ctx, n.text)
		if err == nil || !errors.Is(err, snapshot.ErrNotFound) {
			return s, err
		}
	}
	var filter snapshot.Filter
	if _, ok := idTime(n.text); ok {
		filter.Label = n.text
	} else if !n.dated {
		return nil, nil
	}
	var hit *snapshot.Snapshot
	for s, err := range h.snapshots(ctx, filter) {
		if err != nil {
			return nil, err
		}
		b := h.describe(s)
		if !n.means(&b, s.ID) {
			continue
		}
		if hit != nil {
			return nil, &statusError{http.StatusConflict, "more than one backup is called " + n.text + ": use its id"}
		}
		hit = s
	}
	return hit, nil
}

// snapshots lists snapshots, and leaves out those whose manifest is damaged: they must not
// keep anybody from the others.
func (h *Handler) snapshots(ctx context.Context, filter snapshot.Filter) func(func(*snapshot.Snapshot, error) bool) {
	return func(yield func(*snapshot.Snapshot, error) bool) {
		for s, err := range h.engine.List(ctx, filter) {
			if err != nil && ctx.Err() == nil && (errors.Is(err, repo.ErrCorrupt) || errors.Is(err, repo.ErrFormat)) {
				h.opts.Logger.Warn("a damaged snapshot is left out", "error", err)
				continue
			}
			if !yield(s, err) {
				return
			}
		}
	}
}

// lastRestore returns the status of the newest restore of a snapshot, or nil.
func (h *Handler) lastRestore(ctx context.Context, id string) (*transfer.Status, error) {
	filter := transfer.JobFilter{Kinds: []transfer.Kind{transfer.KindRestore}, Snapshot: id, NewestFirst: true, Limit: 1}
	for status, err := range h.engine.Jobs(ctx, filter) {
		return &status, err
	}
	return nil, nil
}
