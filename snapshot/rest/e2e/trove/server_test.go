package trove

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/repo/localblob"
	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/snapshot/rest/e2e/database"
	"github.com/holdstill/holdstill/snapshot/rest/e2e/openapi"
	"github.com/holdstill/holdstill/snapshot/rest/trove"
)

const (
	instanceID  = "44b277eb-39be-4921-be31-3d61b43651d7"
	datastoreID = "d0c4b4e0-0000-4000-8000-000000000001"
	versionID   = "b00000b0-00b0-0b00-00b0-000b000000bb"
)

// python is the interpreter that Debian's packages belong to; another may come first in the path.
const python = "/usr/bin/python3"

//go:embed library.py
var library string

// server is a database that serves Trove's API.
type server struct {
	*database.DB
	t        testing.TB
	url      string
	location string
	checker  *openapi.Checker
	script   string
}

// start returns a server on a new database with a restore in place. Its tokens are "admin", and the
// names of projects.
func start(t testing.TB, change func(*trove.Options)) *server {
	t.Helper()
	s := &server{DB: database.New(t, database.Options{}), t: t, checker: openapi.New(t, trove.OpenAPI())}
	records := filepath.Join(s.Root(), "records")
	if err := os.Mkdir(records, 0o700); err != nil {
		t.Fatal(err)
	}
	bucket, err := localblob.OpenBucket(records, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.location = "here:" + filepath.ToSlash(filepath.Join(s.Root(), "snapshots"))
	opts := trove.Options{
		Authenticate: authenticate, Records: bucket, Location: s.location, BasePath: "/database",
		Instances: []trove.Instance{{ID: instanceID, Name: "orders", Datastore: trove.Datastore{
			ID: datastoreID, Name: "pebble", VersionID: versionID, Version: "2.1",
		}}},
		Restore: func(context.Context, trove.RestoreRequest) (snapshot.RestoreOptions, error) {
			return s.RestoreOptions(), nil
		},
	}
	if change != nil {
		change(&opts)
	}
	handler, err := trove.New(t.Context(), s.Engine(), opts)
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(s.checker.Handler(handler, opts.BasePath))
	s.url = web.URL + opts.BasePath
	t.Cleanup(func() {
		web.Close()
		if err := errors.Join(handler.Close(), bucket.Close()); err != nil {
			t.Error(err)
		}
	})
	s.script = filepath.Join(t.TempDir(), "library.py")
	if err := os.WriteFile(s.script, []byte(library), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

// reachOthers lets a server take backups of other ones.
func reachOthers(o *trove.Options) { o.Locations = repo.LocationConfig{"here": {"type": "local"}} }

func authenticate(r *http.Request) (trove.Caller, error) {
	switch token := r.Header.Get("X-Auth-Token"); token {
	case "":
		return trove.Caller{}, errors.New("there is no token")
	case "admin":
		return trove.Caller{Project: "admin", Admin: true}, nil
	default:
		return trove.Caller{Project: token}, nil
	}
}

// installed fails the test if a client is missing.
func installed(t testing.TB, output []byte, err error) {
	t.Helper()
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) || bytes.Contains(output, []byte("ModuleNotFoundError")) ||
		bytes.Contains(output, []byte("is not an openstack command")) {
		t.Fatalf("a client of OpenStack is missing; run .ci/install-clients to install it: %v\n%s", err, output)
	}
}

// call is a call of the library.
type call struct {
	manager, method string
	args            map[string]any
}

// result is what a call returns.
type result struct {
	Result json.RawMessage
	Error  string
	Code   int
}

// list is a page of the library.
type list struct {
	Items []backup
	Next  string
}

// backup has the fields that the tests look at.
type backup struct {
	ID, Name, Status string
	Description      *string
	Parent           *string `json:"parent_id"`
	Instance         *string `json:"instance_id"`
	Project          string  `json:"project_id"`
	Location         *string `json:"locationRef"`
	Size             *float64
	Datastore        map[string]string
}

// library runs calls of troveclient in one process. The token is the project's name too.
func (s *server) library(token string, calls ...call) []result {
	s.t.Helper()
	rows := make([][]any, len(calls))
	for i, c := range calls {
		if c.args == nil {
			c.args = map[string]any{}
		}
		rows[i] = []any{c.manager, c.method, c.args}
	}
	in, err := json.Marshal(rows)
	if err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.CommandContext(s.t.Context(), python, s.script, s.url+"/v1.0/"+token, token)
	cmd.Stdin = bytes.NewReader(in)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	installed(s.t, stderr.Bytes(), err)
	if err != nil {
		s.t.Fatalf("%v\n%s", err, stderr.Bytes())
	}
	var out []result
	if err := json.Unmarshal(stdout.Bytes(), &out); err != nil || len(out) != len(calls) {
		s.t.Fatalf("%d results, %v: %s", len(out), err, stdout.Bytes())
	}
	return out
}

// get reads the result of a call that must not fail.
func get[T any](t testing.TB, r result) (v T) {
	t.Helper()
	if r.Error != "" {
		t.Fatalf("%d %s", r.Code, r.Error)
	}
	if err := json.Unmarshal(r.Result, &v); err != nil {
		t.Fatalf("%v: %s", err, r.Result)
	}
	return v
}

// openstack runs "openstack database" with arguments as a project's token, and returns what it prints.
func (s *server) openstack(token string, args ...string) (string, error) {
	s.t.Helper()
	all := append([]string{
		"--os-auth-type", "admin_token", "--os-endpoint", s.url + "/v1.0/" + token, "--os-token", token, "database",
	}, args...)
	cmd := exec.CommandContext(s.t.Context(), "openstack", all...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	installed(s.t, stderr.Bytes(), err)
	if err != nil {
		return stdout.String(), fmt.Errorf("openstack database %s: %w\n%s", strings.Join(args, " "), err, stderr.Bytes())
	}
	return stdout.String(), nil
}

// command is openstack with a result in JSON.
func command[T any](s *server, token string, args ...string) (v T) {
	s.t.Helper()
	out, err := s.openstack(token, append(args, "-f", "json")...)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		s.t.Fatalf("openstack database %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return v
}

// wait asks until a backup or instance is what is waited for, and returns its status.
func (s *server) wait(token, path, key string, running ...string) string {
	s.t.Helper()
	for {
		status := s.status(token, path, key)
		done := true
		for _, r := range running {
			done = done && status != r
		}
		if done {
			return status
		}
		select {
		case <-s.t.Context().Done():
			s.t.Fatal(context.Cause(s.t.Context()))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (s *server) status(token, path, key string) string {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.url+"/v1.0/"+token+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("X-Auth-Token", token)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	var body map[string]struct{ Status string }
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil || resp.StatusCode != http.StatusOK {
		s.t.Fatalf("%s: %d, %v", path, resp.StatusCode, err)
	}
	return body[key].Status
}

// completed waits until a backup is.
func (s *server) completed(token, id string) {
	s.t.Helper()
	if status := s.wait(token, "/backups/"+id, "backup", "NEW", "BUILDING"); status != "COMPLETED" {
		s.t.Fatalf("backup %s is %s", id, status)
	}
}

// rows returns the rows of the database.
func (s *server) rows() map[string]string {
	s.t.Helper()
	rows, err := s.Rows(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return rows
}
