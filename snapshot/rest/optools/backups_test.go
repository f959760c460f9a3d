package optools

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/snapshot/rest/internal/resttest"
)

// TestBackup makes a backup, looks at it and adds to it while it is made, and afterwards.
func TestBackup(t *testing.T) {
	f := newFixture(t, nil)
	blocked, release := make(chan struct{}), make(chan struct{})
	first := true
	f.store.OnRead = func(ctx context.Context, database, _ string) error {
		if first {
			first = false
			close(blocked)
			select {
			case <-release:
			case <-ctx.Done():
			}
		}
		return nil
	}
	id := "03_ibp_db_backup_1772600767891"
	want := map[string]any{"message": "in-progress", "id": id, "url": "http://localhost:3000/ak/api/v3/backups/" + id}
	if diff := cmp.Diff(want, f.call("POST", "/api/v2/backups", "", 202)); diff != "" {
		t.Error(diff)
	}
	<-blocked
	want = map[string]any{"statusCode": number(400), "message": "already_in_progress", "id": id}
	if diff := cmp.Diff(want, f.call("POST", "/ak/api/v1/backups", "{}", 400)); diff != "" {
		t.Error(diff)
	}
	f.call("PUT", "/ak/api/v3/backups/"+id+"/attachments/early", `{"attachment":"bub"}`, 200)
	doc := f.call("GET", "/ak/api/v3/backups/"+id, "", 200)
	want = map[string]any{
		"id": id, "backup_version": "1.0.0", "ibp_versions": map[string]any{"tag": "2.5.0-26"}, "doc_count": number(0),
		"dbs": map[string]any{}, "in_progress": true, "type": "athena_backup", "start_timestamp": number(1772600767891),
		"end_timestamp": number(0), "elapsed": number(0), "_attachments": map[string]any{"early": "YnVi"},
	}
	if diff := cmp.Diff(want, doc); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]any{"ids": []any{}}, f.call("GET", "/api/v1/backups", "", 200)); diff != "" {
		t.Error(diff)
	}
	close(release)
	f.wait()

	want = map[string]any{"message": "ok", "att_name": "my-attachment"}
	if diff := cmp.Diff(want, f.call("PUT", "/api/v2/backups/"+id+"/attachments/my-attachment", `{"attachment":"old"}`, 200)); diff != "" {
		t.Error(diff)
	}
	f.call("PUT", "/api/v2/backups/"+id+"/attachments/my-attachment", `{"attachment":"{\"test\":\"test\"}"}`, 200)
	f.call("PUT", "/api/v2/backups/"+id+"/attachments/na%2Fme%20%C3%A4", `{"attachment":""}`, 200)

	resp, text := f.send("GET", "/api/v3/backups/"+id, "")
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/json; charset=utf-8" {
		t.Error(resp.Status, resp.Header)
	}
	for _, order := range []string{`"athena_components".*"athena_sessions".*"athena_system"`, `"_id":"ca1","_rev":"1-1a","type"`, `"about":"<&>"`} {
		if !regexp.MustCompile(order).MatchString(text) {
			t.Errorf("there is no %s in %s", order, text)
		}
	}
	doc = decode(t, text)
	if !regexp.MustCompile(`^([0-9]+\.[0-9] (ms|secs)|0 secs)$`).MatchString(doc["elapsed"].(string)) {
		t.Error(doc["elapsed"])
	}
	at := number(1772600767891)
	database := func(sequence any, docs ...any) map[string]any {
		if docs == nil {
			docs = []any{}
		}
		return map[string]any{"start_timestamp": at, "finish_timestamp": at, "elapsed": "0 secs", "last_sequence": sequence, "docs": docs}
	}
	want = map[string]any{
		"id": id, "backup_version": "1.0.0", "ibp_versions": map[string]any{"tag": "2.5.0-26"}, "doc_count": number(4),
		"dbs": map[string]any{
			"athena_components": database("2-g1AAAA",
				map[string]any{"_id": "ca1", "_rev": "1-1a", "type": "fabric-ca"},
				map[string]any{"_id": "peer1", "_rev": "3-77", "type": "fabric-peer", "api_url": "grpcs://a.example.com:7051"}),
			"athena_sessions": database("3-g1AAAA"),
			"athena_system": database("5-g1AAAA",
				map[string]any{"_id": "00_settings_athena", "_rev": "9-1", "url_safe_list": []any{"a.example.com:7051"}, "about": "<&>"},
				map[string]any{"_id": "_design/athena-v1", "_rev": "1-2", "views": map[string]any{}}),
		},
		"in_progress": false, "type": "athena_backup", "start_timestamp": at,
		"_attachments": map[string]any{"early": "YnVi", "my-attachment": "eyJ0ZXN0IjoidGVzdCJ9", "na/me ä": ""},
	}
	if diff := cmp.Diff(want, f.without(doc, "elapsed", "end_timestamp")); diff != "" {
		t.Error(diff)
	}

	// A second one in the same millisecond has another ID.
	if second := f.backup(); second != "03_ibp_db_backup_1772600767892" {
		t.Error(second)
	}
	want = map[string]any{"ids": []any{id, "03_ibp_db_backup_1772600767892"}}
	if diff := cmp.Diff(want, f.call("GET", "/ak/api/v2/backups", "", 200)); diff != "" {
		t.Error(diff)
	}
}

