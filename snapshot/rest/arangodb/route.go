package arangodb

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// backupPath is where the operations are; systemPath may come before any route.
const (
	backupPath = "/_admin/backup"
	systemPath = "/_db/_system"
	jobPath    = "/_api/job"
)

// An endpoint is what serves one method of one path.
type endpoint struct {
	// action is what it does. For uploads and downloads the body may say that it is another.
	action Action
	serve  func(ctx context.Context, r *request) answer
	// open is set where no credentials are needed.
	open bool
}

// A request is what an endpoint gets: the HTTP request, with its body read.
type request struct {
	http   *http.Request
	caller Caller
	body   []byte
	// suffix is what the path has behind the route's.
	suffix []string
}

// table makes the routes. Those of asynchronous jobs have the rest of the path as a suffix.
func (h *Handler) table() map[string]map[string]endpoint {
	post := func(action Action, serve func(context.Context, *request) answer) map[string]endpoint {
		return map[string]endpoint{http.MethodPost: {action: action, serve: serve}}
	}
	get := func(serve func(context.Context, *request) answer) map[string]endpoint {
		return map[string]endpoint{http.MethodGet: {action: ActionClient, serve: serve}}
	}
	return map[string]map[string]endpoint{
		backupPath + "/create":       post(ActionCreate, h.create),
		backupPath + "/list":         post(ActionList, h.list),
		backupPath + "/restore":      post(ActionRestore, h.restore),
		backupPath + "/delete":       post(ActionDelete, h.delete),
		backupPath + "/upload":       post(ActionUpload, h.upload),
		backupPath + "/download":     post(ActionDownload, h.download),
		backupPath + "/openapi.json": {http.MethodGet: {action: ActionClient, serve: document, open: true}},
		"/_api/version":              get(h.version),
		"/_api/collection":           get(h.collections),
		"/_admin/server/availability": {
			// Load balancers ask it without credentials.
			http.MethodGet: {action: ActionClient, serve: h.availability, open: true},
		},
		"/_admin/server/role": get(h.role),
		"/_admin/statistics":  get(h.statistics),
		"/_open/auth":         {http.MethodPost: {action: ActionClient, serve: h.login, open: true}},
		jobPath: {
			http.MethodGet:    {action: ActionClient, serve: h.asyncLook},
			http.MethodPut:    {action: ActionClient, serve: h.asyncFetch},
			http.MethodDelete: {action: ActionClient, serve: h.asyncForget},
		},
	}
}

// find returns the endpoint for a request, or the answer that there is none.
func (h *Handler) find(r *http.Request) (endpoint, []string, *answer) {
	none := func(a answer) (endpoint, []string, *answer) { return endpoint{}, nil, &a }
	path, ok := strings.CutPrefix(r.URL.Path, h.opts.BasePath)
	if !ok || !strings.HasPrefix(path, "/") {
		return none(refuse(http.StatusNotFound, http.StatusNotFound, "unknown path"))
	}
	if rest, ok := strings.CutPrefix(path, "/_db/"); ok {
		database, rest, _ := strings.Cut(rest, "/")
		if database != "_system" {
			return none(refuse(http.StatusNotFound, numDatabaseNotFound, "database not found"))
		}
		path = "/" + rest
	}
	path = strings.TrimSuffix(path, "/")
	methods, suffix := h.routes[path], []string(nil)
	if rest, ok := strings.CutPrefix(path, jobPath+"/"); ok {
		methods, suffix = h.routes[jobPath], strings.Split(rest, "/")
	}
	if methods == nil {
		if op, ok := strings.CutPrefix(path, backupPath+"/"); ok {
			op, _, _ = strings.Cut(op, "/")
			if h.routes[backupPath+"/"+op] != nil {
				return none(refuse(http.StatusBadRequest, numSuffix, "nothing may follow %s/%s", backupPath, op))
			}
		}
		return none(refuse(http.StatusNotFound, http.StatusNotFound, "unknown path"))
	}
	method := r.Method
	if method == http.MethodHead {
		// Load balancers ask so. The server leaves the body out.
		method = http.MethodGet
	}
	e, ok := methods[method]
	if !ok {
		a := refuse(http.StatusMethodNotAllowed, http.StatusMethodNotAllowed, "method not supported, use one that the Allow header names")
		a.header = http.Header{"Allow": {strings.Join(slices.Sorted(maps.Keys(methods)), ", ")}}
		return none(a)
	}
	return e, suffix, nil
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	closed := h.closed
	h.mu.Unlock()
	if closed {
		closing().write(w)
		return
	}
	e, suffix, refused := h.find(r)
	if refused != nil {
		refused.write(w)
		return
	}
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	default:
		refuse(http.StatusServiceUnavailable, http.StatusServiceUnavailable, "too many requests at once, try again later").write(w)
		return
	}
	req := &request{http: r, suffix: suffix}
	if !e.open {
		if refused := h.identify(req); refused != nil {
			refused.write(w)
			return
		}
	}
	var err error
	if req.body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, h.opts.MaxBodyBytes)); err != nil {
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			refuse(http.StatusRequestEntityTooLarge, http.StatusRequestEntityTooLarge, "the body has more than %d bytes", large.Limit).write(w)
			return
		}
		refuse(http.StatusBadRequest, numBadParameter, "the body cannot be read").write(w)
		return
	}
	patient(w)
	req.body = bytes.TrimSpace(req.body)
	if !e.open {
		action := e.action
		if action == ActionUpload || action == ActionDownload {
			action = transferAction(req.body, action)
		}
		if refused := h.authorize(req, action); refused != nil {
			refused.write(w)
			return
		}
	}
	if mode := r.Header.Get("x-arango-async"); (mode == "store" || mode == "true") && !e.open && suffix == nil {
		h.later(e, req, mode == "store").write(w)
		return
	}
	e.serve(r.Context(), req).write(w)
}

// retryAfter is a header for answers that will be others soon.
func retryAfter(seconds int) http.Header {
	return http.Header{"Retry-After": {strconv.Itoa(seconds)}}
}
