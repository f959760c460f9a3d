package docsource_test

import (
	"context"
	"fmt"
	"io/fs"

	"gocloud.dev/blob/memblob"

	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/snapshot/rest/optools/docsource"
	"github.com/holdstill/holdstill/snapshot/rest/optools/internal/memstore"
)

func ExampleNew() {
	ctx := context.Background()
	store := memstore.New("athena_system")
	store.Set("athena_system", `{"port": "3000", "_id": "00_settings_athena"}`, `{"_id": "old", "type": "athena_backup"}`)

	bucket := memblob.OpenBucket(nil)
	defer bucket.Close()
	engine, err := snapshot.Open(ctx, snapshot.Config{
		Bucket:  bucket,
		Sources: map[string]snapshot.Source{"documents": docsource.New(store, docsource.Options{})},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer engine.Close()
	s, err := engine.Create(ctx, snapshot.CreateOptions{Label: "nightly"})
	if err != nil {
		fmt.Println(err)
		return
	}
	fsys, err := engine.OpenFS(ctx, s.ID)
	if err != nil {
		fmt.Println(err)
		return
	}
	text, err := fs.ReadFile(fsys, "documents/athena_system.ndjson")
	fmt.Printf("%s%v\n", text, err)
	// Output:
	// {"_id":"00_settings_athena","port":"3000"}
	// <nil>
}
