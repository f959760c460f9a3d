package arangodb_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/holdstill/holdstill/snapshot/rest/arangodb"
)

// TestHead asks whether a server is there as load balancers do.
func TestHead(t *testing.T) {
	h := open(t, table{}, arangodb.Options{})
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	for path, want := range map[string]int{
		"/_admin/server/availability": 200, "/_api/version": 200, "/_admin/backup/list": 405, "/_api/job/1": 404,
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodHead, server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil || answer.StatusCode != want || len(body) != 0 {
			t.Errorf("%s: %s, body %q, error %v", path, answer.Status, body, err)
		}
	}
}

// TestOddRequests sends what no client should. The answer is always an error in the envelope, with the
// status in it, and nothing comes of it.
func TestOddRequests(t *testing.T) {
	h := open(t, table{}, arangodb.Options{MaxBodyBytes: 30_000})
	deep := strings.Repeat(`{"id":`, 5000) + "1" + strings.Repeat("}", 5000)
	const remote = `"remoteRepository":"local:/tmp","config":{"local":{"type":"local"}}`
	for _, test := range []struct {
		method, path, body string
		code, num          int
	}{
		{"POST", "create", `{`, 400, 600},
		{"POST", "create", `{}{}`, 400, 600},
		{"POST", "create", "\xff\xfe", 400, 600},
		{"POST", "create", `<html>`, 400, 600},
		{"POST", "create", `label=nightly`, 400, 600},
		{"POST", "create", `[]`, 400, 10},
		{"POST", "create", `"x"`, 400, 10},
		{"POST", "create", `null`, 400, 10},
		{"POST", "create", `{"label":7}`, 400, 10},
		{"POST", "create", `{"timeout":"10"}`, 400, 10},
		{"POST", "create", `{"timeout":-1}`, 400, 10},
		{"POST", "create", `{"timeout":1e999}`, 400, 10},
		{"POST", "create", `{"force":"yes"}`, 400, 10},
		{"POST", "create", `{"label":"` + strings.Repeat("x", 30_000) + `"}`, 413, 413},
		{"POST", "list", deep, 413, 413},
		{"POST", "list", `{"id":` + strings.Repeat("[", 12_000) + strings.Repeat("]", 12_000) + `}`, 400, 600},
		{"POST", "list", `{"id":{}}`, 400, 10},
		{"POST", "list", `{"id":[1]}`, 400, 10},
		{"POST", "list", `{"id":"` + strings.Repeat("x", 20_000) + `"}`, 404, 7007},
		{"POST", "list", `{"id":"../../etc/passwd"}`, 404, 7007},
		{"POST", "list", `{"id":""}`, 404, 7007},
		{"POST", "list", `{"id":["\u0000"]}`, 404, 7007},
		{"POST", "list", `{"id":"FAILSAFE"}`, 404, 7007},
		{"POST", "delete", ``, 400, 10},
		{"POST", "delete", `{"ID":"x"}`, 400, 10},
		{"POST", "delete", `{"id":null}`, 400, 10},
		{"POST", "delete", `{"id":["x"]}`, 400, 10},
		{"POST", "delete", `{"id":"..\\..\\x"}`, 404, 7007},
		{"POST", "delete", `{"id":"a/b"}`, 404, 7007},
		{"POST", "restore", `{"id":"x"}`, 501, 9},
		{"POST", "restore", `{"id":"x","ignoreVersion":1}`, 400, 10},
		{"POST", "upload", `{}`, 400, 10},
		{"POST", "upload", `{"id":"x"}`, 400, 10},
		{"POST", "upload", `{"id":"x",` + remote + `,"abort":true}`, 400, 10},
		{"POST", "upload", `{"uploadId":"../1"}`, 404, 14},
		{"POST", "upload", `{"uploadId":1.5}`, 404, 14},
		{"POST", "upload", `{"uploadId":true}`, 400, 10},
		{"POST", "upload", `{"uploadId":"` + strings.Repeat("9", 20_000) + `"}`, 404, 14},
		{"POST", "upload", `{"uploadId":"1","abort":"yes"}`, 400, 10},
		{"POST", "download", `{"id":"x","remoteRepository":7,"config":{}}`, 400, 10},
		{"POST", "download", `{"id":"x","remoteRepository":"","config":{}}`, 400, 7008},
		{"POST", "download", `{"id":"x","remoteRepository":"s3:x","config":7}`, 400, 7008},
		{"GET", "list", ``, 405, 405},
		{"OPTIONS", "list", ``, 405, 405},
		{"DELETE", "list/", ``, 405, 405},
		{"POST", "list//", ``, 400, 601},
		{"POST", "list/%2e%2e/create", ``, 400, 601},
		{"POST", "../backup/create/..", ``, 404, 404},
		{"POST", "list%00", ``, 404, 404},
	} {
		for _, kind := range []string{"", "application/json", "text/plain", "application/x-www-form-urlencoded"} {
			r := httptest.NewRequest(test.method, "/_admin/backup/"+test.path, strings.NewReader(test.body))
			r.Header.Set("Content-Type", kind)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			var got struct {
				Error          bool
				Code, ErrorNum int
				ErrorMessage   string
			}
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || !got.Error || got.ErrorMessage == "" {
				t.Errorf("%s %s %.60s: %v in %.200s", test.method, test.path, test.body, err, w.Body)
			}
			if w.Code != test.code || got.Code != test.code || got.ErrorNum != test.num || w.Body.Len() > 2000 {
				t.Errorf("%s %s %.60s: %d %.300s, want %d and %d", test.method, test.path, test.body, w.Code, w.Body, test.code, test.num)
			}
		}
	}
	// A client that goes away while it sends.
	r := httptest.NewRequest(http.MethodPost, "/_admin/backup/create", io.MultiReader(strings.NewReader(`{"label":`), iotest.ErrReader(io.ErrUnexpectedEOF)))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != http.StatusBadRequest {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := request(h, http.MethodPost, "/_admin/backup/list", "{}"); !strings.Contains(w.Body.String(), `"list":{}`) {
		t.Errorf("something was made: %s", w.Body)
	}
	// What nobody knows is ignored, as the original does.
	if w := request(h, http.MethodPost, "/_admin/backup/create", ` {"label":null,"timeout":null,"unknown":{"a":[1]}} `, "Content-Type", "text/plain"); w.Code != http.StatusCreated {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
