package boltsource_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"

	"github.com/holdstill/holdstill/snapshot/adapter/boltsource"
)

func put(db *bbolt.DB, key, value string) error {
	return db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte("users"))
		if err != nil {
			return err
		}
		return b.Put([]byte(key), []byte(value))
	})
}

func ExampleNew() {
	if err := run(); err != nil {
		fmt.Println(err)
	}
	// Output:
	// bbolt read-transaction [meta.db]
	// alice: "in the snapshot"
}

func run() error {
	dir, err := os.MkdirTemp("", "boltsource")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	// The room in the mapping lets the server grow while a snapshot is read.
	db, err := bbolt.Open(filepath.Join(dir, "meta.db"), 0o600, &bbolt.Options{InitialMmapSize: 1 << 30})
	if err != nil {
		return err
	}
	defer db.Close()
	if err := put(db, "alice", "in the snapshot"); err != nil {
		return err
	}

	// The engine does this, with the gate closed around Pin.
	view, err := boltsource.New(db, boltsource.Options{}).Pin(context.Background())
	if err != nil {
		return err
	}
	defer view.Close()
	if err := put(db, "alice", "changed since"); err != nil {
		return err
	}
	names, err := fs.Glob(view.FS, "*")
	if err != nil {
		return err
	}
	fmt.Println(view.Kind, view.Method, names)

	// What comes out is a database of its own.
	data, err := fs.ReadFile(view.FS, "meta.db")
	if err != nil {
		return err
	}
	restored := filepath.Join(dir, "restored.db")
	if err := os.WriteFile(restored, data, 0o600); err != nil {
		return err
	}
	old, err := bbolt.Open(restored, 0o600, &bbolt.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	defer old.Close()
	return old.View(func(tx *bbolt.Tx) error {
		fmt.Printf("alice: %q\n", tx.Bucket([]byte("users")).Get([]byte("alice")))
		return nil
	})
}
