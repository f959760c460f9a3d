package optools

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/holdstill/holdstill/snapshot/rest/internal/resttest"
)

// TestNoSecrets has a secret in every part of a request that can be wrong. Documents hold private keys, and URLs of
// callbacks their passwords: they are in no log, and in no answer, the transaction's included.
func TestNoSecrets(t *testing.T) {
	var log resttest.Log
	refused := error(nil)
	f := newFixture(t, func(o *Options) {
		o.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		o.MaxBody = 5000
		o.Authorize = authorize(nil, &refused)
	})
	id := f.backup()
	for _, test := range []struct {
		method, path, body string
		status             int
	}{
		{"PUT", "/backups", `{"dbs":{"athena_system":{"docs":[{"_id":"a","key":"hunter2`, 400},
		{"PUT", "/backups", `["hunter2"]`, 400},
		{"PUT", "/backups", `"hunter2"`, 400},
		{"PUT", "/backups", `{"a":"hunter2` + strings.Repeat("x", 5000) + `"}`, 400},
		{"PUT", "/backups", `{"client_webhook_url":["hunter2"]}`, 400},
		{"PUT", "/backups", `{"client_webhook_url":"https://u:hunter2@example.com/"}`, 400},
		{"PUT", "/backups/" + id, `{"client_webhook_url":"https://example.com/?key=hunter2"}`, 400},
		{"PUT", "/backups/" + id, `{"client_webhook_url":{"a":"hunter2"}}`, 400},
		{"PUT", "/backups?skip_system=hunter2", `{}`, 400},
		{"PUT", "/backups/" + id + "/attachments/a", `{"attachment":["hunter2"]}`, 400},
		{"PUT", "/backups/03_ibp_db_backup_1/attachments/a", `{"attachment":"hunter2"}`, 400},
		{"POST", "/webhooks/txs", `{"tx_id":7,"athena_msg":"hunter2"}`, 400},
		{"POST", "/webhooks/txs", `{"client_webhook_url":"https://example.com/?key=hunter2"}`, 400},
		{"PUT", "/webhooks/txs/none", `{"status":"success","athena_msg":"hunter2"}`, 404},
		// These are answered before they fail.
		{"PUT", "/backups", `{"dbs":{"athena_system":{"docs":[{"key":"hunter2"}]}}}`, 202},
		{"PUT", "/backups", `{"dbs":{"athena_system":{"docs":["hunter2"]}}}`, 202},
		{"PUT", "/backups", `{"dbs":{"athena_system":{"docs":[{"_id":["hunter2"]}]}}}`, 202},
		{"PUT", "/backups", `{"dbs":{"athena_system":{"docs":"hunter2"}}}`, 202},
		{"PUT", "/backups", `{"dbs":{"athena_system":"hunter2"}}`, 202},
		{"PUT", "/backups", `{"dbs":"hunter2"}`, 202},
		{"PUT", "/backups", `{"dbs":{"DB_SYSTEM":{"compressed_docs":"hunter2"}}}`, 202},
		{"PUT", "/backups", `{"dbs":{"DB_SYSTEM":{"compressed_docs":["hunter2"]}}}`, 202},
	} {
		resp, text := f.send(test.method, "/api/v2"+test.path, test.body)
		if resp.StatusCode != test.status || strings.Contains(text, "hunter2") {
			t.Errorf("%.100s: %s %s", test.body, resp.Status, text)
		}
		if test.status != 202 {
			continue
		}
		tx := f.transaction(decode(t, text)["url"].(string))
		message, _ := tx["message"].(string)
		if tx["status"] != "error" || message == "" || strings.Contains(message, "hunter2") {
			t.Errorf("%s: %v", test.body, tx)
		}
	}
	refused = ErrUnauthenticated
	if resp, text := f.send("PUT", "/ak/api/v2/backups", `{"key":"hunter2"}`); resp.StatusCode != 401 || strings.Contains(text, "hunter2") {
		t.Error(resp.Status, text)
	}
	if err := f.handler.Close(); err != nil {
		t.Fatal(err)
	}
	if text := log.String(); strings.Contains(text, "hunter2") || !strings.Contains(text, "restore failed") {
		t.Errorf("logged %s", text)
	}
}
