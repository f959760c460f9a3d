package trove_test

import (
	"context"
	"net/http"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"gocloud.dev/blob/memblob"

	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/snapshot/rest/trove"
)

// A handler goes on where the one before it stopped, with its records and without them.
func TestRestart(t *testing.T) {
	f := newFixture(t, nil)
	root := f.completed("root", map[string]any{"description": "all of it", "swift_container": "c1", "storage_driver": "cinder"})
	f.completed("child", map[string]any{"parent_id": root})
	before := f.must(http.StatusOK, "GET", "/v1.0/p1/backups", nil).body
	f.open()
	if diff := cmp.Diff(before, f.must(http.StatusOK, "GET", "/v1.0/p1/backups", nil).body); diff != "" {
		t.Error(diff)
	}
	f.opts.Records = nil
	f.open()
	after := f.must(http.StatusOK, "GET", "/v1.0/p1/backups", nil).body
	// A snapshot has the time of the cut alone, not those of the request and of the job's end.
	for _, b := range after["backups"].([]any) {
		if b := b.(map[string]any); b["updated"] != b["created"] {
			t.Errorf("updated %v, created %v", b["updated"], b["created"])
		}
	}
	for _, list := range []any{before["backups"], after["backups"]} {
		for _, b := range list.([]any) {
			delete(b.(map[string]any), "created")
			delete(b.(map[string]any), "updated")
		}
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("without the records: %s", diff)
	}
}

// What was under way when the process ended is FAILED, unless its snapshot is there.
func TestRestartWhileRunning(t *testing.T) {
	f := newFixture(t, nil)
	hold := make(chan struct{})
	f.source.set(func(s *source) { s.hold = hold })
	id := f.create("held", nil)
	// The same engine: it goes on.
	f.open()
	if got := f.must(http.StatusOK, "GET", "/v1.0/p1/backups/"+id, nil).body["backup"].(map[string]any); got["status"] != "NEW" && got["status"] != "BUILDING" {
		t.Errorf("%v", got)
	}
	close(hold)
	if got := f.wait(id); got["status"] != "COMPLETED" {
		t.Errorf("%v", got)
	}
	// A record that was kept before anybody knew how it ends.
	done, err := f.records.ReadAll(t.Context(), "backup/"+id+".json")
	if err != nil {
		t.Fatal(err)
	}
	running := `{"id":"` + id + `","name":"held","project":"p1","state":"NEW","instance":"` + instanceID +
		`","created":"2026-01-01T00:00:00Z","updated":"2026-01-01T00:00:00Z","repository":"` + f.engine.Repository().ID() + `","job":"999999"}`
	lost := `{"id":"` + unknownID + `","name":"lost","project":"p1","state":"BUILDING","created":"2026-01-01T00:00:00Z","updated":"2026-01-01T00:00:00Z"}`
	put := func(key, data string) {
		if err := f.records.WriteAll(t.Context(), key, []byte(data), nil); err != nil {
			t.Fatal(err)
		}
	}
	put("backup/"+id+".json", running)
	put("backup/"+unknownID+".json", lost)
	put("backup/"+otherInstance+".json", `{"id":`)
	put("backup/notes.txt", "not a record")
	f.open()
	if got := f.wait(id); got["status"] != "COMPLETED" || got["size"] != 0.01 {
		t.Errorf("%v; it was %s", got, done)
	}
	if got := f.wait(unknownID); got["status"] != "FAILED" || got["datastore"] != nil {
		t.Errorf("%v", got)
	}
	f.must(http.StatusNotFound, "GET", "/v1.0/p1/backups/"+otherInstance, nil)
}

