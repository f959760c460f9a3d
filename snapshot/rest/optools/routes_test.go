package optools

import (
	"encoding/json"
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// authorize returns an Authorize that returns what it is given at the time.
func authorize(caller *Caller, err *error) func(*http.Request, Action) (Caller, error) {
	return func(*http.Request, Action) (Caller, error) {
		if err != nil {
			return Caller{}, *err
		}
		return *caller, nil
	}
}

// TestRefused sends every request without a login, and with one that is not enough.
func TestRefused(t *testing.T) {
	refusal := ErrUnauthenticated
	f := newFixture(t, func(o *Options) {
		o.Authorize = authorize(nil, &refusal)
		o.InstanceID = "i-1"
	})
	for _, r := range Routes() {
		path := strings.NewReplacer("{version}", "v2", "{id}", "x", "{name}", "y").Replace(r.Path)
		open := r.Path == "/openapi.json" || r.Method == "POST" && r.Path == "/api/{version}/webhooks/txs/{id}"
		refusal = ErrUnauthenticated
		resp, text := f.send(r.Method, path, "")
		switch {
		case open:
			if resp.StatusCode != 200 {
				t.Error(r, resp.Status)
			}
			continue
		case strings.HasPrefix(path, "/ak"):
			if resp.StatusCode != 401 || text != "Unauthorized" || !strings.HasPrefix(resp.Header.Get("WWW-Authenticate"), "Basic realm=") {
				t.Error(r, resp.Status, text, resp.Header)
			}
		default:
			if resp.StatusCode != 401 || text != `{"error":"login to use this api"}` || resp.Header.Get("WWW-Authenticate") != "" {
				t.Error(r, resp.Status, text, resp.Header)
			}
		}
		refusal = errors.New("an error that says too much")
		action := "blockchain.optools.settings"
		if strings.Contains(path, "webhooks") {
			action = "blockchain.optools.view"
			if r.Method != "GET" {
				action = "blockchain.notifications.manage"
			}
		}
		got := f.call(r.Method, path, "not JSON", 403)
		if !regexp.MustCompile("^[0-9a-f]{32}$").MatchString(got["tx_id"].(string)) {
			t.Error(got)
		}
		want := map[string]any{
			"authorized": false, "error": "username/api key is not authorized for these action(s)",
			"attempted_actions": []any{action}, "iid": "i-1",
		}
		if diff := cmp.Diff(want, f.without(got, "tx_id")); diff != "" {
			t.Error(r, diff)
		}
	}
}

func TestValidation(t *testing.T) {
	f := newFixture(t, nil)
	id := f.backup()
	attachment := "/backups/" + id + "/attachments/a"
	problem := func(key, name string) any {
		return map[string]any{"key": key, "symbols": map[string]any{"$PROPERTY_NAME": name}}
	}
	missing, unknown := "Expected parameter 'attachment' to exist.", "Parameter 'invalid' is an unknown key for object."
	for _, test := range []struct {
		path, body string
		status     int
		msgs, raw  []any
	}{
		{"/api/v2" + attachment, `{"invalid":"x"}`, 400, []any{missing, unknown}, []any{problem("missing_required", "attachment"), problem("no_extra_keys", "invalid")}},
		{"/ak/api/v3" + attachment, `{"invalid":"x"}`, 400, []any{missing, unknown}, nil},
		{"/api/v3" + attachment, ``, 400, []any{missing}, []any{problem("missing_required", "attachment")}},
		{"/api/v2" + attachment, `{"attachment":7}`, 400, []any{"Expected parameter 'attachment' to be a string."}, []any{problem("invalid_data_type", "attachment")}},
		{"/ak/api/v2" + attachment, `{"attachment":null}`, 400, []any{"Expected parameter 'attachment' to be a string."}, nil},
		{"/api/v1" + attachment, `{"attachment":"x","invalid":1}`, 200, nil, nil},
		{"/ak/api/v2/backups/" + id, `{"dbs":{}}`, 400, []any{"Parameter 'dbs' is an unknown key for object."}, nil},
		{"/ak/api/v2/backups/" + id, `{"client_webhook_url":[]}`, 400, []any{"Expected parameter 'client_webhook_url' to be a string."}, nil},
	} {
		got := f.call("PUT", test.path, test.body, test.status)
		if test.status == 200 {
			continue
		}
		want := map[string]any{"statusCode": number(400), "msgs": test.msgs}
		if test.raw != nil {
			want["raw"] = test.raw
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(test.path, diff)
		}
	}
}

func TestBadBodies(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.MaxBody = 1000 })
	for _, body := range []string{`{`, `[]`, `7`, `"x"`, `{"a":1}{`, strings.Repeat(" ", 1001), `{"dbs":{"a":"` + strings.Repeat("x", 1000) + `"}}`} {
		for _, path := range []string{"/api/v1/backups", "/ak/api/v2/webhooks/txs"} {
			method := "PUT"
			if strings.HasSuffix(path, "txs") {
				method = "POST"
			}
			got := f.call(method, path, body, 400)
			if got["msg"] != "invalid json" || got["statusCode"] != number(400) || got["details"] == nil {
				t.Error(got)
			}
		}
	}
}

