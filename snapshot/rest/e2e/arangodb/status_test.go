package arangodb_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	jwt1 "github.com/arangodb/go-driver/jwt"

	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/snapshot/rest/arangodb"
	"github.com/holdstill/holdstill/snapshot/rest/e2e/database"
)

// expectation is a request and the status code and error number that answer it.
type expectation struct {
	name         string
	method, path string
	body         string
	code, num    int
}

func (s *server) expect(list []expectation, header ...string) {
	s.t.Helper()
	for _, e := range list {
		if !strings.HasPrefix(e.path, "/") {
			e.path = "/_admin/backup/" + e.path
		}
		r := s.send(e.method, e.path, e.body, header...)
		if r.code != e.code || r.body.Num != e.num || r.body.Code != e.code && len(r.raw) > 0 && r.body.Code != 0 || r.body.Error != (e.num != 0) {
			s.t.Errorf("%s: %s %s %.200s\n answered %d %s\n want %d, error %d", e.name, e.method, e.path, e.body, r.code, r.raw, e.code, e.num)
		}
		if e.code == http.StatusMethodNotAllowed && r.header.Get("Allow") == "" {
			s.t.Errorf("%s: no Allow header", e.name)
		}
	}
}

// TestStatus has every status code and error number that a request alone can bring about.
func TestStatus(t *testing.T) {
	s := start(t, arangodb.Options{MaxBodyBytes: 2000, LocalPathPrefix: "/allowed"}, nil)
	s.fill(1)
	var made struct{ ID string }
	s.post("create", `{"label": "status"}`).result(t, &made)
	const config = `, "config": {"local": {"type": "local"}, "s3": {"type": "s3"}}}`
	to := func(where string) string {
		return fmt.Sprintf(`{"id": %q, "remoteRepository": %q`, made.ID, where) + config
	}
	s.expect([]expectation{
		{"empty body", "POST", "create", "", 201, 0},
		{"white space", "POST", "create", " \n", 201, 0},
		{"null members", "POST", "create", `{"label": null, "timeout": null}`, 201, 0},
		{"unknown members", "POST", "create", `{"colour": "red"}`, 201, 0},
		{"label that cannot stay", "POST", "create", `{"label": "日本"}`, 201, 0},
		{"database", "POST", "/_db/_system/_admin/backup/create", "", 201, 0},
		{"not JSON", "POST", "create", `{"label"`, 400, 600},
		{"no object", "POST", "create", `["label"]`, 400, 10},
		{"a string", "POST", "create", `"label"`, 400, 10},
		{"label is a number", "POST", "create", `{"label": 3}`, 400, 10},
		{"timeout is text", "POST", "create", `{"timeout": "3"}`, 400, 10},
		{"timeout is negative", "POST", "create", `{"timeout": -1}`, 400, 10},
		{"force is text", "POST", "create", `{"force": "true"}`, 400, 10},
		{"allowInconsistent is a number", "POST", "create", `{"allowInconsistent": 1}`, 400, 10},
		{"body too large", "POST", "create", `{"label": "` + strings.Repeat("x", 2000) + `"}`, 413, 413},
		{"more path", "POST", "create/now", "", 400, 601},
		{"other method", "GET", "create", "", 405, 405},
		{"other method", "PUT", "list", "", 405, 405},
		{"other method", "DELETE", "delete", "", 405, 405},
		{"other method", "PATCH", "upload", "", 405, 405},
		{"other method", "POST", "/_api/version", "", 405, 405},
		{"unknown operation", "POST", "explode", "", 404, 404},
		{"no operation", "POST", "/_admin/backup", "", 404, 404},
		{"unknown path", "GET", "/", "", 404, 404},
		{"other database", "POST", "/_db/other/_admin/backup/create", "", 404, 1228},

		{"list all", "POST", "list", "", 200, 0},
		{"list null", "POST", "list", `{"id": null}`, 200, 0},
		{"list one", "POST", "list", `{"id": "` + made.ID + `"}`, 200, 0},
		{"list several", "POST", "list", `{"id": ["` + made.ID + `"]}`, 200, 0},
		{"list none", "POST", "list", `{"id": []}`, 200, 0},
		{"list unknown", "POST", "list", `{"id": "unknown"}`, 404, 7007},
		{"list one of two", "POST", "list", `{"id": ["` + made.ID + `", "unknown"]}`, 404, 7007},
		{"list by number", "POST", "list", `{"id": 7}`, 400, 10},
		{"list by numbers", "POST", "list", `{"id": [7]}`, 400, 10},
		{"list a path", "POST", "list", `{"id": "../../etc"}`, 404, 7007},

		{"delete nothing", "POST", "delete", `{}`, 400, 10},
		{"delete the empty ID", "POST", "delete", `{"id": ""}`, 400, 10},
		{"delete unknown", "POST", "delete", `{"id": "unknown"}`, 404, 7007},
		{"delete a path", "POST", "delete", `{"id": "../pack"}`, 404, 7007},
		{"restore nothing", "POST", "restore", ``, 400, 10},
		{"restore unknown", "POST", "restore", `{"id": "unknown"}`, 404, 7007},
		{"ignoreVersion is text", "POST", "restore", `{"id": "unknown", "ignoreVersion": "yes"}`, 400, 10},

		{"upload nothing", "POST", "upload", `{}`, 400, 10},
		{"upload nowhere", "POST", "upload", `{"id": "` + made.ID + `"` + config, 400, 10},
		{"upload without config", "POST", "upload", `{"id": "a", "remoteRepository": "local:/a"}`, 400, 10},
		{"config is text", "POST", "upload", `{"id": "a", "remoteRepository": "local:/a", "config": "b"}`, 400, 7008},
		{"config with a boolean", "POST", "upload", `{"id": "a", "remoteRepository": "s:a", "config": {"s": {"type": "s3", "env_auth": true}}}`, 400, 7008},
		{"abort without a job", "POST", "upload", strings.Replace(to("local:/allowed/a"), "{", `{"abort": true, `, 1), 400, 10},
		{"empty repository", "POST", "upload", to(""), 400, 7008},
		{"colon alone", "POST", "upload", to(":"), 400, 7008},
		{"unknown section", "POST", "upload", to("noob:"), 400, 7008},
		{"relative", "POST", "upload", to("local:allowed"), 400, 7008},
		{"outside the prefix", "POST", "upload", to("local:/a/b/c"), 400, 7008},
		{"beside the prefix", "POST", "download", to("local:/allowed2"), 400, 7008},
		{"above the prefix", "POST", "download", to("local:/allowed/../etc"), 400, 7008},
		{"progress of nothing", "POST", "upload", `{"uploadId": ""}`, 400, 10},
		{"progress of a boolean", "POST", "upload", `{"uploadId": true}`, 400, 10},
		{"progress of an unknown job", "POST", "upload", `{"uploadId": "4711"}`, 404, 14},
		{"progress by a number", "POST", "download", `{"downloadId": 4711}`, 404, 14},
		{"abort of an unknown job", "POST", "upload", `{"downloadId": "4711", "abort": true}`, 404, 14},

		{"version", "GET", "/_api/version", "", 200, 0},
		{"role", "GET", "/_admin/server/role", "", 200, 0},
		{"statistics", "GET", "/_admin/statistics", "", 200, 0},
		{"availability", "GET", "/_admin/server/availability", "", 200, 0},
		{"collections", "GET", "/_api/collection", "", 200, 0},
		{"no tokens", "POST", "/_open/auth", `{"username": "root", "password": ""}`, 404, 404},
		{"unknown asynchronous request", "PUT", "/_api/job/1", "", 404, 404},
		{"unknown asynchronous request", "GET", "/_api/job/1", "", 404, 404},
		{"unknown asynchronous request", "DELETE", "/_api/job/1", "", 404, 404},
		{"unknown asynchronous request", "PUT", "/_api/job/1/cancel", "", 404, 404},
		{"no asynchronous request", "PUT", "/_api/job", "", 404, 404},
	})
}