// Snapshots that come and go by other means.
func TestOtherMeans(t *testing.T) {
	f := newFixture(t, nil)
	f.completed("one", nil)
	f.completed("two", nil)
	if err := f.engine.Delete(t.Context(), ids(t, f.engine)[0]); err != nil {
		t.Fatal(err)
	}
	if got := f.must(http.StatusOK, "GET", "/v1.0/p1/backups", nil).names(); got != "two" && got != "one" {
		t.Error(got)
	}
	plain, err := f.engine.Create(t.Context(), snapshot.CreateOptions{Label: "nightly", Description: "by the clock"})
	if err != nil {
		t.Fatal(err)
	}
	if got := len(f.must(http.StatusOK, "GET", "/v1.0/p1/backups", nil).body["backups"].([]any)); got != 1 {
		t.Errorf("%d backups, though nobody owns the new one", got)
	}
	f.opts.Project = "p1"
	f.open()
	list := f.must(http.StatusOK, "GET", "/v1.0/p1/backups", nil)
	var nightly map[string]any
	for _, b := range list.body["backups"].([]any) {
		if b := b.(map[string]any); b["name"] == "nightly" {
			nightly = b
		}
	}
	if nightly == nil || nightly["status"] != "COMPLETED" || nightly["instance_id"] != instanceID || nightly["description"] != "by the clock" ||
		nightly["locationRef"] != "s3:backups/app/"+plain.ID {
		t.Fatalf("%v", nightly)
	}
	id := nightly["id"].(string)
	f.open()
	f.must(http.StatusOK, "GET", "/v1.0/p1/backups/"+id, nil)
	f.must(http.StatusAccepted, "DELETE", "/v1.0/p1/backups/"+id, nil)
	if _, err := f.engine.Get(t.Context(), plain.ID); err == nil {
		t.Error("the snapshot is still there")
	}
}

