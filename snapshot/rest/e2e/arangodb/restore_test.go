package arangodb_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/snapshot/rest/arangodb"
	"github.com/holdstill/holdstill/snapshot/rest/e2e/database"
)

// started is the moment of the last start, from what the command-line tool polls after a restore.
func (s *server) started() float64 {
	s.t.Helper()
	var stats struct {
		Time   float64
		Server struct{ Uptime float64 }
	}
	must(s.t, json.Unmarshal(s.send(http.MethodGet, "/_admin/statistics", "").raw, &stats))
	return stats.Time - stats.Server.Uptime
}

// TestRestoreOneAtATime holds a restore up in its Stop, and tries another one.
func TestRestoreOneAtATime(t *testing.T) {
	d := database.New(t, database.Options{})
	restore := d.RestoreOptions()
	held, let := make(chan struct{}), make(chan struct{})
	restore.Stop = func(ctx context.Context) error {
		close(held)
		<-let
		return d.Stop(ctx)
	}
	s := serve(t, d, arangodb.Options{Restore: &restore})
	before := s.fill(1)
	var made struct{ ID string }
	s.post("create", "").result(t, &made)
	s.fill(2)
	body := `{"id": "` + made.ID + `"}`
	first := s.started()
	s.expect([]expectation{{"restore", "POST", "restore", body, 200, 0}})
	<-held
	s.expect([]expectation{
		{"second restore", "POST", "restore", body, 409, 7011},
		{"not available", "GET", "/_admin/server/availability", "", 503, 503},
	})
	const clock = 1e-3 // what is lost where two floating-point numbers are subtracted
	if now := s.started(); now > first+clock {
		t.Errorf("started at %v before the restart, at %v before the restore", now, first)
	}
	close(let)
	s.available()
	if now := s.started(); now <= first+clock {
		t.Errorf("started at %v after the restart, at %v before", now, first)
	}
	if diff := cmp.Diff(before, s.rows()); diff != "" {
		t.Error(diff)
	}
}

// TestRestoreWait restores, and fails to restore, with the answer at the end.
func TestRestoreWait(t *testing.T) {
	d := database.New(t, database.Options{})
	restore := d.RestoreOptions()
	broken := false
	restore.Start = func(ctx context.Context) error {
		if broken {
			broken = false
			return errors.New("it will not open")
		}
		return d.Start(ctx)
	}
	s := serve(t, d, arangodb.Options{Restore: &restore, RestoreWait: true})
	before := s.fill(1)
	var made struct{ ID string }
	s.post("create", "").result(t, &made)
	after := s.fill(2)
	body := `{"id": "` + made.ID + `"}`
	broken = true
	s.expect([]expectation{{"fails", "POST", "restore", body, 500, 7002}, {"available", "GET", "/_admin/server/availability", "", 200, 0}})
	if diff := cmp.Diff(after, s.rows()); diff != "" {
		t.Error(diff)
	}
	var result struct{ Previous string }
	s.post("restore", body).result(t, &result)
	if result.Previous == "" || result.Previous == "FAILSAFE" || strings.Contains(result.Previous, "/") {
		t.Errorf("previous is %q", result.Previous)
	}
	if diff := cmp.Diff(before, s.rows()); diff != "" {
		t.Error(diff)
	}
}

// TestRestoreVersion restores a backup of a newer minor version.
func TestRestoreVersion(t *testing.T) {
	newer := database.New(t, database.Options{Version: "3.13.0"})
	must(t, newer.Fill(t.Context(), 10, 1))
	made, err := newer.Engine().Create(t.Context(), snapshot.CreateOptions{})
	must(t, err)
	job, err := newer.Engine().Upload(t.Context(), made.ID, "local:"+newer.Root()+"/far", snapshot.TransferOptions{})
	must(t, err)
	must(t, job.Wait(t.Context()))

	s := start(t, arangodb.Options{RestoreWait: true}, nil)
	job, err = s.Engine().Download(t.Context(), made.ID, "local:"+newer.Root()+"/far", snapshot.TransferOptions{})
	must(t, err)
	must(t, job.Wait(t.Context()))
	s.expect([]expectation{
		{"newer", "POST", "restore", `{"id": "` + made.ID + `"}`, 400, 10},
		{"newer, ignored", "POST", "restore", `{"id": "` + made.ID + `", "ignoreVersion": true}`, 200, 0},
	})
	if rows := s.rows(); len(rows) != 10 {
		t.Errorf("%d rows", len(rows))
	}
}

// TestRestoreTopology restores backups that cannot be this database.
func TestRestoreTopology(t *testing.T) {
	d := database.New(t, database.Options{})
	must(t, d.Fill(t.Context(), 10, 1))
	partial, err := d.Engine().Create(t.Context(), snapshot.CreateOptions{Skip: []string{"kv/*.sst"}})
	must(t, err)
	whole, err := d.Engine().Create(t.Context(), snapshot.CreateOptions{})
	must(t, err)
	s := serve(t, d, arangodb.Options{})
	s.expect([]expectation{{"partial", "POST", "restore", `{"id": "` + partial.ID + `"}`, 400, 7003}})
	other := d.RestoreOptions()
	other.Source = "meta"
	s = serve(t, d, arangodb.Options{Restore: &other})
	s.expect([]expectation{{"other source", "POST", "restore", `{"id": "` + whole.ID + `"}`, 400, 7003}})
	if rows := s.rows(); len(rows) != 10 {
		t.Errorf("%d rows", len(rows))
	}
}

// TestNoTarget restores with a handler that has nowhere to restore to.
func TestNoTarget(t *testing.T) {
	d := database.New(t, database.Options{})
	h, err := arangodb.New(d.Engine(), arangodb.Options{})
	must(t, err)
	defer h.Close()
	rec := newRecorder(h, http.MethodPost, "/_admin/backup/restore", `{"id": "a"}`)
	if rec.Code != http.StatusNotImplemented {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
}

// TestFailsafe restores twice: what the second one replaced is beside the database, as one folder, and is a
// database too. Nothing else is left, and no listing has it.
func TestFailsafe(t *testing.T) {
	s := start(t, arangodb.Options{RestoreWait: true}, nil)
	s.fill(1)
	var made struct{ ID string }
	s.post("create", "").result(t, &made)
	var last map[string]string
	var result struct{ Previous string }
	for seed := range 2 {
		last = s.fill(seed + 2)
		s.post("restore", `{"id": "`+made.ID+`"}`).result(t, &result)
	}
	kept, err := filepath.Glob(s.Dir() + ".*")
	must(t, err)
	if len(kept) != 1 || filepath.Base(kept[0]) != result.Previous {
		t.Fatalf("%q are kept, the answer was %q", kept, result.Previous)
	}
	if list := s.post("list", ""); strings.Count(string(list.raw), `"datetime"`) != 1 {
		t.Errorf("%s", list.raw)
	}
	must(t, s.Stop(t.Context()))
	if _, err := snapshot.Undo(t.Context(), s.Dir(), kept[0]); err != nil {
		t.Fatal(err)
	}
	must(t, s.Start(t.Context()))
	if diff := cmp.Diff(last, s.rows()); diff != "" {
		t.Error(diff)
	}
}
