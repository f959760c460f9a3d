package trove

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The documented calls in order, by the library: backups full and incremental, listed, restored and
// deleted, with the rows at the end.
func TestLibrary(t *testing.T) {
	s := start(t, nil)
	if err := s.Fill(t.Context(), 2000, 1); err != nil {
		t.Fatal(err)
	}
	before := s.rows()

	first := get[backup](t, s.library("p1", call{"backups", "create", map[string]any{
		"name": "snapshot", "instance": instanceID, "description": "My Backup",
	}})[0])
	if first.Status != "NEW" || first.Name != "snapshot" || *first.Description != "My Backup" || first.Location != nil || first.Size != nil ||
		first.Parent != nil || *first.Instance != instanceID || first.Datastore["version_id"] != versionID {
		t.Errorf("%+v", first)
	}
	s.completed("p1", first.ID)
	if err := s.Fill(t.Context(), 300, 2); err != nil {
		t.Fatal(err)
	}
	after := s.rows()
	second := get[backup](t, s.library("p1", call{"backups", "create", map[string]any{
		"name": "Incremental Snapshot", "instance": instanceID, "parent_id": first.ID,
	}})[0])
	s.completed("p1", second.ID)
	third := get[backup](t, s.library("p1", call{"backups", "create", map[string]any{
		"name": "third", "instance": instanceID, "incremental": true, "swift_container": "c1",
	}})[0])
	s.completed("p1", third.ID)
	if second.Parent == nil || *second.Parent != first.ID || third.Parent == nil || *third.Parent != second.ID {
		t.Errorf("%+v, %+v", second, third)
	}

	results := s.library("p1",
		call{"backups", "get", map[string]any{"backup": first.ID}},
		call{"backups", "list", map[string]any{"limit": 2}},
		call{"backups", "list", map[string]any{"limit": 2, "marker": 2}},
		call{"backups", "list", map[string]any{"instance_id": instanceID, "datastore": "pebble"}},
		call{"backups", "list", map[string]any{"datastore": "mysql"}},
		call{"backups", "list", map[string]any{"all_projects": true}},
		call{"instances", "backups", map[string]any{"instance": instanceID}},
		call{"instances", "get", map[string]any{"instance": instanceID}},
		call{"instances", "list", nil},
		call{"backups", "find", map[string]any{"name": "third"}},
		call{"flavors", "list", nil},
		call{"flavors", "get", map[string]any{"flavor": "7"}},
	)
	one := get[backup](t, results[0])
	if one.Status != "COMPLETED" || one.Size == nil || *one.Size != 0.01 || one.Location == nil || !strings.HasPrefix(*one.Location, s.location+"/") {
		t.Errorf("%+v", one)
	}
	names := func(r result) string {
		var names []string
		page := get[list](t, r)
		for _, b := range page.Items {
			names = append(names, b.Name)
		}
		return strings.Join(names, ", ") + "|" + page.Next
	}
	for i, want := range map[int]string{
		1: "third, Incremental Snapshot|2", 2: "snapshot|", 3: "third, Incremental Snapshot, snapshot|", 6: "third, Incremental Snapshot, snapshot|",
	} {
		if got := names(results[i]); got != want {
			t.Errorf("call %d lists %s", i, got)
		}
	}
	if results[4].Code != 404 || results[4].Error != "Datastore 'mysql' cannot be found." {
		t.Errorf("%+v", results[4])
	}
	if results[5].Code != 403 || results[5].Error != "Policy doesn't allow backup:index:all_projects to be performed." {
		t.Errorf("%+v", results[5])
	}
	if got := get[backup](t, results[9]); got.ID != third.ID {
		t.Errorf("%+v", got)
	}

	for _, r := range results[10:] {
		if r.Error != "" {
			t.Errorf("%+v", r)
		}
	}

	// Forth and back again.
	for _, test := range []struct {
		id   string
		want map[string]string
	}{{first.ID, before}, {third.ID, after}, {first.ID, before}} {
		made := get[struct{ ID, Status string }](t, s.library("p1", call{"instances", "create", map[string]any{
			"name": "again", "flavor_id": "7", "volume": map[string]any{"size": 2}, "restorePoint": map[string]any{"backupRef": test.id},
		}})[0])
		if status := s.wait("p1", "/instances/"+made.ID, "instance", "BUILD"); made.Status != "BUILD" || status != "ACTIVE" {
			t.Fatalf("%s, then %s", made.Status, status)
		}
		if diff := cmp.Diff(test.want, s.rows()); diff != "" {
			t.Error(diff)
		}
	}

	results = s.library("p1",
		call{"backups", "delete", map[string]any{"backup": second.ID}},
		call{"backups", "list", nil},
		call{"backups", "get", map[string]any{"backup": third.ID}},
		call{"backups", "delete", map[string]any{"backup": third.ID}},
	)
	if got := names(results[1]); got != "snapshot|" {
		t.Error(got)
	}
	for _, r := range results[2:] {
		if r.Code != 404 || r.Error != "Resource "+third.ID+" cannot be found." {
			t.Errorf("%+v", r)
		}
	}
	s.admin(first.ID)
	s.others()
	if unseen := s.checker.Unseen(); len(unseen) > 0 {
		t.Errorf("no client has asked for %q", unseen)
	}
}

