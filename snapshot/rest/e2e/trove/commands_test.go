package trove

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// row is a line of a listing as the command prints it.
type row struct {
	ID, Name, Status string
	Instance         string  `json:"Instance ID"`
	Parent           *string `json:"Parent ID"`
	Project          string  `json:"Project ID"`
}

func names(rows []row) string {
	var out []string
	for _, r := range rows {
		out = append(out, r.Name)
	}
	return strings.Join(out, " ")
}

// The documented commands in order: "openstack database backup", "... backup strategy",
// and "openstack database instance create --backup" with the rows at the end.
func TestCommands(t *testing.T) {
	s := start(t, nil)
	if err := s.Fill(t.Context(), 500, 1); err != nil {
		t.Fatal(err)
	}
	before := s.rows()
	create := func(args ...string) backup {
		t.Helper()
		made := command[struct {
			ID       string
			Status   string
			Name     string
			Parent   *string `json:"parent_id"`
			Type     string  `json:"datastore"`
			Instance string  `json:"instance_id"`
		}](s, "p1", append([]string{"backup", "create"}, args...)...)
		if made.Status != "NEW" || made.Type != "pebble" || made.Instance != instanceID {
			t.Errorf("%+v", made)
		}
		s.completed("p1", made.ID)
		return backup{ID: made.ID, Name: made.Name, Parent: made.Parent}
	}
	full := create("full", "--instance", "orders", "--description", "all of it")
	if err := s.Fill(t.Context(), 50, 2); err != nil {
		t.Fatal(err)
	}
	last := create("last", "--instance", instanceID, "--incremental")
	given := create("given", "--instance", instanceID, "--parent", full.ID)
	if full.Parent != nil || last.Parent == nil || *last.Parent != full.ID || given.Parent == nil || *given.Parent != full.ID {
		t.Errorf("%+v, %+v, %+v", full, last, given)
	}

	for want, args := range map[string][]string{
		"given last full": {"backup", "list", "--instance", "orders", "--datastore", "pebble"},
		"given last":      {"backup", "list", "--limit", "2"},
		"last full":       {"backup", "list", "--marker", "1"},
	} {
		rows := command[[]row](s, "p1", args...)
		if got := names(rows); got != want {
			t.Errorf("%s lists %s", strings.Join(args, " "), got)
		}
		for _, r := range rows {
			if r.Status != "COMPLETED" || r.Instance != instanceID || r.Project != "p1" {
				t.Errorf("%+v", r)
			}
		}
	}
	if got := names(command[[]row](s, "admin", "backup", "list", "--all-projects")); got != "given last full" {
		t.Error(got)
	}
	if out, err := s.openstack("p2", "backup", "list", "--all-projects"); err == nil || !strings.Contains(err.Error(), "Policy doesn't allow backup:index:all_projects") {
		t.Errorf("%s, %v", out, err)
	}
	shown := command[map[string]any](s, "p1", "backup", "show", "full")
	if shown["id"] != full.ID || shown["description"] != "all of it" || shown["size"] != 0.01 || shown["datastore_version"] != "2.1" || shown["parent_id"] != nil {
		t.Errorf("%v", shown)
	}

	if out, err := s.openstack("p1", "backup", "strategy", "create", "--instance-id", instanceID, "--swift-container", "my_trove_backups"); err != nil {
		t.Errorf("%s, %v", out, err)
	}
	strategies := command[[]map[string]string](s, "p1", "backup", "strategy", "list")
	want := []map[string]string{{"Project ID": "p1", "Instance ID": instanceID, "Swift Container": "my_trove_backups"}}
	if diff := cmp.Diff(want, strategies); diff != "" {
		t.Error(diff)
	}
	if out, err := s.openstack("p1", "backup", "strategy", "delete", "--instance-id", instanceID); err != nil {
		t.Errorf("%s, %v", out, err)
	}

	made := command[map[string]any](s, "p1", "instance", "create", "again", "--flavor", "d2", "--size", "2", "--backup", "full")
	if status := s.wait("p1", "/instances/"+made["id"].(string), "instance", "BUILD"); made["status"] != "BUILD" || status != "ACTIVE" {
		t.Fatalf("%v, then %s", made, status)
	}
	if diff := cmp.Diff(before, s.rows()); diff != "" {
		t.Error(diff)
	}
	if rows := command[[]row](s, "p1", "instance", "list"); len(rows) != 2 {
		t.Errorf("%v", rows)
	}

	// By name, with what was made from it.
	if out, err := s.openstack("p1", "backup", "delete", "full"); err != nil {
		t.Errorf("%s, %v", out, err)
	}
	if rows := command[[]row](s, "p1", "backup", "list"); len(rows) != 0 {
		t.Errorf("%v", rows)
	}
	if out, err := s.openstack("p1", "backup", "delete", full.ID); err == nil || !strings.Contains(out+fmt.Sprint(err), full.ID) {
		t.Errorf("%s, %v", out, err)
	}
}
