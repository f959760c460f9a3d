package docsource_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"gocloud.dev/blob/memblob"

	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/snapshot/rest/optools/docsource"
	"github.com/holdstill/holdstill/snapshot/rest/optools/internal/memstore"
)

// fill puts n documents like those of peers into a database.
func fill(store *memstore.Store, database string, n int) {
	for i := range n {
		h := uint64(i+1) * 0x9e3779b97f4a7c15
		store.Set(database, fmt.Sprintf(
			`{"type":"fabric-peer","_id":"peer%05d","_rev":"1-%x","api_url":"grpcs://n%x.example.com:7051","msp_id":"org%d","display_name":"Peer <%d> & co"}`,
			i, h, h>>16, i%7, i))
	}
}

func pin(t *testing.T, source *docsource.Source) *snapshot.View {
	t.Helper()
	v, err := source.Pin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := v.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestView(t *testing.T) {
	store := memstore.New("comp/onents", "sessions", "system")
	fill(store, "comp/onents", 300)
	store.Set("system", `{"_id":"00_settings_athena","type":"settings","b":[1,2.50,1e400],"a":{"z":1,"ä":"\u00e4\n","y":null}}`,
		`{"_id":"03_ibp_db_backup_1","type":"athena_backup"}`, `{"_id":"gone","_deleted":true}`,
		`{"_id":"s","type":"session_athena"}`, `{"_id":"_design/athena-v1","type":7}`)
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	v := pin(t, docsource.New(store, docsource.Options{Now: func() time.Time { return now }}))
	// What changes after the pin is not seen.
	store.Set("system", `{"_id":"later"}`)
	if err := fstest.TestFS(v.FS, "databases.json", "comp%2Fonents.ndjson", "sessions.ndjson", "system.ndjson"); err != nil {
		t.Error(err)
	}
	got, err := fs.ReadFile(v.FS, "system.ndjson")
	if err != nil {
		t.Fatal(err)
	}
	want := `{"_id":"00_settings_athena","a":{"y":null,"z":1,"ä":"ä\n"},"b":[1,2.50,1e400],"type":"settings"}
{"_id":"_design/athena-v1","type":7}
`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Error(diff)
	}
	b, err := docsource.OpenBackup(v.FS)
	if err != nil {
		t.Fatal(err)
	}
	wantInfo := []docsource.DatabaseInfo{
		{Name: "comp/onents", File: "comp%2Fonents.ndjson", Documents: 300, Sequence: "300-g1AAAA", Started: now, Finished: now},
		{Name: "sessions", File: "sessions.ndjson", Started: now, Finished: now},
		{Name: "system", File: "system.ndjson", Documents: 2, Sequence: "305-g1AAAA", Started: now, Finished: now},
	}
	if diff := cmp.Diff(wantInfo, b.Databases); diff != "" {
		t.Error(diff)
	}
}

// TestUnreadableDatabase has one database fail, when it is first read or later.
func TestUnreadableDatabase(t *testing.T) {
	store := memstore.New("components", "system")
	fill(store, "components", 20)
	store.Set("system", `{"_id":"a"}`)
	broken := errors.New("shard 3 does not answer")
	reads, failAt := 0, 1
	store.OnRead = func(_ context.Context, database, _ string) error {
		if database == "components" {
			if reads++; reads >= failAt {
				return broken
			}
		}
		return nil
	}
	source := docsource.New(store, docsource.Options{})
	b, err := docsource.OpenBackup(pin(t, source).FS)
	if err != nil {
		t.Fatal(err)
	}
	if got := b.Names(); !cmp.Equal(got, []string{"system"}) || b.Databases[0].Error != broken.Error() {
		t.Error(got, b.Databases)
	}
	if _, err := b.Open("components"); !errors.Is(err, docsource.ErrBackup) {
		t.Error(err)
	}

	reads, failAt = 0, 25
	engine := newEngine(t, source)
	_, err = engine.Create(t.Context(), snapshot.CreateOptions{})
	if !errors.Is(err, broken) {
		t.Errorf("a database that fails while it is stored: %v", err)
	}
	for s := range engine.List(t.Context(), snapshot.Filter{}) {
		t.Errorf("%s is listed", s.ID)
	}
}

func newEngine(t *testing.T, source snapshot.Source) *snapshot.Engine {
	t.Helper()
	bucket := memblob.OpenBucket(nil)
	engine, err := snapshot.Open(t.Context(), snapshot.Config{
		Bucket: bucket, Sources: map[string]snapshot.Source{"documents": source}, VerifyShare: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(engine.Close(), bucket.Close()); err != nil {
			t.Error(err)
		}
	})
	return engine
}