// Two databases with an engine each, behind one handler.
func TestTwoEngines(t *testing.T) {
	bucket := memblob.OpenBucket(nil)
	t.Cleanup(func() { bucket.Close() })
	files := fstest.MapFS{"keys": {Data: []byte("a=1\nb=2\n")}}
	other, err := snapshot.Open(t.Context(), snapshot.Config{
		Bucket: bucket, Sources: map[string]snapshot.Source{"cache": &source{files: files}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { other.Close() })
	f := newFixture(t, func(o *trove.Options) {
		o.Instances = append(o.Instances, trove.Instance{ID: otherInstance, Name: "cache", Engine: other, Location: "s3:backups/cache"})
	})
	mine := f.completed("mine", nil)
	theirs := f.completed("theirs", map[string]any{"instance": otherInstance})
	got := f.wait(theirs)
	if len(ids(t, other)) != 1 || got["locationRef"] != "s3:backups/cache/"+ids(t, other)[0] {
		t.Errorf("%v", got)
	}
	r := f.must(http.StatusConflict, "POST", "/v1.0/p1/backups", map[string]any{"backup": map[string]any{"name": "x", "instance": otherInstance, "parent_id": mine}})
	r.message(t, "conflict")
	f.completed("next", map[string]any{"instance": otherInstance, "incremental": 1})
	f.must(http.StatusAccepted, "DELETE", "/v1.0/p1/backups/"+theirs, nil)
	if len(ids(t, other)) != 0 || len(ids(t, f.engine)) != 1 {
		t.Errorf("%v and %v are left", ids(t, other), ids(t, f.engine))
	}
}

func TestStrategies(t *testing.T) {
	f := newFixture(t, func(o *trove.Options) { o.Authenticate = caller })
	path := "/v1.0/p1/backup_strategies"
	post := func(body string) response { return f.as("p1", "POST", path, body) }
	r := post(`{"backup_strategy": {"instance_id": "` + instanceID + `", "swift_container": "my_trove_backups"}}`)
	want := map[string]any{"backend": "swift", "instance_id": instanceID, "project_id": "p1", "swift_container": "my_trove_backups"}
	if diff := cmp.Diff(map[string]any{"backup_strategy": want}, r.body); r.code != http.StatusAccepted || diff != "" {
		t.Errorf("%d %s", r.code, diff)
	}
	post(`{"backup_strategy": {"swift_container": "first"}}`)
	if r := post(`{"backup_strategy": {"swift_container": "everything", "instance_id": ""}}`); r.code != http.StatusAccepted {
		t.Error(r.raw)
	}
	project := map[string]any{"backend": "swift", "instance_id": "", "project_id": "p1", "swift_container": "everything"}
	f.open()
	for _, test := range []struct {
		token, query string
		code         int
		want         []any
	}{
		{"p1", "", 200, []any{project, want}},
		{"p1", "?instance_id=" + instanceID, 200, []any{want}},
		{"p1", "?project_id=p2", 403, nil},
		{"admin", "?project_id=p2", 200, []any{}},
		{"admin", "?project_id=p1", 200, []any{project, want}},
	} {
		r := f.as(test.token, "GET", path+test.query, "")
		if r.code != test.code {
			t.Errorf("%s: %d %s", test.query, r.code, r.raw)
		}
		if diff := cmp.Diff(test.want, r.body["backup_strategies"]); test.want != nil && diff != "" {
			t.Errorf("%s: %s", test.query, diff)
		}
	}
	for body, code := range map[string]int{
		`{"backup_strategy":{}}`: 400, `{"backup_strategy":{"swift_container":"."}}`: 400, `{"backup_strategy":{"swift_container":"a","instance_id":"x"}}`: 400,
		`{"backup_strategy":{"swift_container":"a","instance_id":"` + unknownID + `"}}`: 404,
	} {
		if r := post(body); r.code != code {
			t.Errorf("%s: %d %s", body, r.code, r.raw)
		}
	}
	// A backup goes by its instance's strategy, then by its project's.
	container := func(name string) string {
		r := f.as("p1", "POST", "/v1.0/p1/backups", `{"backup":{"name":"`+name+`","instance":"`+instanceID+`"}}`)
		id := r.body["backup"].(map[string]any)["id"].(string)
		f.completedAs("p1", id)
		for s, err := range f.engine.List(t.Context(), snapshot.Filter{Label: id}) {
			if err != nil {
				t.Fatal(err)
			}
			return s.Metadata["trove.swift_container"]
		}
		return ""
	}
	if got := container("one"); got != "my_trove_backups" {
		t.Error(got)
	}
	for range 2 {
		if r := f.as("p1", "DELETE", path+"?instance_id="+instanceID, ""); r.code != http.StatusAccepted || r.raw != "" {
			t.Errorf("%d %s", r.code, r.raw)
		}
	}
	if got := container("two"); got != "everything" {
		t.Error(got)
	}
	if r := f.as("p2", "DELETE", "/v1.0/p2/backup_strategies?project_id=p1", ""); r.code != http.StatusForbidden {
		t.Error(r.raw)
	}
	f.as("admin", "DELETE", "/v1.0/admins/backup_strategies?project_id=p1", "")
	if got := container("three"); got != "" {
		t.Error(got)
	}
}

// Nothing is begun when its record cannot be kept.
func TestRecordsThatFail(t *testing.T) {
	f := newFixture(t, nil)
	f.completed("one", nil)
	f.records.Close()
	r := f.must(http.StatusInternalServerError, "POST", "/v1.0/p1/backups", map[string]any{"backup": map[string]any{"name": "two", "instance": instanceID}})
	r.message(t, "instanceFault")
	if got := f.must(http.StatusOK, "GET", "/v1.0/p1/backups", nil).names(); got != "one" || len(ids(t, f.engine)) != 1 {
		t.Errorf("%s, snapshots %v", got, ids(t, f.engine))
	}
}

func TestEngineClosed(t *testing.T) {
	f := newFixture(t, nil)
	if err := f.engine.Close(); err != nil {
		t.Fatal(err)
	}
	f.must(http.StatusServiceUnavailable, "POST", "/v1.0/p1/backups", map[string]any{"backup": map[string]any{"name": "x", "instance": instanceID}})
}

func TestOptions(t *testing.T) {
	f := newFixture(t, nil)
	for _, opts := range []trove.Options{
		{BasePath: "database"}, {BasePath: "/database/"}, {PageSize: -1}, {MaxBody: -1},
		{Instances: []trove.Instance{{ID: "db1"}}}, {Instances: []trove.Instance{{ID: instanceID}, {ID: instanceID}}},
	} {
		if h, err := trove.New(t.Context(), f.engine, opts); err == nil {
			h.Close()
			t.Errorf("%+v is accepted", opts)
		}
	}
	h, err := trove.New(t.Context(), f.engine, trove.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	f.handler = h
	one := f.must(http.StatusOK, "GET", "/v1.0/p1/instances", nil).body["instances"].([]any)[0].(map[string]any)
	if one["name"] != "database" || len(one["id"].(string)) != 36 {
		t.Errorf("%v", one)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := trove.New(ctx, f.engine, trove.Options{}); err == nil {
		t.Error("a cancelled context made a handler")
	}
}
