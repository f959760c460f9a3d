package optools

import (
	"bytes"
	"compress/zlib"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestRestoreByID changes documents after a backup and restores it, with and without
// documents that are to be skipped.
func TestRestoreByID(t *testing.T) {
	for name, test := range map[string]struct {
		query    string
		settings string
		skipped  []string
	}{
		"all":           {},
		"documented":    {query: "skip_system=" + url.QueryEscape(`"['00_settings_athena']"`), skipped: []string{"00_settings_athena"}},
		"JSON":          {query: "skip_system=" + url.QueryEscape(`["00_settings_athena"]`), skipped: []string{"00_settings_athena"}},
		"two adjacent":  {query: "skip_components=" + url.QueryEscape(`["ca1","peer1"]`), skipped: []string{"ca1", "peer1"}},
		"other":         {query: "skip_components=" + url.QueryEscape(`["00_settings_athena"]`) + "&skip_system=[]"},
		"one from each": {query: "skip_components=['ca1']&skip_system=['_design/athena-v1']", skipped: []string{"ca1", "_design/athena-v1"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, nil)
			rebuilt := 0
			f.handler.options.AfterRestore = func(context.Context) error { rebuilt++; return nil }
			id := f.backup()
			for _, database := range []string{"athena_components", "athena_system"} {
				for id := range f.store.All(database) {
					f.store.Set(database, `{"_id":"`+id+`","changed":true}`)
				}
			}
			f.store.Set("athena_system", `{"_id":"new"}`)
			answer := f.call("PUT", "/ak/api/v2/backups/"+id+"?"+test.query, "", 202)
			if answer["message"] != "in-progress" || !regexp.MustCompile(`^http://localhost:3000/ak/api/v1/webhooks/txs/[0-9a-f]{32}$`).MatchString(answer["url"].(string)) {
				t.Error(answer)
			}
			if tx := f.transaction(answer["url"].(string)); tx["status"] != "success" || tx["message"] != nil {
				t.Error(tx)
			}
			var changed []string
			for _, database := range []string{"athena_components", "athena_system"} {
				for id, d := range f.store.All(database) {
					if strings.Contains(d, "changed") {
						changed = append(changed, id)
					}
				}
			}

			if diff := cmp.Diff(test.skipped, changed, sorted); diff != "" {
				t.Error(diff)
			}
			if f.store.All("athena_system")["new"] == "" || rebuilt != 1 {
				t.Error("a document was deleted, or the hook not called", rebuilt)
			}
		})
	}
}

// sorted compares lists without regard to their order.
var sorted = cmp.Transformer("sorted", func(in []string) map[string]int {
	out := map[string]int{}
	for _, s := range in {
		out[s]++
	}
	return out
})

// TestRestoreDocument gives back what GET returned, with a duplicate added to it.
func TestRestoreDocument(t *testing.T) {
	f := newFixture(t, nil)
	doc := f.call("GET", "/api/v2/backups/"+f.backup(), "", 200)
	system := doc["dbs"].(map[string]any)["athena_system"].(map[string]any)
	system["docs"] = append(system["docs"].([]any), map[string]any{"_id": "_design/athena-v1", "views": map[string]any{"last": 1}})
	body, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	f.store.Delete("athena_components", "ca1", "peer1")
	tx := f.transaction(f.call("PUT", "/api/v3/backups", string(body), 202)["url"].(string))
	if tx["status"] != "success" {
		t.Fatal(tx)
	}
	if got := f.store.All("athena_components"); len(got) != 2 {
		t.Error(got)
	}
	if got := f.store.All("athena_system")["_design/athena-v1"]; got != `{"_id":"_design/athena-v1","views":{"last":1}}` {
		t.Error(got)
	}
	// The names of the newer format, with documents that are compressed.
	var packed bytes.Buffer
	z := zlib.NewWriter(&packed)
	_, err = z.Write([]byte(`[{"_id":"00_settings_athena","port":1},{"_id":"00_settings_athena","port":2}]`))
	if err := errors.Join(err, z.Close()); err != nil {
		t.Fatal(err)
	}
	text := `{"dbs":{"DB_SYSTEM":{"compressed_docs":"` + base64.StdEncoding.EncodeToString(packed.Bytes()) + `"}}}`
	tx = f.transaction(f.call("PUT", "/api/v3/backups", text, 202)["url"].(string))
	if got := f.store.All("athena_system")["00_settings_athena"]; tx["status"] != "success" || got != `{"_id":"00_settings_athena","port":2}` {
		t.Error(tx, got)
	}
}

