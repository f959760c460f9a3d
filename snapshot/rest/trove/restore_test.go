package trove_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/snapshot/rest/trove"
)

func restoreBody(id string) map[string]any {
	return map[string]any{"instance": map[string]any{
		"name": "again", "flavorRef": "http://x/flavors/7", "volume": map[string]any{"size": 2}, "restorePoint": map[string]any{"backupRef": id},
	}}
}

func TestRestore(t *testing.T) {
	dir := t.TempDir()
	var asked trove.RestoreRequest
	f := newFixture(t, func(o *trove.Options) {
		o.Restore = func(_ context.Context, r trove.RestoreRequest) (snapshot.RestoreOptions, error) {
			asked = r
			return snapshot.RestoreOptions{To: filepath.Join(dir, r.Instance), Source: "db"}, nil
		}
	})
	id := f.completed("one", nil)
	r := f.must(http.StatusOK, "POST", "/v1.0/p1/instances", restoreBody("https://host/backups/"+id))
	made := r.body["instance"].(map[string]any)
	instance := made["id"].(string)
	want := map[string]any{
		"id": instance, "name": "again", "status": "BUILD", "tenant_id": "p1", "created": made["created"], "updated": made["created"],
		"datastore": map[string]any{"type": "mysql", "version": "5.5"}, "flavor": map[string]any{"id": "7"}, "volume": map[string]any{"size": 2.0}, "links": []any{},
	}
	if diff := cmp.Diff(want, made); diff != "" {
		t.Error(diff)
	}
	if asked.Snapshot != ids(t, f.engine)[0] || asked.From != instanceID || asked.Backup != id || asked.Name != "again" || asked.Project != "p1" {
		t.Errorf("%+v", asked)
	}
	built := func(status string) bool { return status != "BUILD" }
	if got := f.poll("/v1.0/p1/instances/"+instance, "instance", built); got["status"] != "ACTIVE" {
		t.Errorf("%v", got)
	}
	data, err := os.ReadFile(filepath.Join(dir, instance, "rows"))
	if err != nil || string(data) != "id,name\n1,Ada\n2,Grace\n" {
		t.Errorf("%q, %v", data, err)
	}
	f.open()
	if got := f.must(http.StatusOK, "GET", "/v1.0/p1/instances", nil).body["instances"].([]any); len(got) != 2 {
		t.Errorf("%v", got)
	}
	f.must(http.StatusNotFound, "GET", "/v1.0/p2/instances/"+instance, nil)

	// A restore that fails is an instance in ERROR.
	f.opts.Restore = func(context.Context, trove.RestoreRequest) (snapshot.RestoreOptions, error) {
		return snapshot.RestoreOptions{To: filepath.Join(dir, instance)}, nil
	}
	f.open()
	bad := f.must(http.StatusOK, "POST", "/v1.0/p1/instances", restoreBody(id)).body["instance"].(map[string]any)["id"].(string)
	if got := f.poll("/v1.0/p1/instances/"+bad, "instance", built); got["status"] != "ERROR" {
		t.Errorf("%v", got)
	}
	f.opts.Restore = func(context.Context, trove.RestoreRequest) (snapshot.RestoreOptions, error) {
		return snapshot.RestoreOptions{}, errors.New("there is no room")
	}
	f.open()
	if m := f.must(http.StatusUnprocessableEntity, "POST", "/v1.0/p1/instances", restoreBody(id)).message(t, "unprocessableEntity"); !strings.HasSuffix(m, "there is no room") {
		t.Error(m)
	}
}

func TestRestoreRefuses(t *testing.T) {
	f := newFixture(t, nil)
	f.must(http.StatusNotImplemented, "POST", "/v1.0/p1/instances", restoreBody(unknownID)).message(t, "notImplemented")
	dir := t.TempDir()
	f.opts.Restore = func(_ context.Context, r trove.RestoreRequest) (snapshot.RestoreOptions, error) {
		return snapshot.RestoreOptions{To: filepath.Join(dir, "x")}, nil
	}
	f.open()
	f.must(http.StatusNotImplemented, "POST", "/v1.0/p1/instances", `{"instance":{"name":"x"}}`)
	f.must(http.StatusBadRequest, "POST", "/v1.0/p1/instances", `{"instance":{"name":"x","restorePoint":{"backupRef":"y"}}}`)
	f.must(http.StatusBadRequest, "POST", "/v1.0/p1/instances", `{"instance":{"restorePoint":{}}}`)
	f.must(http.StatusNotFound, "POST", "/v1.0/p1/instances", restoreBody(unknownID))
	hold := make(chan struct{})
	f.source.set(func(s *source) { s.hold = hold })
	id := f.create("held", nil)
	m := f.must(http.StatusConflict, "POST", "/v1.0/p1/instances", restoreBody(id)).message(t, "conflict")
	if !strings.HasPrefix(m, "Unable to create instance because backup "+id+" is not completed. Actual state: ") {
		t.Error(m)
	}
	close(hold)
	f.wait(id)
	small := restoreBody(id)
	small["instance"].(map[string]any)["volume"] = map[string]any{"size": 0.001}
	f.must(http.StatusBadRequest, "POST", "/v1.0/p1/instances", small)
	f.must(http.StatusNotFound, "POST", "/v1.0/p2/instances", restoreBody(id))
}

