package pieces_test

import (
	"errors"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/snapshot/rest/pieces"
)

func TestTour(t *testing.T) {
	s := newServer(t, nil)
	if list := s.list(); len(list.Iterable) != 0 {
		t.Fatalf("%+v", list)
	}
	first := s.create()
	at, err := time.Parse(time.RFC3339, first.Timestamp)
	if err != nil || time.Since(at) > time.Hour || first.Created.Value != first.Timestamp || first.Bytes == 0 ||
		first.Version != "11.0.1" || first.DeviceName != "bench 3" || first.Platform == "" {
		t.Errorf("%+v, error %v", first, err)
	}
	s.source.set("a0/rows.json", "changed")
	second := s.create()
	want := backupsBody{Iterable: []backupBody{second, first}, Indices: map[string]int{second.ID: 0, first.ID: 1}}
	if diff := cmp.Diff(want, s.list()); diff != "" {
		// Within a second the order is that of the labels, which begin with the time.
		t.Error(diff)
	}
	for _, name := range []string{first.ID, first.name(), first.Version + "_" + at.Format("2006-01-02T15:04:05.000+00:00"), first.Version + "_" + at.Format("2006-01-02T15:04:05.000000")} {
		path := "/backup/" + url.PathEscape(name)
		if got := decode[backupBody](t, s.want(s.send("GET", path, ""), 200).body); got != first {
			t.Errorf("%s: %+v", name, got)
		}
		status := decode[statusBody](t, s.want(s.send("GET", path+"/creation/status", ""), 200).body)
		if status.Value != "COMPLETED" || status.Percentage != 100 || status.Backup != first {
			t.Errorf("%s: %+v", name, status)
		}
	}
	path := "/backup/" + first.ID
	s.want(s.send("GET", path+"/restoration/status", ""), 404)
	body := `{"id":"` + first.ID + `","version":"11.0.1","timestamp":"` + first.Timestamp + `","bytes":1,"created":{"value":"x"},"device_name":"d","platform":"LINUX"}`
	if got := decode[backupBody](t, s.want(s.send("POST", path+"/restore", body), 200).body); got != first {
		t.Errorf("%+v", got)
	}
	if got := s.restored("a0/rows.json"); !strings.Contains(got, "customer") || s.restored("present") != "none" {
		t.Errorf("restored %q", got)
	}
	status := decode[statusBody](t, s.want(s.send("GET", path+"/restoration/status", ""), 200).body)
	if status.Value != "COMPLETED" || status.Percentage != 100 {
		t.Errorf("%+v", status)
	}
	for _, what := range []string{"/creation/cancel", "/restoration/cancel"} {
		s.want(s.send("POST", path+what, ""), 500)
	}
	s.want(s.send("POST", "/backups/"+first.ID+"/delete", body), 204)
	for _, what := range []string{"", "/creation/status", "/restoration/status"} {
		want := 404
		if what == "" {
			want = 500
		}
		s.want(s.send("GET", path+what, ""), want)
	}
	s.want(s.send("POST", "/backups/"+first.ID+"/delete", ""), 500)
	if list := s.list(); len(list.Iterable) != 1 || list.Iterable[0] != second {
		t.Errorf("%+v", list)
	}
	s.want(s.send("POST", "/backup", ""), 204)
	if list := s.list(); len(list.Iterable) != 2 {
		t.Errorf("%+v", list)
	}
	if r := s.want(s.send("GET", "/.well-known/health", ""), 200); r.body != "ok\n" {
		t.Errorf("health: %q", r.body)
	}
	s.want(s.send("HEAD", "/.well-known/health", ""), 200)
}

// A snapshot that somebody else made is a backup as well.
func TestForeignSnapshot(t *testing.T) {
	s := newServer(t, nil)
	m, err := s.engine.Create(t.Context(), snapshot.CreateOptions{Label: "nightly"})
	if err != nil {
		t.Fatal(err)
	}
	list := s.list()
	b := list.Iterable[0]
	if b.ID != m.ID || b.Timestamp != m.Created.Format("2006-01-02T15:04:05.000Z") {
		t.Fatalf("%+v for %s", b, m.ID)
	}
	for _, name := range []string{b.ID, b.name()} {
		if got := decode[backupBody](t, s.want(s.send("GET", "/backup/"+url.PathEscape(name), ""), 200).body); got != b {
			t.Errorf("%s: %+v", name, got)
		}
	}
	// The ID of the snapshot names also a backup with another id.
	made := s.create()
	for m, err := range s.engine.List(t.Context(), snapshot.Filter{Label: made.ID}) {
		if err != nil {
			t.Fatal(err)
		}
		if got := decode[backupBody](t, s.want(s.send("GET", "/backup/"+m.ID, ""), 200).body); got != made {
			t.Errorf("%+v", got)
		}
	}
}

