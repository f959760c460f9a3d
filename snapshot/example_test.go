package snapshot_test

import (
	"context"
	"fmt"
	"io/fs"
	"log"
	"testing/fstest"

	"gocloud.dev/blob/memblob"

	"github.com/holdstill/holdstill/lock"
	"github.com/holdstill/holdstill/snapshot"
)

// table is a Source: one method. A real one pins a database; see the packages below
// snapshot/adapter.
type table struct{ rows map[string]string }

func (t *table) Pin(context.Context) (*snapshot.View, error) {
	frozen := fstest.MapFS{}
	for key, value := range t.rows {
		frozen[key] = &fstest.MapFile{Data: []byte(value), Mode: 0o644}
	}
	return &snapshot.View{FS: frozen, Kind: "table"}, nil
}

func Example() {
	ctx := context.Background()
	gate := lock.New(lock.Options{})
	orders := &table{rows: map[string]string{"42": "pending"}}

	// A server would say Repository: "local:/var/lib/app-snapshots".
	bucket := memblob.OpenBucket(nil)
	defer bucket.Close()
	engine, err := snapshot.Open(ctx, snapshot.Config{
		Bucket:  bucket,
		Lock:    gate,
		Sources: map[string]snapshot.Source{"orders": orders},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close()

	snap, err := engine.Create(ctx, snapshot.CreateOptions{Label: "nightly"})
	if err != nil {
		log.Fatal(err)
	}

	// Every transaction of the server passes the gate.
	tx, err := gate.Begin(ctx)
	if err != nil {
		log.Fatal(err)
	}
	orders.rows["42"] = "shipped"
	tx.End()

	fsys, err := engine.OpenFS(ctx, snap.ID)
	if err != nil {
		log.Fatal(err)
	}
	row, err := fs.ReadFile(fsys, "orders/42")
	fmt.Printf("%s %v, and now %s\n", row, err, orders.rows["42"])
	// Output: pending <nil>, and now shipped
}

func ExampleEngine_List() {
	ctx := context.Background()
	bucket := memblob.OpenBucket(nil)
	defer bucket.Close()
	engine, err := snapshot.Open(ctx, snapshot.Config{
		Bucket:  bucket,
		Sources: map[string]snapshot.Source{"orders": &table{rows: map[string]string{"1": "new"}}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close()
	for _, label := range []string{"nightly", "before-upgrade", "nightly"} {
		if _, err := engine.Create(ctx, snapshot.CreateOptions{Label: label}); err != nil {
			log.Fatal(err)
		}
	}

	for snap, err := range engine.List(ctx, snapshot.Filter{Label: "nightly", NewestFirst: true}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(snap.Label, snap.Consistency, snap.Stats.Files, "file,", snap.Stats.BytesRead, "bytes read")
	}
	// Output:
	// nightly source 1 file, 3 bytes read
	// nightly source 1 file, 3 bytes read
}
