package pieces

import (
	"net/http"

	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/transfer"
)

// restore restores a backup and answers when that is done.
func (h *Handler) restore(w http.ResponseWriter, r *http.Request) error {
	f, err := h.findRestorable(w, r)
	if err != nil {
		return err
	}
	patient(w)
	job, err := h.startRestore(r, f)
	if err != nil {
		return err
	}
	if err := wait(r.Context(), job); err != nil {
		return err
	}
	return answer(w, f.backup)
}

// findRestorable finds the backup in the path if it is complete.
func (h *Handler) findRestorable(w http.ResponseWriter, r *http.Request) (*found, error) {
	f, err := h.findWithBody(w, r)
	if err != nil {
		return nil, err
	}
	if f.snapshot == nil {
		return nil, serverError("the backup %s is not complete: %s", f.backup.ID, valueOf(f.creation.State))
	}
	return f, nil
}

func (h *Handler) startRestore(r *http.Request, f *found) (*transfer.Job, error) {
	opts, err := h.restoreOptions(r, f.snapshot)
	if err != nil {
		return nil, err
	}
	return h.engine.StartRestore(r.Context(), f.snapshot.ID, opts)
}

func (h *Handler) restoreOptions(r *http.Request, s *snapshot.Snapshot) (snapshot.RestoreOptions, error) {
	opts := h.opts.Restore
	if s.Partial != nil {
		if h.opts.RestoreAssets == nil {
			return opts, serverError("the backup holds chosen assets only: restoring those is not set up on this server")
		}
		return h.opts.RestoreAssets(r.Context(), s)
	}
	if opts.To == "" {
		return opts, serverError("restores are not set up on this server")
	}
	return opts, nil
}
