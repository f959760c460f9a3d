package repo_test

import (
	"context"
	"fmt"
	"log"

	"gocloud.dev/blob/memblob"

	"github.com/holdstill/holdstill/repo"
)

// All files of a snapshot read in one go, each pack once: Expand says which chunks they
// are made of, ReadChunks fetches them in the order of the packs.
func ExampleRepository_ReadChunks() {
	ctx := context.Background()
	bucket := memblob.OpenBucket(nil)
	defer bucket.Close()
	if err := repo.Init(ctx, bucket, repo.InitOptions{}); err != nil {
		log.Fatal(err)
	}
	r, err := repo.Open(ctx, bucket, repo.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	if err := takeOne(ctx, r, "monday", "kv/wal.log", []byte("begin; put a=1; commit\n")); err != nil {
		log.Fatal(err)
	}

	m, err := r.Manifest(ctx, "monday")
	if err != nil {
		log.Fatal(err)
	}
	var extents []repo.Extent
	for f, err := range r.Files(ctx, m) {
		if err != nil {
			log.Fatal(err)
		}
		extents = append(extents, repo.Extent{Content: f.Content, Start: 0, End: f.Size})
	}
	pieces, err := r.Expand(ctx, extents, 0)
	if err != nil {
		log.Fatal(err)
	}
	wants := make([]repo.Ref, len(pieces))
	for i, p := range pieces {
		wants[i] = p.Ref
	}
	stats, err := r.ReadChunks(ctx, wants, repo.ReadChunksOptions{}, func(i int, data []byte, err error) error {
		if err != nil {
			return err
		}
		fmt.Printf("file %d, byte %d: %s", pieces[i].Extent, pieces[i].Offset, data)
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(stats.Requests, "request")
	// Output:
	// file 0, byte 0: begin; put a=1; commit
	// 1 request
}