// TestLockTimeout holds a transaction open, so that the lock cannot be had.
func TestLockTimeout(t *testing.T) {
	s := start(t, arangodb.Options{}, nil)
	s.fill(1)
	tx, err := s.Gate().Begin(t.Context())
	must(t, err)
	began := time.Now()
	s.expect([]expectation{{"the least timeout", "POST", "create", `{"timeout": 0.1}`, 408, 18}})
	if waited := time.Since(began); waited < 2500*time.Millisecond {
		t.Errorf("gave up after %s", waited)
	}
	var made struct{ PotentiallyInconsistent bool }
	// From here on the timeout leaves a slow machine time for the pin, and for the goroutine that ends the transaction.
	if s.post("create", `{"timeout": 8, "allowInconsistent": true}`).result(t, &made); !made.PotentiallyInconsistent {
		t.Error("made without the lock, and does not say so")
	}
	tx.End()
	// A transaction that can be aborted is, by force.
	ctx, long, err := s.Gate().BeginContext(t.Context())
	must(t, err)
	go func() {
		<-ctx.Done()
		long.End()
	}()
	made.PotentiallyInconsistent = false
	if s.post("create", `{"timeout": 8, "allowInconsistent": true, "force": true}`).result(t, &made); made.PotentiallyInconsistent || ctx.Err() == nil {
		t.Error("the transaction was not aborted")
	}
}

// full is a source on a file system without space.
type full struct{}

func (full) Pin(context.Context) (*snapshot.View, error) {
	return nil, &fs.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}
}

