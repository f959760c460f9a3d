package snapshot_test

import (
	"context"
	"fmt"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"strings"

	"gocloud.dev/blob/memblob"

	"github.com/holdstill/holdstill/lock"
	"github.com/holdstill/holdstill/snapshot"
)

// A key-value store keeps sealed tables, a log, and a lock file in a folder.
func ExampleDir() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	data := filepath.Join(dir, "data")
	write := func(name, content string) {
		if err := os.WriteFile(filepath.Join(data, name), []byte(content), 0o600); err != nil {
			log.Fatal(err)
		}
	}
	if err := os.Mkdir(data, 0o700); err != nil {
		log.Fatal(err)
	}
	write("000001.table", "apple=1 pear=2")
	write("current.log", "plum=3")
	write("LOCK", "")

	source, err := snapshot.Dir(data, snapshot.DirOptions{
		Hint: func(name string) snapshot.Hint {
			if strings.HasSuffix(name, ".table") {
				return snapshot.Hint{Class: snapshot.Immutable}
			}
			return snapshot.Hint{Class: snapshot.AppendOnly}
		},
		Skip: func(name string) bool { return name == "LOCK" },
	})
	if err != nil {
		log.Fatal(err)
	}
	defer source.Close()

	ctx := context.Background()
	bucket := memblob.OpenBucket(nil)
	defer bucket.Close()
	engine, err := snapshot.Open(ctx, snapshot.Config{
		Bucket:  bucket,
		Lock:    lock.New(lock.Options{}),
		Sources: map[string]snapshot.Source{"kv": source},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close()

	snap, err := engine.Create(ctx, snapshot.CreateOptions{Label: "before"})
	if err != nil {
		log.Fatal(err)
	}
	write("current.log", "plum=3 fig=4")

	fsys, err := engine.OpenFS(ctx, snap.ID)
	if err != nil {
		log.Fatal(err)
	}
	for _, name := range []string{"000001.table", "current.log"} {
		content, err := fs.ReadFile(fsys, "kv/"+name)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s: %s\n", name, content)
	}
	_, err = fs.Stat(fsys, "kv/LOCK")
	fmt.Println(err)
	// Output:
	// 000001.table: apple=1 pear=2
	// current.log: plum=3
	// stat kv/LOCK: file does not exist
}
