package pieces_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/snapshot/rest/pieces"
)

type contextBody struct {
	OS          string
	Application struct {
		ID, Name, Version, Platform, Privacy, Capabilities string
		Onboarded                                          bool
	}
	Health struct{ OS struct{ ID, Version string } }
}

// A client says what it is, and hears who the server is. What it is called by stays the same.
func TestConnect(t *testing.T) {
	s := newServer(t, nil)
	const body = `{"schema":{"migration":1},"application":{"name":"OPEN_SOURCE","version":"4.4.1","platform":"LINUX","capabilities":"LOCAL","automaticUnload":false}}`
	connect := func(body string) contextBody {
		t.Helper()
		return decode[contextBody](t, s.want(s.send("POST", "/connect", body), 200).body)
	}
	first := connect(body)
	uuid := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	if !uuid.MatchString(first.OS) || !uuid.MatchString(first.Application.ID) || first.OS == first.Application.ID {
		t.Errorf("%+v", first)
	}
	if first.Health.OS.ID != first.OS || first.Health.OS.Version != "11.0.1" {
		t.Errorf("%+v", first.Health)
	}
	app := first.Application
	if app.Name != "OPEN_SOURCE" || app.Version != "4.4.1" || app.Platform != "LINUX" || app.Capabilities != "LOCAL" || app.Privacy != "UNKNOWN" || !app.Onboarded {
		t.Errorf("%+v", app)
	}
	if diff := cmp.Diff(first, connect(body)); diff != "" {
		t.Error(diff)
	}
	if other := connect(`{"application":{"name":"VIM","version":"1","platform":"LINUX"}}`); other.OS != first.OS || other.Application.ID == app.ID {
		t.Errorf("%+v", other)
	}
	// Another Handler of the repository is the same server, another repository is another one.
	same := newServer(t, func(c *snapshot.Config, _ *pieces.Options) { c.Bucket, c.DatabaseVersion = s.bucket, "" })
	got := decode[contextBody](t, same.want(same.send("POST", "/connect", body), 200).body)
	if got.OS != first.OS || got.Application.ID != app.ID || got.Health.OS.Version != "0.0.0" {
		t.Errorf("%+v", got)
	}
	another := newServer(t, nil)
	if got := decode[contextBody](t, another.want(another.send("POST", "/connect", body), 200).body); got.OS == first.OS || got.Application.ID == app.ID {
		t.Errorf("%+v", got)
	}
	// Clients may leave out the body.
	for _, body := range []string{"", "null", "{}", `{"application":null}`} {
		if app := connect(body).Application; app.Name != "UNKNOWN" || app.Version != "0.0.0" || app.Platform != "UNKNOWN" {
			t.Errorf("%s: %+v", body, app)
		}
	}
	for _, body := range []string{`[]`, `{"application":[]}`, `{"application":{"name":7}}`, `{"application":{"version":"` + strings.Repeat("1", 257) + `"}}`} {
		s.want(s.send("POST", "/connect", body), 400)
	}
	if r := s.want(s.send("GET", "/.well-known/version", ""), 200); r.body != "11.0.1" || r.header.Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Errorf("%q %v", r.body, r.header)
	}
}
