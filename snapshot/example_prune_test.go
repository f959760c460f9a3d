package snapshot_test

import (
	"context"
	"fmt"
	"log"

	"gocloud.dev/blob/memblob"

	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/snapshot"
)

// What is not kept is deleted, and then its space is freed. Both may run beside everything
// else that the server does.
func ExampleEngine_Prune() {
	ctx := context.Background()
	bucket := memblob.OpenBucket(nil)
	defer bucket.Close()
	orders := &table{rows: map[string]string{}}
	engine, err := snapshot.Open(ctx, snapshot.Config{Bucket: bucket, Sources: map[string]snapshot.Source{"orders": orders}})
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close()
	for n, label := range []string{"nightly", "before-upgrade", "nightly", "nightly"} {
		orders.rows[fmt.Sprint(n)] = "pending"
		if _, err := engine.Create(ctx, snapshot.CreateOptions{Label: label}); err != nil {
			log.Fatal(err)
		}
	}

	policy := snapshot.KeepPolicy{Last: 1, Labels: []string{"before-upgrade"}}
	pruned, err := engine.Prune(ctx, policy, snapshot.PruneOptions{})
	if err != nil {
		log.Fatal(err)
	}
	for _, v := range pruned.Verdicts {
		fmt.Println(v.Snapshot.Label, v.Kept(), v.Reasons)
	}
	collected, err := engine.Collect(ctx, repo.CollectOptions{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("space was freed:", collected.BytesFreed > 0)
	// Output:
	// nightly true [last 1]
	// nightly false []
	// before-upgrade true [label before-upgrade]
	// nightly false []
	// space was freed: true
}
