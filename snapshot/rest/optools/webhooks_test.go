package optools

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTransactions(t *testing.T) {
	f := newFixture(t, nil)
	created := f.call("POST", "/api/v1/webhooks/txs", `{"tx_id":"abcd","description":"hello","on_step":1,"total_steps":99,"athena_msg":"this is message","timeout_ms":10000,"sub_type":"Template","original_template":{"secret":1}}`, 200)
	if created["message"] != "ok" || created["tx_id"] != "abcd" {
		t.Error(created)
	}
	at := number(1772600767891)
	want := map[string]any{
		"athena_messages": []any{"this is message"}, "by": "-", "uuid": "-", "description": "hello", "message": "this is message", "on_step": number(1),
		"total_steps": number(99), "status": "pending", "sub_type": "template", "tx_id": "abcd", "ts_started": at, "ts_last_updated": at,
		"original_template": map[string]any{"secret": number(1)},
	}
	if diff := cmp.Diff(want, f.call("GET", "/ak/api/v1/webhooks/txs/abcd", "", 200)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]any{"template_webhooks": []any{want}}, f.call("GET", "/api/v2/webhooks/templates", "", 200)); diff != "" {
		t.Error(diff)
	}
	f.clock.add(2 * time.Second)
	edited := f.call("PUT", "/api/v1/webhooks/txs/abcd", `{"status":"Undoing","athena_msg":"made a peer","on_step":120,"by":"b","note":{"component_id":"x"},"timeout_ms":60000,
		"channel_work":{"status":"Waiting","channels":{"one":{"created":1}}}}`, 200)
	if diff := cmp.Diff(map[string]any{"message": "ok", "tx_id": "abcd"}, edited); diff != "" {
		t.Error(diff)
	}
	f.call("PUT", "/ak/api/v1/webhooks/txs/abcd", `{"status":"success","channel_work":{"added2consortium":["Org1"],"channels":{"two":{}}}}`, 200)
	want["status"], want["by"], want["on_step"], want["message"] = "success", "b", number(99), "made a peer"
	want["athena_messages"] = []any{"this is message", "made a peer"}
	want["ts_last_updated"], want["ts_completed"] = number(1772600769891), number(1772600769891)
	want["notes"] = []any{map[string]any{"component_id": "x"}}
	want["channel_work"] = map[string]any{
		"status": "waiting", "added2consortium": []any{"Org1"},
		"channels": map[string]any{"one": map[string]any{"created": number(1)}, "two": map[string]any{}},
	}
	if diff := cmp.Diff(want, f.call("GET", "/ak/api/v3/webhooks/txs/abcd", "", 200)); diff != "" {
		t.Error(diff)
	}
	// In the list of all, what belongs to the template is not shown.
	delete(want, "original_template")
	if diff := cmp.Diff([]any{want}, f.call("GET", "/ak/api/v3/webhooks", "", 200)["webhooks"]); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]any{"message": "ok"}, f.call("POST", "/api/v1/webhooks/txs/whatever", `{"a":1}`, 200)); diff != "" {
		t.Error(diff)
	}
}

func TestTransactionErrors(t *testing.T) {
	f := newFixture(t, nil)
	f.call("POST", "/api/v2/webhooks/txs", `{"tx_id":"abcd"}`, 200)
	for _, test := range []struct {
		method, path, body string
		status             int
		want               map[string]any
	}{
		{"GET", "/webhooks/txs/none", "", 404, map[string]any{"error": "not_found", "reason": "missing"}},
		{"PUT", "/webhooks/txs/none", `{"status":"success"}`, 404, map[string]any{"error": "not_found", "reason": "missing"}},
		{"PUT", "/webhooks/txs/abcd", `{"status":"done"}`, 400, map[string]any{"error": `not a valid value for status: "done"`, "valid": []any{"pending", "error", "success", "undoing"}}},
		{"PUT", "/webhooks/txs/abcd", `{}`, 400, map[string]any{"error": `not a valid value for status: ""`, "valid": []any{"pending", "error", "success", "undoing"}}},
		{"PUT", "/webhooks/txs/abcd", `{"status":"error","on_step":"x"}`, 400, map[string]any{"message": "a field has the wrong type: on_step"}},
		{"POST", "/webhooks/txs", `{"tx_id":"abcd"}`, 409, map[string]any{"error": "conflict", "reason": "Document update conflict."}},
		{"POST", "/webhooks/txs", `{"tx_id":"../abcd"}`, 400, map[string]any{"message": "a tx_id has 1 to 240 of the characters A-Z a-z 0-9 . - _"}},
		{"POST", "/webhooks/txs", `{"tx_id":7}`, 400, map[string]any{"message": "a field has the wrong type: tx_id"}},
		{"POST", "/webhooks/txs", `{"client_webhook_url":"http://x/"}`, 400, map[string]any{"message": "client_webhook_url is not among the URLs that this server may call"}},
		{"GET", "/webhooks?limit=-1", "", 400, map[string]any{"message": "limit and skip must be whole numbers, not negative"}},
		{"GET", "/webhooks?skip=x", "", 400, map[string]any{"message": "limit and skip must be whole numbers, not negative"}},
	} {
		test.want["statusCode"] = number(int64(test.status))
		if diff := cmp.Diff(test.want, f.call(test.method, "/api/v2"+test.path, test.body, test.status)); diff != "" {
			t.Error(test.method, test.path, diff)
		}
	}
	f.call("PUT", "/api/v2/webhooks/txs/abcd", `{"status":"error"}`, 200)
	if got := f.call("GET", "/api/v2/webhooks/txs/abcd", "", 200); got["message"] != "no error message was given" {
		t.Error(got)
	}
	// A step that is far out does not make a list as long.
	f.call("PUT", "/api/v2/webhooks/txs/abcd", `{"status":"pending","on_step":1000000000000}`, 200)
	f.call("PUT", "/api/v2/webhooks/txs/abcd", `{"status":"pending","athena_msg":"x"}`, 200)
	if got := f.call("GET", "/api/v2/webhooks/txs/abcd", "", 200)["athena_messages"].([]any); len(got) != maxStep+1 {
		t.Error(len(got))
	}
}

