package trove

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/transfer"
)

// load reads what is kept, and brings it up to date.
func (h *Handler) load(ctx context.Context) error {
	err := h.store.each(ctx, backupPrefix, func(id string, data []byte) {
		r, err := parseRecord(data)
		if err == nil && r.ID != id {
			err = errors.New("it is that of another backup")
		}
		if err != nil {
			h.opts.Logger.Warn("the record of a backup cannot be used", "backup", id, "error", err)
			return
		}
		e := &entry{record: r}
		if r.State.running() {
			e.job = h.findJob(ctx, r.Repository, r.Job, transfer.KindCreate)
		}
		h.backups[r.ID] = e
	})
	if err != nil {
		return err
	}
	if err := h.loadStrategies(ctx); err != nil {
		return err
	}
	if err := h.loadRestores(ctx); err != nil {
		return err
	}
	if err := h.sync(ctx); err != nil {
		return err
	}
	// Nobody makes these any more.
	for _, e := range h.backups {
		if e.State.running() && e.job == nil {
			if err := h.change(ctx, e, func(r *record) { r.State, r.Updated = stateFailed, time.Now().UTC() }); err != nil {
				return err
			}
		}
	}
	return nil
}

// findJob returns a job of the engine that has a repository, nil if there is none.
func (h *Handler) findJob(ctx context.Context, repository, id string, kind transfer.Kind) *transfer.Job {
	engine := h.engines[repository]
	if engine == nil || id == "" {
		return nil
	}
	job, err := engine.Job(ctx, id)
	if err != nil || job.Status().Kind != kind {
		return nil
	}
	return job
}

// change changes a record, and keeps it as it is then. One that was deleted stays so.
func (h *Handler) change(ctx context.Context, e *entry, change func(*record)) error {
	h.writeMu.Lock()
	defer h.writeMu.Unlock()
	h.mu.Lock()
	if h.backups[e.ID] != e {
		h.mu.Unlock()
		return nil
	}
	change(&e.record)
	r := e.record
	h.mu.Unlock()
	return h.store.put(ctx, backupPrefix+r.ID+recordSuffix, &r)
}

// find returns a backup.
func (h *Handler) find(id string) (*entry, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e := h.backups[strings.ToLower(id)]; e != nil {
		return e, nil
	}
	return nil, notFound(id)
}

// read returns a backup's record as it stands.
func (h *Handler) read(e *entry) record {
	h.mu.Lock()
	defer h.mu.Unlock()
	return e.now()
}

// pick returns the records that a function picks, as they stand, the last changed first.
func (h *Handler) pick(wanted func(*record) bool) []record {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []record
	for _, e := range h.backups {
		if r := e.now(); wanted(&r) {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b record) int {
		if n := b.Updated.Compare(a.Updated); n != 0 {
			return n
		}
		return strings.Compare(a.ID, b.ID)
	})
	return out
}

// sync brings the records up to date: those of jobs that have ended, of snapshots that
// somebody else has deleted, and of those that came by other means.
func (h *Handler) sync(ctx context.Context) error {
	h.syncMu.Lock()
	defer h.syncMu.Unlock()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if err := h.settle(ctx); err != nil {
		return err
	}
	for id, engine := range h.engines {
		if err := h.syncRepository(ctx, id, engine); err != nil {
			return err
		}
	}
	return nil
}

// settle takes over the ends of jobs.
func (h *Handler) settle(ctx context.Context) error {
	var ended []*entry
	h.mu.Lock()
	for _, e := range h.backups {
		if e.State.running() && e.job != nil && e.job.Status().State.Final() {
			ended = append(ended, e)
		}
	}
	h.mu.Unlock()
	for _, e := range ended {
		if err := h.settleOne(ctx, e, e.job.Status()); err != nil {
			return err
		}
	}
	return nil
}

// settleOne takes over the end of a job.
func (h *Handler) settleOne(ctx context.Context, e *entry, status transfer.Status) error {
	failed := func(why string) error {
		h.opts.Logger.Warn("a backup failed", "backup", e.ID, "error", why)
		return h.change(ctx, e, func(r *record) { r.State, r.Updated = stateFailed, status.Finished })
	}
	if status.State != transfer.StateCompleted {
		return failed(status.Error)
	}
	s, err := h.engines[e.Repository].Get(ctx, status.Snapshot)
	switch {
	case err == nil:
		return h.complete(ctx, e, s, status.Finished)
	case errors.Is(err, snapshot.ErrNotFound):
		// It was made, and deleted before anybody looked.
		return h.drop(ctx, e)
	case damaged(err):
		return failed(err.Error())
	}
	return err
}

// damaged says whether an error is that of one snapshot, which must not stop the others.
func damaged(err error) bool {
	return errors.Is(err, repo.ErrCorrupt) || errors.Is(err, repo.ErrFormat)
}

