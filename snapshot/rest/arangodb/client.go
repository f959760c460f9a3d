package arangodb

import (
	"context"
	"net/http"
	"time"
)

// version serves /_api/version. Drivers and tools compare it with that of a backup.
func (h *Handler) version(context.Context, *request) answer {
	return answer{code: http.StatusOK, raw: struct {
		Server  string `json:"server"`
		License string `json:"license"`
		Version string `json:"version"`
	}{"arango", "enterprise", h.opts.Version}}
}

// collections serves /_api/collection, by which drivers try out a connection.
func (h *Handler) collections(context.Context, *request) answer {
	return good(http.StatusOK, []struct{}{})
}

// state is an answer with further members beside the envelope's.
type state struct {
	Error bool   `json:"error"`
	Code  int    `json:"code"`
	Mode  string `json:"mode"`
	Role  string `json:"role,omitempty"`
}

// availability serves /_admin/server/availability.
func (h *Handler) availability(context.Context, *request) answer {
	if h.restoring.Load() > 0 {
		a := refuse(http.StatusServiceUnavailable, http.StatusServiceUnavailable, "a restore is under way")
		a.header = retryAfter(1)
		return a
	}
	return answer{code: http.StatusOK, raw: state{Code: http.StatusOK, Mode: "default"}}
}

// role serves /_admin/server/role.
func (h *Handler) role(context.Context, *request) answer {
	return answer{code: http.StatusOK, raw: state{Code: http.StatusOK, Mode: "default", Role: "SINGLE"}}
}

// statistics serves /_admin/statistics. The command-line tool takes a server for restarted when its uptime
// is less than before the restore.
func (h *Handler) statistics(context.Context, *request) answer {
	now := time.Now()
	type server struct {
		Uptime float64 `json:"uptime"`
	}
	return answer{code: http.StatusOK, raw: struct {
		Error  bool    `json:"error"`
		Code   int     `json:"code"`
		Time   float64 `json:"time"`
		Server server  `json:"server"`
	}{Code: http.StatusOK, Time: float64(now.UnixNano()) / 1e9, Server: server{Uptime: now.Sub(time.Unix(0, h.started.Load())).Seconds()}}}
}
