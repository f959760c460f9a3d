package pebblesource_test

import (
	"context"
	"fmt"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/holdstill/holdstill/snapshot/adapter/pebblesource"
)

// The engine makes these calls; they are shown to explain what a Source does.
func ExampleOpen() {
	dir, err := os.MkdirTemp("", "pebblesource")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	db, src, err := pebblesource.Open(filepath.Join(dir, "db"), &pebble.Options{Logger: silent{}}, pebblesource.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	defer src.Close()

	ctx := context.Background()
	var gate sync.RWMutex // transactions hold it for reading
	_ = db.Set([]byte("apples"), []byte("7"), pebble.NoSync)

	_ = src.Prepare(ctx)
	gate.Lock()
	view, err := src.Pin(ctx) // the only thing done while transactions wait
	gate.Unlock()
	if err != nil {
		log.Fatal(err)
	}
	defer view.Close()
	_ = db.Set([]byte("pears"), []byte("3"), pebble.Sync)

	if view.Settle != nil {
		if err := view.Settle(ctx); err != nil {
			log.Fatal(err)
		}
	}
	restored := filepath.Join(dir, "restored")
	if err := os.CopyFS(restored, view.FS); err != nil {
		log.Fatal(err)
	}
	logs, _ := fs.Glob(view.FS, "*.log")
	fmt.Println(view.Kind, view.Method, len(logs), "log")

	copied, err := pebble.Open(restored, &pebble.Options{Logger: silent{}})
	if err != nil {
		log.Fatal(err)
	}
	defer copied.Close()
	for _, key := range []string{"apples", "pears"} {
		value, closer, err := copied.Get([]byte(key))
		if err != nil {
			fmt.Println(key, err)
			continue
		}
		fmt.Printf("%s %s\n", key, value)
		closer.Close()
	}
	// Output:
	// pebble early-release 1 log
	// apples 7
	// pears pebble: not found
}

// silent drops Pebble's notes on its work.
type silent struct{}

func (silent) Infof(string, ...any)           {}
func (silent) Errorf(string, ...any)          {}
func (silent) Fatalf(format string, a ...any) { log.Fatalf(format, a...) }
