package pieces

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"time"

	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/transfer"
)

func (h *Handler) listBackups(w http.ResponseWriter, r *http.Request) error {
	list := backupList{Iterable: []backup{}, Indices: map[string]int{}}
	for s, err := range h.snapshots(r.Context(), snapshot.Filter{NewestFirst: true}) {
		if err != nil {
			return err
		}
		b := h.describe(s)
		list.Indices[b.ID] = len(list.Iterable)
		list.Iterable = append(list.Iterable, b)
	}
	return answer(w, list)
}

func (h *Handler) getBackup(w http.ResponseWriter, r *http.Request) error {
	f, err := h.find(r.Context(), r.PathValue("backup"))
	if err != nil {
		return err
	}
	if f.snapshot == nil {
		return serverError("the backup %s is not complete: %s", f.backup.ID, valueOf(f.creation.State))
	}
	return answer(w, f.backup)
}

func (h *Handler) deleteBackup(w http.ResponseWriter, r *http.Request) error {
	f, err := h.findWithBody(w, r)
	if err != nil {
		return err
	}
	if f.snapshot == nil {
		return serverError("the backup %s is not complete, there is nothing to delete: %s", f.backup.ID, valueOf(f.creation.State))
	}
	if err := h.engine.Delete(r.Context(), f.snapshot.ID); err != nil {
		return err
	}
	return noContent(w)
}

// findWithBody finds the backup in the path, and makes sure that a Backup in the body is the
// same one: what follows deletes or replaces data.
func (h *Handler) findWithBody(w http.ResponseWriter, r *http.Request) (*found, error) {
	var body backupRef
	if _, err := h.readBody(w, r, &body); err != nil {
		return nil, err
	}
	f, err := h.find(r.Context(), r.PathValue("backup"))
	if err != nil {
		return nil, err
	}
	if body.ID != "" && body.ID != f.backup.ID && (f.snapshot == nil || body.ID != f.snapshot.ID) &&
		body.ID != body.Version+"_"+body.Timestamp {
		return nil, badRequest("the path is that of backup %s, and the body that of %q", f.backup.ID, body.ID)
	}
	return f, nil
}

// startCreate begins a backup of everything, or of what the patterns choose.
func (h *Handler) startCreate(ctx context.Context, patterns []string) (*transfer.Job, error) {
	opts := h.opts.Create
	opts.Label = h.ids.next(time.Now())
	opts.Metadata = maps.Clone(opts.Metadata)
	if opts.Metadata == nil {
		opts.Metadata = make(map[string]string)
	}
	opts.Metadata[MetadataDevice], opts.Metadata[MetadataPlatform] = h.opts.DeviceName, h.opts.Platform
	if patterns != nil {
		opts.Include = patterns
	}
	return h.engine.StartCreate(ctx, opts)
}

// create makes a backup and answers when it is complete. The job goes on when the client
// leaves: to end it there is a call of its own.
func (h *Handler) create(w http.ResponseWriter, r *http.Request) error {
	if err := h.readSeed(w, r); err != nil {
		return err
	}
	patient(w)
	job, err := h.startCreate(r.Context(), nil)
	if err != nil {
		return err
	}
	if err := wait(r.Context(), job); err != nil {
		return err
	}
	b, err := h.made(r.Context(), job.Status())
	if err != nil {
		return err
	}
	return answer(w, b)
}

// readSeed reads a SeededBackup, which holds nothing.
func (h *Handler) readSeed(w http.ResponseWriter, r *http.Request) error {
	_, err := h.readBody(w, r, &struct{}{})
	return err
}

// made returns the Backup that a completed job has made.
func (h *Handler) made(ctx context.Context, s transfer.Status) (*backup, error) {
	m, err := h.engine.Get(ctx, s.Snapshot)
	if err != nil {
		return nil, err
	}
	b := h.describe(m)
	return &b, nil
}

// wait waits for a job's end.
func wait(ctx context.Context, job *transfer.Job) error {
	err := job.Wait(ctx)
	if errors.Is(err, transfer.ErrAborted) {
		return serverError("it was cancelled")
	}
	return err
}

// backupAssets makes a backup of the assets in the body, or of everything if there is none.
func (h *Handler) backupAssets(w http.ResponseWriter, r *http.Request) error {
	var body assetList
	given, err := h.readBody(w, r, &body)
	if err != nil {
		return err
	}
	if given && len(body.Iterable) == 0 {
		return badRequest("the list of assets is empty; for a backup of everything leave out the body")
	}
	return h.createOf(w, r, body.Iterable)
}

func (h *Handler) backupAsset(w http.ResponseWriter, r *http.Request) error {
	var body Asset
	given, err := h.readBody(w, r, &body)
	if err != nil {
		return err
	}
	if !given {
		return badRequest("there is no asset in the body")
	}
	return h.createOf(w, r, []Asset{body})
}

// createOf makes a backup of some assets, or of everything if there are none.
func (h *Handler) createOf(w http.ResponseWriter, r *http.Request, assets []Asset) error {
	var patterns []string
	if len(assets) > 0 {
		if h.opts.Assets == nil {
			return serverError("backups of chosen assets are not set up on this server")
		}
		var err error
		if patterns, err = h.opts.Assets(r.Context(), assets); err != nil {
			return err
		}
		if len(patterns) == 0 {
			return serverError("nothing belongs to these assets")
		}
	}
	patient(w)
	job, err := h.startCreate(r.Context(), patterns)
	if err != nil {
		return err
	}
	if err := wait(r.Context(), job); err != nil {
		return err
	}
	return noContent(w)
}
