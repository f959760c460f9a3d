package trove

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/transfer"
)

// The states of instances.
const (
	instanceBuild  = "BUILD"
	instanceActive = "ACTIVE"
	instanceError  = "ERROR"
)

// instanceView is an instance in a response.
type instanceView struct {
	ID        string            `json:"id"`
	Name      string            `json:"name"`
	Status    string            `json:"status"`
	Tenant    string            `json:"tenant_id,omitempty"`
	Created   string            `json:"created,omitempty"`
	Updated   string            `json:"updated,omitempty"`
	Datastore map[string]string `json:"datastore,omitempty"`
	// Flavor is always there, since clients take its ID without asking.
	Flavor map[string]string `json:"flavor"`
	Volume *volumeView       `json:"volume,omitempty"`
	Links  []string          `json:"links"`
}

type volumeView struct {
	Size float64 `json:"size"`
}

func (d Datastore) short() map[string]string {
	if !d.known() {
		return nil
	}
	return map[string]string{"type": d.Name, "version": d.Version}
}

func (i *Instance) view() instanceView {
	return instanceView{
		ID: i.ID, Name: i.Name, Status: instanceActive, Tenant: i.Project, Datastore: i.Datastore.short(),
		Flavor: map[string]string{"id": ""}, Links: []string{},
	}
}

func (e *restored) view() instanceView {
	v := instanceView{
		ID: e.ID, Name: e.Name, Status: e.Status, Tenant: e.Project, Created: formatTime(e.Created),
		Updated: formatTime(e.Updated), Datastore: e.Datastore.short(),
		Flavor: map[string]string{"id": e.Flavor}, Links: []string{},
	}
	if e.Volume > 0 {
		v.Volume = &volumeView{e.Volume}
	}
	return v
}

func (h *Handler) listInstances(r *request) (int, any, error) {
	if err := h.allow(r, "instance:index", r.project); err != nil {
		return 0, nil, err
	}
	if err := h.settleRestores(r.Context()); err != nil {
		return 0, nil, err
	}
	views := []instanceView{}
	for i := range h.opts.Instances {
		if one := &h.opts.Instances[i]; one.Project == "" || one.Project == r.project {
			views = append(views, one.view())
		}
	}
	h.mu.Lock()
	for _, e := range h.restores {
		if e.Project == r.project {
			views = append(views, e.view())
		}
	}
	h.mu.Unlock()
	slices.SortFunc(views, func(a, b instanceView) int { return strings.Compare(a.ID, b.ID) })
	return http.StatusOK, map[string]any{"instances": views}, nil
}

func (h *Handler) showInstance(r *request) (int, any, error) {
	if err := h.settleRestores(r.Context()); err != nil {
		return 0, nil, err
	}
	id := strings.ToLower(r.PathValue("id"))
	h.mu.Lock()
	var view *instanceView
	if e := h.restores[id]; e != nil && h.mayUse(r, e.Project) {
		v := e.view()
		view = &v
	}
	h.mu.Unlock()
	if view == nil {
		one, err := h.instance(r, id)
		if err != nil {
			return 0, nil, err
		}
		v := one.view()
		view = &v
	}
	if err := h.allow(r, "instance:show", r.project); err != nil {
		return 0, nil, err
	}
	return http.StatusOK, map[string]any{"instance": view}, nil
}

// createInstance serves POST instances: it restores a backup.
func (h *Handler) createInstance(r *request) (int, any, error) {
	if err := h.allow(r, "instance:create", r.project); err != nil {
		return 0, nil, err
	}
	body, err := readBody(r, "instance")
	if err != nil {
		return 0, nil, err
	}
	body.need("name")
	e := &restoreEntry{restored: restored{Name: body.name("name"), Flavor: clip(lastPart(body.text("flavorRef")))}}
	e.Volume = body.object("volume").number("size")
	point := body.object("restorePoint")
	if body.has("restorePoint") {
		point.need("backupRef")
	}
	id := point.reference("backupRef")
	if err := body.err(); err != nil {
		return 0, nil, err
	}
	if !body.has("restorePoint") || h.opts.Restore == nil {
		return 0, nil, fail(http.StatusNotImplemented, "Instances can only be created here from a restorePoint, and only where restoring is set up.")
	}
	if err := h.sync(r.Context()); err != nil {
		return 0, nil, err
	}
	b, err := h.restorable(r, id, e.Volume)
	if err != nil {
		return 0, nil, err
	}
	now := time.Now().UTC()
	e.ID, e.Project, e.Backup, e.Status = newUUID(), r.project, b.ID, instanceBuild
	e.Created, e.Updated, e.Datastore = now, now, b.Datastore
	if err := h.restore(r.Context(), e, b); err != nil {
		return 0, nil, err
	}
	h.mu.Lock()
	view := e.view()
	h.mu.Unlock()
	return http.StatusOK, map[string]any{"instance": view}, nil
}

