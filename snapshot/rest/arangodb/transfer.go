package arangodb

import (
	"context"
	"errors"
	"net/http"

	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/transfer"
)

// progress is the result of a request for the progress of a job.
type progress struct {
	Timestamp string                    `json:"Timestamp"`
	BackupID  string                    `json:"BackupId"`
	Cancelled bool                      `json:"Cancelled"`
	Servers   map[string]serverProgress `json:"DBServers"`
}

type serverProgress struct {
	Status       transfer.State `json:"Status"`
	Progress     fileProgress   `json:"Progress"`
	Error        int            `json:"Error,omitempty"`
	ErrorMessage string         `json:"ErrorMessage,omitempty"`
}

// fileProgress counts files. The command-line tool reads Time, the drivers read Timestamp.
type fileProgress struct {
	Total     int64  `json:"Total"`
	Done      int64  `json:"Done"`
	Time      string `json:"Time"`
	Timestamp string `json:"Timestamp"`
}

func (h *Handler) upload(ctx context.Context, r *request) answer {
	return h.transfer(ctx, r, transfer.KindUpload)
}

func (h *Handler) download(ctx context.Context, r *request) answer {
	return h.transfer(ctx, r, transfer.KindDownload)
}

// transfer serves upload and download. Drivers ask for the progress of either kind of job, and abort it, on
// either path and with either key, so the four mean the same.
func (h *Handler) transfer(ctx context.Context, r *request, kind transfer.Kind) answer {
	f, refused := parse(r.body)
	if refused != nil {
		return *refused
	}
	for _, key := range []string{"uploadId", "downloadId"} {
		if !f.has(key) {
			continue
		}
		id, abort := f.jobNumber(key), f.flag("abort")
		if f.refused != nil {
			return *f.refused
		}
		return h.follow(ctx, id, abort)
	}
	return h.start(ctx, f, kind)
}

// transferAction says what the body of an upload or download asks for: the start of one by default.
func transferAction(body []byte, start Action) Action {
	f, refused := parse(body)
	switch {
	case refused != nil || !f.has("uploadId") && !f.has("downloadId"):
		return start
	case f.flag("abort"):
		return ActionAbort
	}
	return ActionProgress
}

// follow tells the progress of a job, or aborts it.
func (h *Handler) follow(ctx context.Context, id string, abort bool) answer {
	job, err := h.engine.Job(ctx, id)
	if errors.Is(err, snapshot.ErrClosed) {
		return failed(err, numBackupInternal)
	}
	if err != nil {
		return refuse(http.StatusNotFound, numFileNotFound, "there is no upload or download %.40q", id)
	}
	status := job.Status()
	if status.Kind != transfer.KindUpload && status.Kind != transfer.KindDownload {
		return refuse(http.StatusNotFound, numFileNotFound, "there is no upload or download %.40q", id)
	}
	if !abort {
		return good(http.StatusOK, report(&status))
	}
	job.Abort()
	status = job.Status()
	return good(http.StatusAccepted, report(&status))
}

// report puts a job's status in the original's terms.
func report(s *transfer.Status) progress {
	fallback := numUploadFailed
	if s.Kind == transfer.KindDownload {
		fallback = numDownloadFailed
	}
	p := progress{BackupID: s.Snapshot, Cancelled: s.State == transfer.StateCancelled, Servers: map[string]serverProgress{}}
	newest := s.Created
	for name, server := range s.Servers {
		if server.Updated.After(newest) {
			newest = server.Updated
		}
		at := server.Updated
		if at.IsZero() {
			at = s.Created
		}
		sp := serverProgress{Status: server.State, Progress: fileProgress{
			Total: server.Progress.FilesTotal, Done: server.Progress.FilesDone, Time: clock(at), Timestamp: clock(at),
		}}
		switch server.State {
		case transfer.StateCompleted:
			// A job is taken for complete only if it had something to do.
			sp.Progress.Total = max(sp.Progress.Total, 1)
			sp.Progress.Done = sp.Progress.Total
		case transfer.StateFailed:
			kind, message := server.Kind, server.Error
			if message == "" {
				kind, message = s.ErrorKind, s.Error
			}
			sp.Error = kindNumber(kind, fallback)
			sp.ErrorMessage = messages[sp.Error]
			if message != "" {
				sp.ErrorMessage += ": " + message
			}
		}
		p.Servers[name] = sp
	}
	p.Timestamp = clock(newest)
	return p
}

// start starts an upload or a download.
func (h *Handler) start(ctx context.Context, f *fields, kind transfer.Kind) answer {
	id, where := f.required("id"), f.text("remoteRepository")
	switch {
	case !f.has("remoteRepository"):
		f.bad(`"remoteRepository" is missing`)
	case !f.has("config"):
		f.bad(`"config" is missing: it must be an object with the settings of each repository by its name`)
	case f.flag("abort"):
		f.bad(`"abort" goes with "uploadId" or "downloadId"`)
	}
	if f.refused != nil {
		return *f.refused
	}
	locations, err := repo.ParseLocationConfig(f.members["config"])
	if err != nil {
		return failed(err, numRemoteConfig)
	}
	// The engine knows a section "local" without being told; a client has to tell.
	location, err := repo.ParseLocationWithin(where, locations, h.opts.LocalPathPrefix)
	if err != nil {
		return failed(err, numRemoteConfig)
	}
	opts := h.opts.Transfer
	opts.Bucket, opts.Locations = nil, locations
	begin, num, key := h.engine.Upload, numUploadFailed, "uploadId"
	if kind == transfer.KindDownload {
		begin, num, key = h.engine.Download, numDownloadFailed, "downloadId"
	} else if h.opts.UnknownUploadFails {
		if _, err := h.engine.Get(ctx, id); err != nil {
			return failed(err, num)
		}
	}
	job, err := begin(ctx, id, location.String(), opts)
	if err != nil {
		return failed(err, num)
	}
	if refused := h.awaitRefusal(ctx, job, num); refused != nil {
		return *refused
	}
	return good(http.StatusAccepted, map[string]string{key: job.ID()})
}

// awaitRefusal waits a moment for a job to fail because the remote store refuses it.
func (h *Handler) awaitRefusal(ctx context.Context, job *transfer.Job, num int) *answer {
	if h.opts.StartWait == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, h.opts.StartWait)
	defer cancel()
	err := job.Wait(ctx)
	if errors.Is(err, repo.ErrAuthentication) || errors.Is(err, repo.ErrPermission) {
		a := refuse(http.StatusUnauthorized, num, "%v", err)
		return &a
	}
	return nil
}
