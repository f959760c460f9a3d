package optools

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/blob/memblob"

	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/snapshot/rest/optools/docsource"
	"github.com/holdstill/holdstill/snapshot/rest/optools/internal/memstore"
)

// clock is a time that tests set.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// fixture is a server over a document store in memory.
type fixture struct {
	t       *testing.T
	store   *memstore.Store
	bucket  *blob.Bucket
	engine  *snapshot.Engine
	handler *Handler
	server  *httptest.Server
	clock   *clock
}

// newFixture starts a server; configure may change its options.
func newFixture(t *testing.T, configure func(*Options)) *fixture {
	t.Helper()
	f := &fixture{
		t: t, store: memstore.New("athena_components", "athena_sessions", "athena_system"),
		clock: &clock{now: time.Date(2026, 3, 4, 5, 6, 7, 891e6, time.UTC)},
	}
	f.store.Set("athena_components", `{"_id":"peer1","type":"fabric-peer","_rev":"3-77","api_url":"grpcs://a.example.com:7051"}`,
		`{"_id":"ca1","type":"fabric-ca","_rev":"1-1a"}`)
	f.store.Set("athena_sessions", `{"_id":"session1","type":"session_athena"}`)
	f.store.Set("athena_system", `{"_id":"00_settings_athena","_rev":"9-1","url_safe_list":["a.example.com:7051"],"about":"<&>"}`,
		`{"_id":"_design/athena-v1","_rev":"1-2","views":{}}`)
	bucket := memblob.OpenBucket(nil)
	f.bucket = bucket
	var err error
	f.engine, err = snapshot.Open(t.Context(), snapshot.Config{
		Bucket: bucket, Sources: map[string]snapshot.Source{
			"documents": docsource.New(f.store, docsource.Options{Now: f.clock.Now}),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	options := Options{
		Source: "documents", Store: f.store, BaseURL: "http://localhost:3000", WritesPerMinute: -1,
		Versions: map[string]string{"tag": "2.5.0-26"}, now: f.clock.Now, backoff: time.Millisecond, patience: 5 * time.Minute,
	}
	if configure != nil {
		configure(&options)
	}
	if f.handler, err = New(f.engine, options); err != nil {
		t.Fatal(err)
	}
	f.server = httptest.NewServer(f.handler)
	t.Cleanup(func() {
		f.server.Close()
		err := f.handler.Close()
		if errors.Is(err, ErrClosed) {
			err = nil
		}
		if err := errors.Join(err, f.engine.Close(), bucket.Close()); err != nil {
			t.Error(err)
		}
	})
	return f
}

// send sends a request and returns the answer with its body.
func (f *fixture) send(method, path, body string) (*http.Response, string) {
	f.t.Helper()
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	rq, err := http.NewRequestWithContext(f.t.Context(), method, f.server.URL+path, r)
	if err != nil {
		f.t.Fatal(err)
	}
	rq.Header.Set("Content-Type", "application/json")
	resp, err := f.server.Client().Do(rq)
	if err != nil {
		f.t.Fatal(err)
	}
	data, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		f.t.Fatal(err)
	}
	return resp, string(data)
}

// call sends a request whose answer must have this status, and returns it.
func (f *fixture) call(method, path, body string, status int) map[string]any {
	f.t.Helper()
	resp, text := f.send(method, path, body)
	if resp.StatusCode != status {
		f.t.Fatalf("%s %s: status %d, want %d: %s", method, path, resp.StatusCode, status, text)
	}
	return decode(f.t, text)
}

func decode(t *testing.T, text string) map[string]any {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader([]byte(text)))
	decoder.UseNumber()
	var v map[string]any
	if err := decoder.Decode(&v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}

// backup makes a backup and returns its ID.
func (f *fixture) backup() string {
	f.t.Helper()
	id := f.call("POST", "/ak/api/v3/backups", "", 202)["id"].(string)
	f.wait()
	return id
}

// wait waits for the end of the backup that was started last.
func (f *fixture) wait() {
	f.t.Helper()
	f.handler.mu.Lock()
	b := f.handler.latest
	f.handler.mu.Unlock()
	select {
	case <-b.job.Done():
	case <-f.t.Context().Done():
		f.t.Fatal("the backup does not end")
	}
}

// lose deletes all packs of the repository.
func (f *fixture) lose() {
	f.t.Helper()
	packs := f.bucket.List(&blob.ListOptions{Prefix: "pack/"})
	for {
		object, err := packs.Next(f.t.Context())
		if err == io.EOF {
			return
		}
		if err == nil {
			err = f.bucket.Delete(f.t.Context(), object.Key)
		}
		if err != nil {
			f.t.Fatal(err)
		}
	}
}

// transaction waits for the end of the transaction at a URL and returns it.
func (f *fixture) transaction(url string) map[string]any {
	f.t.Helper()
	path := strings.TrimPrefix(url, "http://localhost:3000")
	for {
		tx := f.call("GET", path, "", 200)
		if tx["status"] != "pending" {
			return tx
		}
		time.Sleep(time.Millisecond)
	}
}

// without returns a copy of an object without some of its fields, which must be there.
func (f *fixture) without(v map[string]any, names ...string) map[string]any {
	f.t.Helper()
	c := map[string]any{}
	for k, x := range v {
		c[k] = x
	}
	for _, name := range names {
		if _, ok := c[name]; !ok {
			f.t.Errorf("there is no %s in %v", name, v)
		}
		delete(c, name)
	}
	return c
}

func number(n int64) json.Number { return json.Number(fmt.Sprint(n)) }