// TestUnchangedDatabases makes a second snapshot after one of many documents changed.
func TestUnchangedDatabases(t *testing.T) {
	for _, epoch := range []string{"", "one life"} {
		store := memstore.New("components", "system")
		fill(store, "components", 20_000)
		fill(store, "system", 5_000)
		engine := newEngine(t, docsource.New(store, docsource.Options{Epoch: epoch}))
		first, err := engine.Create(t.Context(), snapshot.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		store.Set("system", `{"_id":"peer02500","type":"fabric-peer","_rev":"2-9","msp_id":"changed"}`)
		second, err := engine.Create(t.Context(), snapshot.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if second.Stats.BytesStored*10 > first.Stats.BytesStored {
			t.Errorf("epoch %q: the second snapshot takes %d bytes, the first %d", epoch, second.Stats.BytesStored, first.Stats.BytesStored)
		}
		if epoch != "" && second.Stats.BytesVerified == 0 {
			t.Errorf("no file counted as unchanged: %+v", second.Stats)
		}
	}
}

func TestRestoreFromSnapshot(t *testing.T) {
	store := memstore.New("components", "system")
	fill(store, "components", 1500)
	store.Set("system", `{"_id":"keep","v":1}`, `{"_id":"skip","v":1}`)
	engine := newEngine(t, docsource.New(store, docsource.Options{}))
	s, err := engine.Create(t.Context(), snapshot.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	before := store.All("components")
	store.Delete("components", "peer00007")
	store.Set("components", `{"_id":"peer00008","lost":true}`, `{"_id":"new"}`)
	store.Set("system", `{"_id":"keep","v":2}`, `{"_id":"skip","v":2}`)
	fsys, err := engine.OpenFS(t.Context(), s.ID)
	if err != nil {
		t.Fatal(err)
	}
	sub, err := fs.Sub(fsys, "documents")
	if err != nil {
		t.Fatal(err)
	}
	b, err := docsource.OpenBackup(sub)
	if err != nil {
		t.Fatal(err)
	}
	var told []int64
	result, err := docsource.Restore(t.Context(), store, b, docsource.RestoreOptions{
		Skip:     func(database, id string) bool { return database == "system" && id == "skip" },
		Batch:    1000,
		Progress: func(n int64) { told = append(told, n) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(docsource.RestoreResult{Written: 1501, Skipped: 1}, result); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]int64{1000, 1500, 1501}, told); diff != "" {
		t.Error(diff)
	}
	after := store.All("components")
	if after["new"] == "" || len(after) != 1501 {
		t.Errorf("%d documents, new %q", len(after), after["new"])
	}
	for id, want := range before {
		var a, b any
		if err := errors.Join(json.Unmarshal([]byte(want), &a), json.Unmarshal([]byte(after[id]), &b)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(a, b); diff != "" {
			t.Fatal(id, diff)
		}
	}
	if got := store.All("system"); !cmp.Equal(got, map[string]string{"keep": `{"_id":"keep","v":1}`, "skip": `{"_id":"skip","v":2}`}) {
		t.Error(got)
	}
}

func TestOpenBackupErrors(t *testing.T) {
	index := func(s string) fstest.MapFS { return fstest.MapFS{"databases.json": {Data: []byte(s)}} }
	for name, fsys := range map[string]fs.FS{
		"no index":     fstest.MapFS{},
		"not JSON":     index(`{"databases":`),
		"another file": index(`{"databases":[{"name":"a","file":"../b.ndjson"}]}`),
	} {
		if _, err := docsource.OpenBackup(fsys); !errors.Is(err, docsource.ErrBackup) {
			t.Errorf("%s: %v", name, err)
		}
	}
	cut := index(`{"databases":[{"name":"a","file":"a.ndjson"},{"name":"b","file":"b.ndjson"}]}`)
	long := strings.Repeat("x", 200_000)
	cut["a.ndjson"] = &fstest.MapFile{Data: []byte(`{"_id":"` + long + "\"}\n" + `{"_id":"b`)}
	b, err := docsource.OpenBackup(cut)
	if err != nil {
		t.Fatal(err)
	}
	var ids int
	for d, err := range b.Documents(t.Context(), "a") {
		if err == nil {
			ids++
			if len(d) != len(long)+10 {
				t.Errorf("%d bytes", len(d))
			}
			continue
		}
		if !errors.Is(err, docsource.ErrBackup) || ids != 1 {
			t.Error(ids, err)
		}
	}
	if _, err := b.Open("b"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// TestFileReads reads a database's file in odd ways.
func TestFileReads(t *testing.T) {
	store := memstore.New("a")
	fill(store, "a", 3)
	v := pin(t, docsource.New(store, docsource.Options{}))
	f, err := v.FS.Open("a.ndjson")
	if err != nil {
		t.Fatal(err)
	}
	var got []byte
	buf := make([]byte, 7)
	for {
		n, err := f.Read(buf)
		got = append(got, buf[:n]...)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if lines := strings.Count(string(got), "\n"); lines != 3 || got[len(got)-1] != '\n' {
		t.Errorf("%d lines: %q", lines, got)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if _, err := f.Read(buf); err == nil {
		t.Error("a closed file was read")
	}
	if err := f.Close(); err == nil {
		t.Error("a file was closed twice")
	}
}
