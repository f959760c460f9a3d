package snapshot_test

import (
	"context"
	"fmt"
	"log"
	"testing/fstest"

	"gocloud.dev/blob/memblob"

	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/transfer"
)

// The other repository is mostly named by its location, such as "s3:backups/app"; here
// it is in memory.
func ExampleEngine_Upload() {
	ctx := context.Background()
	here, there := memblob.OpenBucket(nil), memblob.OpenBucket(nil)
	defer here.Close()
	defer there.Close()
	files := fstest.MapFS{"rows": {Data: []byte("one, two, three")}}
	engine, err := snapshot.Open(ctx, snapshot.Config{
		Bucket:  here,
		Sources: map[string]snapshot.Source{"kv": viewSource{func() *snapshot.View { return &snapshot.View{FS: files} }}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close()
	snap, err := engine.Create(ctx, snapshot.CreateOptions{})
	if err != nil {
		log.Fatal(err)
	}
	job, err := engine.Upload(ctx, snap.ID, "memory", snapshot.TransferOptions{Bucket: there})
	if err != nil {
		log.Fatal(err)
	}
	var last transfer.Status
	for last = range job.Progress() {
		// Show it to somebody; engine.Job finds the job by its ID later.
	}
	fmt.Println(last.State, last.Progress.BytesDone, "of", last.Progress.BytesTotal, "bytes")
	// Output: COMPLETED 15 of 15 bytes
}