// restorable returns a backup that can be restored to a volume of a size in GiB, 0 if it
// is not known.
func (h *Handler) restorable(r *request, id string, volume float64) (*record, error) {
	e, err := h.find(id)
	if err != nil {
		return nil, err
	}
	b := h.read(e)
	switch {
	case !h.mayUse(r, b.Project):
		return nil, notFound(id)
	case b.State != stateCompleted && b.State != stateRestored:
		return nil, fail(http.StatusConflict, "Unable to create instance because backup %s is not completed. Actual state: %s.", b.ID, b.State)
	case volume > 0 && b.Sized && b.Size > volume:
		return nil, fail(http.StatusBadRequest, "Backup is too large for given flavor or volume. Backup size: %v GBs. Available size: %v GBs.", b.Size, volume)
	}
	return &b, nil
}

// restore starts the restore of a backup.
func (h *Handler) restore(ctx context.Context, e *restoreEntry, b *record) error {
	opts, err := h.opts.Restore(ctx, RestoreRequest{
		Instance: e.ID, Name: e.Name, Project: e.Project, Backup: b.ID, Snapshot: b.Snapshot, From: b.Instance, Datastore: b.Datastore,
	})
	if err != nil {
		return fail(http.StatusUnprocessableEntity, "Unable to create instance from backup %s: %v", b.ID, err)
	}
	engine := h.engines[b.Repository]
	if b.State == stateRestored {
		engine, _, err = h.openRemote(ctx, b.Location)
		if err != nil {
			h.opts.Logger.Warn("a backup of another region cannot be used", "location", b.Location, "error", err)
			return fail(http.StatusBadRequest, "Failed to restore backup from %s", b.Location)
		}
	} else {
		e.Repository = b.Repository
	}
	if engine == nil {
		return fail(http.StatusUnprocessableEntity, "Unable to create instance because the repository of backup %s is not served here any more.", b.ID)
	}
	job, err := h.startRestore(ctx, engine, b, opts)
	if err != nil {
		if b.State == stateRestored {
			err = errors.Join(err, engine.Close())
		}
		return err
	}
	e.job, e.Job = job, job.ID()
	h.mu.Lock()
	h.restores[e.ID] = e
	old := h.oldestRestore()
	h.mu.Unlock()
	// The restore is under way, whatever becomes of its record.
	ctx = context.WithoutCancel(ctx)
	err = h.keepRestore(ctx, e)
	if old != "" {
		err = errors.Join(err, h.forgetRestore(ctx, old))
	}
	if err != nil {
		h.opts.Logger.Warn("the record of a restore is not up to date", "instance", e.ID, "error", err)
	}
	if b.State != stateRestored {
		engine = nil
	}
	h.watch(job, engine)
	return nil
}

// startRestore looks at the snapshot once more and starts the job.
func (h *Handler) startRestore(ctx context.Context, engine *snapshot.Engine, b *record, opts snapshot.RestoreOptions) (*transfer.Job, error) {
	_, err := engine.Get(ctx, b.Snapshot)
	switch {
	case errors.Is(err, snapshot.ErrNotFound):
		return nil, notFound(b.ID)
	case damaged(err):
		return nil, fail(http.StatusConflict, "Current checksum does not match that of backup %s.", b.ID)
	case err != nil:
		return nil, err
	}
	job, err := engine.StartRestore(ctx, b.Snapshot, opts)
	if errors.Is(err, transfer.ErrJobBusy) {
		return nil, fail(http.StatusConflict, "Unable to create instance from backup %s: another restore is under way for the same place.", b.ID)
	}
	return job, err
}
