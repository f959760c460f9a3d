// Package pieces_test lets the npm client of Pieces OS use a real database through the Handler of
// snapshot/rest/pieces. Every answer is compared with the Handler's OpenAPI document as well.
package pieces_test

import (
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"

	handler "github.com/holdstill/holdstill/snapshot/rest/pieces"
)

// The models as the client has them.
type backup struct {
	ID         string         `json:"id"`
	Version    string         `json:"version"`
	Timestamp  string         `json:"timestamp"`
	Bytes      int64          `json:"bytes"`
	Created    map[string]any `json:"created"`
	DeviceName string         `json:"deviceName,omitempty"`
	Platform   string         `json:"platform"`
}

// wire is the Backup as it is sent, for the client to read.
func (b *backup) wire() map[string]any {
	return map[string]any{
		"id": b.ID, "version": b.Version, "timestamp": b.Timestamp, "bytes": b.Bytes, "created": b.Created,
		"device_name": b.DeviceName, "platform": b.Platform,
	}
}

func (b *backup) name() string { return b.Version + "_" + b.Timestamp }

type backups struct {
	Iterable []backup
	Indices  map[string]int
}

type status struct {
	Backup     backup
	Value      string
	Percentage int
}

type progress struct {
	Status     string
	Percentage int
	Backup     *backup
}

type allProgress struct{ Backups, Restorations []progress }

// asset is an Asset as clients send it.
func asset(id string) map[string]any {
	at := map[string]any{"value": "2025-06-01T10:00:00.000Z"}
	return map[string]any{
		"id": id, "creator": "u1", "created": at, "updated": at, "mechanism": "MANUAL", "formats": map[string]any{"iterable": []any{}},
		"original": map[string]any{"id": "f1"}, "preview": map[string]any{"base": map[string]any{"id": "f1"}},
	}
}

