package openapi_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/holdstill/holdstill/snapshot/rest/e2e/openapi"
)

const document = `{"openapi": "3.1.0", "info": {"title": "t", "version": "1"}, "paths": {
  "/things": {"get": {"responses": {"200": {"description": "all", "content": {"application/json": {"schema": {"type": "array", "items": {"$ref": "#/components/schemas/Thing"}}}}}}}},
  "/things/{id}": {"get": {"responses": {"200": {"$ref": "#/components/responses/Thing"}, "404": {"description": "none"}}}}},
 "components": {"schemas": {"Thing": {"type": "object", "required": ["id"], "properties": {"id": {"type": "integer"}}}},
  "responses": {"Thing": {"description": "one", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}}}}}}`

// failures counts what a Checker complains about.
type failures struct {
	testing.TB
	n int
}

func (f *failures) Errorf(string, ...any) { f.n++ }
func (f *failures) Helper()               {}

func TestChecker(t *testing.T) {
	for _, c := range []struct {
		path, body string
		code, bad  int
	}{
		{"/base/things", `[{"id": 1}]`, 200, 0},
		{"/base/things", `[{"id": "1"}]`, 200, 1},
		{"/base/things", `{"id": 1}`, 200, 1},
		{"/base/things", ``, 500, 1},
		{"/base/things/1", `{"id": 1}`, 200, 0},
		{"/base/things/1", `{}`, 200, 1},
		{"/base/things/2", ``, 404, 0},
		{"/base/things/2", `{}`, 404, 1},
		{"/base/others", `{}`, 200, 1},
		{"/base/others", ``, 404, 0},
	} {
		t.Run(fmt.Sprint(c.path, c.body, c.code), func(t *testing.T) {
			f := &failures{TB: t}
			checker := openapi.New(f, []byte(document))
			if diff := cmp.Diff([]string{"GET /things", "GET /things/{id}"}, checker.Routes()); diff != "" {
				t.Error(diff)
			}
			h := checker.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json; charset=utf-8")
				w.WriteHeader(c.code)
				_, _ = w.Write([]byte(c.body))
			}), "/base")
			h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, c.path, nil))
			if f.n != c.bad {
				t.Errorf("%d complaints, want %d", f.n, c.bad)
			}
			if seen := len(checker.Unseen()) < 2; seen != strings.Contains(c.path, "things") {
				t.Errorf("unseen: %q", checker.Unseen())
			}
		})
	}
}

func TestStreams(t *testing.T) {
	const document = `{"openapi": "3.1.0", "info": {"title": "t", "version": "1"}, "paths": {"/all": {"get": {"responses": {"200": {"description": "", "content": {
  "application/x-ndjson": {"schema": {"type": "object"}}, "text/event-stream": {"schema": {"type": "object"}}}}}}}}}`
	for _, c := range []struct {
		kind, body string
		bad        int
	}{
		{"application/x-ndjson", "{}\n {}\n", 0},
		{"application/x-ndjson", "{}\n5\n", 1},
		{"application/x-ndjson", "{} {}\n", 1},
		{"text/event-stream", ":\n\ndata: {}\n\ndata: {}\n\n", 0},
		{"text/event-stream", "data: {}\n\ndata: x\n\n", 1},
		{"text/plain", "{}", 1},
	} {
		f := &failures{TB: t}
		h := openapi.New(f, []byte(document)).Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", c.kind)
			_, _ = w.Write([]byte(c.body))
		}), "")
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/all", nil))
		if f.n != c.bad {
			t.Errorf("%s %q: %d complaints, want %d", c.kind, c.body, f.n, c.bad)
		}
	}
}
