package trove

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/transfer"
)

// restored is the record of an instance that was made from a backup.
type restored struct {
	ID         string    `json:"id"`
	Name       string    `json:"name"`
	Project    string    `json:"project"`
	Backup     string    `json:"backup"`
	Status     string    `json:"status"`
	Created    time.Time `json:"created"`
	Updated    time.Time `json:"updated"`
	Datastore  Datastore `json:"datastore,omitzero"`
	Flavor     string    `json:"flavor,omitempty"`
	Volume     float64   `json:"volume,omitempty"`
	Repository string    `json:"repository,omitempty"`
	Job        string    `json:"job,omitempty"`
}

type restoreEntry struct {
	restored
	job *transfer.Job
	// unsaved is set while the record that is kept is another one.
	unsaved bool
}

// maxRestores is how many restores that have ended are kept.
const maxRestores = 1000

func restoreKey(id string) string { return restorePrefix + id + recordSuffix }

func (h *Handler) loadRestores(ctx context.Context) error {
	err := h.store.each(ctx, restorePrefix, func(id string, data []byte) {
		var r restored
		if err := json.Unmarshal(data, &r); err != nil || r.ID != id {
			h.opts.Logger.Warn("the record of a restore cannot be used", "instance", id, "error", err)
			return
		}
		e := &restoreEntry{restored: r}
		if r.Status == instanceBuild {
			e.job = h.findJob(ctx, r.Repository, r.Job, transfer.KindRestore)
		}
		h.restores[id] = e
	})
	if err != nil {
		return err
	}
	for _, e := range h.restores {
		if e.Status == instanceBuild && e.job == nil {
			e.Status, e.Updated = instanceError, time.Now().UTC()
			if err := h.store.put(ctx, restoreKey(e.ID), &e.restored); err != nil {
				return err
			}
		}
	}
	return nil
}

// settleRestores takes over the ends of restores.
func (h *Handler) settleRestores(ctx context.Context) error {
	var unsaved []*restoreEntry
	h.mu.Lock()
	for _, e := range h.restores {
		e.settle(h.opts.Logger)
		if e.unsaved {
			unsaved = append(unsaved, e)
		}
	}
	h.mu.Unlock()
	for _, e := range unsaved {
		if err := h.keepRestore(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

// settle takes over the end of the job, if that has ended.
func (e *restoreEntry) settle(log *slog.Logger) {
	if e.Status != instanceBuild || e.job == nil {
		return
	}
	status := e.job.Status()
	if !status.State.Final() {
		return
	}
	e.Status, e.Updated, e.unsaved = instanceActive, status.Finished, true
	if status.State != transfer.StateCompleted {
		log.Error("a restore failed", "instance", e.ID, "backup", e.Backup, "error", status.Error)
		e.Status = instanceError
	}
}

// keepRestore keeps the record of a restore as it is now, unless it was forgotten. A record that cannot be kept is
// tried again with the next request that asks for instances: without it a new Handler takes the instance for one
// that was never finished.
func (h *Handler) keepRestore(ctx context.Context, e *restoreEntry) error {
	h.writeMu.Lock()
	defer h.writeMu.Unlock()
	h.mu.Lock()
	if h.restores[e.ID] != e {
		h.mu.Unlock()
		return nil
	}
	r := e.restored
	h.mu.Unlock()
	err := h.store.put(ctx, restoreKey(r.ID), &r)
	h.mu.Lock()
	// What has changed meanwhile is kept by whoever changed it.
	if e.restored == r {
		e.unsaved = err != nil
	}
	h.mu.Unlock()
	return err
}

// forgetRestore removes the record of a restore that is not in the book any more.
func (h *Handler) forgetRestore(ctx context.Context, id string) error {
	h.writeMu.Lock()
	defer h.writeMu.Unlock()
	return h.store.remove(ctx, restoreKey(id))
}

// restoring returns the jobs of the restores that are under way.
func (h *Handler) restoring() (jobs []*transfer.Job) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range h.restores {
		if e.Status == instanceBuild && e.job != nil {
			jobs = append(jobs, e.job)
		}
	}
	return jobs
}

// settleTime is how long it may take to keep the ends of restores when nobody waits for it.
const settleTime = time.Minute

// watch keeps how a restore ended as soon as it has, also if nobody asks: a process that comes later knows it from the
// record. An engine of another region, if there is one, is closed then, or when the Handler is.
func (h *Handler) watch(job *transfer.Job, remote *snapshot.Engine) {
	end := func() {
		if remote == nil {
			return
		}
		if err := remote.Close(); err != nil {
			h.opts.Logger.Warn("the repository of another region was not closed well", "error", err)
		}
	}
	h.mu.Lock()
	closed := h.closed
	if !closed {
		h.watched.Add(1)
	}
	h.mu.Unlock()
	if closed {
		end()
		return
	}
	go func() {
		defer h.watched.Done()
		select {
		case <-job.Done():
		case <-h.life.Done():
		}
		end()
		ctx, cancel := context.WithTimeout(context.Background(), settleTime)
		defer cancel()
		if err := h.settleRestores(ctx); err != nil {
			h.opts.Logger.Warn("the end of a restore is not kept yet", "error", err)
		}
	}()
}

// oldestRestore takes the oldest restore that has ended out of the book if there are too
// many. The caller holds mu.
func (h *Handler) oldestRestore() string {
	if len(h.restores) <= maxRestores {
		return ""
	}
	var oldest *restoreEntry
	for _, e := range h.restores {
		if e.Status != instanceBuild && (oldest == nil || e.Updated.Before(oldest.Updated)) {
			oldest = e
		}
	}
	if oldest == nil {
		return ""
	}
	delete(h.restores, oldest.ID)
	return oldest.ID
}
