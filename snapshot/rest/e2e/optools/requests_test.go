package optools_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/holdstill/holdstill/snapshot/rest/e2e/openapi"
	"github.com/holdstill/holdstill/snapshot/rest/optools"
)

// TestDocumentedRequests sends the requests of the documentation in order, and reads the rows in the end,
// after a restart. Each answer is compared with the OpenAPI document.
func TestDocumentedRequests(t *testing.T) {
	dir := t.TempDir()
	checker := openapi.New(t, optools.OpenAPI())
	s := newServer(t, dir, checker)
	s.seed()
	before := map[string]map[string]map[string]any{}
	for _, database := range databases {
		before[database] = s.store.rows(t, database)
	}

	// Start a backup, and get its document.
	started := s.call("POST", "/api/v2/backups", "", 202)
	id := started["id"].(string)
	if started["message"] != "in-progress" || started["url"] != s.URL+"/ak/api/v3/backups/"+id {
		t.Error(started)
	}
	doc := s.finished(id)
	if doc["doc_count"] != 404.0 {
		t.Errorf("%v documents", doc["doc_count"])
	}
	// Append to it.
	appended := s.call("PUT", "/ak/api/v2/backups/"+id+"/attachments/my-attachment1", `{"attachment":"bub"}`, 200)
	if diff := cmp.Diff(map[string]any{"message": "ok", "att_name": "my-attachment1"}, appended); diff != "" {
		t.Error(diff)
	}
	s.call("PUT", "/ak/api/v2/backups/"+id+"/attachments/my-attachment2", `{"attachment":"{\"test\":\"test\"}"}`, 200)
	doc = s.call("GET", "/api/v2/backups/"+id, "", 200)
	if diff := cmp.Diff(map[string]any{"my-attachment1": "YnVi", "my-attachment2": "eyJ0ZXN0IjoidGVzdCJ9"}, doc["_attachments"]); diff != "" {
		t.Error(diff)
	}
	// All IDs.
	if diff := cmp.Diff(map[string]any{"ids": []any{id}}, s.call("GET", "/ak/api/v2/backups", "", 200)); diff != "" {
		t.Error(diff)
	}

	// Restore by the backup's data, with a callback, without the settings.
	s.damage()
	doc["client_webhook_url"] = s.URL + "/callback/nboqur"
	body, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	answer := s.call("PUT", `/ak/api/v2/backups?skip_system=%5B%2200_settings_athena%22%5D`, string(body), 202)
	tx := s.restored(answer)
	if tx["status"] != "success" || tx["by"] != "k*y" || tx["ts_completed"] == nil {
		t.Error(tx)
	}
	var called map[string]any
	if err := json.Unmarshal([]byte(<-s.callbacks), &called); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(tx, called); diff != "" {
		t.Error(diff)
	}
	if got := s.store.rows(t, "athena_system")["00_settings_athena"]["port"]; got != "damaged" {
		t.Error("what was to be skipped was restored", got)
	}

	// Restore by the backup's ID, without a component, in the form of the documentation; then all of it.
	s.damage()
	s.restored(s.call("PUT", `/ak/api/v2/backups/`+id+`?skip_components="['peer007']"`, "{}", 202))
	if got := s.store.rows(t, "athena_components")["peer007"]; got["damaged"] != true {
		t.Error("what was to be skipped was restored", got)
	}
	s.restored(s.call("PUT", `/api/v1/backups/`+id, "", 202))

	s.webhookRequests(t, tx["tx_id"].(string))

	// Everything is there after a restart, and what came later too.
	s.close()
	s = newServer(t, dir, checker)
	defer s.close()
	before["athena_system"]["later"] = map[string]any{"_id": "later", "kept": true}
	for _, database := range databases {
		if diff := cmp.Diff(before[database], s.store.rows(t, database)); diff != "" {
			t.Error(database, diff)
		}
	}
	if diff := cmp.Diff(tx, s.call("GET", "/api/v2/webhooks/txs/"+tx["tx_id"].(string), "", 200)); diff != "" {
		t.Error(diff)
	}
	if again := s.call("GET", "/api/v2/backups/"+id, "", 200); again["doc_count"] != 404.0 || len(again["_attachments"].(map[string]any)) != 2 {
		t.Error(again["doc_count"], again["_attachments"])
	}

	s.refusals(t, id)
	s.remainingRoutes(id)
	if unseen := checker.Unseen(); len(unseen) > 0 {
		t.Errorf("no request reached %q", unseen)
	}
}

