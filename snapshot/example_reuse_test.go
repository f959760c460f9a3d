package snapshot_test

import (
	"context"
	"fmt"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"strings"
	"testing/fstest"

	"gocloud.dev/blob/memblob"

	"github.com/holdstill/holdstill/snapshot"
)

// sealedTables is a source of tables that never change.
type sealedTables fstest.MapFS

func (s sealedTables) Pin(context.Context) (*snapshot.View, error) {
	return &snapshot.View{FS: fstest.MapFS(s), Hint: func(string) snapshot.Hint { return snapshot.Hint{Class: snapshot.Immutable} }}, nil
}

// A second restore takes from the first what has not changed. Only the table that was
// damaged in between is fetched.
func ExampleEngine_Restore_reuse() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "holdstill")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	data := filepath.Join(dir, "data")
	bucket := memblob.OpenBucket(nil)
	defer bucket.Close()
	tables := sealedTables{".": {Mode: fs.ModeDir | 0o700}}
	for _, name := range []string{"1.sst", "2.sst", "3.sst"} {
		tables[name] = &fstest.MapFile{Data: []byte(strings.Repeat("rows of "+name+"; ", 100)), Mode: 0o600}
	}
	engine, err := snapshot.Open(ctx, snapshot.Config{Bucket: bucket, Sources: map[string]snapshot.Source{"kv": tables}})
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close()
	snap, err := engine.Create(ctx, snapshot.CreateOptions{})
	if err != nil {
		log.Fatal(err)
	}

	if _, err := engine.Restore(ctx, snap.ID, snapshot.RestoreOptions{To: data, Source: "kv"}); err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(data, "2.sst"), []byte("damaged"), 0o600); err != nil {
		log.Fatal(err)
	}
	result, err := engine.Restore(ctx, snap.ID, snapshot.RestoreOptions{To: data, Source: "kv", InPlace: true})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("restored", result.Bytes, "bytes, of which", result.BytesReused, "were there")
	// Output:
	// restored 4500 bytes, of which 3000 were there
}
