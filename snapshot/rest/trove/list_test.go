package trove_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/holdstill/holdstill/snapshot/rest/trove"
)

const otherInstance = "5f2d9f0a-1c60-4c9a-9d5b-3a9a2d8f1b11"

// caller says who calls by the token: "admin", or the name of a project.
func caller(r *http.Request) (trove.Caller, error) {
	switch token := r.Header.Get("X-Auth-Token"); token {
	case "":
		return trove.Caller{}, fmt.Errorf("no token")
	case "admin":
		return trove.Caller{Project: "admins", Admin: true}, nil
	default:
		return trove.Caller{Project: token}, nil
	}
}

// as makes a request with a token.
func (f *fixture) as(token, method, path, body string) response {
	f.t.Helper()
	r, err := http.NewRequestWithContext(f.t.Context(), method, "http://trove.test"+path, strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("X-Auth-Token", token)
	}
	return f.serve(r)
}

// completedAs waits until a backup of a project is done.
func (f *fixture) completedAs(project, id string) {
	f.t.Helper()
	for {
		r := f.as("admin", "GET", "/v1.0/"+project+"/backups/"+id, "")
		got, _ := r.body["backup"].(map[string]any)
		switch got["status"] {
		case "COMPLETED":
			return
		case "NEW", "BUILDING":
			time.Sleep(2 * time.Millisecond)
		default:
			f.t.Fatal(r.raw)
		}
	}
}

func TestListPages(t *testing.T) {
	f := newFixture(t, func(o *trove.Options) { o.PageSize = 3 })
	for i := range 7 {
		f.completed(fmt.Sprintf("b%d", i), nil)
	}
	var pages []string
	path := "/v1.0/p1/backups?instance_id=" + instanceID
	for path != "" {
		r := f.must(http.StatusOK, "GET", path, nil)
		pages = append(pages, r.names())
		path = ""
		if links, ok := r.body["links"].([]any); ok {
			link := links[0].(map[string]any)
			next, err := url.Parse(link["href"].(string))
			if err != nil || link["rel"] != "next" || next.Scheme != "https" || next.Host != "trove.test" || next.Query().Get("instance_id") != instanceID {
				t.Fatalf("%v", links)
			}
			path = next.RequestURI()
		}
	}
	if got := strings.Join(pages, ", "); got != "b6 b5 b4, b3 b2 b1, b0" {
		t.Error(got)
	}
	for query, want := range map[string]string{
		"limit=2&marker=5": "b1 b0", "limit=2": "b6 b5", "marker=6": "b0", "marker=7": "", "marker=700": "", "limit=100": "b6 b5 b4 b3 b2 b1 b0",
		"limit=0": "b6 b5 b4",
	} {
		r := f.must(http.StatusOK, "GET", "/v1.0/p1/backups?"+query, nil)
		if got := r.names(); got != want {
			t.Errorf("%s: %s", query, got)
		}
		if _, more := r.body["links"]; more != (strings.Contains(query, "limit=2") && !strings.Contains(query, "marker") || query == "limit=0") {
			t.Errorf("%s: %v", query, r.body["links"])
		}
	}
	for _, query := range []string{"limit=x", "limit=-1", "marker=abc", "marker=-1", "marker=99999999999999999999"} {
		f.must(http.StatusBadRequest, "GET", "/v1.0/p1/backups?"+query, nil).message(t, "badRequest")
	}
}

// A backup that waited long for its moment was changed when it was complete, and not later.
func TestListOrder(t *testing.T) {
	f := newFixture(t, nil)
	hold := make(chan struct{})
	f.source.set(func(s *source) { s.hold = hold })
	id := f.create("slow", nil)
	f.poll("/v1.0/p1/backups/"+id, "backup", func(status string) bool { return status == "BUILDING" })
	time.Sleep(100 * time.Millisecond)
	f.source.set(func(s *source) { s.hold = nil })
	close(hold)
	if got := f.wait(id); got["status"] != "COMPLETED" {
		t.Fatal(got)
	}
	f.completed("quick", nil)
	if got := f.must(http.StatusOK, "GET", "/v1.0/p1/backups", nil).names(); got != "quick slow" {
		t.Errorf("listed are %s", got)
	}
}