// damage changes and removes documents, and adds one.
func (s *server) damage() {
	s.t.Helper()
	docs := map[string][]json.RawMessage{"athena_system": {
		json.RawMessage(`{"_id":"00_settings_athena","port":"damaged"}`), json.RawMessage(`{"_id":"later","kept":true}`),
	}}
	for i := 0; i < 400; i += 7 {
		docs["athena_components"] = append(docs["athena_components"], json.RawMessage(fmt.Sprintf(`{"_id":"peer%03d","damaged":true}`, i)))
	}
	if err := s.store.write(s.t.Context(), docs); err != nil {
		s.t.Fatal(err)
	}
	for _, id := range []string{"peer001", "peer399"} {
		if err := s.store.remove(s.t.Context(), "athena_components", id); err != nil {
			s.t.Fatal(err)
		}
	}
}

// webhookRequests sends those of the transactions; restore is the ID of one that a restore made.
func (s *server) webhookRequests(t *testing.T, restore string) {
	t.Helper()
	for _, prefix := range []string{"/api/v1", "/ak/api/v2"} {
		if got := s.call("GET", prefix+"/webhooks/txs/"+restore, "", 200); got["sub_type"] != "backup_restore" {
			t.Error(got)
		}
		if got := s.call("GET", prefix+"/webhooks?limit=2&skip=1", "", 200); got["total"] != 3.0 || got["matches"] != 2.0 {
			t.Error(got)
		}
	}
	created := s.call("POST", "/api/v1/webhooks/txs", `{"description":"building a template","sub_type":"template","total_steps":3,"on_step":1}`, 200)
	id := created["tx_id"].(string)
	s.call("PUT", "/api/v1/webhooks/txs/"+id, `{"status":"success","athena_msg":"created a peer","on_step":2,"total_steps":3,"by":"d***a@example.com","original_template":{},
		"timeout_ms":60000,"note":"anything can go here","channel_work":{"added2consortium":["PeerOrg1"],"channels":{"defaultChannel":{}},"status":"success"}}`, 200)
	templates := s.call("GET", "/api/v1/webhooks/templates", "", 200)["template_webhooks"].([]any)
	if len(templates) != 1 || templates[0].(map[string]any)["message"] != "created a peer" {
		t.Error(templates)
	}
	s.call("POST", "/api/v1/webhooks/txs/"+id, `{"status":"success"}`, 200)
}

// refusals gets answers that are errors, so that these are compared with the document too.
func (s *server) refusals(t *testing.T, id string) {
	t.Helper()
	for _, test := range []struct {
		method, path, body string
		status             int
	}{
		{"GET", "/api/v2/backups/03_ibp_db_backup_1", "", 404},
		{"GET", "/ak/api/v2/webhooks/txs/none", "", 404},
		{"PUT", "/api/v2/backups/" + id + "/attachments/a", `{"invalid":"x"}`, 400},
		{"PUT", "/ak/api/v2/backups/" + id + "/attachments/a", `{"invalid":"x"}`, 400},
		{"PUT", "/ak/api/v2/backups/" + id + "/attachments/_a", `{"attachment":"x"}`, 400},
		{"PUT", "/ak/api/v2/backups/03_ibp_db_backup_1/attachments/a", `{"attachment":"x"}`, 400},
		{"PUT", "/ak/api/v2/backups/03_ibp_db_backup_1", `{}`, 400},
		{"PUT", "/ak/api/v2/backups", `{`, 400},
		{"PUT", "/ak/api/v2/backups", `{"client_webhook_url":"http://elsewhere/"}`, 400},
		{"PUT", "/api/v2/webhooks/txs/none", `{"status":"done"}`, 400},
		{"POST", "/api/v2/webhooks/txs", `{"tx_id":"same"}`, 200},
		{"POST", "/api/v2/webhooks/txs", `{"tx_id":"same"}`, 409},
		{"GET", "/api/v2/nothing", "", 404},
	} {
		s.call(test.method, test.path, test.body, test.status)
	}
	if code, text := s.sendAs("GET", "/ak/api/v3/backups", "", "nobody", "ada"); code != 401 || text != "Unauthorized" {
		t.Error(code, text)
	}
	if code, text := s.sendAs("GET", "/ak/api/v3/backups", "", "viewer", ""); code != 403 || !strings.Contains(text, `"blockchain.optools.settings"`) {
		t.Error(code, text)
	}
	if code, text := s.sendAs("GET", "/api/v3/backups", "", "", "eve"); code != 401 || text != `{"error":"login to use this api"}` {
		t.Error(code, text)
	}
}

