package snapshot_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"testing/fstest"

	"golang.org/x/time/rate"

	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/snapshot"
)

// A snapshot goes to another repository as a job, and comes back on another machine. For a store in the cloud the section
// says "type": "s3", with its keys, and the program imports the driver.
func ExampleEngine_Upload() {
	ctx := context.Background()
	top, err := os.MkdirTemp("", "holdstill")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(top)
	config := repo.LocationConfig{"backups": {"type": "local"}}
	engine, err := snapshot.Open(ctx, snapshot.Config{
		Repository: "local:" + filepath.ToSlash(filepath.Join(top, "here")), Locations: config,
		Sources: map[string]snapshot.Source{"kv": jobSource(fstest.MapFS{"table": {Data: []byte("some rows")}})},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close()
	snap, err := engine.Create(ctx, snapshot.CreateOptions{Label: "nightly"})
	if err != nil {
		log.Fatal(err)
	}

	where := "backups:" + filepath.ToSlash(filepath.Join(top, "far"))
	job, err := engine.Upload(ctx, snap.ID, where, snapshot.TransferOptions{
		Options: repo.Options{WriteLimiter: rate.NewLimiter(50e6, 1<<20)}, // bytes a second
	})
	if err != nil {
		log.Fatal(err)
	}
	for status := range job.Progress() {
		_ = status.Progress.Left // show it to somebody; job.Abort() ends it
	}
	if err := job.Wait(ctx); err != nil {
		log.Fatal(err) // the same call again sends the rest
	}

	other, err := snapshot.Open(ctx, snapshot.Config{Repository: "local:" + filepath.ToSlash(filepath.Join(top, "there")), Locations: config})
	if err != nil {
		log.Fatal(err)
	}
	defer other.Close()
	if job, err = other.Download(ctx, snap.ID, where, snapshot.TransferOptions{}); err != nil {
		log.Fatal(err)
	}
	if err := job.Wait(ctx); err != nil {
		log.Fatal(err)
	}
	fsys, err := other.OpenFS(ctx, snap.ID)
	if err != nil {
		log.Fatal(err)
	}
	rows, err := fsys.ReadFile("kv/table")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(job.Status().Kind, job.Status().State)
	fmt.Println(string(rows))
	// Output:
	// download COMPLETED
	// some rows
}