// complete gives a record the snapshot that was made for it, and was complete at a time.
func (h *Handler) complete(ctx context.Context, e *entry, s *snapshot.Snapshot, at time.Time) error {
	return h.change(ctx, e, func(r *record) {
		made := recordOf(s)
		r.State, r.Updated, r.Snapshot = stateCompleted, at, s.ID
		r.Size, r.Sized, r.Location = made.Size, true, h.location(r.Repository, r.Instance, s.ID)
	})
}

// location returns the locationRef of a snapshot.
func (h *Handler) location(repository, instance, id string) string {
	place := ""
	for i := range h.opts.Instances {
		one := &h.opts.Instances[i]
		if one.Engine.Repository().ID() == repository && (place == "" || one.ID == instance) {
			place = one.Location
		}
	}
	if place == "" {
		place = "holdstill:" + repository
	}
	return place + "/" + id
}

// drop forgets a backup.
func (h *Handler) drop(ctx context.Context, e *entry) error {
	h.writeMu.Lock()
	defer h.writeMu.Unlock()
	if err := h.store.remove(ctx, backupPrefix+e.ID+recordSuffix); err != nil {
		return err
	}
	h.mu.Lock()
	delete(h.backups, e.ID)
	h.mu.Unlock()
	return nil
}

// syncRepository compares the records with one repository. The caller holds syncMu.
func (h *Handler) syncRepository(ctx context.Context, repository string, engine *snapshot.Engine) error {
	// What has become complete since then is not in the listing, and not missing either.
	known := make(map[string]*entry)
	h.mu.Lock()
	for _, e := range h.backups {
		if e.Repository == repository && e.Snapshot != "" && e.State != stateRestored {
			known[e.Snapshot] = e
		}
	}
	h.mu.Unlock()
	ignored := h.ignored[repository]
	present := make(map[string]bool)
	for id, err := range engine.Repository().IDs(ctx) {
		if err != nil {
			return err
		}
		present[id] = true
	}
	for id, e := range known {
		if !present[id] {
			if err := h.drop(ctx, e); err != nil {
				return err
			}
		}
	}
	maps.DeleteFunc(ignored, func(id string, _ bool) bool { return !present[id] })
	for id := range present {
		if known[id] != nil || ignored[id] {
			continue
		}
		if err := h.adopt(ctx, repository, engine, id); err != nil {
			return err
		}
	}
	return nil
}

// adopt makes a record for a snapshot that has none. The caller holds syncMu.
func (h *Handler) adopt(ctx context.Context, repository string, engine *snapshot.Engine, id string) error {
	s, err := engine.Get(ctx, id)
	switch {
	case errors.Is(err, snapshot.ErrNotFound):
		return nil
	case damaged(err):
		h.opts.Logger.Warn("a snapshot cannot be read and is not shown", "snapshot", id, "error", err)
		h.ignored[repository][id] = true
		return nil
	case err != nil:
		return err
	}
	r := recordOf(s)
	if !isUUID(r.ID) || r.Name == "" {
		if h.opts.Project == "" {
			h.ignored[repository][id] = true
			return nil
		}
		r = h.foreign(repository, s)
	}
	r.ID = strings.ToLower(r.ID)
	h.mu.Lock()
	e := h.backups[r.ID]
	if e == nil {
		e = &entry{record: r}
		e.Repository, e.Location = repository, h.location(repository, r.Instance, id)
		h.backups[r.ID] = e
		h.mu.Unlock()
		return h.change(ctx, e, func(*record) {})
	}
	mine := e.Repository == repository && e.Snapshot == "" && (e.State.running() || e.State == stateFailed)
	h.mu.Unlock()
	if mine {
		return h.complete(ctx, e, s, time.Now().UTC())
	}
	// A copy of a backup that is listed already.
	h.ignored[repository][id] = true
	return nil
}

// foreign returns the record of a snapshot that was not made through a Handler.
func (h *Handler) foreign(repository string, s *snapshot.Snapshot) record {
	r := recordOf(s)
	r.ID = uuidOf("backup", repository+"/"+s.ID)
	r.Project, r.Name, r.Driver = h.opts.Project, s.Label, h.opts.StorageDriver
	if r.Name == "" {
		r.Name = s.ID
	}
	for i := range h.opts.Instances {
		if one := &h.opts.Instances[i]; one.Engine.Repository().ID() == repository {
			r.Instance, r.Datastore = one.ID, one.Datastore
			break
		}
	}
	if s.Parent != "" {
		for _, e := range h.pick(func(p *record) bool { return p.Repository == repository && p.Snapshot == s.Parent }) {
			r.Parent = e.ID
		}
	}
	return r
}