// Create, list, poll, change the rows, restore, poll, read the rows, delete: with the client, which makes
// all the calls for backups that it has.
func TestClient(t *testing.T) {
	s := newServer(t)
	c := startClient(t, s.url)
	if err := s.db.Fill(t.Context(), 1000, 1); err != nil {
		t.Fatal(err)
	}
	before := s.rows(t)

	seed := map[string]any{"schema": map[string]any{"migration": 1, "semantic": "MAJOR_0_MINOR_0_PATCH_1"}}
	first := do[backup](c, "BackupsApi", "backupsCreateNewBackup", "seededBackup", seed)
	if at, err := time.Parse(time.RFC3339, first.Timestamp); err != nil || first.Version != "11.0.1" || first.Bytes == 0 || time.Since(at) > time.Hour || first.DeviceName == "" {
		t.Errorf("%+v, error %v", first, err)
	}
	if got := do[backup](c, "BackupApi", "backupSpecificBackupSnapshot", "backup", first.name()); !cmp.Equal(got, first) {
		t.Error(cmp.Diff(first, got))
	}
	if got := do[status](c, "BackupApi", "backupSpecificCreationStatus", "backup", first.ID); got.Value != "COMPLETED" || got.Percentage != 100 || got.Backup.ID != first.ID {
		t.Errorf("%+v", got)
	}
	c.refused(404, "BackupApi", "backupSpecificRestorationStatus", "backup", first.ID)

	if err := s.db.Fill(t.Context(), 400, 2); err != nil {
		t.Fatal(err)
	}
	between := s.rows(t)
	second := do[progress](c, "BackupsApi", "backupsCreateNewBackupStreamed", "seededBackup", seed)
	if second.Status != "COMPLETED" || second.Percentage != 100 || second.Backup == nil {
		t.Fatalf("%+v", second)
	}
	if got := do[progress](c, "BackupsApi", "backupsCreateNewBackupStreamedWebsocket"); got.Status != "COMPLETED" || got.Backup.ID != second.Backup.ID {
		t.Errorf("%+v", got)
	}
	list := do[backups](c, "BackupsApi", "backupsSnapshot")
	if len(list.Iterable) != 2 || list.Iterable[list.Indices[first.ID]].ID != first.ID || list.Iterable[list.Indices[second.Backup.ID]].ID != second.Backup.ID {
		t.Errorf("%+v", list)
	}

	if got := do[backup](c, "BackupApi", "backupRestoreSpecificBackup", "backup", first.name(), "backup2", first.wire()); got.ID != first.ID {
		t.Errorf("%+v", got)
	}
	if diff := cmp.Diff(before, s.rows(t)); diff != "" {
		t.Error(diff)
	}
	if got := do[status](c, "BackupApi", "backupSpecificRestorationStatus", "backup", first.ID); got.Value != "COMPLETED" || got.Percentage != 100 {
		t.Errorf("%+v", got)
	}
	streamed := do[progress](c, "BackupApi", "backupRestoreSpecificBackupStreamed", "backup", second.Backup.ID, "backup2", second.Backup.wire())
	if streamed.Status != "COMPLETED" || streamed.Backup == nil || streamed.Backup.ID != second.Backup.ID {
		t.Errorf("%+v", streamed)
	}
	if diff := cmp.Diff(between, s.rows(t)); diff != "" {
		t.Error(diff)
	}
	if got := do[progress](c, "BackupApi", "backupRestoreSpecificBackupStreamedWebsocket", "backup", second.Backup.ID); got.Status != "COMPLETED" {
		t.Errorf("%+v", got)
	}

	cancelCreation(t, s, c)
	cancelRestoration(t, s, c, &first)
	chosenAssets(t, s, c)

	do[any](c, "BackupsApi", "backupsDeleteSpecificBackup", "backup", first.name(), "backup2", first.wire())
	c.refused(500, "BackupApi", "backupSpecificBackupSnapshot", "backup", first.ID)
	c.refused(404, "BackupApi", "backupSpecificCreationStatus", "backup", first.name())
	// What is left can be restored, and the database works.
	do[backup](c, "BackupApi", "backupRestoreSpecificBackup", "backup", second.Backup.name())
	if err := s.db.Put(t.Context(), "row00000", "after"); err != nil {
		t.Fatal(err)
	}
	between["row00000"] = "after"
	if diff := cmp.Diff(between, s.rows(t)); diff != "" {
		t.Error(diff)
	}
	for _, id := range []string{"../../etc/passwd", "../", "a/b", `a\b`, first.ID + "/", "\x00"} {
		c.refused(400, "BackupApi", "backupSpecificBackupSnapshot", "backup", id)
		c.refused(400, "BackupApi", "backupRestoreSpecificBackup", "backup", id)
		c.refused(400, "BackupsApi", "backupsDeleteSpecificBackup", "backup", id)
		c.refused(400, "BackupApi", "backupSpecificCreationStatus", "backup", id)
	}
	c.checkAll()
}

// TestConnect does what programs do before their first call: look for the server, ask its version, and
// connect.
func TestConnect(t *testing.T) {
	s := newServer(t)
	c := startClient(t, s.url)
	if got := do[string](c, "WellKnownApi", "getWellKnownHealth"); strings.TrimSpace(got) != "ok" {
		t.Errorf("%q", got)
	}
	if got := do[string](c, "WellKnownApi", "getWellKnownVersion"); got != "11.0.1" {
		t.Errorf("%q", got)
	}
	type connection struct {
		OS          string
		Application struct {
			ID, Name, Version, Platform, Privacy string
			Onboarded                            bool
		}
		Health struct{ OS struct{ ID, Version string } }
	}
	seed := map[string]any{"application": map[string]any{"name": "VS_CODE", "version": "1.20.0", "platform": "MACOS", "privacy": "OPEN"}}
	got := do[connection](c, "ConnectorApi", "connect", "seededConnectorConnection", seed)
	app := got.Application
	if app.Name != "VS_CODE" || app.Version != "1.20.0" || app.Platform != "MACOS" || app.Privacy != "OPEN" || !app.Onboarded || app.ID == "" {
		t.Errorf("%+v", app)
	}
	if got.OS == "" || got.Health.OS.ID != got.OS || got.Health.OS.Version != "11.0.1" {
		t.Errorf("%+v", got)
	}
	if diff := cmp.Diff(got, do[connection](c, "ConnectorApi", "connect", "seededConnectorConnection", seed)); diff != "" {
		t.Error(diff)
	}
	if got := do[connection](c, "ConnectorApi", "connect"); got.Application.Name != "UNKNOWN" {
		t.Errorf("%+v", got)
	}
	if unseen := s.checker.Unseen(); slices.Contains(unseen, "POST /connect") || slices.Contains(unseen, "GET /.well-known/version") {
		t.Errorf("not seen by the checker: %s", unseen)
	}
}

