package trove_test

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/snapshot/rest/trove"
)

// The request of Trove's documentation, and its response field for field.
func TestCreateAsDocumented(t *testing.T) {
	f := newFixture(t, nil)
	hold := make(chan struct{})
	f.source.set(func(s *source) { s.hold = hold })
	r := f.must(http.StatusAccepted, "POST", "/v1.0/p1/backups", `{
		"backup": {
			"description": "My Backup",
			"incremental": 0,
			"instance": "44b277eb-39be-4921-be31-3d61b43651d7",
			"name": "snapshot"
		}
	}`)
	got := r.body["backup"].(map[string]any)
	id, created := got["id"].(string), got["created"]
	if ok, _ := regexp.MatchString(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d$`, fmt.Sprint(created)); !ok {
		t.Errorf("created is %v", created)
	}
	want := map[string]any{
		"created": created, "updated": created, "id": id, "name": "snapshot", "description": "My Backup",
		"datastore":   map[string]any{"type": "mysql", "version": "5.5", "version_id": versionID},
		"instance_id": instanceID, "locationRef": nil, "parent_id": nil, "size": nil, "status": "NEW",
		"project_id": "p1", "storage_driver": "holdstill",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	f.poll("/v1.0/p1/backups/"+id, "backup", func(status string) bool {
		if status != "NEW" && status != "BUILDING" {
			t.Fatalf("status %s while the source is held up", status)
		}
		return status == "BUILDING"
	})
	close(hold)
	got = f.wait(id)
	snapshots := ids(t, f.engine)
	if len(snapshots) != 1 {
		t.Fatal(snapshots)
	}
	want["status"], want["size"], want["locationRef"], want["updated"] = "COMPLETED", 0.01, "s3:backups/app/"+snapshots[0], got["updated"]
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if !strings.HasSuffix(snapshots[0], "_"+id) {
		t.Errorf("snapshot %s of backup %s", snapshots[0], id)
	}
	listed := f.must(http.StatusOK, "GET", "/v1.0/p1/backups", nil)
	if diff := cmp.Diff(map[string]any{"backups": []any{want}}, listed.body); diff != "" {
		t.Error(diff)
	}
}

func ids(t testing.TB, e *snapshot.Engine) []string {
	t.Helper()
	var out []string
	for s, err := range e.List(t.Context(), snapshot.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, s.ID)
	}
	return out
}

func TestFailedBackup(t *testing.T) {
	f := newFixture(t, nil)
	f.source.set(func(s *source) { s.err = errors.New("the disk is gone") })
	id := f.create("bad", nil)
	got := f.wait(id)
	if got["status"] != "FAILED" || got["size"] != nil || got["locationRef"] != nil {
		t.Errorf("%v", got)
	}
	f.open()
	if got := f.wait(id); got["status"] != "FAILED" {
		t.Errorf("after a restart: %v", got)
	}
	f.must(http.StatusAccepted, "DELETE", "/v1.0/p1/backups/"+id, nil)
	f.must(http.StatusNotFound, "GET", "/v1.0/p1/backups/"+id, nil)
}

func TestIncremental(t *testing.T) {
	f := newFixture(t, nil)
	parentOf := func(id string) any { return f.wait(id)["parent_id"] }
	alone := f.completed("alone", map[string]any{"incremental": 1})
	if p := parentOf(alone); p != nil {
		t.Errorf("the first has the parent %v", p)
	}
	f.source.set(func(s *source) { s.files = fstest.MapFS{"rows": {Data: []byte("1,Ada\n")}} })
	last := f.completed("last", map[string]any{"incremental": 1})
	full := f.completed("full", map[string]any{"incremental": 0})
	given := f.completed("given", map[string]any{"parent_id": strings.ToUpper(alone)})
	newest := f.completed("newest", map[string]any{"incremental": true})
	for _, test := range []struct {
		id   string
		want any
	}{{last, alone}, {full, nil}, {given, alone}, {newest, given}} {
		if p := parentOf(test.id); p != test.want {
			t.Errorf("the parent is %v, not %v", p, test.want)
		}
	}
	// The snapshots have it too.
	var parents int
	for s, err := range f.engine.List(t.Context(), snapshot.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		if (s.Parent == "") != (s.Metadata["trove.parent_id"] == "") {
			t.Errorf("snapshot %s has parent %q and metadata %v", s.ID, s.Parent, s.Metadata)
		}
		if s.Parent != "" {
			parents++
		}
	}
	if parents != 3 {
		t.Errorf("%d snapshots have a parent", parents)
	}
}

func TestParentThatIsNotThere(t *testing.T) {
	f := newFixture(t, nil)
	f.source.set(func(s *source) { s.err = errors.New("the disk is gone") })
	bad := f.create("bad", nil)
	f.wait(bad)
	r := f.must(http.StatusConflict, "POST", "/v1.0/p1/backups", map[string]any{"backup": map[string]any{"name": "x", "instance": instanceID, "parent_id": bad}})
	if m := r.message(t, "conflict"); !strings.Contains(m, bad) || !strings.Contains(m, "FAILED") {
		t.Error(m)
	}
	r = f.must(http.StatusNotFound, "POST", "/v1.0/p1/backups", map[string]any{"backup": map[string]any{"name": "x", "instance": instanceID, "parent_id": unknownID}})
	if m := r.message(t, "itemNotFound"); m != "Resource "+unknownID+" cannot be found." {
		t.Error(m)
	}
	// Another project's is not there.
	f.source.set(func(s *source) { s.err = nil })
	mine := f.completed("mine", nil)
	f.must(http.StatusNotFound, "POST", "/v1.0/p2/backups", map[string]any{"backup": map[string]any{"name": "x", "instance": instanceID, "parent_id": mine}})
}

func TestCreateRefuses(t *testing.T) {
	f := newFixture(t, nil)
	const pattern = `^.*[0-9a-zA-Z]+.*$`
	for _, test := range []struct {
		body      string
		code      int
		key, want string
	}{
		{`{"backup":{"name":"x"}}`, 400, "badRequest", "instance is missing."},
		{`{"backup":{"instance":"` + instanceID + `"}}`, 400, "badRequest", "Validation error: backup 'name' is a required property"},
		{`{"backup":{"name":"!!"}}`, 400, "badRequest", "Validation error: backup['name'] '!!' does not match '" + pattern + "'"},
		{`{"backup":{"name":""}}`, 400, "badRequest", "Validation error: backup['name'] '' is too short"},
		{`{"backup":{"name":7}}`, 400, "badRequest", "Validation error: backup['name'] 7 is not of type 'string'"},
		{`{"backup":{"name":"` + strings.Repeat("é", 255) + `x"}}`, 400, "badRequest", "is too long"},
		{`{"backup":{"name":"a","description":" "}}`, 400, "badRequest", "backup['description'] ' ' does not match"},
		{`{"backup":{"name":"a","instance":"db1"}}`, 400, "badRequest", "backup['instance'] 'db1' does not match '^([0-9a-fA-F]){8}-"},
		{`{"backup":{"name":"a","parent_id":"http://x/` + unknownID + `"}}`, 400, "badRequest", "backup['parent_id']"},
		{`{"backup":{"name":"a","incremental":2}}`, 400, "badRequest", "backup['incremental'] 2 is not one of"},
		{`{"backup":{"name":"a","restore_from":[]}}`, 400, "badRequest", "backup['restore_from'] [] is not of type 'object'"},
		{`{"backup":{"name":"a","restore_from":{"remote_location":"s3:x/y","size":"big"}}}`, 400, "badRequest", "backup['restore_from']['size'] 'big' is not of type 'number'"},
		{`{"backup":{"name":"a","restore_from":{"remote_location":"s3:x/y"}}}`, 404, "itemNotFound", "Datastore version '' cannot be found."},
		{`{"backup":{"name":"a","restore_from":{"remote_location":"s3:x/y","local_datastore_version_id":"` + versionID + `"}}}`, 400, "badRequest", "Failed to restore backup from s3:x/y"},
		{`{"backup":{"name":"a","instance":"` + unknownID + `"}}`, 404, "itemNotFound", "Resource " + unknownID + " cannot be found."},
		{`{"backup":[]}`, 400, "badRequest", "Validation error: 'backup' is a required property"},
		{`{}`, 400, "badRequest", "'backup' is a required property"},
		{`{"backup":{"name":"a"}} 1`, 400, "badRequest", "more than one"},
		{`{"backup":`, 400, "badRequest", "not JSON"},
		{`null`, 400, "badRequest", "'backup' is a required property"},
		{`{"backup":{"name":"` + strings.Repeat("a", 1<<20) + `"}}`, 413, "overLimit", "more than 1048576 bytes"},
	} {
		r := f.do("POST", "/v1.0/p1/backups", test.body)
		name := test.body[:min(len(test.body), 80)]
		if r.code != test.code {
			t.Errorf("%s: %d %s", name, r.code, r.raw)
			continue
		}
		if m := r.message(t, test.key); !strings.Contains(m, test.want) {
			t.Errorf("%s: %s", name, m)
		}
	}
	if r := f.must(http.StatusOK, "GET", "/v1.0/p1/backups", nil); len(r.body["backups"].([]any)) != 0 {
		t.Error(r.raw)
	}
	// What the schema does not know passes.
	f.create("extra", map[string]any{"something": map[string]any{"else": 1}, "instance": "https://host/v1.0/p1/instances/" + instanceID})
}

func TestMediaType(t *testing.T) {
	f := newFixture(t, nil)
	r, err := http.NewRequestWithContext(t.Context(), "POST", "http://trove.test/v1.0/p1/backups", strings.NewReader("<backup/>"))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/xml")
	if got := f.serve(r); got.code != http.StatusUnsupportedMediaType {
		t.Errorf("%d %s", got.code, got.raw)
	} else {
		got.message(t, "badMediaType")
	}
}

func TestQuota(t *testing.T) {
	f := newFixture(t, func(o *trove.Options) { o.Quota = 2 })
	one := f.completed("one", nil)
	f.completed("two", nil)
	r := f.must(http.StatusRequestEntityTooLarge, "POST", "/v1.0/p1/backups", map[string]any{"backup": map[string]any{"name": "three", "instance": instanceID}})
	if m := r.message(t, "overLimit"); m != "Quota exceeded for resources: ['backups']." {
		t.Error(m)
	}
	f.must(http.StatusAccepted, "POST", "/v1.0/p2/backups", map[string]any{"backup": map[string]any{"name": "other", "instance": instanceID}})
	f.must(http.StatusAccepted, "DELETE", "/v1.0/p1/backups/"+one, nil)
	f.completed("three", nil)
}

func TestDeleteCascades(t *testing.T) {
	f := newFixture(t, nil)
	root := f.completed("root", nil)
	child := f.completed("child", map[string]any{"parent_id": root})
	grandchild := f.completed("grandchild", map[string]any{"parent_id": child})
	f.completed("other", nil)
	f.must(http.StatusAccepted, "DELETE", "/v1.0/p1/backups/"+child, nil)
	for _, id := range []string{child, grandchild} {
		f.must(http.StatusNotFound, "GET", "/v1.0/p1/backups/"+id, nil)
	}
	if got := f.must(http.StatusOK, "GET", "/v1.0/p1/backups", nil).names(); got != "other root" {
		t.Error(got)
	}
	if n := len(ids(t, f.engine)); n != 2 {
		t.Errorf("%d snapshots", n)
	}
	r := f.must(http.StatusNotFound, "DELETE", "/v1.0/p1/backups/"+child, nil)
	if m := r.message(t, "itemNotFound"); m != "Resource "+child+" cannot be found." {
		t.Error(m)
	}
	f.open()
	if got := f.must(http.StatusOK, "GET", "/v1.0/p1/backups", nil).names(); got != "other root" {
		t.Errorf("after a restart: %s", got)
	}
}

// A backup that is running is not deleted, nor is what it was made from.
func TestDeleteOfRunning(t *testing.T) {
	f := newFixture(t, nil)
	root := f.completed("root", nil)
	hold := make(chan struct{})
	f.source.set(func(s *source) { s.hold = hold })
	child := f.create("child", map[string]any{"parent_id": root})
	for _, id := range []string{child, root} {
		r := f.must(http.StatusUnprocessableEntity, "DELETE", "/v1.0/p1/backups/"+id, nil)
		if m := r.message(t, "unprocessableEntity"); m != "Backup "+child+" cannot be deleted because it is running." {
			t.Error(m)
		}
	}
	close(hold)
	if got := f.wait(child); got["status"] != "COMPLETED" || got["parent_id"] != root {
		t.Errorf("%v", got)
	}
	f.must(http.StatusAccepted, "DELETE", "/v1.0/p1/backups/"+root, nil)
	if n := len(ids(t, f.engine)); n != 0 {
		t.Errorf("%d snapshots are left", n)
	}
}