func TestUnknownRoutes(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.BasePath = "/console/" })
	want := map[string]any{"statusCode": number(404), "msg": "route not found"}
	for _, route := range []string{
		"GET /", "GET /api/v2/backups", "GET /console/api/v4/backups", "GET /console/api/backups", "DELETE /console/api/v2/backups/x",
		"GET /console/ak/v2/backups", "POST /console/api/v2/backups/x", "GET /console/api/v2/backups/x/attachments/y", "GET /console/api/v2/backups/x/y/",
	} {
		method, path, _ := strings.Cut(route, " ")
		if diff := cmp.Diff(want, f.call(method, path, "", 404)); diff != "" {
			t.Error(route, diff)
		}
	}
	if got := f.call("GET", "/console/api/v2/backups/", "", 200); got["ids"] == nil {
		t.Error(got)
	}
	if url := f.call("POST", "/console/api/v2/backups", "", 202)["url"].(string); !strings.HasPrefix(url, "http://localhost:3000/console/ak/api/v3/backups/") {
		t.Error(url)
	}
	f.wait()
}

func TestRateLimit(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.WritesPerMinute = 0 })
	for i := range DefaultWritesPerMinute {
		f.call("POST", "/api/v2/webhooks/txs", "", 200)
		if i == 0 {
			f.clock.add(30 * time.Second)
		}
	}
	resp, text := f.send("PUT", "/api/v2/backups", "")
	if resp.StatusCode != 429 || resp.Header.Get("Retry-After") != "31" || decode(t, text)["rate_limit"] != number(25) {
		t.Error(resp.Status, resp.Header, text)
	}
	f.call("GET", "/api/v2/backups", "", 200)
	f.clock.add(30 * time.Second)
	f.call("POST", "/api/v2/webhooks/txs", "", 200)
	f.call("POST", "/api/v2/webhooks/txs", "", 429)
	f.clock.add(30 * time.Second)
	f.call("POST", "/api/v2/webhooks/txs", "", 200)
}

// TestDocumentAndRoutes compares the OpenAPI document with what is served.
func TestDocumentAndRoutes(t *testing.T) {
	var doc struct {
		OpenAPI string `json:"openapi"`
		Paths   map[string]map[string]json.RawMessage
	}
	if err := json.Unmarshal(OpenAPI(), &doc); err != nil || doc.OpenAPI != "3.1.0" {
		t.Fatal(doc.OpenAPI, err)
	}
	var described, served []string
	for path, methods := range doc.Paths {
		for method := range methods {
			if method != "parameters" {
				described = append(described, strings.ToUpper(method)+" "+path)
			}
		}
	}
	f := newFixture(t, nil)
	for _, r := range Routes() {
		served = append(served, r.Method+" "+r.Path)
		for _, version := range []string{"v1", "v2", "v3"} {
			path := strings.NewReplacer("{version}", version, "{id}", "x", "{name}", "y").Replace(r.Path)
			rq, err := http.NewRequest(r.Method, path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, pattern := f.handler.mux.Handler(rq); pattern == "/" || pattern == "" {
				t.Errorf("%s %s is not served", r.Method, path)
			}
		}
	}
	slices.Sort(described)
	slices.Sort(served)
	if diff := cmp.Diff(described, served); diff != "" {
		t.Error(diff)
	}
	resp, text := f.send("GET", "/openapi.json", "")
	if resp.StatusCode != 200 || text != string(OpenAPI()) {
		t.Error(resp.Status)
	}
}

func TestOptions(t *testing.T) {
	f := newFixture(t, nil)
	for name, change := range map[string]func(*Options){
		"no source":          func(o *Options) { o.Source = "" },
		"no store":           func(o *Options) { o.Store = nil },
		"base path":          func(o *Options) { o.BasePath = "console" },
		"base path, pattern": func(o *Options) { o.BasePath = "/{x}" },
		"base URL":           func(o *Options) { o.BaseURL = "example.com" },
		"callback":           func(o *Options) { o.Callbacks = []string{"ftp://x/"} },
		"callback, user":     func(o *Options) { o.Callbacks = []string{"http://u:p@x/"} },
		"callback, network":  func(o *Options) { o.CallbackNetworks = []string{"http://u:p@x/"} },
	} {
		o := Options{Source: "documents", Store: f.store}
		change(&o)
		if _, err := New(f.engine, o); !errors.Is(err, ErrOptions) || strings.Contains(err.Error(), "u:p") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := New(nil, Options{Source: "documents", Store: f.store}); !errors.Is(err, ErrOptions) {
		t.Error(err)
	}
}

func TestFriendly(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 secs", -time.Second: "0 secs", time.Millisecond: "1.0 ms", time.Second: "1000.0 ms", 1001 * time.Millisecond: "1.0 secs",
		23769 * time.Millisecond: "23.8 secs", time.Minute: "60.0 secs", 61 * time.Second: "1.0 mins", time.Hour: "60.0 mins",
		90 * time.Minute: "1.5 hrs", 24 * time.Hour: "24.0 hrs", 36 * time.Hour: "1.5 days",
	} {
		if got := friendly(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
}