func TestListOrder(t *testing.T) {
	f := newFixture(t, nil)
	for i := range 6 {
		f.call("POST", "/api/v2/webhooks/txs", fmt.Sprintf(`{"tx_id":"tx%d"}`, i), 200)
		f.clock.add(time.Second)
	}
	for _, i := range []int{4, 1, 3} {
		f.call("PUT", fmt.Sprintf("/api/v2/webhooks/txs/tx%d", i), `{"status":"success"}`, 200)
		f.clock.add(time.Second)
	}
	for query, want := range map[string]string{
		"":                                "tx5 tx2 tx0 tx3 tx1 tx4",
		"?limit=2":                        "tx5 tx2",
		"?limit=2&skip=2":                 "tx0 tx3",
		"?skip=7":                         "",
		"?statuses=Success":               "tx3 tx1 tx4",
		"?statuses=error&statuses=undone": "",
		"?statuses[]=success&limit=1":     "tx3",
		"?limit=0":                        "",
	} {
		got := f.call("GET", "/api/v2/webhooks"+query, "", 200)
		var ids []string
		for _, w := range got["webhooks"].([]any) {
			ids = append(ids, w.(map[string]any)["tx_id"].(string))
		}
		if strings.Join(ids, " ") != want || got["total"] != number(6) || got["matches"] != number(int64(len(ids))) {
			t.Error(query, ids, got["total"], got["matches"])
		}
	}
}

// TestTimeout lets transactions time out, in a Handler and in the one after it.
func TestTimeout(t *testing.T) {
	dir := t.TempDir()
	f := newFixture(t, func(o *Options) { o.TransactionsDir = dir })
	f.call("POST", "/api/v2/webhooks/txs", `{"tx_id":"short","timeout_ms":1000,"on_step":1}`, 200)
	f.call("POST", "/api/v2/webhooks/txs", `{"tx_id":"usual"}`, 200)
	f.clock.add(999 * time.Millisecond)
	if got := f.call("GET", "/api/v2/webhooks/txs/short", "", 200)["status"]; got != "pending" {
		t.Error(got)
	}
	f.clock.add(time.Millisecond)
	want := map[string]any{
		"athena_messages": []any{nil, "this transaction has timed out"}, "message": "this transaction has timed out", "status": "error",
		"by": "-", "uuid": "-", "description": "Unknown request", "tx_id": "short", "on_step": number(1),
		"ts_started": number(1772600767891), "ts_last_updated": number(1772600768891), "ts_completed": number(1772600768891),
	}
	if diff := cmp.Diff(want, f.call("GET", "/api/v2/webhooks/txs/short", "", 200)); diff != "" {
		t.Error(diff)
	}
	// What is no record does not keep the others from being read.
	for name, text := range map[string]string{"bad.json": "{", "other.json": `{"tx_id":"x","status":"pending"}`, ".new-1": "", "odd.json": `{"tx_id":"odd","status":"?"}`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	again, err := New(f.engine, f.handler.options)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if left, err := filepath.Glob(filepath.Join(dir, ".new-*")); err != nil || len(left) > 0 {
		t.Errorf("%s are left of what was being written, error %v", left, err)
	}
	f.server.Config.Handler = again
	if diff := cmp.Diff(want, f.call("GET", "/api/v2/webhooks/txs/short", "", 200)); diff != "" {
		t.Error(diff)
	}
	f.clock.add(179 * time.Second)
	all := f.call("GET", "/api/v2/webhooks", "", 200)
	first := all["webhooks"].([]any)[0].(map[string]any)
	if all["total"] != number(2) || first["tx_id"] != "usual" || first["status"] != "error" {
		t.Error(all)
	}
}

// TestManyTransactions fills the store of them.
func TestManyTransactions(t *testing.T) {
	dir := t.TempDir()
	f := newFixture(t, func(o *Options) { o.TransactionsDir = dir })
	for i := range maxTransactions {
		tx := transaction{ID: fmt.Sprintf("tx%d", i)}
		if _, err := f.handler.txs.create(tx); err != nil {
			t.Fatal(err)
		}
		if i == 700 {
			if _, _, err := f.handler.txs.edit("tx500", edit{Status: "success"}); err != nil {
				t.Fatal(err)
			}
		}
	}
	f.call("POST", "/api/v2/webhooks/txs", `{"tx_id":"one more"}`, 400)
	f.call("POST", "/api/v2/webhooks/txs", `{"tx_id":"one-more"}`, 200)
	f.call("GET", "/api/v2/webhooks/txs/tx500", "", 404)
	got := f.call("POST", "/api/v2/webhooks/txs", "", 400)
	if got["message"] != errTooMany.Error()[len("optools: "):] {
		t.Error(got)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != maxTransactions {
		t.Error(len(files), err)
	}
}

func TestCensor(t *testing.T) {
	for email, want := range map[string]string{
		"": "-", "alican@x.io": "a****n@x.io", "a@x.io": "*@x.io", "ab@x.io": "a*@x.io", "abc@x.io": "a*c@x.io", "key-name": "k******e", "éàü@x": "é*ü@x",
	} {
		if got := censor(email); got != want {
			t.Errorf("%q is shown as %q, want %q", email, got, want)
		}
	}
}