// admin makes the calls that need the admin role, and those of strategies.
func (s *server) admin(id string) {
	t := s.t
	t.Helper()
	results := s.library("admin",
		call{"backups", "list", map[string]any{"all_projects": true}},
		call{"backups", "list", map[string]any{"project_id": "p1"}},
		call{"backups", "list", nil},
		call{"backups", "get", map[string]any{"backup": id}},
	)
	for i, want := range []int{1, 1, 0} {
		if got := get[list](t, results[i]); len(got.Items) != want {
			t.Errorf("call %d: %+v", i, got)
		}
	}
	if got := get[backup](t, results[3]); got.Project != "p1" {
		t.Errorf("%+v", got)
	}
	strategy := map[string]string{"project_id": "p1", "instance_id": instanceID, "backend": "swift", "swift_container": "my_trove_backups"}
	results = s.library("p1",
		call{"backup_strategies", "create", map[string]any{"instance_id": instanceID, "swift_container": "my_trove_backups"}},
		call{"backup_strategies", "list", map[string]any{"instance_id": instanceID}},
		call{"backup_strategies", "list", map[string]any{"project_id": "p2"}},
		call{"backup_strategies", "delete", map[string]any{"instance_id": instanceID}},
		call{"backup_strategies", "list", nil},
	)
	if diff := cmp.Diff(strategy, get[map[string]string](t, results[0])); diff != "" {
		t.Error(diff)
	}
	type strategies struct{ Items []map[string]string }
	if diff := cmp.Diff([]map[string]string{strategy}, get[strategies](t, results[1]).Items); diff != "" {
		t.Error(diff)
	}
	if results[2].Code != 403 || len(get[strategies](t, results[4]).Items) != 0 {
		t.Errorf("%+v", results)
	}
}

// others asks for the routes that the library does not.
func (s *server) others() {
	for _, path := range []string{"/", "/v1.0", "/v1.0/openapi.json"} {
		resp, err := http.Get(s.url + path)
		if err != nil {
			s.t.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusOK {
			s.t.Errorf("%s: %d, %v", path, resp.StatusCode, err)
		}
	}
}

// A backup that one region stored is recorded in another, and restored to another database there.
func TestOtherRegion(t *testing.T) {
	there := start(t, nil)
	if err := there.Fill(t.Context(), 1000, 3); err != nil {
		t.Fatal(err)
	}
	far := get[backup](t, there.library("p1", call{"backups", "create", map[string]any{"name": "far", "instance": instanceID}})[0])
	there.completed("p1", far.ID)
	far = get[backup](t, there.library("p1", call{"backups", "get", map[string]any{"backup": far.ID}})[0])

	here := start(t, reachOthers)
	create := map[string]any{
		"name": "near", "instance": nil, "restore_from": *far.Location, "restore_ds_version": versionID, "restore_size": 0.14,
	}
	near := get[backup](t, here.library("p1", call{"backups", "create", create})[0])
	if near.Status != "RESTORED" || near.Instance != nil || *near.Size != 0.14 || *near.Location != *far.Location {
		t.Errorf("%+v", near)
	}
	create["restore_from"] = *far.Location + "x"
	results := here.library("p1",
		call{"backups", "create", create},
		call{"instances", "create", map[string]any{"name": "again", "flavor_id": "7", "restorePoint": map[string]any{"backupRef": near.ID}}},
	)
	if r := results[0]; r.Code != 400 || r.Error != "Failed to restore backup from "+*far.Location+"x" {
		t.Errorf("%+v", r)
	}
	made := get[struct{ ID string }](t, results[1])
	if status := here.wait("p1", "/instances/"+made.ID, "instance", "BUILD"); status != "ACTIVE" {
		t.Fatal(status)
	}
	if diff := cmp.Diff(there.rows(), here.rows()); diff != "" {
		t.Error(diff)
	}
}