// remainingRoutes reaches the routes that the documented requests left out on one of the two sides.
func (s *server) remainingRoutes(id string) {
	s.t.Helper()
	s.call("GET", "/openapi.json", "", 200)
	s.finished(s.call("POST", "/ak/api/v1/backups", "", 202)["id"].(string))
	s.call("GET", "/api/v3/backups", "", 200)
	s.restored(s.call("PUT", "/api/v3/backups", `{"dbs":{}}`, 202))
	s.restored(s.call("PUT", "/ak/api/v3/backups/"+id, "", 202))
	s.call("PUT", "/api/v3/backups/"+id+"/attachments/a", `{"attachment":"x"}`, 200)
	s.call("GET", "/ak/api/v3/webhooks/templates", "", 200)
	s.call("POST", "/ak/api/v3/webhooks/txs", `{"tx_id":"other"}`, 200)
	s.call("PUT", "/ak/api/v3/webhooks/txs/other", `{"status":"undoing"}`, 200)
	s.call("POST", "/ak/api/v3/webhooks/txs/other", "", 200)
	s.call("GET", "/api/v3/webhooks", "", 200)
}

// TestOneMoment makes backups while transactions write the same number to two databases: each backup shows
// one number, and attachments that are added meanwhile are kept.
func TestOneMoment(t *testing.T) {
	s := newServer(t, t.TempDir(), openapi.New(t, optools.OpenAPI()))
	defer s.close()
	s.seed()
	write := func(n int64) error {
		return s.store.write(t.Context(), map[string][]json.RawMessage{
			"athena_components": {json.RawMessage(fmt.Sprintf(`{"_id":"pair","n":%d}`, n))},
			"athena_system":     {json.RawMessage(fmt.Sprintf(`{"_id":"pair","n":%d}`, n))},
		})
	}
	if err := write(0); err != nil {
		t.Fatal(err)
	}
	var n atomic.Int64
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			if err := write(n.Add(1)); err != nil {
				done <- err
				return
			}
		}
	}()
	find := func(doc map[string]any, database string) float64 {
		db := doc["dbs"].(map[string]any)[database].(map[string]any)
		for _, d := range db["docs"].([]any) {
			if d := d.(map[string]any); d["_id"] == "pair" {
				return d["n"].(float64)
			}
		}
		t.Fatal("the document is not in ", database)
		return 0
	}
	for i := range 5 {
		low := n.Load()
		id := s.call("POST", "/ak/api/v3/backups", "", 202)["id"].(string)
		s.call("PUT", "/ak/api/v3/backups/"+id+"/attachments/during", `{"attachment":"bub"}`, 200)
		doc := s.finished(id)
		a, b := find(doc, "athena_components"), find(doc, "athena_system")
		if a != b || int64(a) < low-1 || int64(a) > n.Load() {
			t.Errorf("backup %d has %v and %v, made after %d was written", i, a, b, low)
		}
		if diff := cmp.Diff(map[string]any{"during": "YnVi"}, doc["_attachments"]); diff != "" {
			t.Error(diff)
		}
	}
	close(stop)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