func TestRefused(t *testing.T) {
	s := newServer(t, func(_ *snapshot.Config, o *pieces.Options) { o.MaxBody = 1000 })
	b := s.create()
	other := s.create()
	long := strings.Repeat("x", 600)
	for _, test := range []struct {
		method, path, body string
		code               int
	}{
		{"GET", "/backup/" + url.PathEscape("../../etc/passwd"), "", 400},
		{"GET", "/backup/..%2F..%2Fsnapshot", "", 400},
		{"GET", "/backup/%2e%2e", "", 400},
		{"GET", "/backup/a%5Cb", "", 400},
		{"GET", "/backup/a%00b", "", 400},
		{"GET", "/backup/%ff", "", 400},
		{"GET", "/backup/" + long, "", 400},
		{"GET", "/backup/" + b.ID + "%2F", "", 400},
		{"GET", "/backup/unknown", "", 500},
		{"GET", "/backup/11.0.1_2020-01-01T00:00:00.000Z", "", 500},
		{"GET", "/backup/9.9.9_" + b.Timestamp, "", 500},
		{"GET", "/backup/unknown/creation/status", "", 404},
		{"GET", "/backup/%2e%2e/creation/status", "", 400},
		{"GET", "/backup/unknown/restoration/status", "", 404},
		{"GET", "/backup/unknown/restore/streamed/websocket", "", 500},
		{"POST", "/backup/..%2Fx/restore", "", 400},
		{"POST", "/backup/unknown/restore", "", 500},
		{"POST", "/backup/unknown/restore/streamed", "", 500},
		{"POST", "/backup/unknown/creation/cancel", "", 500},
		{"POST", "/backup/unknown/restoration/cancel", "", 500},
		{"POST", "/backups/unknown/delete", "", 500},
		{"POST", "/backups/..%2F/delete", "", 400},
		{"POST", "/backups/" + b.ID + "/delete", `{"id":"` + other.ID + `"}`, 400},
		{"POST", "/backup/" + b.ID + "/restore", `{"id":"` + other.ID + `"}`, 400},
		{"POST", "/backup/" + b.ID + "/restore", `{"id":7}`, 400},
		{"POST", "/backups/create", `[]`, 400},
		{"POST", "/backups/create", `{"a":`, 400},
		{"POST", "/backups/create", `{} {}`, 400},
		{"POST", "/backups/create/streamed", `"x"`, 400},
		{"POST", "/backups/create", `{"a":"` + strings.Repeat("x", 2000) + `"}`, 413},
		{"POST", "/backup", `{"iterable":[]}`, 400},
		{"POST", "/backup", `{"iterable":[{"name":"no id"}]}`, 400},
		{"POST", "/backup", `{"iterable":[{"id":"a1"}]}`, 500},
		{"POST", "/backup/asset", ``, 400},
		{"POST", "/backup/asset", `{"id":"a1"}`, 500},
		{"GET", "/elsewhere", "", 404},
		{"PUT", "/backups", "", 405},
		{"GET", "/backups/create", "", 405},
	} {
		if r := s.send(test.method, test.path, test.body); r.code != test.code {
			t.Errorf("%s %s %.50s: status %d, want %d: %s", test.method, test.path, test.body, r.code, test.code, r.body)
		}
	}
	if list := s.list(); len(list.Iterable) != 2 {
		t.Errorf("refused calls changed something: %+v", list)
	}
	if s.restored("present") != "as it is" {
		t.Error("a refused restore changed the data")
	}
}

func TestAuthorize(t *testing.T) {
	var asked []pieces.Action
	s := newServer(t, func(_ *snapshot.Config, o *pieces.Options) {
		o.Authorize = func(_ *http.Request, action pieces.Action) error {
			asked = append(asked, action)
			return errors.New("sign in first")
		}
	})
	want := map[string]pieces.Action{}
	for _, path := range []string{"GET /backups", "GET /backup/x", "GET /backup/x/creation/status", "GET /backup/x/restoration/status", "GET /backups/streamed/progress", "POST /connect", "GET /.well-known/version"} {
		want[path] = pieces.ActionRead
	}
	for _, path := range []string{"POST /backup", "POST /backup/asset", "POST /backups/create", "POST /backups/create/streamed", "GET /backups/create/streamed/websocket", "POST /backup/x/creation/cancel"} {
		want[path] = pieces.ActionCreate
	}
	for _, path := range []string{"POST /backup/x/restore", "POST /backup/x/restore/streamed", "GET /backup/x/restore/streamed/websocket", "POST /backup/x/restoration/cancel"} {
		want[path] = pieces.ActionRestore
	}
	want["POST /backups/x/delete"] = pieces.ActionDelete
	for call, action := range want {
		method, path, _ := strings.Cut(call, " ")
		asked = nil
		if r := s.want(s.send(method, path, ""), 511); r.body != "sign in first\n" {
			t.Errorf("%s: %q", call, r.body)
		}
		if len(asked) != 1 || asked[0] != action {
			t.Errorf("%s: asked for %v, want %s", call, asked, action)
		}
	}
	asked = nil
	s.want(s.send("GET", "/.well-known/health", ""), 200)
	s.want(s.send("GET", "/openapi.json", ""), 200)
	if asked != nil {
		t.Errorf("asked for %v", asked)
	}
}

