package optools

import (
	_ "embed"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
)

//go:embed openapi.json
var openAPI []byte

// OpenAPI returns the OpenAPI 3.1 document of the routes, in JSON. The caller may change it.
func OpenAPI() []byte { return append([]byte(nil), openAPI...) }

// A Route is one that a Handler serves, in the words of the OpenAPI document.
type Route struct {
	Method string
	// Path has the version as {version}, such as "/ak/api/{version}/backups/{id}".
	Path string
}

// route is a Route with what serves it.
type route struct {
	method, path string
	action       Action
	serve        func(*Handler, *request)
}

// table lists the routes below /api/v1 and its like.
var table = []route{
	{"POST", "/backups", ActionSettings, (*Handler).startBackup},
	{"GET", "/backups", ActionSettings, (*Handler).listBackups},
	{"PUT", "/backups", ActionSettings, (*Handler).restoreDocument},
	{"GET", "/backups/{id}", ActionSettings, (*Handler).getBackup},
	{"PUT", "/backups/{id}", ActionSettings, (*Handler).restoreBackup},
	{"PUT", "/backups/{id}/attachments/{name}", ActionSettings, (*Handler).attach},
	{"GET", "/webhooks", ActionView, (*Handler).listTransactions},
	{"GET", "/webhooks/templates", ActionView, (*Handler).listTemplates},
	{"POST", "/webhooks/txs", ActionNotifications, (*Handler).createTransaction},
	{"GET", "/webhooks/txs/{id}", ActionView, (*Handler).getTransaction},
	{"PUT", "/webhooks/txs/{id}", ActionNotifications, (*Handler).editTransaction},
	{"POST", "/webhooks/txs/{id}", ActionNotifications, (*Handler).ignoreCallback},
}

var (
	prefixes = []string{"/api", "/ak/api"}
	versions = []string{"v1", "v2", "v3"}
)

// Routes returns all routes that a Handler serves, without Options.BasePath.
func Routes() []Route {
	routes := []Route{{Method: "GET", Path: "/openapi.json"}}
	for _, prefix := range prefixes {
		for _, r := range table {
			routes = append(routes, Route{Method: r.method, Path: prefix + "/{version}" + r.path})
		}
	}
	return routes
}

// routes makes the mux.
func (h *Handler) routes() *http.ServeMux {
	mux := http.NewServeMux()
	base := h.options.BasePath
	for _, prefix := range prefixes {
		for _, version := range versions {
			for _, r := range table {
				pattern, serve := r.method+" "+base+prefix+"/"+version+r.path, h.route(r, prefix == "/ak/api", version)
				mux.Handle(pattern, serve)
				// The original does not mind a slash at the end.
				mux.Handle(pattern+"/{$}", serve)
			}
		}
	}
	mux.HandleFunc("GET "+base+"/openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(openAPI)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusNotFound, failure{Code: http.StatusNotFound, Msg: "route not found"})
	})
	return mux
}

// request is a request that was let in.
type request struct {
	*http.Request
	w http.ResponseWriter
	// keys says that it came below /ak, strict that its version has its parameters checked.
	keys, strict bool
	caller       Caller
	body         []byte
}

// route returns what serves a route: it lets the request in, reads its body, and hands on.
func (h *Handler) route(route route, keys bool, version string) http.Handler {
	open := !keys && route.method == "POST" && route.path == "/webhooks/txs/{id}"
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rq := &request{Request: r, w: w, keys: keys, strict: version != "v1"}
		if h.options.Authorize != nil && !open {
			var err error
			if rq.caller, err = h.options.Authorize(r, route.action); err != nil {
				h.refuse(rq, route.action, err)
				return
			}
		}
		if route.method != http.MethodGet {
			if wait, ok := h.writes.take(h.options.now()); !ok {
				w.Header().Set("Retry-After", strconv.Itoa(wait))
				rq.answer(http.StatusTooManyRequests, map[string]any{
					"error": "too many requests, try again later", "rate_limit": h.options.WritesPerMinute,
				})
				return
			}
			select {
			case h.bodies <- struct{}{}:
				defer func() { <-h.bodies }()
			case <-r.Context().Done():
				return
			}
			if !h.readBody(rq) {
				return
			}
		}
		route.serve(h, rq)
	})
}

// refuse answers a request that is not let in.
func (h *Handler) refuse(rq *request, action Action, err error) {
	if !errors.Is(err, ErrUnauthenticated) {
		rq.answer(http.StatusForbidden, map[string]any{
			"authorized": false, "error": "username/api key is not authorized for these action(s)",
			"attempted_actions": []Action{action}, "iid": h.options.InstanceID, "tx_id": newTransactionID(),
		})
		return
	}
	if !rq.keys {
		rq.answer(http.StatusUnauthorized, map[string]string{"error": "login to use this api"})
		return
	}
	rq.w.Header().Set("WWW-Authenticate", `Basic realm="OpTools"`)
	rq.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	rq.w.WriteHeader(http.StatusUnauthorized)
	_, _ = io.WriteString(rq.w, "Unauthorized")
}

// readBody reads the body, which must be empty or a JSON object or array.
func (h *Handler) readBody(rq *request) bool {
	body, err := io.ReadAll(http.MaxBytesReader(rq.w, rq.Body, h.options.MaxBody))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		rq.invalidJSON("request entity too large: more than " + strconv.FormatInt(large.Limit, 10) + " bytes")
		return false
	case err != nil:
		rq.invalidJSON("the body could not be read to its end")
		return false
	}
	if strings.TrimSpace(string(body)) == "" {
		body = []byte("{}")
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(body, &object); err != nil {
		rq.invalidJSON(err.Error())
		return false
	}
	rq.body = body
	return true
}

func (rq *request) invalidJSON(details string) {
	rq.answer(http.StatusBadRequest, failure{Code: http.StatusBadRequest, Msg: "invalid json", Details: details})
}
