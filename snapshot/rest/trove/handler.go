package trove

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/holdstill/holdstill/snapshot"
)

// errClosed is the cause of what ends with Close.
var errClosed = errors.New("trove: the handler is closed")

// A Handler serves Trove's backups. It is safe for concurrent use.
type Handler struct {
	opts  Options
	store store
	mux   *http.ServeMux
	// engines are all that make backups, by the IDs of their repositories.
	engines map[string]*snapshot.Engine

	// life ends with Close, and watched counts the restores whose end is waited for until then.
	// The repositories of other regions that they read are open for as long.
	life    context.Context
	endLife context.CancelCauseFunc
	watched sync.WaitGroup

	// syncMu is held while records are compared with repositories, and while snapshots are
	// deleted. ignored, which it guards, has the snapshots that are no backups, by repository.
	syncMu  sync.Mutex
	ignored map[string]map[string]bool

	// writeMu is held while a record of a backup or restore is changed or dropped and kept so,
	// that the store has them in the order of the changes. It is taken after syncMu and before mu.
	writeMu sync.Mutex

	// mu guards the fields below. No I/O is done while it is held.
	mu         sync.Mutex
	closed     bool
	backups    map[string]*entry
	strategies map[strategyKey]strategy
	restores   map[string]*restoreEntry
}

// New returns a Handler for the databases of an engine, and of those that Options.Instances
// name. It reads the records, and the metadata of snapshots that are not in them. Backups
// that a process before this one was making are FAILED, unless the snapshot is there.
//
// It fails with ErrOptions, with an error of the store of the records, of a repository, or
// with the cause of ctx. A record that cannot be read is left out and logged. Close the
// Handler before the engine.
func New(ctx context.Context, engine *snapshot.Engine, opts Options) (*Handler, error) {
	opts, err := opts.withDefaults(engine)
	if err != nil {
		return nil, err
	}
	h := &Handler{
		opts: opts, store: store{opts.Records}, engines: make(map[string]*snapshot.Engine),
		ignored: make(map[string]map[string]bool), backups: make(map[string]*entry),
		strategies: make(map[strategyKey]strategy), restores: make(map[string]*restoreEntry),
	}
	for _, one := range append([]Instance{{Engine: engine}}, opts.Instances...) {
		id := one.Engine.Repository().ID()
		if h.engines[id] == nil {
			h.engines[id] = one.Engine
			h.ignored[id] = make(map[string]bool)
		}
	}
	h.life, h.endLife = context.WithCancelCause(context.Background())
	h.mux = h.routes()
	if err := h.load(ctx); err != nil {
		h.endLife(err)
		return nil, err
	}
	for _, job := range h.restoring() {
		h.watch(job, nil)
	}
	return h, nil
}

// Close ends the restores of backups of other regions that are under way and waits until
// they have cleaned up and their end is kept, for a minute at most where the store of the
// records does not answer. Backups and other restores go on, as jobs of their engines; a new
// Handler with the same records knows them. Requests are answered with 503 afterwards. A
// second call does nothing.
func (h *Handler) Close() error {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.endLife(errClosed)
	h.watched.Wait()
	return nil
}

// ServeHTTP answers a request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	closed := h.closed
	h.mu.Unlock()
	if closed {
		h.answerError(w, r, errClosed)
		return
	}
	h.mux.ServeHTTP(w, r)
}

// request is a request that is about a project, and who makes it.
type request struct {
	*http.Request
	caller  Caller
	project string
}

// serve does what a route is for, and returns the response.
type serve func(h *Handler, r *request) (code int, body any, err error)

// route is a method and a path below the base path. Public ones need no caller.
type route struct {
	method, path string
	serve        serve
	public       bool
}

// routeTable lists the routes; see the doc of the package.
func routeTable() []route {
	return []route{
		{http.MethodGet, "/", (*Handler).versions, true},
		{http.MethodGet, "/v1.0", (*Handler).version, true},
		{http.MethodGet, "/v1.0/openapi.json", (*Handler).openAPI, true},
		{http.MethodGet, "/v1.0/{project_id}/backups", (*Handler).listBackups, false},
		{http.MethodPost, "/v1.0/{project_id}/backups", (*Handler).createBackup, false},
		{http.MethodGet, "/v1.0/{project_id}/backups/{id}", (*Handler).showBackup, false},
		{http.MethodDelete, "/v1.0/{project_id}/backups/{id}", (*Handler).deleteBackup, false},
		{http.MethodGet, "/v1.0/{project_id}/backup_strategies", (*Handler).listStrategies, false},
		{http.MethodPost, "/v1.0/{project_id}/backup_strategies", (*Handler).createStrategy, false},
		{http.MethodDelete, "/v1.0/{project_id}/backup_strategies", (*Handler).deleteStrategy, false},
		{http.MethodGet, "/v1.0/{project_id}/instances", (*Handler).listInstances, false},
		{http.MethodPost, "/v1.0/{project_id}/instances", (*Handler).createInstance, false},
		{http.MethodGet, "/v1.0/{project_id}/instances/{id}", (*Handler).showInstance, false},
		{http.MethodGet, "/v1.0/{project_id}/instances/{id}/backups", (*Handler).listInstanceBackups, false},
		{http.MethodGet, "/v1.0/{project_id}/flavors", (*Handler).listFlavors, false},
		{http.MethodGet, "/v1.0/{project_id}/flavors/{id}", (*Handler).showFlavor, false},
	}
}

