package snapshot_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"testing/fstest"

	"gocloud.dev/blob/memblob"

	"github.com/holdstill/holdstill/snapshot"
)

// versions is a source whose state is one small file.
type versions struct{ now string }

func (v *versions) Pin(context.Context) (*snapshot.View, error) {
	return &snapshot.View{FS: fstest.MapFS{"VERSION": {Data: []byte(v.now), Mode: 0o600}}}, nil
}

// Restores the database in place, as a server does at an operator's request; then
// a restore whose data the database refuses; then takes the first one back.
func ExampleEngine_Restore() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "holdstill")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	data := filepath.Join(dir, "data")
	show := func(when string) {
		b, err := os.ReadFile(filepath.Join(data, "VERSION"))
		fmt.Printf("%s: %s %v\n", when, b, err)
	}

	bucket := memblob.OpenBucket(nil)
	defer bucket.Close()
	source := &versions{"monday"}
	engine, err := snapshot.Open(ctx, snapshot.Config{
		Bucket:  bucket,
		Sources: map[string]snapshot.Source{"kv": source},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close()
	snap, err := engine.Create(ctx, snapshot.CreateOptions{})
	if err != nil {
		log.Fatal(err)
	}

	// A server calls this at every start, before it opens its database.
	recovered, err := snapshot.Recover(ctx, data)
	fmt.Println("recover:", recovered.Action, err)
	if err := os.Mkdir(data, 0o700); err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(data, "VERSION"), []byte("tuesday"), 0o600); err != nil {
		log.Fatal(err)
	}
	show("before")

	result, err := engine.Restore(ctx, snap.ID, snapshot.RestoreOptions{
		To:      data,
		Source:  "kv",
		InPlace: true,
		Stop:    func(ctx context.Context) error { fmt.Println("close"); return nil },
		Start:   func(ctx context.Context) error { fmt.Println("open"); return nil },
	})
	if err != nil {
		log.Fatal(err)
	}
	show("restored")

	opened := 0
	_, err = engine.Restore(ctx, snap.ID, snapshot.RestoreOptions{
		To:      data,
		Source:  "kv",
		InPlace: true,
		Start: func(ctx context.Context) error {
			if opened++; opened == 1 {
				return errors.New("format too old")
			}
			return nil
		},
	})
	var failed *snapshot.RestoreError
	fmt.Println("refused:", errors.As(err, &failed) && failed.Undone, strings.Contains(err.Error(), "format too old"))

	if _, err := snapshot.Undo(ctx, data, result.Previous); err != nil {
		log.Fatal(err)
	}
	show("undone")

	// Output:
	// recover: none <nil>
	// before: tuesday <nil>
	// close
	// open
	// restored: monday <nil>
	// refused: true true
	// undone: tuesday <nil>
}
