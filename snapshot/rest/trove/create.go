package trove

import (
	"context"
	"net/http"
	"time"

	"github.com/holdstill/holdstill/snapshot"
)

// createRequest is what a request for a backup says.
type createRequest struct {
	name, description, instance, parent string
	container, driver                   string
	incremental                         bool
	restoreFrom                         *restoreFrom
}

// restoreFrom is a backup that another region has stored.
type restoreFrom struct {
	location, version string
	size              float64
	sized             bool
}

// parseCreate reads the body of POST backups.
func parseCreate(o object) (*createRequest, error) {
	o.need("name")
	c := &createRequest{
		name: o.name("name"), description: o.name("description"), instance: o.reference("instance"),
		parent: o.uuid("parent_id"), container: o.name("swift_container"), driver: o.text("storage_driver"),
		incremental: o.flag("incremental"),
	}
	if o.has("restore_from") {
		from := o.object("restore_from")
		from.need("remote_location")
		c.restoreFrom = &restoreFrom{
			location: from.name("remote_location"), version: from.uuid("local_datastore_version_id"),
			size: from.number("size"), sized: from.has("size"),
		}
	}
	if len(c.driver) > maxName {
		o.wrong("storage_driver", "%s is too long", show(c.driver))
	}
	return c, o.err()
}

// createBackup serves POST backups.
func (h *Handler) createBackup(r *request) (int, any, error) {
	if err := h.allow(r, "backup:create", r.project); err != nil {
		return 0, nil, err
	}
	body, err := readBody(r, "backup")
	if err != nil {
		return 0, nil, err
	}
	c, err := parseCreate(body)
	if err != nil {
		return 0, nil, err
	}
	if err := h.sync(r.Context()); err != nil {
		return 0, nil, err
	}
	now := time.Now().UTC()
	b := record{
		ID: newUUID(), Name: c.name, Description: c.description, Project: r.project, State: stateNew,
		Created: now, Updated: now, Driver: c.driver, Container: c.container,
	}
	if b.Driver == "" {
		b.Driver = h.opts.StorageDriver
	}
	if c.restoreFrom != nil {
		err = h.record(r, c, &b)
	} else {
		err = h.start(r, c, &b)
	}
	if err != nil {
		return 0, nil, err
	}
	return http.StatusAccepted, map[string]any{"backup": b.view()}, nil
}

// start begins to make a backup.
func (h *Handler) start(r *request, c *createRequest, b *record) error {
	if c.instance == "" {
		return fail(http.StatusBadRequest, "instance is missing.")
	}
	instance, err := h.instance(r, c.instance)
	if err != nil {
		return err
	}
	b.Instance, b.Datastore = instance.ID, instance.Datastore
	b.Repository = instance.Engine.Repository().ID()
	if b.Container == "" {
		b.Container = h.container(r.project, instance.ID)
	}
	parent, err := h.parent(r, c, b)
	if err != nil {
		return err
	}
	opts := snapshot.CreateOptions{Label: b.ID, Description: b.Description, NoParent: parent == nil}
	if parent != nil {
		b.Parent, opts.Parent = parent.ID, parent.Snapshot
	}
	opts.Metadata = b.metadata()
	if h.opts.Create != nil {
		h.opts.Create(&opts)
	}
	e, err := h.enter(r.Context(), b)
	if err != nil {
		return err
	}
	job, err := instance.Engine.StartCreate(r.Context(), opts)
	if err != nil {
		if dropErr := h.drop(context.WithoutCancel(r.Context()), e); dropErr != nil {
			h.opts.Logger.Warn("the record of a backup that did not begin cannot be removed", "backup", b.ID, "error", dropErr)
		}
		return err
	}
	h.mu.Lock()
	e.job = job
	h.mu.Unlock()
	// Without it a new Handler takes the backup for one that nobody makes, until it is there.
	if err := h.change(context.WithoutCancel(r.Context()), e, func(r *record) { r.Job = job.ID() }); err != nil {
		h.opts.Logger.Warn("the record of a backup is not up to date", "backup", b.ID, "error", err)
	}
	return nil
}

// parent returns the backup to compare with, nil if everything is to be read.
func (h *Handler) parent(r *request, c *createRequest, b *record) (*record, error) {
	if c.parent != "" {
		e, err := h.find(c.parent)
		if err != nil {
			return nil, err
		}
		p := h.read(e)
		switch {
		case !h.mayUse(r, p.Project):
			return nil, notFound(c.parent)
		case p.State != stateCompleted:
			return nil, fail(http.StatusConflict, "Unable to create backup because its parent %s is not completed. Actual state: %s.", p.ID, p.State)
		case p.Repository != b.Repository:
			return nil, fail(http.StatusConflict, "Unable to create backup because its parent %s is stored elsewhere.", p.ID)
		}
		return &p, nil
	}
	if !c.incremental {
		return nil, nil
	}
	found := h.pick(func(p *record) bool {
		return p.State == stateCompleted && p.Instance == b.Instance && p.Repository == b.Repository && h.mayUse(r, p.Project)
	})
	if len(found) == 0 {
		return nil, nil
	}
	return &found[0], nil
}

// enter puts a new record into the book if the project's quota allows it.
func (h *Handler) enter(ctx context.Context, b *record) (*entry, error) {
	e := &entry{record: *b}
	h.mu.Lock()
	count := 0
	for _, other := range h.backups {
		if other.Project == b.Project {
			count++
		}
	}
	if h.opts.Quota >= 0 && count >= h.opts.Quota {
		h.mu.Unlock()
		return nil, fail(http.StatusRequestEntityTooLarge, "Quota exceeded for resources: ['backups'].")
	}
	h.backups[b.ID] = e
	h.mu.Unlock()
	if err := h.store.put(ctx, backupPrefix+b.ID+recordSuffix, b); err != nil {
		h.mu.Lock()
		delete(h.backups, b.ID)
		h.mu.Unlock()
		return nil, err
	}
	return e, nil
}
