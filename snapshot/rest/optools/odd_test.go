package optools

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

// TestOddRequests sends what no client should. All of it is refused in the original's words, and nothing comes of it.
func TestOddRequests(t *testing.T) {
	f := newFixture(t, nil)
	id := f.backup()
	long := strings.Repeat("x", 20_000)
	deep := `{"a":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + "}"
	missing := map[string]any{"statusCode": number(404), "error": "not_found", "reason": "missing"}
	unknown := map[string]any{"statusCode": number(404), "msg": "route not found"}
	noBackup := map[string]any{"statusCode": number(400), "message": "cannot append. error getting existing backup doc"}
	notLoaded := map[string]any{"statusCode": number(400), "message": "cannot restore, could not load backup doc."}
	for _, test := range []struct {
		method, path, body string
		want               map[string]any
	}{
		{"GET", "/backups/" + long, "", missing},
		{"GET", "/backups/..%2f..%2fetc%2fpasswd", "", missing},
		{"GET", "/backups/%2e%2e", "", missing},
		{"GET", "/backups/%00", "", missing},
		{"GET", "/backups/%ff", "", missing},
		{"GET", "/backups/" + id + "%2f", "", missing},
		{"GET", "/backups/03_ibp_db_backup_0" + strings.TrimPrefix(id, idPrefix), "", missing},
		{"GET", "/backups/03_ibp_db_backup_99999999999999999999", "", missing},
		{"GET", "/webhooks/txs/%2e%2e%2fx", "", missing},
		{"PUT", "/webhooks/txs/" + long, `{"status":"success"}`, missing},
		{"PUT", "/backups/%2e%2e%2f" + id, "{}", notLoaded},
		{"PUT", "/backups/" + long, "{}", notLoaded},
		{"PUT", "/backups/x/attachments/y", `{"attachment":"z"}`, noBackup},
		{"PUT", "/backups/%2e%2e/attachments/y", `{"attachment":"z"}`, noBackup},
		{"GET", "/backups/" + id + "/more", "", unknown},
		{"GET", "/backups/" + id + "/attachments/", "", unknown},
		{"OPTIONS", "/backups", "", unknown},
		{"PATCH", "/backups/" + id, "{}", unknown},
		{"DELETE", "/backups/" + id, "", unknown},
	} {
		got := f.call(test.method, "/api/v2"+test.path, test.body, int(mustInt(t, test.want["statusCode"])))
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s %.60s: %s", test.method, test.path, diff)
		}
	}
	for _, body := range []string{deep, "{\"a\":1}\x00", "<html>", "a=1"} {
		if got := f.call("PUT", "/api/v2/backups", body, 400); got["msg"] != "invalid json" {
			t.Errorf("%.40s: %v", body, got)
		}
	}
	// A client that goes away while it sends.
	w := httptest.NewRecorder()
	f.handler.ServeHTTP(w, httptest.NewRequest("PUT", "/api/v2/backups", io.MultiReader(strings.NewReader(`{"dbs":`), iotest.ErrReader(io.ErrUnexpectedEOF))))
	if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), "invalid json") {
		t.Error(w.Code, w.Body)
	}
	if got := f.call("GET", "/api/v2/webhooks", "", 200); got["total"] != number(0) {
		t.Error(got)
	}
	resp, text := f.send("HEAD", "/api/v2/backups/"+id, "")
	if resp.StatusCode != 200 || text != "" {
		t.Error(resp.Status, text)
	}
}

func mustInt(t *testing.T, v any) int64 {
	t.Helper()
	n, err := v.(json.Number).Int64()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestAtOnce has clients ask for the same thing at the same time: one of them gets it.
func TestAtOnce(t *testing.T) {
	f := newFixture(t, nil)
	id := f.backup()
	held, release := make(chan struct{}, 1), make(chan struct{})
	f.store.OnPut = func(context.Context, string, []json.RawMessage) error {
		select {
		case held <- struct{}{}:
		default:
		}
		<-release
		return nil
	}
	links := make(chan string, 8)
	var clients sync.WaitGroup
	for range cap(links) {
		clients.Go(func() {
			w := httptest.NewRecorder()
			f.handler.ServeHTTP(w, httptest.NewRequest("PUT", "/ak/api/v2/backups/"+id, nil))
			var got struct{ Message, URL string }
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
				t.Error(err)
			}
			switch {
			case w.Code == 202 && got.Message == "in-progress":
				links <- got.URL
			case w.Code == 400 && got.Message == "already_in_progress":
			default:
				t.Error(w.Code, w.Body)
			}
		})
	}
	clients.Wait()
	<-held
	close(release)
	close(links)
	if len(links) != 1 {
		t.Fatalf("%d restores began", len(links))
	}
	if tx := f.transaction(<-links); tx["status"] != "success" {
		t.Error(tx)
	}
}
