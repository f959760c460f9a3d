package arangodb

import (
	"context"
	"math"
	"net/http"
	"time"

	"github.com/holdstill/holdstill/lock"
	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/snapshot"
)

// The timeout of a create: its default, and the least and the most that counts.
const (
	defaultTimeout = 120 * time.Second
	minTimeout     = 2500 * time.Millisecond
	maxTimeout     = 30 * 24 * time.Hour
)

// created is the result of a create.
type created struct {
	ID           string `json:"id"`
	SizeInBytes  int64  `json:"sizeInBytes"`
	Files        int64  `json:"nrFiles"`
	Servers      int    `json:"nrDBServers"`
	Time         string `json:"datetime"`
	Inconsistent bool   `json:"potentiallyInconsistent,omitempty"`
}

// create serves create. The snapshot is not made if the client goes away before.
func (h *Handler) create(ctx context.Context, r *request) answer {
	f, refused := parse(r.body)
	if refused != nil {
		return *refused
	}
	opts := snapshot.CreateOptions{
		Label: cleanLabel(f.text("label")),
		Freeze: lock.FreezeOptions{
			Timeout: defaultTimeout, Force: f.flag("force"), AllowInconsistent: f.flag("allowInconsistent"),
		},
	}
	if f.has("timeout") {
		seconds := f.number("timeout")
		opts.Freeze.Timeout = time.Duration(min(max(seconds, minTimeout.Seconds()), maxTimeout.Seconds()) * float64(time.Second))
		if math.Signbit(seconds) && seconds != 0 {
			f.bad(`"timeout" must not be negative`)
		}
	}
	if f.refused != nil {
		return *f.refused
	}
	s, err := h.engine.Create(ctx, opts)
	if err != nil {
		h.log.Error("a backup could not be made", "error", err)
		return failed(err, numBackupInternal)
	}
	return good(http.StatusCreated, created{
		ID: s.ID, SizeInBytes: s.Stats.Bytes, Files: s.Stats.Files, Servers: 1, Time: clock(s.Created),
		Inconsistent: inconsistent(s),
	})
}

// inconsistent says whether the lock could not be had.
func inconsistent(s *snapshot.Snapshot) bool { return s.Consistency == repo.ConsistencyNone }

// clock writes a time as the original does.
func clock(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }
