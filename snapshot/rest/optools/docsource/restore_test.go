package docsource_test

import (
	"bytes"
	"compress/zlib"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/holdstill/holdstill/snapshot/rest/optools/docsource"
	"github.com/holdstill/holdstill/snapshot/rest/optools/internal/memstore"
)

func compressed(text string) string {
	var b bytes.Buffer
	z := zlib.NewWriter(&b)
	_, _ = z.Write([]byte(text))
	_ = z.Close()
	return base64.StdEncoding.EncodeToString(b.Bytes())
}

func parse(t *testing.T, text string) *docsource.Parsed {
	t.Helper()
	p, err := docsource.Parse([]byte(text), docsource.ParseOptions{Aliases: map[string]string{"DB_SYSTEM": "system"}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestLastDuplicateWins(t *testing.T) {
	docs := `{"_id":"a","v":1},{"_id":"b","v":1},{"_id":"a","v":2},{"_id":"c","v":1},{"_id":"a","v":3}`
	for name, text := range map[string]string{
		"plain":             `{"dbs":{"system":{"docs":[` + docs + `]}}}`,
		"compressed":        `{"dbs":{"DB_SYSTEM":{"compressed_docs":"` + compressed("["+docs+"]") + `"}}}`,
		"compressed, parts": `{"dbs":{"DB_SYSTEM":{"docs":null,"compressed_docs":["` + compressed(`[{"_id":"a","v":9},{"_id":"b","v":1},{"_id":"c","v":1}]`) + `","` + compressed(`{"_id":"a","v":3}`) + `"]}}}`,
	} {
		for _, batch := range []int{0, 1, 2} {
			store := memstore.New("system")
			result, err := docsource.Restore(t.Context(), store, parse(t, text), docsource.RestoreOptions{Batch: batch})
			if err != nil {
				t.Fatal(name, err)
			}
			want := map[string]string{"a": `{"_id":"a","v":3}`, "b": `{"_id":"b","v":1}`, "c": `{"_id":"c","v":1}`}
			if diff := cmp.Diff(want, store.All("system")); diff != "" {
				t.Errorf("%s, batches of %d: %s", name, batch, diff)
			}
			if batch == 1 && result.Superseded != 0 || batch == 0 && result.Written != 3 {
				t.Errorf("%s: %+v", name, result)
			}
		}
	}
}

func TestConflictsAreRetried(t *testing.T) {
	store := memstore.New("system")
	calls := 0
	store.OnPut = func(_ context.Context, _ string, docs []json.RawMessage) error {
		if calls++; calls > 3 {
			return nil
		}
		// All but the last document are written.
		for _, d := range docs[:len(docs)-1] {
			store.Set("system", string(d))
		}
		return &docsource.ConflictError{Database: "system", IDs: []string{"c"}}
	}
	p := parse(t, `{"dbs":{"system":{"docs":[{"_id":"a"},{"_id":"b"},{"_id":"c"}]}}}`)
	result, err := docsource.Restore(t.Context(), store, p, docsource.RestoreOptions{})
	if err != nil || result.Written != 3 || calls != 4 || len(store.All("system")) != 3 {
		t.Error(result, err, calls)
	}
	calls = 0
	store.OnPut = func(context.Context, string, []json.RawMessage) error {
		calls++
		return &docsource.ConflictError{Database: "system", IDs: []string{"a"}}
	}
	_, err = docsource.Restore(t.Context(), store, p, docsource.RestoreOptions{})
	var conflict *docsource.ConflictError
	if !errors.As(err, &conflict) || calls != 5 || !strings.Contains(err.Error(), `"a"`) {
		t.Error(err, calls)
	}
	store.OnPut = func(context.Context, string, []json.RawMessage) error {
		return &docsource.ConflictError{Database: "system", IDs: []string{"of another"}}
	}
	if _, err = docsource.Restore(t.Context(), store, p, docsource.RestoreOptions{}); !errors.As(err, &conflict) {
		t.Error(err)
	}
}

// TestOneDatabaseFails restores the others all the same.
func TestOneDatabaseFails(t *testing.T) {
	store := memstore.New("components", "sessions", "system")
	full := errors.New("no space")
	store.OnPut = func(_ context.Context, database string, _ []json.RawMessage) error {
		if database == "components" {
			return full
		}
		return nil
	}
	p := parse(t, `{"dbs":{"components":{"docs":[{"_id":"a"}]},"sessions":{"docs":[{"_id":"a"},{"noID":1}]},"system":{"docs":[{"_id":"a"}]},"other":{"docs":[]}}}`)
	result, err := docsource.Restore(t.Context(), store, p, docsource.RestoreOptions{Batch: 1})
	for _, want := range []error{full, docsource.ErrUnknownDatabase, docsource.ErrDocument} {
		if !errors.Is(err, want) {
			t.Errorf("%v is not %v", err, want)
		}
	}
	for _, want := range []string{`"components"`, `"sessions": document 1`, `"other"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
	if result.Written != 2 || len(store.All("system")) != 1 {
		t.Errorf("%+v", result)
	}
}

func TestRestoreCancelled(t *testing.T) {
	store := memstore.New("components", "system")
	why := errors.New("shutting down")
	ctx, cancel := context.WithCancelCause(t.Context())
	store.OnPut = func(context.Context, string, []json.RawMessage) error { cancel(why); return nil }
	p := parse(t, `{"dbs":{"components":{"docs":[{"_id":"a"},{"_id":"b"}]},"system":{"docs":[{"_id":"a"}]}}}`)
	_, err := docsource.Restore(ctx, store, p, docsource.RestoreOptions{Batch: 1})
	if !errors.Is(err, why) || len(store.All("components")) != 1 || len(store.All("system")) != 0 {
		t.Error(err, store.All("components"), store.All("system"))
	}
}

func TestParseErrors(t *testing.T) {
	bomb := compressed(`["` + strings.Repeat("a", 1<<20) + `"]`)
	for name, text := range map[string]string{
		"empty":           ``,
		"no dbs":          `{"id":"x"}`,
		"dbs null":        `{"dbs":null}`,
		"an array":        `{"dbs":[]}`,
		"docs no array":   `{"dbs":{"a":{"docs":{}}}}`,
		"not base64":      `{"dbs":{"a":{"compressed_docs":"%%%"}}}`,
		"not zlib":        `{"dbs":{"a":{"compressed_docs":"YnVi"}}}`,
		"cut off":         `{"dbs":{"a":{"compressed_docs":"` + compressed(`[1,2,3]`)[:8] + `"}}}`,
		"not an array":    `{"dbs":{"a":{"compressed_docs":"` + compressed(`7`) + `"}}}`,
		"number":          `{"dbs":{"a":{"compressed_docs":7}}}`,
		"numbers":         `{"dbs":{"a":{"compressed_docs":[7]}}}`,
		"expands to much": `{"dbs":{"a":{"compressed_docs":"` + bomb + `"}}}`,
		"two names":       `{"dbs":{"a":{"docs":[]},"A":{"docs":[]}}}`,
	} {
		_, err := docsource.Parse([]byte(text), docsource.ParseOptions{MaxExpanded: 1 << 19, Aliases: map[string]string{"A": "a"}})
		if !errors.Is(err, docsource.ErrBackup) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"dbs":{"a":{"docs":[{"_id":"x","b":1,"a":[1e3]}]}}}`))
	f.Add([]byte(`{"dbs":{"a":{"compressed_docs":"` + compressed(`[{"_id":"y"}]`) + `"}}}`))
	f.Add([]byte(`{"dbs":{"a":{"docs":[{"_id":"\ud800"},null,{"_id":"x","_id":"z"}]}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := docsource.Parse(data, docsource.ParseOptions{MaxExpanded: 1 << 20})
		if err != nil {
			if !errors.Is(err, docsource.ErrBackup) {
				t.Fatal(err)
			}
			return
		}
		store := memstore.New(p.Names()...)
		if _, err := docsource.Restore(t.Context(), store, p, docsource.RestoreOptions{Batch: 2}); err != nil && !errors.Is(err, docsource.ErrDocument) {
			t.Fatal(err)
		}
		// What was restored, backed up and restored again is the same.
		v, err := docsource.New(store, docsource.Options{ExcludeTypes: []string{}}).Pin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		if err := v.Settle(t.Context()); err != nil {
			t.Fatal(err)
		}
		b, err := docsource.OpenBackup(v.FS)
		if err != nil {
			t.Fatal(err)
		}
		again := memstore.New(p.Names()...)
		if _, err := docsource.Restore(t.Context(), again, b, docsource.RestoreOptions{}); err != nil {
			t.Fatal(err)
		}
		for _, name := range p.Names() {
			want := store.All(name)
			for id, d := range want {
				if strings.Contains(d, `"_deleted":true`) {
					delete(want, id)
				}
			}
			if diff := cmp.Diff(want, again.All(name)); diff != "" {
				t.Fatal(diff)
			}
		}
	})
}

func ExampleRestore() {
	ctx := context.Background()
	store := memstore.New("athena_components", "athena_sessions", "athena_system")
	store.Set("athena_system", `{"_id":"00_settings_athena","port":"3000"}`)
	backup, err := docsource.Parse([]byte(`{
		"id": "03_ibp_db_backup_1592922855871",
		"dbs": {"athena_system": {"docs": [
			{"_id": "00_settings_athena", "port": "4000"},
			{"_id": "01_users", "admins": ["ada", "bob"]}
		]}}
	}`), docsource.ParseOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	result, err := docsource.Restore(ctx, store, backup, docsource.RestoreOptions{
		Skip: func(database, id string) bool { return id == "00_settings_athena" },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(result.Written, "written,", result.Skipped, "skipped")
	fmt.Println(store.All("athena_system")["00_settings_athena"])
	fmt.Println(store.All("athena_system")["01_users"])
	// Output:
	// 1 written, 1 skipped
	// {"_id":"00_settings_athena","port":"3000"}
	// {"_id":"01_users","admins":["ada","bob"]}
}
