package trove_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/snapshot/rest/internal/resttest"
	"github.com/holdstill/holdstill/snapshot/rest/trove"
)

// Tokens, passwords of a new instance's users, and those that somebody puts into a location are in no log and in no
// record. They are in no answer either, but for a location, which comes back to whom it came from.
func TestNoSecrets(t *testing.T) {
	var log resttest.Log
	f := newFixture(t, func(o *trove.Options) {
		o.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		o.Authenticate = func(r *http.Request) (trove.Caller, error) {
			if r.Header.Get("X-Auth-Token") == "hunter2" {
				return trove.Caller{}, errors.New("the token has expired")
			}
			return trove.Caller{Project: "p1"}, nil
		}
		o.Locations = repo.LocationConfig{"far": {"type": "s3", "secret_access_key": "hunter2"}}
		o.Restore = func(context.Context, trove.RestoreRequest) (snapshot.RestoreOptions, error) {
			return snapshot.RestoreOptions{}, errors.New("there is no room")
		}
	})
	id := f.completed("kept", nil)
	for _, test := range []struct{ method, path, body string }{
		{"GET", "/v1.0/p1/backups?x-auth-token=hunter2&limit=x", ""},
		{"POST", "/v1.0/p1/instances", `{"instance":{"name":"x","users":[{"name":"root","password":"hunter2"}],"restorePoint":{"backupRef":"` + id + `"}}}`},
		{"POST", "/v1.0/p1/instances", `{"instance":{"name":"x","users":[{"name":"root","password":"hunter2"}]}}`},
		{"POST", "/v1.0/p1/instances", `{"instance":{"name":"x","users":[{"name":"root","password":"hunter2`},
	} {
		if r := f.do(test.method, test.path, test.body); r.code < 400 || strings.Contains(r.raw, "hunter2") {
			t.Errorf("%s: %d %s", test.body, r.code, r.raw)
		}
	}
	if r := f.as("hunter2", "GET", "/v1.0/p1/backups", ""); r.code != http.StatusUnauthorized || strings.Contains(r.raw, "hunter2") {
		t.Errorf("%d %s", r.code, r.raw)
	}
	for _, location := range []string{
		"https://user:hunter2@example.com/" + f.snapshot(id), "https://user:hunter2@example.com/v1/AUTH_a/backups/" + f.snapshot(id),
		"https://user:hunter2@example.com", "far:bucket/" + f.snapshot(id),
	} {
		f.must(http.StatusBadRequest, "POST", "/v1.0/p1/backups", map[string]any{"backup": map[string]any{"name": "near", "restore_from": map[string]any{
			"remote_location": location, "local_datastore_version_id": versionID,
		}}})
	}
	if text := log.String(); strings.Contains(text, "hunter2") || !strings.Contains(text, "cannot be used") || !strings.Contains(text, "not authenticated") {
		t.Errorf("logged %s", text)
	}
	list := f.records.List(nil)
	for {
		o, err := list.Next(t.Context())
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if data, err := f.records.ReadAll(t.Context(), o.Key); err != nil || strings.Contains(string(data), "hunter2") {
			t.Errorf("%s: %s, error %v", o.Key, data, err)
		}
	}
}

// snapshot returns the ID of a backup's snapshot.
func (f *fixture) snapshot(id string) string {
	f.t.Helper()
	ref := f.wait(id)["locationRef"].(string)
	return ref[strings.LastIndexByte(ref, '/')+1:]
}
