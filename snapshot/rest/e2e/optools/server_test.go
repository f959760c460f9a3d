package optools_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/snapshot/rest/e2e/openapi"
	"github.com/holdstill/holdstill/snapshot/rest/optools"
	"github.com/holdstill/holdstill/snapshot/rest/optools/docsource"
)

// server is an OpTools whose documents are in Pebble and whose snapshots are in a folder.
type server struct {
	*httptest.Server
	t       *testing.T
	store   *store
	handler *optools.Handler
	engine  *snapshot.Engine
	checker *openapi.Checker
	// callbacks has what was sent to /callback, which is another server to the handler.
	callbacks chan string
}

// newServer starts a server over the folder dir. close ends it, so that another one can be started.
func newServer(t *testing.T, dir string, checker *openapi.Checker) *server {
	t.Helper()
	s := &server{t: t, store: openStore(t, dir), checker: checker, callbacks: make(chan string, 10)}
	var err error
	s.engine, err = snapshot.Open(t.Context(), snapshot.Config{
		Repository: "local:" + filepath.ToSlash(filepath.Join(dir, "snapshots")), Lock: s.store.gate,
		Sources: map[string]snapshot.Source{"documents": docsource.New(s.store, docsource.Options{Epoch: "pebble"})},
	})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	s.Server = httptest.NewServer(mux)
	mux.HandleFunc("/callback/", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.callbacks <- string(body)
	})
	s.handler, err = optools.New(s.engine, optools.Options{
		Source: "documents", Store: s.store, Versions: map[string]string{"tag": "2.5.0-26"},
		Authorize: authorize, Callbacks: []string{s.URL}, TransactionsDir: filepath.Join(dir, "transactions"),
		WritesPerMinute: 1000,
	})
	if err != nil {
		t.Fatal(err)
	}
	mux.Handle("/", checker.Handler(s.handler, ""))
	return s
}

func (s *server) close() {
	s.t.Helper()
	s.Close()
	if err := errors.Join(s.handler.Close(), s.engine.Close(), s.store.kv.Close()); err != nil {
		s.t.Error(err)
	}
}

// authorize knows a key below /ak and a session elsewhere; the key "viewer" may look only.
func authorize(r *http.Request, action optools.Action) (optools.Caller, error) {
	if strings.HasPrefix(r.URL.Path, "/ak/") {
		key, secret, _ := r.BasicAuth()
		switch {
		case secret != "secret" || key == "nobody":
			return optools.Caller{}, optools.ErrUnauthenticated
		case key == "viewer" && action != optools.ActionView:
			return optools.Caller{}, optools.ErrForbidden
		}
		return optools.Caller{Email: key, UUID: "key-1"}, nil
	}
	if cookie, err := r.Cookie("connect.sid"); err != nil || cookie.Value != "ada" {
		return optools.Caller{}, optools.ErrUnauthenticated
	}
	return optools.Caller{Email: "ada@example.com", UUID: "u-1"}, nil
}

// send sends a request as a user who may do everything.
func (s *server) send(method, path, body string) (int, string) {
	s.t.Helper()
	return s.sendAs(method, path, body, "key", "ada")
}

func (s *server) sendAs(method, path, body, key, session string) (int, string) {
	s.t.Helper()
	rq, err := http.NewRequestWithContext(s.t.Context(), method, s.URL+path, bytes.NewReader([]byte(body)))
	if err != nil {
		s.t.Fatal(err)
	}
	rq.Header.Set("Content-Type", "application/json")
	rq.SetBasicAuth(key, "secret")
	rq.AddCookie(&http.Cookie{Name: "connect.sid", Value: session})
	resp, err := s.Client().Do(rq)
	if err != nil {
		s.t.Fatal(err)
	}
	data, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(data)
}

// call sends a request whose answer must have this status, and returns the answer.
func (s *server) call(method, path, body string, status int) map[string]any {
	s.t.Helper()
	code, text := s.send(method, path, body)
	if code != status {
		s.t.Fatalf("%s %s: status %d, want %d: %.1000s", method, path, code, status, text)
	}
	var v map[string]any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		s.t.Fatal(err)
	}
	return v
}

// finished polls the document of a backup until it is done.
func (s *server) finished(id string) map[string]any {
	s.t.Helper()
	for {
		doc := s.call("GET", "/ak/api/v3/backups/"+id, "", 200)
		if doc["in_progress"] == false {
			return doc
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// restored polls the transaction of a restore until it is done.
func (s *server) restored(answer map[string]any) map[string]any {
	s.t.Helper()
	path := strings.TrimPrefix(answer["url"].(string), s.URL)
	for {
		tx := s.call("GET", path, "", 200)
		if tx["status"] != "pending" {
			return tx
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// seed fills the databases like those of a console.
func (s *server) seed() {
	s.t.Helper()
	docs := map[string][]json.RawMessage{}
	add := func(database, format string, args ...any) {
		docs[database] = append(docs[database], json.RawMessage(fmt.Sprintf(format, args...)))
	}
	for i := range 400 {
		h := uint64(i+1) * 0x9e3779b97f4a7c15
		add("athena_components", `{"_id":"peer%03d","type":"fabric-peer","api_url":"grpcs://n%x.example.com:7051","msp_id":"org%d","cert":"%x%x"}`, i, h>>40, i%7, h, h*h)
	}
	add("athena_sessions", `{"_id":"logged-in","type":"session_athena"}`)
	add("athena_sessions", `{"_id":"_design/sessions","views":{}}`)
	add("athena_system", `{"_id":"00_settings_athena","type":"settings","port":3000,"about":"<&> ä\n"}`)
	add("athena_system", `{"_id":"01_users","admins":["ada@example.com"]}`)
	add("athena_system", `{"_id":"_design/athena-v1","views":{"_doc_types":{"map":"function (doc) { emit(doc.type); }"}}}`)
	if err := s.store.write(s.t.Context(), docs); err != nil {
		s.t.Fatal(err)
	}
}