func TestListFilters(t *testing.T) {
	redis := trove.Datastore{ID: "d0c4b4e0-0000-4000-8000-000000000002", Name: "redis", VersionID: "v", Version: "7"}
	f := newFixture(t, func(o *trove.Options) {
		o.Authenticate = caller
		o.Instances = append(o.Instances, trove.Instance{ID: otherInstance, Name: "cache", Project: "p1", Datastore: redis})
	})
	make := func(token, name, instance string) {
		r := f.as(token, "POST", "/v1.0/"+token+"/backups", fmt.Sprintf(`{"backup":{"name":%q,"instance":%q}}`, name, instance))
		if r.code != http.StatusAccepted {
			t.Fatal(r.raw)
		}
		id := r.body["backup"].(map[string]any)["id"].(string)
		f.completedAs(token, id)
	}
	make("p1", "one", instanceID)
	make("p1", "two", otherInstance)
	make("p2", "three", instanceID)
	// An instance of another project is not there.
	if r := f.as("p2", "POST", "/v1.0/p2/backups", `{"backup":{"name":"x","instance":"`+otherInstance+`"}}`); r.code != http.StatusNotFound {
		t.Error(r.raw)
	}
	for _, test := range []struct {
		token, path string
		code        int
		want        string
	}{
		{"p1", "/v1.0/p1/backups", 200, "two one"},
		{"p2", "/v1.0/p2/backups", 200, "three"},
		{"p1", "/v1.0/p1/backups?instance_id=" + instanceID, 200, "one"},
		{"p1", "/v1.0/p1/backups?instance_id=" + unknownID, 200, ""},
		{"p1", "/v1.0/p1/backups?datastore=redis", 200, "two"},
		{"p1", "/v1.0/p1/backups?datastore=" + mysql.ID, 200, "one"},
		{"p1", "/v1.0/p1/backups?datastore=mongo", 404, "Datastore 'mongo' cannot be found."},
		{"p1", "/v1.0/p1/backups?all_projects=True", 403, "Policy doesn't allow backup:index:all_projects to be performed."},
		{"p1", "/v1.0/p1/backups?all_projects=no", 200, "two one"},
		{"p1", "/v1.0/p1/backups?project_id=p1", 403, "Policy doesn't allow backup:index:all_projects to be performed."},
		{"admin", "/v1.0/admins/backups", 200, ""},
		{"admin", "/v1.0/admins/backups?all_projects=yes", 200, "three two one"},
		{"admin", "/v1.0/admins/backups?all_projects=True&project_id=p2", 200, "three"},
		{"admin", "/v1.0/admins/backups?project_id=p2", 200, "three"},
		{"admin", "/v1.0/admins/backups?project_id=nobody", 200, ""},
		{"p1", "/v1.0/p1/instances/" + instanceID + "/backups", 200, "one"},
		{"admin", "/v1.0/p1/instances/" + instanceID + "/backups?limit=1", 200, "three"},
		{"p1", "/v1.0/p1/instances/" + unknownID + "/backups", 200, ""},
		{"p2", "/v1.0/p1/backups", 403, "The project p1 is not that of the token."},
		{"", "/v1.0/p1/backups", 401, "The request needs a valid token in X-Auth-Token."},
	} {
		r := f.as(test.token, "GET", test.path, "")
		if r.code != test.code {
			t.Errorf("%s %s: %d %s", test.token, test.path, r.code, r.raw)
			continue
		}
		got := ""
		switch r.code {
		case 200:
			got = r.names()
		default:
			got = r.message(t, map[int]string{401: "unauthorized", 403: "forbidden", 404: "itemNotFound"}[r.code])
		}
		if got != test.want {
			t.Errorf("%s %s: %s", test.token, test.path, got)
		}
	}
	// Another project's backup may be neither seen nor deleted.
	id := f.as("p1", "GET", "/v1.0/p1/backups?limit=1", "").body["backups"].([]any)[0].(map[string]any)["id"].(string)
	for method, rule := range map[string]string{"GET": "backup:show", "DELETE": "backup:delete"} {
		r := f.as("p2", method, "/v1.0/p2/backups/"+id, "")
		if r.code != http.StatusForbidden || r.message(t, "forbidden") != "Policy doesn't allow "+rule+" to be performed." {
			t.Error(r.raw)
		}
	}
	if r := f.as("admin", "DELETE", "/v1.0/admins/backups/"+id, ""); r.code != http.StatusAccepted || r.raw != "" {
		t.Errorf("%d %s", r.code, r.raw)
	}
}

func TestRoutes(t *testing.T) {
	for _, base := range []string{"", "/database"} {
		f := newFixture(t, func(o *trove.Options) { o.BasePath = base })
		r := f.must(http.StatusOK, "GET", base+"/v1.0", nil)
		v := r.body["version"].(map[string]any)
		link := v["links"].([]any)[0].(map[string]any)
		if v["id"] != "v1.0" || v["status"] != "CURRENT" || v["updated"] != "2012-08-01T00:00:00Z" || link["href"] != "https://trove.test"+base+"/v1.0/" || link["rel"] != "self" {
			t.Error(r.raw)
		}
		f.must(http.StatusOK, "GET", base+"/v1.0/", nil)
		if r := f.must(http.StatusOK, "GET", base+"/", nil); len(r.body["versions"].([]any)) != 1 {
			t.Error(r.raw)
		}
		f.must(http.StatusOK, "GET", base+"/v1.0/p1/backups/", nil)
		r = f.must(http.StatusMethodNotAllowed, "PUT", base+"/v1.0/p1/backups", nil)
		r.message(t, "badMethod")
		if allow := r.header.Get("Allow"); allow != "GET, POST" {
			t.Error(allow)
		}
		for _, path := range []string{"/v2.0", "/v1.0/p1", "/v1.0/p1/nothing", "/v1.0/p1/backups/a/b"} {
			f.must(http.StatusNotFound, "GET", base+path, nil).message(t, "itemNotFound")
		}
		f.must(http.StatusBadRequest, "GET", base+"/v1.0/%ff/backups", nil).message(t, "badRequest")
		if err := f.handler.Close(); err != nil {
			t.Error(err)
		}
		f.must(http.StatusServiceUnavailable, "GET", base+"/v1.0/p1/backups", nil).message(t, "serviceUnavailable")
	}
}