// routes makes the mux. A path has one pattern for all methods, so that what is refused is
// refused in Trove's words.
func (h *Handler) routes() *http.ServeMux {
	mux := http.NewServeMux()
	byPath := make(map[string]map[string]route)
	for _, one := range routeTable() {
		if byPath[one.path] == nil {
			byPath[one.path] = make(map[string]route)
		}
		byPath[one.path][one.method] = one
	}
	for path, methods := range byPath {
		serve := func(w http.ResponseWriter, r *http.Request) { h.dispatch(w, r, methods) }
		base := h.opts.BasePath + strings.TrimSuffix(path, "/")
		if base != "" {
			mux.HandleFunc(base, serve)
		}
		mux.HandleFunc(base+"/{$}", serve)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		h.answerError(w, r, fail(http.StatusNotFound, "The resource could not be found."))
	})
	return mux
}

// dispatch finds out who is calling and serves the route.
func (h *Handler) dispatch(w http.ResponseWriter, r *http.Request, methods map[string]route) {
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	one, ok := methods[method]
	if !ok {
		var allowed []string
		for _, m := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
			if _, ok := methods[m]; ok {
				allowed = append(allowed, m)
			}
		}
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		h.answerError(w, r, fail(http.StatusMethodNotAllowed, "The method %s is not allowed here.", r.Method))
		return
	}
	req := &request{Request: r, project: r.PathValue("project_id")}
	if !utf8.ValidString(req.project) || len(req.project) > maxName {
		h.answerError(w, r, fail(http.StatusBadRequest, "The project's ID is not UTF-8, or has more than %d bytes.", maxName))
		return
	}
	if !one.public {
		var err error
		if req.caller, err = h.authenticate(req); err != nil {
			h.answerError(w, r, err)
			return
		}
	}
	r.Body = http.MaxBytesReader(w, r.Body, h.opts.MaxBody)
	code, body, err := one.serve(h, req)
	if err != nil {
		h.answerError(w, r, err)
		return
	}
	answer(w, code, body)
}

// authenticate returns who makes a request, if they may use its project.
func (h *Handler) authenticate(r *request) (Caller, error) {
	if h.opts.Authenticate == nil {
		return Caller{Project: r.project}, nil
	}
	caller, err := h.opts.Authenticate(r.Request)
	if err != nil {
		h.opts.Logger.Info("a request is not authenticated", "path", r.URL.Path, "error", err)
		return caller, fail(http.StatusUnauthorized, "The request needs a valid token in X-Auth-Token.")
	}
	if caller.Project != r.project && !caller.Admin {
		return caller, fail(http.StatusForbidden, "The project %s is not that of the token.", r.project)
	}
	return caller, nil
}

// allow asks the policy.
func (h *Handler) allow(r *request, rule, project string) error {
	if err := h.opts.Authorize(r.Context(), r.caller, Action{Rule: rule, Project: project}); err != nil {
		return fail(http.StatusForbidden, "Policy doesn't allow %s to be performed.", rule)
	}
	return nil
}

// instance returns an instance that a project may use.
func (h *Handler) instance(r *request, id string) (*Instance, error) {
	for i := range h.opts.Instances {
		one := &h.opts.Instances[i]
		if strings.EqualFold(one.ID, id) && h.mayUse(r, one.Project) {
			return one, nil
		}
	}
	return nil, notFound(id)
}

// mayUse says whether what belongs to a project, or to everyone, is there for a caller.
func (h *Handler) mayUse(r *request, project string) bool {
	return project == "" || project == r.project || r.caller.Admin
}

// href returns the address of a path below the base path. It is https whatever the request
// was, as Trove has it.
func (h *Handler) href(r *request, path string) string {
	return fmt.Sprintf("https://%s%s%s", r.Host, h.opts.BasePath, path)
}

// versionView is the only version there is.
func (h *Handler) versionView(r *request) map[string]any {
	return map[string]any{
		"id": "v1.0", "status": "CURRENT", "updated": "2012-08-01T00:00:00Z",
		"links": []map[string]string{{"rel": "self", "href": h.href(r, "/v1.0/")}},
	}
}

func (h *Handler) version(r *request) (int, any, error) {
	return http.StatusOK, map[string]any{"version": h.versionView(r)}, nil
}

func (h *Handler) versions(r *request) (int, any, error) {
	return http.StatusOK, map[string]any{"versions": []any{h.versionView(r)}}, nil
}
