package adapter_test

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/snapshot/adapter/pebblesource"
	"github.com/holdstill/holdstill/snapshot/adapter/sqlitesource"
)

// TestOnlyTheTailOfALogIsRead writes more to a database whose rows are all in its log
// still: the second snapshot reads what was added, however long the log is.
func TestOnlyTheTailOfALogIsRead(t *testing.T) {
	db, src, err := pebblesource.Open(t.TempDir(), &pebble.Options{MemTableSize: 64 << 20, Logger: silent{}}, pebblesource.Options{RequireEarlyRelease: true})
	must(t, err)
	defer func() {
		must(t, src.Close())
		must(t, db.Close())
	}()
	r := rand.New(rand.NewPCG(3, 4))
	rows := 0
	put := func(n int) {
		for range n {
			value := fmt.Appendf(nil, `{"id":%d,"token":"%016x%016x","state":"open"}`, rows, r.Uint64(), r.Uint64())
			must(t, db.Set(key(0, uint64(rows)), value, pebble.NoSync))
			rows++
		}
	}
	put(40_000)
	e, err := snapshot.Open(t.Context(), snapshot.Config{
		Repository: "local:" + t.TempDir(), VerifyShare: -1, Sources: map[string]snapshot.Source{"kv": src},
	})
	must(t, err)
	defer e.Close()
	first, err := e.Create(t.Context(), snapshot.CreateOptions{})
	must(t, err)
	for range 3 {
		put(500)
		s, err := e.Create(t.Context(), snapshot.CreateOptions{})
		must(t, err)
		if first.Stats.BytesRead < 3<<20 || s.Stats.BytesRead > 400<<10 || s.Stats.BytesVerified > 512<<10 {
			t.Errorf("the first snapshot read %d bytes, this one %d and verified %d", first.Stats.BytesRead, s.Stats.BytesRead, s.Stats.BytesVerified)
		}
	}
	// Every piece of every log is what it was.
	last, err := e.Create(t.Context(), snapshot.CreateOptions{Verify: true})
	must(t, err)
	if last.Stats.BytesVerified < 3<<20 {
		t.Errorf("verified %d bytes", last.Stats.BytesVerified)
	}
	dir := filepath.Join(t.TempDir(), "restored")
	_, err = e.Restore(t.Context(), last.ID, snapshot.RestoreOptions{To: dir})
	must(t, err)
	restored, err := pebble.Open(filepath.Join(dir, "kv"), &pebble.Options{Logger: silent{}})
	must(t, err)
	defer func() { must(t, restored.Close()) }()
	for n := range rows {
		_, c, err := restored.Get(key(0, uint64(n)))
		if err != nil {
			t.Fatalf("row %d of %d: %v", n, rows, err)
		}
		must(t, c.Close())
	}
}

// TestOnlyChangedPagesAreRead changes rows of a SQLite database between snapshots. As
// long as its log was not begun anew only the pages in it are read.
func TestOnlyChangedPagesAreRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.db")
	db := openSQL(t, path)
	defer func() { must(t, db.Close()) }()
	exec := func(query string, args ...any) {
		t.Helper()
		_, err := db.Exec(query, args...)
		must(t, err)
	}
	exec("PRAGMA journal_mode=WAL")
	exec("CREATE TABLE rows (n INTEGER PRIMARY KEY, body TEXT)")
	exec("WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n < 60000) INSERT INTO rows SELECT n, hex(randomblob(60)) FROM c")
	exec("PRAGMA wal_checkpoint(TRUNCATE)")
	exec("UPDATE rows SET body = 'a log must have begun' WHERE n = 1")
	src, err := sqlitesource.New(t.Context(), path, sqlitesource.Options{})
	must(t, err)
	defer func() { must(t, src.Close()) }()
	e, err := snapshot.Open(t.Context(), snapshot.Config{
		Repository: "local:" + t.TempDir(), VerifyShare: -1, Sources: map[string]snapshot.Source{"sql": src},
	})
	must(t, err)
	defer e.Close()
	first, err := e.Create(t.Context(), snapshot.CreateOptions{})
	must(t, err)
	for n := range 3 {
		exec("UPDATE rows SET body = hex(randomblob(60)) WHERE n = ?", 20_000*n+77)
		s, err := e.Create(t.Context(), snapshot.CreateOptions{})
		must(t, err)
		if first.Stats.BytesRead < 7<<20 || s.Stats.BytesRead == 0 || s.Stats.BytesRead > 256<<10 || s.Stats.BytesDelta == 0 {
			t.Errorf("the first snapshot read %d bytes, this one %+v", first.Stats.BytesRead, s.Stats)
		}
	}
	last, err := e.Create(t.Context(), snapshot.CreateOptions{Verify: true})
	must(t, err)
	if last.Stats.BytesVerified < 7<<20 || last.Stats.BytesRead != 0 {
		t.Errorf("%+v", last.Stats)
	}
	dir := filepath.Join(t.TempDir(), "restored")
	_, err = e.Restore(t.Context(), last.ID, snapshot.RestoreOptions{To: dir})
	must(t, err)
	restored := openSQL(t, filepath.Join(dir, "sql", "app.db"))
	defer func() { must(t, restored.Close()) }()
	for _, query := range []string{"SELECT group_concat(body) FROM rows", "PRAGMA integrity_check"} {
		var want, got string
		must(t, db.QueryRow(query).Scan(&want))
		must(t, restored.QueryRow(query).Scan(&got))
		if want != got {
			t.Errorf("%s: %.50s, restored %.50s", query, want, got)
		}
	}
}
