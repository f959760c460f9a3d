package pieces

import (
	"context"
	"errors"
	"net/http"

	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/transfer"
)

func (h *Handler) creationStatus(w http.ResponseWriter, r *http.Request) error {
	f, err := h.findForStatus(r)
	if err != nil {
		return err
	}
	if f.snapshot != nil {
		return answer(w, backupStatus{f.backup, valueOf(transfer.StateCompleted), 100})
	}
	return answer(w, backupStatus{f.backup, valueOf(f.creation.State), percentageOf(*f.creation)})
}

func (h *Handler) restorationStatus(w http.ResponseWriter, r *http.Request) error {
	f, err := h.findForStatus(r)
	if err != nil {
		return err
	}
	if f.snapshot != nil {
		status, err := h.lastRestore(r.Context(), f.snapshot.ID)
		if err != nil {
			return err
		}
		if status != nil {
			return answer(w, backupStatus{f.backup, valueOf(status.State), percentageOf(*status)})
		}
	}
	return &statusError{http.StatusNotFound, "no restore of this backup is known"}
}

// findForStatus is find for the two calls that know status 404.
func (h *Handler) findForStatus(r *http.Request) (*found, error) {
	f, err := h.find(r.Context(), r.PathValue("backup"))
	var missing *missingError
	if errors.As(err, &missing) {
		return nil, &statusError{http.StatusNotFound, err.Error()}
	}
	return f, err
}

func (h *Handler) cancelCreation(w http.ResponseWriter, r *http.Request) error {
	f, err := h.findWithBody(w, r)
	if err != nil {
		return err
	}
	return h.cancel(w, r, f.creation, "no creation of this backup is under way")
}

func (h *Handler) cancelRestoration(w http.ResponseWriter, r *http.Request) error {
	f, err := h.findWithBody(w, r)
	if err != nil {
		return err
	}
	var status *transfer.Status
	if f.snapshot != nil {
		if status, err = h.lastRestore(r.Context(), f.snapshot.ID); err != nil {
			return err
		}
	}
	return h.cancel(w, r, status, "no restore of this backup is under way")
}

// cancel aborts a job and answers when it has ended: then everything is as it was before.
func (h *Handler) cancel(w http.ResponseWriter, r *http.Request, status *transfer.Status, none string) error {
	if status == nil || status.State.Final() {
		return serverError("%s", none)
	}
	job, err := h.engine.Job(r.Context(), status.ID)
	if errors.Is(err, transfer.ErrJobNotFound) {
		return serverError("%s", none)
	}
	if err != nil {
		return err
	}
	patient(w)
	job.Abort()
	select {
	case <-job.Done():
	case <-r.Context().Done():
		return context.Cause(r.Context())
	}
	if job.Err() == nil {
		return serverError("it is too late to cancel: it has completed")
	}
	// The end may have another reason than the abort. What is then in place may not be
	// what was there before.
	var told *snapshot.RestoreError
	if errors.As(job.Err(), &told) && !told.Undone {
		return told
	}
	return noContent(w)
}