// TestRestoreTransaction looks at the transaction of a restore while it is under way.
func TestRestoreTransaction(t *testing.T) {
	f := newFixture(t, nil)
	caller := Caller{Email: "alan@x.io", UUID: "u-1"}
	f.handler.options.Authorize = authorize(&caller, nil)
	id := f.backup()
	blocked, release := make(chan struct{}), make(chan struct{})
	f.store.OnPut = func(_ context.Context, database string, _ []json.RawMessage) error {
		if database == "athena_components" {
			close(blocked)
			<-release
		}
		return nil
	}
	link := f.call("PUT", "/ak/api/v3/backups/"+id, "{}", 202)["url"].(string)
	<-blocked
	busy := map[string]any{"statusCode": number(400), "message": "already_in_progress"}
	if diff := cmp.Diff(busy, f.call("PUT", "/ak/api/v3/backups/"+id, "{}", 400)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(busy, f.call("PUT", "/ak/api/v3/backups", `{"dbs":{}}`, 400)); diff != "" {
		t.Error(diff)
	}
	path := strings.TrimPrefix(link, "http://localhost:3000")
	want := map[string]any{
		"athena_messages": []any{}, "by": "a**n@x.io", "uuid": "u-1", "description": "restoring dbs from backup",
		"on_step": number(1), "total_steps": number(1), "status": "pending", "sub_type": "backup_restore", "message": nil,
		"tx_id": path[len(path)-32:], "ts_started": number(1772600767891), "ts_last_updated": number(1772600767891),
	}
	if diff := cmp.Diff(want, f.call("GET", path, "", 200)); diff != "" {
		t.Error(diff)
	}
	close(release)
	want["status"], want["ts_completed"] = "success", number(1772600767891)
	if diff := cmp.Diff(want, f.transaction(link)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]any{"matches": number(1), "total": number(1), "webhooks": []any{want}}, f.call("GET", "/api/v1/webhooks", "", 200)); diff != "" {
		t.Error(diff)
	}
}

// TestRestoreErrors has restores fail, each for a reason of its own.
func TestRestoreErrors(t *testing.T) {
	full := errors.New("password hunter2 is wrong")
	for name, test := range map[string]struct {
		body    string
		fail    string
		after   error
		message string
	}{
		"a database fails":   {`{"dbs":{"athena_system":{"docs":[{"_id":"a"}]},"athena_components":{"docs":[{"_id":"a"}]}}}`, "athena_components", nil, "not everything was restored: writing to database athena_components failed"},
		"no document":        {`{"dbs":{"athena_system":{"docs":[{"id":"a"}]}}}`, "", nil, `not everything was restored: docsource: database "athena_system": document 0: docsource: not a document: it has no _id`},
		"unknown database":   {`{"dbs":{"other":{"docs":[]}}}`, "", nil, `not everything was restored: docsource: database "other": docsource: the store has no such database`},
		"no databases":       {`{"id":"x"}`, "", nil, "not everything was restored: docsource: bad backup: it has no dbs"},
		"nothing":            {``, "", nil, "not everything was restored: docsource: bad backup: it has no dbs"},
		"the hook for after": {`{"dbs":{"athena_system":{"docs":[{"_id":"a"}]}}}`, "", full, "the restore failed"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, func(o *Options) {
				o.AfterRestore = func(context.Context) error { return test.after }
			})
			f.store.OnPut = func(_ context.Context, database string, _ []json.RawMessage) error {
				if database == test.fail {
					return full
				}
				return nil
			}
			tx := f.transaction(f.call("PUT", "/api/v2/backups", test.body, 202)["url"].(string))
			if diff := cmp.Diff([]any{nil, test.message}, tx["athena_messages"]); diff != "" || tx["status"] != "error" || tx["message"] != test.message {
				t.Error(diff, tx)
			}
			if test.fail != "" && f.store.All("athena_system")["a"] == "" {
				t.Error("the other database was not restored")
			}
		})
	}
}

// TestRestorePanics has the store panic, and the hook: the restore has failed, tells nobody why, and the next one
// can begin.
func TestRestorePanics(t *testing.T) {
	const document = `{"dbs":{"athena_system":{"docs":[{"_id":"a"}]}}}`
	var where atomic.Value
	where.Store("")
	f := newFixture(t, func(o *Options) {
		o.AfterRestore = func(context.Context) error {
			if where.Load() == "hook" {
				panic("password hunter2 is wrong")
			}
			return nil
		}
	})
	f.store.OnPut = func(context.Context, string, []json.RawMessage) error {
		if where.Load() == "store" {
			panic("password hunter2 is wrong")
		}
		return nil
	}
	for _, part := range []string{"store", "hook"} {
		where.Store(part)
		tx := f.transaction(f.call("PUT", "/api/v2/backups", document, 202)["url"].(string))
		if tx["status"] != "error" || tx["message"] != "the restore failed" {
			t.Error(part, tx)
		}
	}
	where.Store("")
	if tx := f.transaction(f.call("PUT", "/api/v2/backups", document, 202)["url"].(string)); tx["status"] != "success" {
		t.Error(tx)
	}
}

