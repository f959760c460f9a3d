package arangodb_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"gocloud.dev/blob/memblob"

	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/snapshot/rest/arangodb"
	"github.com/holdstill/holdstill/snapshot/rest/internal/resttest"
)

// waiting is a source whose pin waits to be released, or for its context.
type waiting struct {
	once            sync.Once
	pinned, release chan struct{}
}

func (s *waiting) Pin(ctx context.Context) (*snapshot.View, error) {
	s.once.Do(func() { close(s.pinned) })
	select {
	case <-s.release:
		return table{}.Pin(ctx)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

type panics struct{}

func (panics) Pin(context.Context) (*snapshot.View, error) { panic("a secret") }

// open returns a handler over an engine with one source.
func open(t *testing.T, source snapshot.Source, opts arangodb.Options) *arangodb.Handler {
	t.Helper()
	bucket := memblob.OpenBucket(nil)
	engine, err := snapshot.Open(t.Context(), snapshot.Config{Bucket: bucket, Sources: map[string]snapshot.Source{"orders": source}})
	if err != nil {
		t.Fatal(err)
	}
	h, err := arangodb.New(engine, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
		if err := bucket.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

func request(h http.Handler, method, path, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestPaths(t *testing.T) {
	h := open(t, table{}, arangodb.Options{BasePath: "/arango"})
	for path, code := range map[string]int{
		"/arango/_admin/backup/list":              200,
		"/arango/_admin/backup/list/":             200,
		"/arango/_db/_system/_admin/backup/list":  200,
		"/arango/_db/_system/_admin/backup/list/": 200,
		"/arango/_db/other/_admin/backup/list":    404,
		"/arango/_db/_system":                     404,
		"/arango/_admin/backup/list/more":         400,
		"/arango/_admin/backup/lists":             404,
		"/arango/_admin/backup//list":             404,
		"/arango":                                 404,
		"/_admin/backup/list":                     404,
		"/arangodb/_admin/backup/list":            404,
	} {
		if w := request(h, http.MethodPost, path, ""); w.Code != code {
			t.Errorf("%s: %d %s, want %d", path, w.Code, w.Body, code)
		}
	}
}

// TestConcurrent sends one request more than may be served at once.
func TestConcurrent(t *testing.T) {
	source := &waiting{pinned: make(chan struct{}), release: make(chan struct{})}
	h := open(t, source, arangodb.Options{MaxConcurrent: 1})
	var group sync.WaitGroup
	group.Go(func() {
		if w := request(h, http.MethodPost, "/_admin/backup/create", ""); w.Code != http.StatusCreated {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	})
	<-source.pinned
	if w := request(h, http.MethodPost, "/_admin/backup/list", ""); w.Code != http.StatusServiceUnavailable {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	close(source.release)
	group.Wait()
	if w := request(h, http.MethodPost, "/_admin/backup/list", ""); w.Code != http.StatusOK {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestPanic has a source that panics, in the background.
func TestPanic(t *testing.T) {
	h := open(t, panics{}, arangodb.Options{})
	w := request(h, http.MethodPost, "/_admin/backup/create", "", "x-arango-async", "store")
	path := "/_api/job/" + w.Header().Get("x-arango-async-id")
	for request(h, http.MethodGet, path, "").Code == http.StatusNoContent {
		time.Sleep(time.Millisecond)
	}
	if w := request(h, http.MethodPut, path, ""); w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "secret") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestClose ends what waits, and refuses what comes after.
func TestClose(t *testing.T) {
	source := &waiting{pinned: make(chan struct{}), release: make(chan struct{})}
	h := open(t, source, arangodb.Options{})
	if w := request(h, http.MethodPost, "/_admin/backup/create", "", "x-arango-async", "store"); w.Code != http.StatusAccepted {
		t.Fatal(w.Code, w.Body)
	}
	<-source.pinned
	for range 2 {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}
	for _, header := range []string{"", "store"} {
		if w := request(h, http.MethodPost, "/_admin/backup/create", "", "x-arango-async", header); w.Code != http.StatusServiceUnavailable {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}
}

// TestClientGone has the client go away while its backup is made.
func TestClientGone(t *testing.T) {
	source := &waiting{pinned: make(chan struct{}), release: make(chan struct{})}
	h := open(t, source, arangodb.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/_admin/backup/create", nil)
	var group sync.WaitGroup
	group.Go(func() { h.ServeHTTP(httptest.NewRecorder(), r) })
	<-source.pinned
	cancel()
	group.Wait()
	if w := request(h, http.MethodPost, "/_admin/backup/list", ""); !strings.Contains(w.Body.String(), `"list":{}`) {
		t.Error(w.Body)
	}
}

// TestVersion serves the database under another version than its own.
func TestVersion(t *testing.T) {
	bucket := memblob.OpenBucket(nil)
	t.Cleanup(func() { bucket.Close() })
	for _, test := range []struct{ database, shown, server, list string }{
		{"1.4.0", "", `"version":"1.4.0"`, `"version":"1.4.0"`},
		{"1.4.0", "3.12.5", `"version":"3.12.5"`, `"version":"3.12.5"`},
		// The backup is of another version by now.
		{"1.5.0", "3.12.5", `"version":"3.12.5"`, `"version":"1.4.0"`},
	} {
		engine, err := snapshot.Open(t.Context(), snapshot.Config{
			Bucket: bucket, Sources: map[string]snapshot.Source{"orders": table{}}, DatabaseVersion: test.database,
		})
		if err != nil {
			t.Fatal(err)
		}
		h, err := arangodb.New(engine, arangodb.Options{Version: test.shown})
		if err != nil {
			t.Fatal(err)
		}
		if test.shown == "" {
			request(h, http.MethodPost, "/_admin/backup/create", "")
		}
		if w := request(h, http.MethodGet, "/_api/version", ""); !strings.Contains(w.Body.String(), test.server) {
			t.Errorf("%+v: %s", test, w.Body)
		}
		if w := request(h, http.MethodPost, "/_admin/backup/list", ""); !strings.Contains(w.Body.String(), test.list) {
			t.Errorf("%+v: %s", test, w.Body)
		}
		if err := errors.Join(h.Close(), engine.Close()); err != nil {
			t.Error(err)
		}
	}
}

// TestTimeLimits has a create wait for longer than the server gives a request: nothing ends it.
func TestTimeLimits(t *testing.T) {
	source := &waiting{pinned: make(chan struct{}), release: make(chan struct{})}
	h := open(t, source, arangodb.Options{})
	w := resttest.NewLimited()
	var group sync.WaitGroup
	group.Go(func() {
		h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/_admin/backup/create", strings.NewReader("{}")))
	})
	<-source.pinned
	if read, write := w.Passed(); read || write {
		t.Errorf("the limits have passed: to read %t, to write %t", read, write)
	}
	close(source.release)
	group.Wait()
	if w.Code != http.StatusCreated || !strings.Contains(w.Body.String(), `"nrFiles"`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