func TestFailures(t *testing.T) {
	d := database.New(t, database.Options{Configure: func(c *snapshot.Config) {
		c.Sources = map[string]snapshot.Source{"full": full{}}
	}})
	s := serve(t, d, arangodb.Options{UnknownUploadFails: true})
	s.expect([]expectation{
		{"no space", "POST", "create", "", 507, 7004},
		{"upload of an unknown backup", "POST", "upload", `{"id": "a", "remoteRepository": "local:/a", "config": {"local": {"type": "local"}}}`, 404, 7007},
	})
	must(t, s.handler.Close())
	s.expect([]expectation{{"closed", "POST", "create", "", 503, 30}})

	empty := database.New(t, database.Options{})
	h, err := arangodb.New(empty.Engine(), arangodb.Options{})
	must(t, err)
	defer h.Close()
	must(t, empty.Engine().Close())
	closed := serve(t, empty, arangodb.Options{})
	closed.expect([]expectation{
		{"engine closed", "POST", "create", "", 503, 30},
		{"engine closed", "POST", "list", "", 503, 30},
		{"engine closed", "POST", "upload", `{"uploadId": "1"}`, 503, 30},
	})
}

// TestAccess has every way to be refused.
func TestAccess(t *testing.T) {
	d := database.New(t, database.Options{})
	admins := arangodb.Options{JWTSecrets: [][]byte{secret}, Login: login, Authorize: func(r *http.Request, c arangodb.Caller, a arangodb.Action) error {
		switch {
		case a == arangodb.ActionDelete:
			return arangodb.ErrUnauthenticated
		case c.User != "" && (a == arangodb.ActionCreate || a == arangodb.ActionAbort):
			return errors.New("not an administrator")
		}
		return nil
	}}
	s := serve(t, d, admins)
	create := []expectation{{"create", "POST", "create", "", 201, 0}}
	refused := []expectation{{"create", "POST", "create", "", 401, 401}, {"version", "GET", "/_api/version", "", 401, 401}}
	s.expect(refused)
	s.expect(refused, "Authorization", "bearer abc")
	s.expect(refused, "Authorization", "bearer "+python{s}.token([]byte("guess")))
	s.expect(refused, "Authorization", "Digest abc")
	s.expect(refused, "Authorization", "Basic cm9vdDpndWVzcw==")
	s.expect([]expectation{
		{"availability needs none", "GET", "/_admin/server/availability", "", 200, 0},
		{"wrong password", "POST", "/_open/auth", `{"username": "root", "password": "guess"}`, 401, 401},
		{"no name", "POST", "/_open/auth", `{"password": "guess"}`, 400, 10},
	})
	s.expect(create, "Authorization", "bearer "+python{s}.token(secret))
	s.expect([]expectation{
		{"create as a user", "POST", "create", "", 403, 403},
		{"list as a user", "POST", "list", "", 200, 0},
		{"delete needs another login", "POST", "delete", `{"id": "a"}`, 401, 401},
		{"progress as a user", "POST", "upload", `{"uploadId": "1"}`, 404, 14},
		{"abort as a user", "POST", "upload", `{"uploadId": "1", "abort": true}`, 403, 403},
	}, "Authorization", "Basic cm9vdDpvcGVuIHNlc2FtZQ==")

	paths, err := jwt1.CreateArangodJwtAuthorizationHeaderAllowedPaths(string(secret), "test", []string{"/_admin/backup/list"})
	must(t, err)
	s.expect([]expectation{{"a path of the token's", "POST", "list", "", 200, 0}, {"another path", "POST", "create", "", 401, 401}}, "Authorization", paths)

	jwt := serve(t, d, arangodb.Options{JWTSecrets: [][]byte{secret}, Login: login, APIEnabled: arangodb.APIJWT})
	jwt.expect([]expectation{{"create as a user", "POST", "create", "", 403, 403}}, "Authorization", "Basic cm9vdDpvcGVuIHNlc2FtZQ==")
	jwt.expect(create, "Authorization", "Bearer "+python{s}.token(secret))
	off := serve(t, d, arangodb.Options{APIEnabled: arangodb.APIFalse})
	off.expect([]expectation{{"disabled", "POST", "list", "", 403, 403}, {"version", "GET", "/_api/version", "", 200, 0}})
	for name, opts := range map[string]arangodb.Options{
		"mode":   {APIEnabled: "maybe"},
		"secret": {JWTSecrets: [][]byte{{}}},
		"jwt":    {APIEnabled: arangodb.APIJWT},
		"base":   {BasePath: "arango/"},
		"prefix": {LocalPathPrefix: "relative"},
		"limit":  {MaxConcurrent: -1},
		"to":     {Restore: &snapshot.RestoreOptions{}},
	} {
		if _, err := arangodb.New(d.Engine(), opts); !errors.Is(err, arangodb.ErrOptions) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