// cancelCreation cancels a creation of which the client sees the progress.
func cancelCreation(t *testing.T, s *server, c *client) {
	before := do[backups](c, "BackupsApi", "backupsSnapshot")
	open := s.creating.close()
	defer open()
	made := c.begin("BackupsApi", "backupsCreateNewBackupStreamed")
	<-s.creating.waits
	all := do[allProgress](c, "BackupsApi", "backupsStreamedProgress")
	if len(all.Backups) != 1 || len(all.Restorations) != 0 || all.Backups[0].Status != "IN-PROGRESS" || all.Backups[0].Backup == nil {
		t.Fatalf("%+v", all)
	}
	b := all.Backups[0].Backup
	if got := do[status](c, "BackupApi", "backupSpecificCreationStatus", "backup", b.name()); got.Value != "IN-PROGRESS" || got.Backup.ID != b.ID {
		t.Errorf("%+v", got)
	}
	do[any](c, "BackupApi", "backupSpecificCreationCancel", "backup", b.ID)
	if got := string(c.end(made)); !strings.Contains(got, `"CANCELED"`) {
		t.Errorf("%s", got)
	}
	if got := do[status](c, "BackupApi", "backupSpecificCreationStatus", "backup", b.ID); got.Value != "CANCELED" {
		t.Errorf("%+v", got)
	}
	if diff := cmp.Diff(before, do[backups](c, "BackupsApi", "backupsSnapshot")); diff != "" {
		t.Error(diff)
	}
	c.refused(500, "BackupApi", "backupSpecificCreationCancel", "backup", b.ID)
}

// cancelRestoration cancels a restore: the rows stay what they were.
func cancelRestoration(t *testing.T, s *server, c *client, b *backup) {
	before := s.rows(t)
	open := s.stopping.close()
	defer open()
	restored := c.begin("BackupApi", "backupRestoreSpecificBackupStreamed", "backup", b.name(), "backup2", b.wire())
	<-s.stopping.waits
	all := do[allProgress](c, "BackupsApi", "backupsStreamedProgress")
	if len(all.Backups) != 0 || len(all.Restorations) != 1 || all.Restorations[0].Backup.ID != b.ID {
		t.Errorf("%+v", all)
	}
	if got := do[status](c, "BackupApi", "backupSpecificRestorationStatus", "backup", b.ID); got.Value != "IN-PROGRESS" {
		t.Errorf("%+v", got)
	}
	do[any](c, "BackupApi", "backupSpecificRestorationCancel", "backup", b.ID, "backup2", b.wire())
	if got := string(c.end(restored)); !strings.Contains(got, `"CANCELED"`) {
		t.Errorf("%s", got)
	}
	if got := do[status](c, "BackupApi", "backupSpecificRestorationStatus", "backup", b.ID); got.Value != "CANCELED" {
		t.Errorf("%+v", got)
	}
	if diff := cmp.Diff(before, s.rows(t)); diff != "" {
		t.Error(diff)
	}
	c.refused(500, "BackupApi", "backupSpecificRestorationCancel", "backup", b.ID, "backup2", b.wire())
}

