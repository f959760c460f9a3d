package trove

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/holdstill/holdstill/snapshot"
)

// deleteBackup serves DELETE backups/{id}. Nothing is deleted if one of those that would go
// may not.
func (h *Handler) deleteBackup(r *request) (int, any, error) {
	ctx := r.Context()
	if err := h.sync(ctx); err != nil {
		return 0, nil, err
	}
	e, err := h.find(r.PathValue("id"))
	if err != nil {
		return 0, nil, err
	}
	tree := h.tree(e)
	now := time.Now()
	for _, one := range tree {
		b := h.read(one)
		if err := h.allow(r, "backup:delete", b.Project); err != nil {
			return 0, nil, err
		}
		if b.State.running() && now.Sub(b.Created) < deletableAfter {
			return 0, nil, fail(http.StatusUnprocessableEntity, "Backup %s cannot be deleted because it is running.", b.ID)
		}
	}
	for _, one := range tree {
		if err := h.deleteOne(ctx, one); err != nil {
			if ctx.Err() != nil {
				return 0, nil, err
			}
			// Trove deletes behind the response, and says so in the record.
			h.opts.Logger.Error("a backup cannot be deleted", "backup", one.ID, "error", err)
			change := func(r *record) { r.State, r.Updated = stateDeleteFailed, time.Now().UTC() }
			if err := h.change(ctx, one, change); err != nil {
				return 0, nil, err
			}
			break
		}
	}
	return http.StatusAccepted, nil, nil
}

// tree returns a backup and all that were made from it, each after its own children.
func (h *Handler) tree(root *entry) []*entry {
	h.mu.Lock()
	defer h.mu.Unlock()
	children := make(map[string][]*entry)
	for _, e := range h.backups {
		if e.Parent != "" {
			children[e.Parent] = append(children[e.Parent], e)
		}
	}
	out, seen := []*entry{root}, map[string]bool{root.ID: true}
	for n := 0; n < len(out); n++ {
		for _, e := range children[out[n].ID] {
			if !seen[e.ID] {
				seen[e.ID] = true
				out = append(out, e)
			}
		}
	}
	slices.Reverse(out)
	return out
}

// deleteOne deletes a backup: its snapshot, and then the record. What another region has
// stored stays there.
func (h *Handler) deleteOne(ctx context.Context, e *entry) error {
	h.syncMu.Lock()
	defer h.syncMu.Unlock()
	b := h.read(e)
	if b.State.running() && e.job != nil {
		e.job.Abort()
		if err := e.job.Wait(ctx); err == nil || ctx.Err() != nil {
			// It came to be all the same.
			return errors.Join(h.settle(ctx), context.Cause(ctx), errStillThere)
		}
	}
	if engine := h.engines[b.Repository]; engine != nil && b.Snapshot != "" {
		if err := engine.Delete(ctx, b.Snapshot); err != nil && !errors.Is(err, snapshot.ErrNotFound) {
			return err
		}
	}
	return h.drop(ctx, e)
}

// errStillThere means that a backup was finished while it was being deleted.
var errStillThere = errors.New("trove: the backup was finished before it could be ended")
