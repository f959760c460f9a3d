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

// A setting names how chunks are checked on their way.
func ExampleVerify() {
	var opts transfer.Options
	fmt.Println(opts.Verify)
	if err := opts.Verify.UnmarshalText([]byte("stored")); err != nil {
		log.Fatal(err)
	}
	fmt.Println(opts.Verify == transfer.VerifyStored)
	// Output:
	// auto
	// true
}

func ExampleOpenJobs() {
	ctx := context.Background()
	jobs, err := transfer.OpenJobs(ctx, transfer.JobsOptions{
		OnFinish: []func(transfer.Status){func(s transfer.Status) { fmt.Println("hook:", s.Kind, s.State) }},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer jobs.Close()
	job, err := jobs.Start(ctx, transfer.Task{Kind: transfer.KindCheck}, func(ctx context.Context, r *transfer.Reporter) error {
		r.Progress(transfer.Progress{BytesDone: 100, BytesTotal: 100})
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	var last transfer.Status
	for last = range job.Progress() {
		// Show it to somebody.
	}
	fmt.Println(last.State, last.Progress.BytesDone, "of", last.Progress.BytesTotal)
	if err := job.Wait(ctx); err != nil {
		log.Fatal(err)
	}
	// Unordered output:
	// COMPLETED 100 of 100
	// hook: check COMPLETED
}
