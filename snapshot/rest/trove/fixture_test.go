package trove_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/blob/memblob"

	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/snapshot/rest/trove"
)

const (
	instanceID = "44b277eb-39be-4921-be31-3d61b43651d7"
	versionID  = "b00000b0-00b0-0b00-00b0-000b000000bb"
	unknownID  = "9e107d9d-372b-4682-bd81-3542a419d6aa"
)

var mysql = trove.Datastore{ID: "d0c4b4e0-0000-4000-8000-000000000001", Name: "mysql", VersionID: versionID, Version: "5.5"}

// source is a database whose next pins can be held up or made to fail.
type source struct {
	mu    sync.Mutex
	files fstest.MapFS
	hold  chan struct{}
	err   error
}

func (s *source) Pin(ctx context.Context) (*snapshot.View, error) {
	s.mu.Lock()
	hold, err, files := s.hold, s.err, maps.Clone(s.files)
	s.mu.Unlock()
	// Without an entry a folder has the mode 0555, and what is restored to it can be removed by root alone.
	files["."] = &fstest.MapFile{Mode: fs.ModeDir | 0o755}
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	if err != nil {
		return nil, err
	}
	return &snapshot.View{FS: files}, nil
}

func (s *source) set(change func(*source)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

// fixture is a handler with an engine.
type fixture struct {
	t       testing.TB
	source  *source
	engine  *snapshot.Engine
	handler *trove.Handler
	records *blob.Bucket
	opts    trove.Options
}

func newFixture(t testing.TB, change func(*trove.Options)) *fixture {
	t.Helper()
	bucket := memblob.OpenBucket(nil)
	t.Cleanup(func() { bucket.Close() })
	return newFixtureOn(t, bucket, change)
}

func newFixtureOn(t testing.TB, bucket *blob.Bucket, change func(*trove.Options)) *fixture {
	t.Helper()
	f := &fixture{t: t, source: &source{files: fstest.MapFS{"rows": {Data: []byte("id,name\n1,Ada\n2,Grace\n")}}}}
	f.records = memblob.OpenBucket(nil)
	t.Cleanup(func() { f.records.Close() })
	var err error
	f.engine, err = snapshot.Open(t.Context(), snapshot.Config{
		Bucket: bucket, Sources: map[string]snapshot.Source{"db": f.source},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.engine.Close(); err != nil && !errors.Is(err, snapshot.ErrClosed) {
			t.Error(err)
		}
	})
	f.opts = trove.Options{
		Instances: []trove.Instance{{ID: instanceID, Name: "orders", Datastore: mysql}},
		Records:   f.records, Location: "s3:backups/app",
	}
	if change != nil {
		change(&f.opts)
	}
	f.open()
	return f
}

// open replaces the handler by a new one with the same records.
func (f *fixture) open() {
	f.t.Helper()
	if f.handler != nil {
		f.handler.Close()
	}
	h, err := trove.New(f.t.Context(), f.engine, f.opts)
	if err != nil {
		f.t.Fatal(err)
	}
	f.handler = h
	f.t.Cleanup(func() { h.Close() })
}

// response is what a request is answered with.
type response struct {
	code   int
	header http.Header
	body   map[string]any
	raw    string
}

// do makes a request. body is JSON, or anything that is rendered as such; nil is none.
func (f *fixture) do(method, path string, body any) response {
	f.t.Helper()
	var data []byte
	switch b := body.(type) {
	case nil:
	case string:
		data = []byte(b)
	default:
		var err error
		if data, err = json.Marshal(b); err != nil {
			f.t.Fatal(err)
		}
	}
	r := httptest.NewRequestWithContext(f.t.Context(), method, "http://trove.test"+path, bytes.NewReader(data))
	if data != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	return f.serve(r)
}

func (f *fixture) serve(r *http.Request) response {
	f.t.Helper()
	w := httptest.NewRecorder()
	f.handler.ServeHTTP(w, r)
	out := response{code: w.Code, header: w.Header(), raw: w.Body.String()}
	if out.raw != "" {
		if err := json.Unmarshal([]byte(out.raw), &out.body); err != nil {
			f.t.Fatalf("%s %s: %d %s: %v", r.Method, r.URL, w.Code, out.raw, err)
		}
	}
	return out
}

// must is do with the code that is expected.
func (f *fixture) must(code int, method, path string, body any) response {
	f.t.Helper()
	r := f.do(method, path, body)
	if r.code != code {
		f.t.Fatalf("%s %s: %d, not %d: %s", method, path, r.code, code, r.raw)
	}
	return r
}

// create makes a backup and returns its ID. fields are those of the request besides name and
// instance.
func (f *fixture) create(name string, fields map[string]any) string {
	f.t.Helper()
	backup := map[string]any{"name": name, "instance": instanceID}
	for key, value := range fields {
		backup[key] = value
	}
	r := f.must(http.StatusAccepted, "POST", "/v1.0/p1/backups", map[string]any{"backup": backup})
	return r.body["backup"].(map[string]any)["id"].(string)
}

// completed is create, and waits until it is done.
func (f *fixture) completed(name string, fields map[string]any) string {
	f.t.Helper()
	id := f.create(name, fields)
	if got := f.wait(id); got["status"] != "COMPLETED" {
		f.t.Fatalf("backup %s: %v", name, got)
	}
	return id
}

// wait polls a backup until it is not running.
func (f *fixture) wait(id string) map[string]any {
	f.t.Helper()
	return f.poll("/v1.0/p1/backups/"+id, "backup", func(status string) bool { return status != "NEW" && status != "BUILDING" })
}

// poll asks until a status is what is waited for.
func (f *fixture) poll(path, key string, done func(string) bool) map[string]any {
	f.t.Helper()
	for {
		got := f.must(http.StatusOK, "GET", path, nil).body[key].(map[string]any)
		if done(got["status"].(string)) {
			return got
		}
		select {
		case <-f.t.Context().Done():
			f.t.Fatal("the test ends")
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// names lists the names of a list of backups.
func (r response) names() string {
	var names []string
	for _, b := range r.body["backups"].([]any) {
		names = append(names, b.(map[string]any)["name"].(string))
	}
	return strings.Join(names, " ")
}

// message returns the message of an error body with one key.
func (r response) message(t testing.TB, key string) string {
	t.Helper()
	inner, ok := r.body[key].(map[string]any)
	if !ok || len(r.body) != 1 || len(inner) != 2 || inner["code"] != float64(r.code) {
		t.Fatalf("%d %s is no error body of %s", r.code, r.raw, key)
	}
	return fmt.Sprint(inner["message"])
}

func sampleFiles() fstest.MapFS { return fstest.MapFS{"rows": {Data: []byte("far rows")}} }