// A page of another site makes its visitor's browser send a request to a server on the
// visitor's own machine. Its script is not to delete a backup, whatever it may read.
func TestOtherOrigin(t *testing.T) {
	s := newServer(t, func(_ *snapshot.Config, o *pieces.Options) { o.Origins = []string{"https://app.example.com"} })
	s.want(s.send("POST", "/backups/create", "", "Origin", "https://evil.example.com", "Sec-Fetch-Site", "cross-site"), 403)
	s.want(s.send("POST", "/backups/create", "", "Origin", "https://evil.example.com"), 403)
	if list := s.list(); len(list.Iterable) != 0 {
		t.Errorf("%+v", list)
	}
	s.want(s.send("POST", "/backups/create", "", "Origin", "https://app.example.com", "Sec-Fetch-Site", "cross-site"), 200)
	s.want(s.send("POST", "/backups/create", "", "Origin", s.url, "Sec-Fetch-Site", "same-origin"), 200)
}

func TestTooManyRequests(t *testing.T) {
	s := newServer(t, func(_ *snapshot.Config, o *pieces.Options) { o.MaxRequests = 1 })
	release := s.source.block()
	defer release()
	made := s.later("POST", "/backups/create", "")
	<-s.source.entered
	if r := s.want(s.send("GET", "/backups", ""), 503); r.header.Get("Retry-After") != "1" {
		t.Errorf("%v", r.header)
	}
	release()
	s.want(<-made, 200)
	s.want(s.send("GET", "/backups", ""), 200)
}

func TestBasePath(t *testing.T) {
	s := newServer(t, func(_ *snapshot.Config, o *pieces.Options) { o.BasePath = "/pieces/v1" })
	s.want(s.send("GET", "/pieces/v1/backups", ""), 200)
	s.want(s.send("GET", "/backups", ""), 404)
}

func TestBadOptions(t *testing.T) {
	s := newServer(t, nil)
	for name, o := range map[string]pieces.Options{
		"no slash":       {BasePath: "a"},
		"slash at end":   {BasePath: "/a/"},
		"wildcard":       {BasePath: "/{a}"},
		"negative body":  {MaxBody: -1},
		"bad platform":   {Platform: "BEOS"},
		"bad origin":     {Origins: []string{"app.example.com"}},
		"negative alive": {KeepAlive: -time.Second},
	} {
		if h, err := pieces.New(s.engine, o); !errors.Is(err, pieces.ErrOptions) || h != nil {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if _, err := pieces.New(nil, pieces.Options{}); !errors.Is(err, pieces.ErrOptions) {
		t.Error(err)
	}
}

// Without a place to restore to, restores are refused and all else works.
func TestNoRestore(t *testing.T) {
	s := newServer(t, func(_ *snapshot.Config, o *pieces.Options) { o.Restore = snapshot.RestoreOptions{} })
	b := s.create()
	for _, path := range []string{"/restore", "/restore/streamed"} {
		s.want(s.send("POST", "/backup/"+b.ID+path, ""), 500)
	}
}

// A creation that the end of the process cut off is told of after the restart.
func TestRestart(t *testing.T) {
	top := t.TempDir()
	configure := func(c *snapshot.Config, _ *pieces.Options) {
		c.Bucket, c.Repository = nil, "local:"+filepath.ToSlash(filepath.Join(top, "snapshots"))
	}
	s := newServer(t, configure)
	kept := s.create()
	release := s.source.block()
	defer release()
	cut := s.later("POST", "/backups/create", "")
	b := s.running()
	if err := s.engine.Close(); err != nil {
		t.Fatal(err)
	}
	s.want(<-cut, 500)

	again := newServer(t, configure)
	status := decode[statusBody](t, again.want(again.send("GET", "/backup/"+b.ID+"/creation/status", ""), 200).body)
	if status.Value != "FAILED" || status.Backup.ID != b.ID || status.Backup.Timestamp != b.Timestamp {
		t.Errorf("%+v", status)
	}
	again.want(again.send("GET", "/backup/"+b.ID, ""), 500)
	if list := again.list(); len(list.Iterable) != 1 || list.Iterable[0] != kept {
		t.Errorf("%+v", list)
	}
}