// TestLargeBackup sends a backup of many documents, which does not fit into any buffer.
func TestLargeBackup(t *testing.T) {
	f := newFixture(t, nil)
	for i := range 5000 {
		h := uint64(i+1) * 0x9e3779b97f4a7c15
		f.store.Set("athena_sessions", fmt.Sprintf(`{"_id":"d%04d","a":"%x","text":"line\nline %s"}`, i, h, strings.Repeat("x", int(h>>56))))
	}
	doc := f.call("GET", "/api/v1/backups/"+f.backup(), "", 200)
	docs := doc["dbs"].(map[string]any)["athena_sessions"].(map[string]any)["docs"].([]any)
	if len(docs) != 5000 || doc["doc_count"] != number(5004) {
		t.Fatal(len(docs), doc["doc_count"])
	}
	for i, d := range docs {
		if got := d.(map[string]any)["_id"]; got != fmt.Sprintf("d%04d", i) {
			t.Fatalf("document %d is %v", i, got)
		}
	}
}

// TestTimeLimits sends a backup for longer than the server gives a request.
func TestTimeLimits(t *testing.T) {
	f := newFixture(t, nil)
	id := f.backup()
	w := resttest.NewLimited()
	f.handler.ServeHTTP(w, httptest.NewRequest("GET", "/api/v2/backups/"+id, nil))
	if read, _ := w.Passed(); read || decode(t, w.Body.String())["doc_count"] != number(4) {
		t.Errorf("%d %s, the limit to read has passed: %t", w.Code, w.Body, read)
	}
}

// TestFailedBackup has a backup fail: nothing is listed, and what was attached is gone.
func TestFailedBackup(t *testing.T) {
	f := newFixture(t, nil)
	blocked, release := make(chan struct{}), make(chan struct{})
	var reads atomic.Int64
	var mended atomic.Bool
	f.store.OnRead = func(context.Context, string, string) error {
		n := reads.Add(1)
		if n == 1 {
			close(blocked)
			<-release
		}
		if n > 7 && !mended.Load() {
			return errors.New("password hunter2 is wrong")
		}
		return nil
	}
	id := f.call("POST", "/api/v2/backups", "", 202)["id"].(string)
	<-blocked
	f.call("PUT", "/api/v2/backups/"+id+"/attachments/a", `{"attachment":"x"}`, 200)
	close(release)
	f.wait()
	doc := f.call("GET", "/api/v2/backups/"+id, "", 200)
	if doc["in_progress"] != false || doc["error"] != "the backup failed: other" || doc["_attachments"] != nil || doc["doc_count"] != number(0) {
		t.Error(doc)
	}
	if got := f.call("GET", "/api/v2/backups", "", 200)["ids"]; len(got.([]any)) != 0 {
		t.Error(got)
	}
	f.call("PUT", "/api/v2/backups/"+id+"/attachments/a", `{"attachment":"x"}`, 400)
	f.call("PUT", "/api/v2/backups/"+id, `{}`, 400)
	// The next one works.
	mended.Store(true)
	f.clock.add(time.Second)
	f.call("GET", "/api/v2/backups/"+f.backup(), "", 200)
}

// TestDatabaseLeftOut has one database fail when the backup begins.
func TestDatabaseLeftOut(t *testing.T) {
	f := newFixture(t, nil)
	f.store.OnRead = func(_ context.Context, database, _ string) error {
		if database == "athena_components" {
			return errors.New("password hunter2 is wrong")
		}
		return nil
	}
	doc := f.call("GET", "/api/v2/backups/"+f.backup(), "", 200)
	dbs := doc["dbs"].(map[string]any)
	if len(dbs) != 2 || dbs["athena_components"] != nil || doc["doc_count"] != number(2) || doc["in_progress"] != false {
		t.Error(doc)
	}
	if doc["error"] != "database athena_components could not be read and was left out" {
		t.Error(doc["error"])
	}
}

