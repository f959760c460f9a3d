package arangodb_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	driver2 "github.com/arangodb/go-driver/v2/arangodb"
	"github.com/arangodb/go-driver/v2/connection"

	"github.com/holdstill/holdstill/snapshot/rest/arangodb"
)

func newRecorder(h http.Handler, method, path, body string) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest(method, path, strings.NewReader(body)))
	return rec
}

// TestAsync creates a backup as the Kubernetes operator does: asked for with x-arango-async, and fetched.
func TestAsync(t *testing.T) {
	s := start(t, arangodb.Options{}, nil)
	s.fill(1)
	tx, err := s.Gate().Begin(t.Context())
	must(t, err)
	later := s.post("create", `{"label": "operator"}`, "x-arango-async", "store")
	id := later.header.Get("x-arango-async-id")
	if later.code != http.StatusAccepted || id == "" || len(later.raw) > 0 {
		t.Fatalf("%d %q %s", later.code, id, later.raw)
	}
	path := "/_api/job/" + id
	for _, method := range []string{http.MethodGet, http.MethodPut} {
		if r := s.send(method, path, ""); r.code != http.StatusNoContent || r.header.Get("x-arango-async-id") != "" {
			t.Errorf("%s while it is under way: %d", method, r.code)
		}
	}
	var ids []string
	if must(t, json.Unmarshal(s.send(http.MethodGet, "/_api/job/pending", "").raw, &ids)); len(ids) != 1 || ids[0] != id {
		t.Errorf("pending are %q", ids)
	}
	tx.End()
	until(t, "the answer", func() bool { return s.send(http.MethodGet, path, "").code == http.StatusOK })
	r := s.send(http.MethodPut, path, "")
	var made struct{ ID string }
	if r.result(t, &made); r.code != http.StatusCreated || !strings.HasSuffix(made.ID, "Z_operator") || r.header.Get("x-arango-async-id") != id {
		t.Errorf("%d %s", r.code, r.raw)
	}
	s.expect([]expectation{{"fetched twice", "PUT", path, "", 404, 404}})

	// A failure is fetched with its own status code.
	id = s.post("delete", `{"id": "unknown"}`, "x-arango-async", "store").header.Get("x-arango-async-id")
	until(t, "the answer", func() bool { return s.send(http.MethodGet, "/_api/job/"+id, "").code == http.StatusOK })
	s.expect([]expectation{{"failure", "PUT", "/_api/job/" + id, "", 404, 7007}})

	// One that waits for the lock is cancelled.
	tx, err = s.Gate().Begin(t.Context())
	must(t, err)
	defer tx.End()
	id = s.post("create", "", "x-arango-async", "store").header.Get("x-arango-async-id")
	s.expect([]expectation{{"cancel", "PUT", "/_api/job/" + id + "/cancel", "", 200, 0}})
	until(t, "the answer", func() bool { return s.send(http.MethodGet, "/_api/job/"+id, "").code == http.StatusOK })
	s.expect([]expectation{{"cancelled", "PUT", "/_api/job/" + id, "", 503, 30}})

	// One is forgotten, and another goes on when the handler is closed.
	id = s.post("create", "", "x-arango-async", "store").header.Get("x-arango-async-id")
	s.expect([]expectation{{"forget", "DELETE", "/_api/job/" + id, "", 200, 0}, {"forgotten", "GET", "/_api/job/" + id, "", 404, 404}})
	if r := s.post("create", "", "x-arango-async", "true"); r.code != http.StatusAccepted || r.header.Get("x-arango-async-id") != "" {
		t.Errorf("%d %v", r.code, r.header)
	}
	s.expect([]expectation{{"forget all", "DELETE", "/_api/job/all", "", 200, 0}})
	must(t, s.handler.Close())
	all, err := listIDs(s)
	must(t, err)
	if len(all) != 1 {
		t.Errorf("%d backups, want the first alone", len(all))
	}
}

func listIDs(s *server) (ids []string, err error) {
	for id, err := range s.Engine().Repository().IDs(s.t.Context()) {
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// TestAsyncBounds keeps no more answers than it may.
func TestAsyncBounds(t *testing.T) {
	s := start(t, arangodb.Options{MaxAsync: 2}, nil)
	for range 2 {
		if r := s.post("list", "", "x-arango-async", "store"); r.code != http.StatusAccepted {
			t.Errorf("%d %s", r.code, r.raw)
		}
	}
	s.expect([]expectation{{"one too many", "POST", "list", "", 503, 503}}, "x-arango-async", "store")
	s.expect([]expectation{{"forget all", "DELETE", "/_api/job/all", "", 200, 0}})
	until(t, "room for another", func() bool { return s.post("list", "", "x-arango-async", "store").code == http.StatusAccepted })
}

// TestDriver2Async uses the driver's own asynchronous calls.
func TestDriver2Async(t *testing.T) {
	s := start(t, arangodb.Options{}, nil)
	s.fill(1)
	conn := connection.NewHttpConnection(connection.DefaultHTTPConfigurationWrapper(connection.NewRoundRobinEndpoints([]string{s.url}), false))
	c := driver2.NewClient(connection.NewConnectionAsyncWrapper(conn))
	_, err := c.BackupCreate(connection.WithAsync(t.Context()), nil)
	id, pending := connection.IsAsyncJobInProgress(err)
	if !pending {
		t.Fatal(err)
	}
	var made driver2.BackupResponse
	until(t, "the backup", func() bool {
		made, err = c.BackupCreate(connection.WithAsyncID(context.WithoutCancel(t.Context()), id), nil)
		if _, pending := connection.IsAsyncJobInProgress(err); pending {
			return false
		}
		must(t, err)
		return true
	})
	if all, err := c.BackupList(t.Context(), nil); err != nil || len(all.Backups) != 1 || all.Backups[made.ID].ID != made.ID {
		t.Errorf("%+v %v", all, err)
	}
}

// TestEveryRoute reaches every route of the document.
func TestEveryRoute(t *testing.T) {
	s := start(t, arangodb.Options{JWTSecrets: [][]byte{secret}, Login: login}, nil)
	for _, route := range s.checker.Routes() {
		method, path, _ := strings.Cut(route, " ")
		r := s.send(method, strings.Replace(path, "{id}", "1", 1), `{"username": "root", "password": "open sesame"}`, "Authorization", "Basic cm9vdDpvcGVuIHNlc2FtZQ==")
		if r.code == http.StatusMethodNotAllowed || r.code >= 500 || r.code == http.StatusNotFound && !strings.Contains(path, "{id}") {
			t.Errorf("%s: %d %s", route, r.code, r.raw)
		}
	}
	if unseen := s.checker.Unseen(); len(unseen) > 0 {
		t.Errorf("not reached: %q", unseen)
	}
}
