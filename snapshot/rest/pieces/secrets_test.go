package pieces_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/snapshot/rest/internal/resttest"
	"github.com/holdstill/holdstill/snapshot/rest/pieces"
)

// What an asset holds is nobody's business: it is in no answer, no log, and no snapshot's description, wherever the request
// goes wrong.
func TestNoSecrets(t *testing.T) {
	var log resttest.Log
	s := newServer(t, func(c *snapshot.Config, o *pieces.Options) {
		o.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		c.Logger = o.Logger
		o.Assets = func(_ context.Context, assets []pieces.Asset) ([]string, error) {
			if assets[0].ID == "a0" {
				return []string{"kv/a0/**"}, nil
			}
			return nil, errors.New("there is no such asset")
		}
	})
	for _, test := range []struct {
		path, body string
		code       int
	}{
		{"/backup/asset", `{"id":"a0","original":{"text":"hunter2"}}`, 204},
		{"/backup/asset", `{"id":"a1","original":{"text":"hunter2"}}`, 500},
		{"/backup/asset", `{"id":"","original":{"text":"hunter2"}}`, 400},
		{"/backup/asset", `{"id":["hunter2"]}`, 400},
		{"/backup/asset", `{"id":"a0","name":["hunter2"]}`, 400},
		{"/backup/asset", `{"id":"a0","original":{"text":"hunter2`, 400},
		{"/backup/asset", `"hunter2"`, 400},
		{"/backup", `{"iterable":[{"id":"a0"},{"original":"hunter2"}]}`, 400},
		{"/backup", `{"iterable":"hunter2"}`, 400},
		{"/backup", `{"iterable":["hunter2"]}`, 400},
		{"/backups/create", `["hunter2"]`, 400},
		{"/backups/create", `{"key":"hunter2"}`, 200},
		{"/backup/x/restore", `{"id":7,"key":"hunter2"}`, 400},
		{"/connect", `{"application":"hunter2"}`, 400},
		{"/connect", `{"application":{"name":"VIM","token":"hunter2"}}`, 200},
	} {
		r := s.send("POST", test.path, test.body, "X-Application-ID", "hunter2", "Authorization", "Bearer hunter2")
		if r.code != test.code || strings.Contains(r.body, "hunter2") {
			t.Errorf("%s %s: %d %s", test.path, test.body, r.code, r.body)
		}
	}
	for m, err := range s.engine.List(t.Context(), snapshot.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		for key, value := range m.Metadata {
			if strings.Contains(value, "hunter2") {
				t.Errorf("%s is %q", key, value)
			}
		}
	}
	if err := errors.Join(s.handler.Close(), s.engine.Close()); err != nil {
		t.Fatal(err)
	}
	if text := log.String(); strings.Contains(text, "hunter2") {
		t.Errorf("logged %s", text)
	}
}
