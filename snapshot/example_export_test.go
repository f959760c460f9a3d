package snapshot_test

import (
	"bytes"
	"context"
	"fmt"
	"log"

	"gocloud.dev/blob/memblob"

	"github.com/holdstill/holdstill/snapshot"
)

func ExampleEngine_Export() {
	ctx := context.Background()
	from, to := memblob.OpenBucket(nil), memblob.OpenBucket(nil)
	defer from.Close()
	defer to.Close()
	here, err := snapshot.Open(ctx, snapshot.Config{
		Bucket: from, Sources: map[string]snapshot.Source{"orders": &table{rows: map[string]string{"42": "pending"}}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer here.Close()
	there, err := snapshot.Open(ctx, snapshot.Config{Bucket: to})
	if err != nil {
		log.Fatal(err)
	}
	defer there.Close()

	snap, err := here.Create(ctx, snapshot.CreateOptions{Label: "nightly"})
	if err != nil {
		log.Fatal(err)
	}
	// Any io.Writer will do: a file, or the answer to a request.
	var stream bytes.Buffer
	if err := here.Export(ctx, snap.ID, &stream, snapshot.ExportOptions{}); err != nil {
		log.Fatal(err)
	}
	copied, err := there.Import(ctx, &stream, snapshot.ImportOptions{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(copied.ID == snap.ID, copied.Label, copied.Stats.Files)
	// Output: true nightly 1
}
