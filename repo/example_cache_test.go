package repo_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"gocloud.dev/blob/memblob"

	"github.com/holdstill/holdstill/repo"
)

// A server with little memory to spare keeps the index in files.
func ExampleOptions_cacheDir() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	bucket := memblob.OpenBucket(nil)
	defer bucket.Close()
	if err := repo.Init(ctx, bucket, repo.InitOptions{}); err != nil {
		log.Fatal(err)
	}
	r, err := repo.Open(ctx, bucket, repo.Options{CacheDir: filepath.Join(dir, "cache")})
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	s, err := r.NewSession(ctx)
	if err != nil {
		log.Fatal(err)
	}
	if err := s.Commit(ctx, &repo.Manifest{ID: "first"}); err != nil {
		log.Fatal(err)
	}
	for id, err := range r.IDs(ctx) {
		fmt.Println(id, err)
	}
	// Output: first <nil>
}
