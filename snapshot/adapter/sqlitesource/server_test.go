package sqlitesource

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdstill/holdstill/snapshot"
)

// openServer opens a database the way a server would, with WAL on.
func openServer(t testing.TB, pragmas ...string) (*sql.DB, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "app.db")
	db := openAt(t, path)
	for _, p := range append(pragmas, "PRAGMA journal_mode=WAL",
		"CREATE TABLE rows(id INTEGER PRIMARY KEY, version INTEGER NOT NULL, body BLOB NOT NULL)",
		"CREATE INDEX by_version ON rows(version)",
		"CREATE TABLE log(n INTEGER PRIMARY KEY AUTOINCREMENT, round INTEGER NOT NULL)") {
		if _, err := db.Exec(p); err != nil {
			t.Fatalf("%s: %v", p, err)
		}
	}
	return db, path
}

func openAt(t testing.TB, path string) *sql.DB {
	t.Helper()
	// The writes of a test need not survive a power cut.
	db, err := sql.Open("sqlite", path+"?_pragma=busy_timeout(120000)&_pragma=synchronous(off)&_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(4)
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return db
}

func newSource(t testing.TB, path string, opts Options) *Source {
	t.Helper()
	if opts.BusyTimeout == 0 {
		opts.BusyTimeout = time.Minute // a slow machine is not what is tested
	}
	s, err := New(t.Context(), path, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close the source: %v", err)
		}
	})
	return s
}

func body(id, version int64) []byte {
	r := rand.New(rand.NewPCG(uint64(id), uint64(version)))
	b := fmt.Appendf(nil, "id=%d version=%d ", id, version)
	for range r.IntN(50) {
		b = fmt.Appendf(b, "field%d=%06x;", r.IntN(30), r.Uint32N(1<<24))
	}
	return b
}

// write commits one transaction of changed rows and one line in the log, which
// names the round.
func write(ctx context.Context, db *sql.DB, r *rand.Rand, round int64, rows int) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	for range rows {
		id := r.Int64N(3000)
		if r.IntN(4) == 0 {
			_, err = tx.Exec("DELETE FROM rows WHERE id BETWEEN ? AND ?", id, id+r.Int64N(5))
		} else {
			_, err = tx.Exec("INSERT OR REPLACE INTO rows(id, version, body) VALUES(?, ?, ?)", id, round, body(id, round))
		}
		if err != nil {
			return err
		}
	}
	if _, err := tx.Exec("INSERT INTO log(round) VALUES(?)", round); err != nil {
		return err
	}
	return tx.Commit()
}

func pin(t testing.TB, s *Source) *snapshot.View {
	t.Helper()
	v, err := s.Pin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func settle(t testing.TB, v *snapshot.View) {
	t.Helper()
	if err := v.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func readView(t testing.TB, v *snapshot.View) []byte {
	t.Helper()
	data, err := fs.ReadFile(v.FS, "app.db")
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// openCopy opens what came out of a view, by itself, and checks that it is sound:
// the database as such, and each row against the version it says it has.
func openCopy(t testing.TB, data []byte) *sql.DB {
	t.Helper()
	path := filepath.Join(t.TempDir(), "copy.db")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	db := openAt(t, path)
	var answer string
	if err := db.QueryRow("PRAGMA integrity_check").Scan(&answer); err != nil || answer != "ok" {
		t.Fatalf("integrity_check: %q, %v", answer, err)
	}
	rows, err := db.Query("SELECT id, version, body FROM rows")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var id, version int64
		var b []byte
		if err := rows.Scan(&id, &version, &b); err != nil {
			t.Fatal(err)
		}
		if want := body(id, version); string(b) != string(want) {
			t.Fatalf("row %d is %.40q, want %.40q", id, b, want)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return db
}

func number(t testing.TB, db *sql.DB, query string) int64 {
	t.Helper()
	var n int64
	if err := db.QueryRow(query).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

// checkpoint reports whether it was held up by somebody.
func checkpoint(t testing.TB, db *sql.DB, mode string) (busy bool) {
	t.Helper()
	ctx := t.Context()
	c, err := db.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.ExecContext(ctx, "PRAGMA busy_timeout=0"); err != nil {
		t.Fatal(err)
	}
	var b, log, done int
	if err := c.QueryRowContext(ctx, "PRAGMA wal_checkpoint("+mode+")").Scan(&b, &log, &done); err != nil {
		t.Fatal(err)
	}
	if _, err := c.ExecContext(ctx, "PRAGMA busy_timeout=120000"); err != nil {
		t.Fatal(err)
	}
	return b != 0
}