// chosenAssets makes backups of some assets and of everything, and restores one of them.
func chosenAssets(t *testing.T, s *server, c *client) {
	before := do[backups](c, "BackupsApi", "backupsSnapshot")
	do[any](c, "BackupApi", "backupAsset", "asset", asset("a3"))
	do[any](c, "BackupApi", "backup", "assets", map[string]any{"iterable": []any{asset("a1"), asset("a2")}})
	do[any](c, "BackupApi", "backup")
	c.refused(500, "BackupApi", "backupAsset", "asset", asset("a4"))
	list := do[backups](c, "BackupsApi", "backupsSnapshot")
	if len(list.Iterable) != len(before.Iterable)+3 {
		t.Fatalf("%+v", list)
	}
	two := list.Iterable[1]
	do[backup](c, "BackupApi", "backupRestoreSpecificBackup", "backup", two.ID, "backup2", two.wire())
	want := map[string]string{"a1": "func main() {}", "a2": "select 1"}
	got := map[string]string{}
	entries, err := os.ReadDir(s.restoredAssets)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(s.restoredAssets, e.Name(), "text"))
		if err != nil {
			t.Fatal(err)
		}
		got[e.Name()] = string(text)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s", diff)
	}
	for _, b := range list.Iterable[:3] {
		do[any](c, "BackupsApi", "backupsDeleteSpecificBackup", "backup", b.ID)
	}
	if diff := cmp.Diff(before, do[backups](c, "BackupsApi", "backupsSnapshot")); diff != "" {
		t.Error(diff)
	}
}

// What the client cannot do: a creation and a restore over WebSockets.
func TestWebSocket(t *testing.T) {
	s := newServer(t)
	if err := s.db.Fill(t.Context(), 500, 3); err != nil {
		t.Fatal(err)
	}
	before := s.rows(t)
	last := watch(t, s, "/backups/create/streamed/websocket")
	id := between(last, `"backup":{"id":"`, `"`)
	if !strings.Contains(last, `"status":"COMPLETED"`) || id == "" {
		t.Fatal(last)
	}
	if err := s.db.Delete(t.Context(), slices.Collect(maps.Keys(before))[:100]...); err != nil {
		t.Fatal(err)
	}
	if last := watch(t, s, "/backup/"+id+"/restore/streamed/websocket"); !strings.Contains(last, `"status":"COMPLETED"`) {
		t.Error(last)
	}
	if diff := cmp.Diff(before, s.rows(t)); diff != "" {
		t.Error(diff)
	}
}

func between(text, before, after string) string {
	_, rest, _ := strings.Cut(text, before)
	found, _, _ := strings.Cut(rest, after)
	return found
}

// watch reads all messages of a WebSocket and returns the last one.
func watch(t *testing.T, s *server, path string) (last string) {
	t.Helper()
	conn, _, err := websocket.Dial(t.Context(), s.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	for {
		_, message, err := conn.Read(t.Context())
		if websocket.CloseStatus(err) == websocket.StatusNormalClosure {
			return last
		}
		if err != nil {
			t.Fatal(err)
		}
		last = string(message)
	}
}

// Each answer that the client does not provoke fits the document too.
func TestDocument(t *testing.T) {
	s := newServer(t)
	// One byte more than that: a server that refuses a body with more to come breaks off the connection on which the
	// client is still sending, and which of the two the client hears of first depends on the machine.
	const largest = handler.DefaultMaxBody
	for _, call := range []struct {
		method, path, body, accept string
		code                       int
	}{
		{"GET", "/.well-known/health", "", "", 200},
		{"HEAD", "/.well-known/health", "", "", 200},
		{"GET", "/openapi.json", "", "", 200},
		{"GET", "/backups/create/streamed/websocket", "", "", 200},
		{"POST", "/backups/create/streamed", "{}", "application/x-ndjson", 200},
		{"POST", "/backups/create/streamed", "{}", "text/event-stream", 200},
		{"GET", "/backups/streamed/progress", "", "text/event-stream", 200},
		{"GET", "/backups/streamed/progress", "", "application/x-ndjson", 200},
		{"POST", "/backups/create", "[]", "", 400},
		{"POST", "/backups/create", `{"a":"` + strings.Repeat("x", largest-len(`{"a":""}`)+1) + `"}`, "", 413},
		{"POST", "/backup/asset", "", "", 400},
		{"GET", "/backup/x/restore/streamed/websocket", "", "", 500},
		{"DELETE", "/backups", "", "", 405},
	} {
		r, err := http.NewRequestWithContext(t.Context(), call.method, s.url+call.path, strings.NewReader(call.body))
		if err != nil {
			t.Fatal(err)
		}
		if call.accept != "" {
			r.Header.Set("Accept", call.accept)
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil || answer.StatusCode != call.code {
			t.Errorf("%s %s: %s, error %v: %.200s", call.method, call.path, answer.Status, err, body)
		}
	}
}