func TestRestoreRefused(t *testing.T) {
	f := newFixture(t, nil)
	id := f.backup()
	want := map[string]any{"statusCode": number(400), "message": "cannot restore, could not load backup doc."}
	for _, path := range []string{"/api/v2/backups/03_ibp_db_backup_1592920976989", "/ak/api/v1/backups/asdf"} {
		if diff := cmp.Diff(want, f.call("PUT", path, "{}", 400)); diff != "" {
			t.Error(diff)
		}
	}
	for _, path := range []string{"/backups/" + id, "/backups"} {
		message := f.call("PUT", "/api/v2"+path+"?skip_system=00_settings", `{}`, 400)["message"]
		if !strings.HasPrefix(message.(string), "skip_system: it must be a JSON array") {
			t.Error(message)
		}
		message = f.call("PUT", "/api/v2"+path, `{"client_webhook_url":"http://169.254.169.254/"}`, 400)["message"]
		if message != "client_webhook_url is not among the URLs that this server may call" {
			t.Error(message)
		}
	}
	if got := f.call("PUT", "/api/v2/backups", `{"client_webhook_url":7}`, 400)["message"]; got != "client_webhook_url must be a string" {
		t.Error(got)
	}
	// None of them left a restore under way, or a transaction behind.
	if got := f.call("GET", "/api/v2/webhooks", "", 200); got["total"] != number(0) {
		t.Error(got)
	}
	f.transaction(f.call("PUT", "/api/v2/backups/"+id, "{}", 202)["url"].(string))
}

// TestCloseInterruptsRestore closes the handler in the middle of a restore.
func TestCloseInterruptsRestore(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.TransactionsDir = t.TempDir() })
	id := f.backup()
	blocked := make(chan struct{})
	f.store.OnPut = func(ctx context.Context, _ string, _ []json.RawMessage) error {
		close(blocked)
		<-ctx.Done()
		return ctx.Err()
	}
	link := f.call("PUT", "/api/v2/backups/"+id, "", 202)["url"].(string)
	<-blocked
	if err := f.handler.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.handler.Close(); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	tx := f.transaction(link)
	if tx["status"] != "error" || tx["message"] != "the restore was interrupted, the server is closing" {
		t.Error(tx)
	}
	want := map[string]any{"statusCode": number(500), "message": "server is closing/closed"}
	for path, body := range map[string]string{"/api/v2/backups/" + id: "", "/api/v2/backups": `{"dbs":{}}`} {
		if diff := cmp.Diff(want, f.call("PUT", path, body, 500)); diff != "" {
			t.Error(diff)
		}
	}
	if diff := cmp.Diff(want, f.call("POST", "/api/v2/backups", "", 500)); diff != "" {
		t.Error(diff)
	}
	// The record says so too.
	again, err := New(f.engine, f.handler.options)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	f.server.Config.Handler = again
	if diff := cmp.Diff(tx, f.transaction(link)); diff != "" {
		t.Error(diff)
	}
}

func TestParseSkipList(t *testing.T) {
	for text, want := range map[string][]string{
		``: nil, ` `: nil, `[]`: {}, `["a"]`: {"a"}, `["a","b\u00e4"]`: {"a", "bä"}, `"['a']"`: {"a"}, `['a']`: {"a"},
		` [ 'a' , 'b' ] `: {"a", "b"}, `"[]"`: {}, `['it\'s','\\']`: {"it's", `\`}, `['a,b',"]`: nil,
	} {
		got, err := parseSkipList(text)
		if text == `['a,b',"]` {
			if err == nil {
				t.Errorf("%s is read as %q", text, got)
			}
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Error(text, diff, err)
		}
	}
	for _, text := range []string{`a`, `[`, `]`, `"`, `""`, `['a'`, `['a',]`, `['a''b']`, `[,]`, `['a\`, `[1]`, `{"a":1}`, `['a'],['b']`, `null`} {
		if got, err := parseSkipList(text); err == nil {
			t.Errorf("%s is read as %q", text, got)
		}
	}
}

func FuzzParseSkipList(f *testing.F) {
	for _, text := range []string{`["a","b"]`, `"['a','it\'s']"`, `['\\`, `[`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		ids, err := parseSkipList(text)
		if err != nil {
			return
		}
		quoted := make([]string, len(ids))
		for i, id := range ids {
			quoted[i] = "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(id) + "'"
		}
		again, err := parseSkipList("[" + strings.Join(quoted, ",") + "]")
		if err != nil || len(again) != len(ids) {
			t.Fatal(ids, again, err)
		}
		for i, id := range ids {
			if again[i] != id {
				t.Fatalf("%q is %q", id, again[i])
			}
		}
	})
}
