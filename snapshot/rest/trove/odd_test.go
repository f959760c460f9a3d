package trove_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/snapshot/rest/trove"
)

// What no client should send is refused in Trove's words.
func TestOddRequests(t *testing.T) {
	f := newFixture(t, nil)
	id := f.completed("kept", nil)
	long := strings.Repeat("x", 20_000)
	deep := strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000)
	for _, test := range []struct {
		method, path, body string
		code               int
		key                string
	}{
		{"GET", "/v1.0/p1/backups/" + long, "", 404, "itemNotFound"},
		{"GET", "/v1.0/p1/backups/..%2f..%2fetc%2fpasswd", "", 404, "itemNotFound"},
		{"GET", "/v1.0/p1/backups/%2e%2e", "", 404, "itemNotFound"},
		{"GET", "/v1.0/p1/backups/%00", "", 404, "itemNotFound"},
		{"GET", "/v1.0/p1/backups/%ff", "", 404, "itemNotFound"},
		{"GET", "/v1.0/p1/backups/" + id + "%2f", "", 404, "itemNotFound"},
		{"GET", "/v1.0/p1/backups/" + id + "/more", "", 404, "itemNotFound"},
		{"DELETE", "/v1.0/p1/backups/%2e%2e%2f" + id, "", 404, "itemNotFound"},
		{"GET", "/v1.0/" + long + "/backups", "", 400, "badRequest"},
		{"GET", "/v1.0/%ff/backups", "", 400, "badRequest"},
		{"GET", "/v2.0/p1/backups", "", 404, "itemNotFound"},
		{"GET", "/v1.0/p1/instances/" + long, "", 404, "itemNotFound"},
		{"GET", "/v1.0/p1/backups?datastore=" + long, "", 404, "itemNotFound"},
		{"OPTIONS", "/v1.0/p1/backups", "", 405, "badMethod"},
		{"PUT", "/v1.0/p1/backups/" + id, "{}", 405, "badMethod"},
		{"PATCH", "/v1.0/p1/backup_strategies", "{}", 405, "badMethod"},
		{"POST", "/v1.0/p1/backups", "", 400, "badRequest"},
		{"POST", "/v1.0/p1/backups", deep, 400, "badRequest"},
		{"POST", "/v1.0/p1/backups", "{\"backup\":{\"name\":\"\xff\"}}", 400, "badRequest"},
		{"POST", "/v1.0/p1/backups/", `{"Backup":{"name":"x"}}`, 400, "badRequest"},
		{"POST", "/v1.0/p1/backup_strategies", `{"backup_strategy":[]}`, 400, "badRequest"},
		{"POST", "/v1.0/p1/backup_strategies", `{"backup_strategy":{"swift_container":"` + strings.Repeat("x", 2<<20) + `"}}`, 413, "overLimit"},
		{"POST", "/v1.0/p1/instances", `{"instance":{"name":"x","volume":5}}`, 400, "badRequest"},
		{"POST", "/v1.0/p1/instances", `{"instance":{"name":"x","restorePoint":{"backupRef":"` + long + `"}}}`, 400, "badRequest"},
		{"POST", "/v1.0/p1/instances", `{"instance":{"name":"x","restorePoint":"` + id + `"}}`, 400, "badRequest"},
	} {
		r := f.do(test.method, test.path, test.body)
		if r.code != test.code || len(r.raw) > 1000 {
			t.Errorf("%s %.60s %.60s: %d %.200s", test.method, test.path, test.body, r.code, r.raw)
			continue
		}
		r.message(t, test.key)
	}
	// A slash at the end makes no difference, and one too many sends the client to where there is none, with
	// its method and body.
	if got := f.must(http.StatusOK, "GET", "/v1.0/p1/backups/"+id+"/", nil).body["backup"].(map[string]any)["id"]; got != id {
		t.Error(got)
	}
	w := httptest.NewRecorder()
	f.handler.ServeHTTP(w, httptest.NewRequest("POST", "http://trove.test//v1.0/p1//backups", strings.NewReader("{}")))
	if w.Code != http.StatusTemporaryRedirect || w.Header().Get("Location") != "/v1.0/p1/backups" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	// A client that goes away while it sends.
	r := httptest.NewRequest("POST", "http://trove.test/v1.0/p1/backups", io.MultiReader(strings.NewReader(`{"backup":`), iotest.ErrReader(io.ErrUnexpectedEOF)))
	if got := f.serve(r); got.code != http.StatusBadRequest {
		t.Errorf("%d %s", got.code, got.raw)
	}
	if got := f.must(http.StatusOK, "GET", "/v1.0/p1/backups", nil).names(); got != "kept" {
		t.Errorf("there are %s", got)
	}
}

// Callers that delete one backup at the same time: it goes once, and none of them fails.
func TestDeleteAtOnce(t *testing.T) {
	f := newFixture(t, func(o *trove.Options) { o.Quota = 2 })
	for range 3 {
		id := f.completed("one", nil)
		f.completed("child", map[string]any{"parent_id": id})
		codes := make(chan int, 8)
		var callers sync.WaitGroup
		for range cap(codes) {
			callers.Go(func() { codes <- f.do("DELETE", "/v1.0/p1/backups/"+id, nil).code })
		}
		callers.Wait()
		close(codes)
		gone := 0
		for code := range codes {
			switch code {
			case http.StatusAccepted:
				gone++
			case http.StatusNotFound:
			default:
				t.Errorf("status %d", code)
			}
		}
		if gone == 0 || len(ids(t, f.engine)) != 0 {
			t.Errorf("deleted %d times, left are %s", gone, ids(t, f.engine))
		}
	}
}

// A hook that panics costs its request, and nothing else.
func TestHooksThatPanic(t *testing.T) {
	where := ""
	panics := func(name string) {
		if where == name {
			panic(errors.New("hook " + name))
		}
	}
	f := newFixture(t, func(o *trove.Options) {
		o.Authenticate = func(*http.Request) (trove.Caller, error) {
			panics("authenticate")
			return trove.Caller{Project: "p1"}, nil
		}
		policy := trove.DefaultPolicy
		o.Authorize = func(ctx context.Context, c trove.Caller, a trove.Action) error {
			panics("authorize")
			return policy(ctx, c, a)
		}
		o.Create = func(*snapshot.CreateOptions) { panics("create") }
	})
	for _, where = range []string{"authenticate", "authorize", "create"} {
		func() {
			defer func() {
				if p := recover(); p == nil {
					t.Errorf("%s did not panic", where)
				}
			}()
			f.create("x", nil)
		}()
	}
	where = ""
	f.completed("after", nil)
	if got := f.must(http.StatusOK, "GET", "/v1.0/p1/backups", nil).names(); got != "after" {
		t.Errorf("there are %s", got)
	}
}
