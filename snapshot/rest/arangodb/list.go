package arangodb

import (
	"context"
	"errors"
	"net/http"

	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/snapshot"
)

// listed is one backup in a listing.
type listed struct {
	ID           string                `json:"id"`
	Version      string                `json:"version"`
	Time         string                `json:"datetime"`
	Keys         []repo.KeyFingerprint `json:"keys"`
	SizeInBytes  int64                 `json:"sizeInBytes"`
	Files        int64                 `json:"nrFiles"`
	Servers      int                   `json:"nrDBServers"`
	Available    bool                  `json:"available"`
	Pieces       int                   `json:"nrPiecesPresent"`
	Inconsistent bool                  `json:"potentiallyInconsistent"`
	FilesOnly    bool                  `json:"countIncludesFilesOnly"`
}

type listing struct {
	Server string            `json:"server"`
	List   map[string]listed `json:"list"`
}

// list serves list.
func (h *Handler) list(ctx context.Context, r *request) answer {
	f, refused := parse(r.body)
	if refused != nil {
		return *refused
	}
	ids := f.texts("id")
	if f.refused != nil {
		return *f.refused
	}
	result := listing{Server: h.opts.ServerID, List: map[string]listed{}}
	for _, id := range ids {
		s, err := h.engine.Get(ctx, id)
		if err != nil {
			return failed(err, numBackupInternal)
		}
		result.List[s.ID] = h.describe(s)
	}
	if f.has("id") {
		return good(http.StatusOK, result)
	}
	for s, err := range h.engine.List(ctx, snapshot.Filter{}) {
		switch {
		case err == nil:
			result.List[s.ID] = h.describe(s)
		case errors.Is(err, repo.ErrCorrupt) || errors.Is(err, repo.ErrFormat):
			h.log.Error("a backup is left out of a listing, since its description cannot be read", "error", err)
		default:
			return failed(err, numBackupInternal)
		}
	}
	return good(http.StatusOK, result)
}

func (h *Handler) describe(s *snapshot.Snapshot) listed {
	keys := h.engine.Repository().KeyFingerprints()
	if keys == nil {
		keys = []repo.KeyFingerprint{}
	}
	// Drivers compare the version with that of the server.
	version := s.DatabaseVersion
	if version == h.engine.DatabaseVersion() {
		version = h.opts.Version
	}
	return listed{
		ID: s.ID, Version: version, Time: clock(s.Created), Keys: keys, SizeInBytes: s.Stats.Bytes,
		Files: s.Stats.Files, Servers: 1, Available: true, Pieces: 1, Inconsistent: inconsistent(s), FilesOnly: true,
	}
}

// delete serves delete.
func (h *Handler) delete(ctx context.Context, r *request) answer {
	f, refused := parse(r.body)
	if refused != nil {
		return *refused
	}
	id := f.required("id")
	if f.refused != nil {
		return *f.refused
	}
	if err := h.engine.Delete(ctx, id); err != nil {
		return failed(err, numBackupInternal)
	}
	return good(http.StatusOK, struct{}{})
}