// TestLostBackup loses what a backup is made of, before it is sent and while it is.
func TestLostBackup(t *testing.T) {
	f := newFixture(t, nil)
	id := f.backup()
	d, err := f.handler.load(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	f.lose()
	f.server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.handler.sendDocument(&request{Request: r, w: w}, d)
	})
	resp, err := f.server.Client().Get(f.server.URL)
	if err == nil {
		text, err := io.ReadAll(resp.Body)
		if err == nil {
			t.Errorf("a part of the document counts as all of it: %s", text)
		}
		resp.Body.Close()
	}
	// A Handler of a later process, with nothing in memory.
	engine, err := snapshot.Open(t.Context(), snapshot.Config{Bucket: f.bucket, MustExist: true})
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	again, err := New(engine, Options{Source: "documents", Store: f.store})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	f.server.Config.Handler = again
	want := map[string]any{"statusCode": number(500), "message": "could not read the backup"}
	if diff := cmp.Diff(want, f.call("GET", "/api/v2/backups/"+id, "", 500)); diff != "" {
		t.Error(diff)
	}
	f.call("PUT", "/api/v2/backups/"+id, "", 500)
}

// TestOtherSnapshots has snapshots in the repository that are no backups.
func TestOtherSnapshots(t *testing.T) {
	f := newFixture(t, nil)
	s, err := f.engine.Create(t.Context(), snapshot.CreateOptions{Label: "nightly"})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"01", "03_ibp_db_backup_7x", "03_ibp_db_backup_08", "zz"} {
		if _, err := f.engine.Create(t.Context(), snapshot.CreateOptions{ID: id}); err != nil {
			t.Fatal(err)
		}
	}
	if got := f.call("GET", "/api/v2/backups", "", 200)["ids"]; len(got.([]any)) != 0 {
		t.Error(got)
	}
	if got := f.call("GET", "/api/v2/backups/"+f.backup(), "", 200)["doc_count"]; got != number(4) {
		t.Error(got)
	}
	if got := f.call("GET", "/api/v2/backups", "", 200)["ids"]; len(got.([]any)) != 1 {
		t.Error(got)
	}
	want := map[string]any{"statusCode": number(404), "error": "not_found", "reason": "missing"}
	for _, id := range []string{s.ID, "03_ibp_db_backup_5", "03_ibp_db_backup_05", "03_ibp_db_backup_", "asdf", "..%2Fx"} {
		if diff := cmp.Diff(want, f.call("GET", "/ak/api/v2/backups/"+id, "", 404)); diff != "" {
			t.Error(id, diff)
		}
	}
}

func TestAttachErrors(t *testing.T) {
	f := newFixture(t, nil)
	id := f.backup()
	missing := map[string]any{"statusCode": number(400), "message": "cannot append. error getting existing backup doc"}
	for _, id := range []string{"03_ibp_db_backup_7", "asdf"} {
		if diff := cmp.Diff(missing, f.call("PUT", "/api/v2/backups/"+id+"/attachments/a", `{"attachment":"x"}`, 400)); diff != "" {
			t.Error(diff)
		}
	}
	want := map[string]any{"statusCode": number(400), "error": "bad_request", "reason": "Attachment name '_a' starts with prohibited character '_'"}
	if diff := cmp.Diff(want, f.call("PUT", "/api/v2/backups/"+id+"/attachments/_a", `{"attachment":"x"}`, 400)); diff != "" {
		t.Error(diff)
	}
	f.call("PUT", "/api/v2/backups/"+id+"/attachments/"+strings.Repeat("%20", 200), `{"attachment":"x"}`, 400)
	f.call("PUT", "/api/v2/backups/"+id+"/attachments/"+strings.Repeat("%20", 100), `{"attachment":"x"}`, 200)
}

// TestRestartedHandler serves the backups of a Handler that is gone.
func TestRestartedHandler(t *testing.T) {
	f := newFixture(t, nil)
	id := f.backup()
	if err := f.handler.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := New(f.engine, Options{Source: "documents", Store: f.store})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	f.server.Config.Handler = again
	doc := f.call("GET", "/api/v2/backups/"+id, "", 200)
	if doc["doc_count"] != number(4) || !cmp.Equal(doc["ibp_versions"], map[string]any{"tag": "2.5.0-26"}) {
		t.Error(doc)
	}
	url := f.call("POST", "/api/v2/backups", "", http.StatusAccepted)["url"].(string)
	if !strings.HasPrefix(url, f.server.URL+"/ak/api/v3/backups/03_ibp_db_backup_") {
		t.Error(url)
	}
	b := again.latest
	<-b.job.Done()
}

func TestStoredNames(t *testing.T) {
	for _, name := range []string{"a", "my-attachment1", "ä", "a/b", ".hidden", "A b", strings.Repeat("x", 300), "名前"} {
		kept := storedName(name)
		if shownName(kept) != name || kept == name != (len(name) < 20 && name[0] < 128 && !strings.ContainsAny(name, "/ .")) {
			t.Errorf("%q is kept as %q and shown as %q", name, kept, shownName(kept))
		}
	}
}
