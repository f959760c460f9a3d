package arangodb_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"gocloud.dev/blob"

	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/snapshot/rest/arangodb"
	"github.com/holdstill/holdstill/snapshot/rest/internal/resttest"
)

// refusing registers a driver whose store accepts no credentials, once for the process.
var refusing = sync.OnceFunc(func() {
	repo.RegisterDriver(repo.Driver{Type: "refusing", Open: func(_ context.Context, s *repo.Settings) (*blob.Bucket, error) {
		s.Text("secret_access_key")
		if err := s.Err(); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("%w: status 403", repo.ErrAuthentication)
	}})
})

// TestRemoteRefuses uploads to a store that does not accept the credentials.
func TestRemoteRefuses(t *testing.T) {
	refusing()
	body := `{"id": "%s", "remoteRepository": "far:bucket", "config": {"far": {"type": "refusing", "secret_access_key": "hunter2"}}}`
	s := start(t, arangodb.Options{StartWait: time.Minute}, nil)
	s.fill(1)
	var made struct{ ID string }
	s.post("create", "").result(t, &made)
	s.expect([]expectation{
		{"upload", "POST", "upload", fmt.Sprintf(body, made.ID), 401, 7005},
		{"download", "POST", "download", fmt.Sprintf(body, made.ID), 401, 7006},
	})
	late := serve(t, s.DB, arangodb.Options{})
	var job struct{ UploadID string }
	late.post("upload", fmt.Sprintf(body, made.ID)).result(t, &job)
	var end *reply
	until(t, "the upload to fail", func() bool {
		end = late.post("upload", `{"uploadId": "`+job.UploadID+`"}`)
		return strings.Contains(string(end.raw), "FAILED")
	})
	var p struct {
		DBServers map[string]struct {
			Error        int
			ErrorMessage string
		}
	}
	end.result(t, &p)
	one := p.DBServers["SNGL"]
	if one.Error != 7005 || !strings.Contains(one.ErrorMessage, "credentials") || strings.Contains(string(end.raw), "hunter2") {
		t.Errorf("%s", end.raw)
	}
}

// TestNoSecrets has a secret in every place of a config where a mistake can be made, in credentials and in
// tokens. It is in no answer, no log, and no file.
func TestNoSecrets(t *testing.T) {
	refusing()
	var log resttest.Log
	logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s := start(t, arangodb.Options{Logger: logger}, func(c *snapshot.Config) { c.Logger = logger })
	s.fill(1)
	var made struct{ ID string }
	s.post("create", "").result(t, &made)
	guarded := serve(t, s.DB, arangodb.Options{
		Logger: logger, JWTSecrets: [][]byte{[]byte("hunter2")},
		Login: func(context.Context, string, string) error { return errors.New("wrong password") },
	})
	for _, r := range []*reply{
		guarded.send("POST", "/_open/auth", `{"username": "root", "password": "hunter2"}`),
		guarded.send("POST", "/_open/auth", `{"username": "root", "password": ["hunter2"]}`),
		guarded.send("POST", "/_open/auth", `{"username": "root", "password": "hunter2`),
		guarded.post("list", "", "Authorization", "Bearer hunter2.hunter2.hunter2"),
		guarded.post("list", "", "Authorization", "hunter2 hunter2"),
		guarded.post("list", "", "Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("root:hunter2"))),
	} {
		if r.code < 400 || strings.Contains(string(r.raw), "hunter2") {
			t.Errorf("answered %d %s", r.code, r.raw)
		}
	}
	for _, body := range []string{
		`{"id": "a", "remoteRepository": "s3:b", "config": {"s3": {"type": "s3", "secret_access_key": "hunter2"}}}`,
		`{"id": "a", "remoteRepository": "s4:b", "config": {"s3": {"type": "s3", "secret_access_key": "hunter2"}}}`,
		`{"id": "a", "remoteRepository": "s3:b", "config": {"s3": {"secret_access_key": "hunter2"}}}`,
		`{"id": "a", "remoteRepository": "s3:b", "config": {"s3": {"type": "s3", "secret_access_key": ["hunter2"]}}}`,
		`{"id": "a", "remoteRepository": "s3:b", "config": {"s3": "hunter2"}}`,
		`{"id": "a", "remoteRepository": "s3:b", "config": ["hunter2"]}`,
		`{"id": "a", "remoteRepository": "s3:b", "config": "hunter2}`,
		`{"id": "a", "remoteRepository": 1, "config": {"s3": {"type": "s3", "secret_access_key": "hunter2"}}}`,
		`{"id": "` + made.ID + `", "remoteRepository": "far:b", "config": {"far": {"type": "refusing", "secret_access_key": "hunter2"}}}`,
	} {
		r := s.post("upload", body)
		if strings.Contains(string(r.raw), "hunter2") {
			t.Errorf("%s\n answered %s", body, r.raw)
		}
		if r.code != http.StatusAccepted {
			continue
		}
		var job struct{ UploadID string }
		r.result(t, &job)
		until(t, "the upload to fail", func() bool {
			r := s.post("upload", `{"uploadId": "`+job.UploadID+`"}`)
			if strings.Contains(string(r.raw), "hunter2") {
				t.Errorf("%s\n failed with %s", body, r.raw)
			}
			return strings.Contains(string(r.raw), "FAILED")
		})
	}
	must(t, s.handler.Close())
	must(t, guarded.handler.Close())
	must(t, s.Engine().Close())
	// Else it removes files of its own while they are read.
	must(t, s.Stop(t.Context()))
	if text := log.String(); strings.Contains(text, "hunter2") || !strings.Contains(text, "refused a login") {
		t.Errorf("logged %s", text)
	}
	must(t, filepath.WalkDir(s.Root(), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if bytes.Contains(data, []byte("hunter2")) {
			t.Errorf("it is in %s", path)
		}
		return err
	}))
}

// TestKeys lists the fingerprint of an encrypted repository's key.
func TestKeys(t *testing.T) {
	s := start(t, arangodb.Options{}, func(c *snapshot.Config) {
		c.Key = repo.Passphrase([]byte("correct horse"), repo.PassphraseOptions{Argon2: repo.Argon2{Time: 1, Memory: 8 << 20, Threads: 1}})
	})
	s.fill(1)
	var made struct{ ID string }
	s.post("create", "").result(t, &made)
	var result struct {
		List map[string]struct {
			Keys []struct{ SHA256 string }
		}
	}
	s.post("list", "").result(t, &result)
	keys := result.List[made.ID].Keys
	want := s.Engine().Repository().KeyFingerprints()
	if len(keys) != 1 || len(want) != 1 || keys[0].SHA256 != want[0].SHA256 {
		t.Errorf("keys are %v, want %v", keys, want)
	}
}
