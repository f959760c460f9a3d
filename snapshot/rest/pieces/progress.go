package pieces

import (
	"context"
	"errors"
	"net/http"

	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/transfer"
)

// isGone reports whether an error says that a snapshot or job is no longer there.
func isGone(err error) bool {
	return errors.Is(err, snapshot.ErrNotFound) || errors.Is(err, snapshot.ErrBadID) || errors.Is(err, transfer.ErrJobNotFound)
}

// progress tells how far all creations and restores are that are under way: once, or until
// all have ended where the client asks for a form that can say more than one thing.
func (h *Handler) progress(w http.ResponseWriter, r *http.Request) error {
	look := h.viewOfAll()
	switch {
	case wantsWebSocket(r):
		return h.webSocket(w, r, func(context.Context) (<-chan struct{}, view, error) { return nil, look, nil })
	case formatOf(r) != formatOne:
		h.stream(w, r, nil, look)
		return nil
	}
	now, _, err := look(r.Context())
	if err != nil {
		return err
	}
	return answer(w, now)
}

// viewOfAll is the view of all jobs that are under way when it is first asked, or begin later.
func (h *Handler) viewOfAll() view {
	var seen []string
	listed, known := map[string]bool{}, map[string]*backup{}
	filter := transfer.JobFilter{
		Kinds:  []transfer.Kind{transfer.KindCreate, transfer.KindRestore},
		States: []transfer.State{transfer.StateAck, transfer.StateStarted},
	}
	return func(ctx context.Context) (any, bool, error) {
		for s, err := range h.engine.Jobs(ctx, filter) {
			if err != nil {
				return nil, false, err
			}
			if !listed[s.ID] {
				listed[s.ID] = true
				seen = append(seen, s.ID)
			}
		}
		all, last := allProgress{Backups: []streamedProgress{}, Restorations: []streamedProgress{}}, true
		for _, id := range seen {
			job, err := h.engine.Job(ctx, id)
			if isGone(err) {
				continue
			}
			if err != nil {
				return nil, false, err
			}
			s := job.Status()
			p, err := h.progressOf(ctx, s, known)
			if err != nil {
				return nil, false, err
			}
			last = last && s.State.Final()
			if s.Kind == transfer.KindCreate {
				all.Backups = append(all.Backups, p)
			} else {
				all.Restorations = append(all.Restorations, p)
			}
		}
		return all, last, nil
	}
}

// createWebSocket makes a backup and tells of it over a WebSocket. A plain GET makes nothing:
// it is answered with the state of the newest creation.
func (h *Handler) createWebSocket(w http.ResponseWriter, r *http.Request) error {
	if wantsWebSocket(r) {
		return h.webSocket(w, r, func(ctx context.Context) (<-chan struct{}, view, error) {
			job, err := h.startCreate(ctx, nil)
			if err != nil {
				return nil, nil, err
			}
			return job.Done(), h.viewOf(job, nil), nil
		})
	}
	filter := transfer.JobFilter{Kinds: []transfer.Kind{transfer.KindCreate}, NewestFirst: true, Limit: 1}
	for s, err := range h.engine.Jobs(r.Context(), filter) {
		if err != nil {
			return err
		}
		p, err := h.progressOf(r.Context(), s, map[string]*backup{})
		if err != nil {
			return err
		}
		return answer(w, p)
	}
	return answer(w, streamedProgress{Status: statusUnknown})
}

// restoreWebSocket is the same for a restore.
func (h *Handler) restoreWebSocket(w http.ResponseWriter, r *http.Request) error {
	f, err := h.findRestorable(w, r)
	if err != nil {
		return err
	}
	if wantsWebSocket(r) {
		return h.webSocket(w, r, func(context.Context) (<-chan struct{}, view, error) {
			job, err := h.startRestore(r, f)
			if err != nil {
				return nil, nil, err
			}
			return job.Done(), h.viewOf(job, &f.backup), nil
		})
	}
	p := streamedProgress{Status: statusUnknown, Backup: &f.backup}
	status, err := h.lastRestore(r.Context(), f.snapshot.ID)
	if err != nil {
		return err
	}
	if status != nil {
		if p, err = h.progressOf(r.Context(), *status, map[string]*backup{status.ID: &f.backup}); err != nil {
			return err
		}
	}
	return answer(w, p)
}
