package transfer_test

import (
	"context"
	"fmt"
	"log"
	"testing/fstest"

	"gocloud.dev/blob/memblob"

	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/transfer"
)

func ExampleCopy() {
	ctx := context.Background()
	here, there := memblob.OpenBucket(nil), memblob.OpenBucket(nil)
	defer here.Close()
	defer there.Close()
	local, err := snapshot.Open(ctx, snapshot.Config{
		Bucket:  here,
		Sources: map[string]snapshot.Source{"kv": mapSource{fstest.MapFS{"rows": {Data: rows(1, 100_000)}}}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer local.Close()
	snap, err := local.Create(ctx, snapshot.CreateOptions{})
	if err != nil {
		log.Fatal(err)
	}

	remote, err := snapshot.Open(ctx, snapshot.Config{Bucket: there})
	if err != nil {
		log.Fatal(err)
	}
	defer remote.Close()
	result, err := transfer.Copy(ctx, remote.Repository(), local.Repository(), snap.ID, transfer.Options{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(result.Chunks, "chunks, the same snapshot:", result.Snapshot.ID == snap.ID)
	// Output: 2 chunks, the same snapshot: true
}
