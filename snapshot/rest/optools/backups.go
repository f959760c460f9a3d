package optools

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/transfer"
)

// idPrefix begins the ID of every backup; the time of its start in milliseconds follows.
const idPrefix = "03_ibp_db_backup_"

// versionsKey is where a snapshot's metadata have Options.Versions, as JSON.
const versionsKey = "optools.versions"

// backup is one that was started by this Handler.
type backup struct {
	id    string
	start time.Time
	job   *transfer.Job
}

// running says whether the backup is still being made.
func (b *backup) running() bool {
	select {
	case <-b.job.Done():
		return false
	default:
		return true
	}
}

// parseID returns when a backup was started, if this is the ID of one.
func parseID(id string) (start time.Time, ok bool) {
	digits, ok := strings.CutPrefix(id, idPrefix)
	ms, err := strconv.ParseInt(digits, 10, 64)
	if !ok || err != nil || ms < 0 || strconv.FormatInt(ms, 10) != digits {
		return time.Time{}, false
	}
	return time.UnixMilli(ms).UTC(), true
}

// errRunning means that a backup is under way already.
var errRunning = errors.New("optools: a backup is in progress")

// start starts a backup, or returns the one that is under way with errRunning.
func (h *Handler) start(ctx context.Context) (*backup, error) {
	versions := h.options.Versions
	if versions == nil {
		versions = map[string]string{}
	}
	text, err := json.Marshal(versions)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, ErrClosed
	}
	ms := milliseconds(h.options.now())
	if h.latest != nil {
		if h.latest.running() {
			return h.latest, errRunning
		}
		ms = max(ms, milliseconds(h.latest.start)+1)
	}
	b := &backup{id: idPrefix + strconv.FormatInt(ms, 10), start: time.UnixMilli(ms).UTC()}
	b.job, err = h.engine.StartCreate(ctx, snapshot.CreateOptions{
		ID: b.id, Description: "OpTools backup", Metadata: map[string]string{versionsKey: string(text)},
	})
	if err != nil {
		return nil, err
	}
	h.latest = b
	return b, nil
}

// startBackup serves POST /backups.
func (h *Handler) startBackup(rq *request) {
	b, err := h.start(rq.Context())
	switch {
	case errors.Is(err, errRunning):
		rq.answer(http.StatusBadRequest, failure{Code: http.StatusBadRequest, Message: "already_in_progress", ID: b.id})
	case closed(err):
		rq.fail(http.StatusInternalServerError, "server is closing/closed")
	case err != nil:
		h.broken(rq, "start a backup", err)
	default:
		rq.answer(http.StatusAccepted, map[string]string{
			"message": "in-progress", "id": b.id, "url": h.url(rq.Request, "/ak/api/v3/backups/"+b.id),
		})
	}
}

func closed(err error) bool {
	return errors.Is(err, ErrClosed) || errors.Is(err, snapshot.ErrClosed)
}

// broken answers a request that failed for a reason that is not the client's, and logs it.
func (h *Handler) broken(rq *request, what string, err error) {
	if rq.Context().Err() != nil {
		return
	}
	h.log.Error("optools: request failed", "what", what, "error", err)
	rq.fail(http.StatusInternalServerError, "could not "+what)
}

// ids returns the IDs of all complete backups, oldest first.
func (h *Handler) ids(ctx context.Context) ([]string, error) {
	ids := []string{}
	// They stand together in the order of the IDs, so that no others have to be read.
	for s, err := range h.engine.List(ctx, snapshot.Filter{After: idPrefix}) {
		if errors.Is(err, snapshot.ErrClosed) || ctx.Err() != nil {
			return nil, err
		}
		if err != nil {
			// One that cannot be read must not hide the others.
			h.log.Error("optools: a backup cannot be read", "error", err)
			continue
		}
		if !strings.HasPrefix(s.ID, idPrefix) {
			break
		}
		if _, ok := parseID(s.ID); ok && hasSource(s, h.options.Source) {
			ids = append(ids, s.ID)
		}
	}
	slices.SortFunc(ids, func(a, b string) int {
		if len(a) != len(b) {
			return len(a) - len(b)
		}
		return strings.Compare(a, b)
	})
	return ids, nil
}

func hasSource(s *snapshot.Snapshot, name string) bool {
	return slices.ContainsFunc(s.Sources, func(i repo.SourceInfo) bool { return i.Name == name })
}

// listBackups serves GET /backups.
func (h *Handler) listBackups(rq *request) {
	ids, err := h.ids(rq.Context())
	if err != nil {
		h.broken(rq, "list the backups", err)
		return
	}
	rq.answer(http.StatusOK, map[string][]string{"ids": ids})
}

// started returns the backup of an ID if it is the one that was started last.
func (h *Handler) started(id string) *backup {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.latest != nil && h.latest.id == id {
		return h.latest
	}
	return nil
}
