package arangodb

import (
	"context"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/transfer"
)

// failsafe is what the original calls the state that a restore replaces.
const failsafe = "FAILSAFE"

type restored struct {
	Previous  string `json:"previous"`
	IsCluster bool   `json:"isCluster"`
}

// restore serves restore. The work is a job of the engine, which goes on if the client goes away.
func (h *Handler) restore(ctx context.Context, r *request) answer {
	f, refused := parse(r.body)
	if refused != nil {
		return *refused
	}
	id, ignoreVersion := f.required("id"), f.flag("ignoreVersion")
	if f.refused != nil {
		return *f.refused
	}
	if h.opts.Restore == nil {
		return refuse(http.StatusNotImplemented, numNotImplemented, "this server was not told where to restore to")
	}
	s, err := h.engine.Get(ctx, id)
	if err != nil {
		return failed(err, numRestoreInternal)
	}
	if !ignoreVersion && !restorable(s.DatabaseVersion, h.engine.DatabaseVersion()) {
		return refuse(http.StatusBadRequest, numBadParameter,
			"the backup is of version %s, which this server, of version %s, may not be able to read; \"ignoreVersion\": true restores it all the same",
			s.DatabaseVersion, h.engine.DatabaseVersion())
	}
	if refused := h.fits(s); refused != nil {
		return *refused
	}
	job, told, err := h.startRestore(ctx, id)
	if err != nil {
		return failed(err, numRestoreInternal)
	}
	result := restored{Previous: failsafe}
	if h.opts.RestoreWait {
		if err := job.Wait(ctx); err != nil {
			return failed(err, numRestoreInternal)
		}
		<-told
		if previous := job.Status().Details["previous"]; previous != "" {
			result.Previous = filepath.Base(previous)
		}
	}
	return good(http.StatusOK, result)
}

// fits refuses a backup that the restore would refuse, since the answer may not wait for that.
func (h *Handler) fits(s *snapshot.Snapshot) *answer {
	var a answer
	source := h.opts.Restore.Source
	switch {
	case source != "" && !slices.ContainsFunc(s.Sources, func(i repo.SourceInfo) bool { return i.Name == source }):
		a = refuse(http.StatusBadRequest, numTopology, "it has no source %q", source)
	case s.Partial != nil && !h.opts.Restore.AllowPartial:
		a = refuse(http.StatusBadRequest, numTopology, "it was made with patterns, so that files are missing in it")
	default:
		return nil
	}
	return &a
}

// startRestore starts the job, and has availability and uptime tell of it. told is closed when they tell of
// its end.
func (h *Handler) startRestore(ctx context.Context, id string) (job *transfer.Job, told chan struct{}, err error) {
	opts := *h.opts.Restore
	start := opts.Start
	opts.Start = func(ctx context.Context) error {
		if start != nil {
			if err := start(ctx); err != nil {
				return err
			}
		}
		h.started.Store(time.Now().UnixNano())
		return nil
	}
	h.restoring.Add(1)
	job, err = h.engine.StartRestore(ctx, id, opts)
	if err != nil {
		h.restoring.Add(-1)
		return nil, nil, err
	}
	told = make(chan struct{})
	watch := func() {
		defer close(told)
		defer h.restoring.Add(-1)
		select {
		case <-job.Done():
		case <-h.life.Done():
			return
		}
		if err := job.Err(); err != nil {
			h.log.Error("a restore failed", "backup", id, "job", job.ID(), "error", err)
			return
		}
		h.log.Info("restored", "backup", id, "job", job.ID(), "previous", job.Status().Details["previous"])
	}
	if !h.spawn(watch) {
		close(told)
	}
	return job, told, nil
}

// restorable says whether a server may restore a backup of a version: any patch of its own minor version,
// and older minor versions. What is not a version of the form 3.12.5 is not compared.
func restorable(backup, server string) bool {
	b, okB := minor(backup)
	s, okS := minor(server)
	return !okB || !okS || b[0] < s[0] || b[0] == s[0] && b[1] <= s[1]
}

// minor returns the first two numbers of a version.
func minor(version string) (out [2]int, ok bool) {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return out, false
	}
	for i := range out {
		n, err := strconv.Atoi(parts[i])
		if err != nil || n < 0 {
			return out, false
		}
		out[i] = n
	}
	return out, true
}