// A backup that another region has made is recorded here, and restored from there.
func TestOtherRegion(t *testing.T) {
	top := t.TempDir()
	there := filepath.Join(top, "there")
	engine, err := snapshot.Open(t.Context(), snapshot.Config{
		Repository: "local:" + filepath.ToSlash(there), Sources: map[string]snapshot.Source{"db": &source{files: sampleFiles()}},
	})
	if err != nil {
		t.Fatal(err)
	}
	location := "region2:" + filepath.ToSlash(there)
	theirs := &fixture{t: t, engine: engine, opts: trove.Options{Location: location, Instances: []trove.Instance{{ID: instanceID, Name: "orders"}}}}
	theirs.open()
	made := theirs.wait(theirs.create("far", nil))
	ref := made["locationRef"].(string)
	if err := engine.Close(); err != nil {
		t.Fatal(err)
	}

	f := newFixture(t, func(o *trove.Options) {
		o.Locations = repo.LocationConfig{"region2": {"type": "local"}}
		o.LocalPrefix = filepath.ToSlash(there)
		o.Restore = func(_ context.Context, r trove.RestoreRequest) (snapshot.RestoreOptions, error) {
			return snapshot.RestoreOptions{To: filepath.Join(top, r.Name), Source: "db"}, nil
		}
	})
	body := func(ref string) map[string]any {
		return map[string]any{"backup": map[string]any{"name": "near", "restore_from": map[string]any{
			"remote_location": ref, "local_datastore_version_id": versionID, "size": 0.14,
		}}}
	}
	got := f.must(http.StatusAccepted, "POST", "/v1.0/p1/backups", body(ref)).body["backup"].(map[string]any)
	id := got["id"].(string)
	want := map[string]any{
		"id": id, "name": "near", "description": nil, "instance_id": nil, "parent_id": nil, "status": "RESTORED", "size": 0.14,
		"locationRef": ref, "project_id": "p1", "storage_driver": "holdstill", "created": got["created"], "updated": got["created"],
		"datastore": map[string]any{"type": "mysql", "version": "5.5", "version_id": versionID},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	f.open()
	if got := f.wait(id); got["status"] != "RESTORED" {
		t.Errorf("%v", got)
	}
	for _, bad := range []string{ref + "x", location, location + "/", "region3:" + there + "/x", "local:" + there + "/x", "region2:" + filepath.ToSlash(top) + "/x"} {
		r := f.must(http.StatusBadRequest, "POST", "/v1.0/p1/backups", body(bad))
		if m := r.message(t, "badRequest"); m != "Failed to restore backup from "+bad {
			t.Error(m)
		}
	}
	// It is p1's there too, and not p2's.
	f.must(http.StatusBadRequest, "POST", "/v1.0/p2/backups", body(ref))

	instance := f.must(http.StatusOK, "POST", "/v1.0/p1/instances", restoreBody(id)).body["instance"].(map[string]any)["id"].(string)
	if got := f.poll("/v1.0/p1/instances/"+instance, "instance", func(s string) bool { return s != "BUILD" }); got["status"] != "ACTIVE" {
		t.Errorf("%v", got)
	}
	if data, err := os.ReadFile(filepath.Join(top, "again", "rows")); err != nil || string(data) != "far rows" {
		t.Errorf("%q, %v", data, err)
	}
	// Deleting the record leaves the data where it is.
	f.must(http.StatusAccepted, "DELETE", "/v1.0/p1/backups/"+id, nil)
	f.must(http.StatusAccepted, "POST", "/v1.0/p1/backups", body(ref))
	// Close ends what is under way, and waits for it.
	f.must(http.StatusAccepted, "POST", "/v1.0/p1/backups", body(ref))
	if err := f.handler.Close(); err != nil {
		t.Error(err)
	}
}

func TestFlavors(t *testing.T) {
	f := newFixture(t, nil)
	if got := f.must(http.StatusOK, "GET", "/v1.0/p1/flavors", nil).body["flavors"].([]any); len(got) != 1 {
		t.Errorf("%v", got)
	}
	if got := f.must(http.StatusOK, "GET", "/v1.0/p1/flavors/d2", nil).body["flavor"].(map[string]any); got["id"] != "d2" || got["name"] != "d2" {
		t.Errorf("%v", got)
	}
}
