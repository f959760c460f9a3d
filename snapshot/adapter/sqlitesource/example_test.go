package sqlitesource_test

import (
	"context"
	"database/sql"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	_ "modernc.org/sqlite"

	"github.com/holdstill/holdstill/snapshot/adapter/sqlitesource"
)

func ExampleNew() {
	if err := run(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Output:
	// sqlite wal-overlay
	// alice: "in the snapshot"
}

func run(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "sqlitesource")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "app.db")
	db, err := sql.Open("sqlite", path+"?_pragma=journal_mode(wal)")
	if err != nil {
		return err
	}
	defer db.Close()
	if _, err := db.ExecContext(ctx, `CREATE TABLE users(name TEXT PRIMARY KEY, note TEXT);
		INSERT INTO users VALUES('alice', 'in the snapshot')`); err != nil {
		return err
	}

	src, err := sqlitesource.New(ctx, path, sqlitesource.Options{})
	if err != nil {
		return err
	}
	defer src.Close() // before db is closed

	// The engine does this, with the gate closed around Pin.
	view, err := src.Pin(ctx)
	if err != nil {
		return err
	}
	defer view.Close()
	if _, err := db.ExecContext(ctx, "UPDATE users SET note = 'changed since'"); err != nil {
		return err
	}
	if err := view.Settle(ctx); err != nil {
		return err
	}
	fmt.Println(view.Kind, view.Method)

	// What comes out is a database of its own.
	data, err := fs.ReadFile(view.FS, "app.db")
	if err != nil {
		return err
	}
	restored := filepath.Join(dir, "restored.db")
	if err := os.WriteFile(restored, data, 0o600); err != nil {
		return err
	}
	old, err := sql.Open("sqlite", restored)
	if err != nil {
		return err
	}
	defer old.Close()
	var note string
	if err := old.QueryRowContext(ctx, "SELECT note FROM users WHERE name = 'alice'").Scan(&note); err != nil {
		return err
	}
	fmt.Printf("alice: %q\n", note)
	return nil
}
