// Package arangodb_test runs clients of ArangoDB's Hot Backup against a Pebble database.
package arangodb_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/snapshot/rest/arangodb"
	"github.com/holdstill/holdstill/snapshot/rest/e2e/database"
	"github.com/holdstill/holdstill/snapshot/rest/e2e/openapi"
)

// server is a database with the handler in front of it. Every answer is compared with the document.
type server struct {
	*database.DB
	t       *testing.T
	url     string
	checker *openapi.Checker
	handler *arangodb.Handler
}

func start(t *testing.T, opts arangodb.Options, configure func(*snapshot.Config)) *server {
	t.Helper()
	d := database.New(t, database.Options{Configure: configure})
	return serve(t, d, opts)
}

// serve puts a handler in front of a database. Without Options.Restore it restores that database.
func serve(t *testing.T, d *database.DB, opts arangodb.Options) *server {
	t.Helper()
	if opts.Restore == nil {
		restore := d.RestoreOptions()
		opts.Restore = &restore
	}
	h, err := arangodb.New(d.Engine(), opts)
	if err != nil {
		t.Fatal(err)
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/_admin/backup/openapi.json", nil))
	s := &server{DB: d, t: t, checker: openapi.New(t, rec.Body.Bytes()), handler: h}
	ts := httptest.NewUnstartedServer(s.checker.Handler(h, "/_db/_system"))
	ts.Config.Protocols = new(http.Protocols)
	ts.Config.Protocols.SetHTTP1(true)
	ts.Config.Protocols.SetUnencryptedHTTP2(true)
	ts.Start()
	s.url = ts.URL
	t.Cleanup(func() {
		ts.Close()
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// reply is an answer as a client without a driver sees it.
type reply struct {
	code   int
	header http.Header
	raw    []byte
	body   struct {
		Error        bool            `json:"error"`
		Code         int             `json:"code"`
		Num          int             `json:"errorNum"`
		ErrorMessage string          `json:"errorMessage"`
		Result       json.RawMessage `json:"result"`
	}
}

// result decodes the result.
func (r *reply) result(t *testing.T, into any) {
	t.Helper()
	if err := json.Unmarshal(r.body.Result, into); err != nil {
		t.Fatalf("%v: %s", err, r.raw)
	}
}

// send sends a request; header is keys and values in turn.
func (s *server) send(method, path, body string, header ...string) *reply {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	for pair := range slices.Chunk(header, 2) {
		req.Header.Set(pair[0], pair[1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	r := &reply{code: resp.StatusCode, header: resp.Header}
	if r.raw, err = io.ReadAll(resp.Body); err != nil {
		s.t.Fatal(err)
	}
	if bytes.HasPrefix(r.raw, []byte("{")) {
		if err := json.Unmarshal(r.raw, &r.body); err != nil {
			s.t.Fatal(err)
		}
	}
	return r
}

// post sends a backup operation.
func (s *server) post(op, body string, header ...string) *reply {
	s.t.Helper()
	return s.send(http.MethodPost, "/_admin/backup/"+op, body, header...)
}

// fill sets rows, and returns all rows there are then.
func (s *server) fill(seed int) map[string]string {
	s.t.Helper()
	must(s.t, s.Fill(s.t.Context(), 300, seed))
	return s.rows()
}

func (s *server) rows() map[string]string {
	s.t.Helper()
	rows, err := s.Rows(s.t.Context())
	must(s.t, err)
	return rows
}

// until waits for a condition.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited a minute for %s", what)
		}
	}
}

// available waits for the end of a restore, as clients do.
func (s *server) available() {
	s.t.Helper()
	until(s.t, "the server to be available", func() bool {
		return s.send(http.MethodGet, "/_admin/server/availability", "").code == http.StatusOK
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
