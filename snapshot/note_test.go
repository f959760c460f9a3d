package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"testing"
	"testing/fstest"

	"gocloud.dev/blob/memblob"

	"github.com/holdstill/holdstill/repo"
)

// countedFS counts the opened files, and lets one of them fail.
type countedFS struct {
	fstest.MapFS
	opened, failAt int
}

var errOpen = errors.New("cannot be opened")

func (f *countedFS) Open(name string) (fs.File, error) {
	if f.opened++; f.opened == f.failAt {
		return nil, errOpen
	}
	return f.MapFS.Open(name)
}

func (f *countedFS) Pin(context.Context) (*View, error) { return &View{FS: f}, nil }

// With a cache for the index a snapshot notes what it has stored, again and again: so its
// session holds few chunks, and the work of one that failed is not lost.
func TestCreateNotesWhatItStores(t *testing.T) {
	const files = 600 // many more than what can be on its way at any time
	source := &countedFS{MapFS: make(fstest.MapFS)}
	for n := range files {
		rng := rand.NewChaCha8([32]byte{byte(n), byte(n >> 8)})
		data := make([]byte, 40_000)
		_, _ = rng.Read(data)
		source.MapFS[fmt.Sprintf("f%03d", n)] = &fstest.MapFile{Data: data}
	}
	bucket := memblob.OpenBucket(nil)
	defer bucket.Close()
	open := func(t *testing.T, dir string) *Engine {
		e, err := Open(t.Context(), Config{
			Bucket: bucket, Sources: map[string]Source{"kv": source}, CacheDir: dir, Workers: 1, Options: repo.Options{PackSize: 1 << 20},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { e.Close() })
		e.noteChunks = 50
		return e
	}
	indexes := func(t *testing.T) (n int) {
		it := bucket.List(nil)
		for {
			o, err := it.Next(t.Context())
			if err != nil {
				return n
			}
			if len(o.Key) > 6 && o.Key[:6] == "index/" {
				n++
			}
		}
	}

	source.failAt = files - 10
	if _, err := open(t, "").Create(t.Context(), CreateOptions{}); !errors.Is(err, errOpen) {
		t.Fatalf("error %v", err)
	}
	if n := indexes(t); n != 0 {
		t.Errorf("%d indexes without a cache", n)
	}
	source.opened = 0
	e := open(t, t.TempDir())
	if _, err := e.Create(t.Context(), CreateOptions{}); !errors.Is(err, errOpen) {
		t.Fatalf("error %v", err)
	}
	if n := indexes(t); n < 3 {
		t.Errorf("%d indexes", n)
	}
	source.opened, source.failAt = 0, 0
	snap, err := e.Create(t.Context(), CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if snap.Stats.BytesNew > snap.Stats.Bytes/2 {
		t.Errorf("%d of %d bytes are stored again", snap.Stats.BytesNew, snap.Stats.Bytes)
	}
	fsys, err := e.OpenFS(t.Context(), snap.ID)
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range source.MapFS {
		if data, err := fsys.ReadFile("kv/" + name); err != nil || !bytes.Equal(data, f.Data) {
			t.Errorf("%s: %d bytes, error %v", name, len(data), err)
		}
	}
	report, err := e.Repository().Check(t.Context(), repo.CheckOptions{ReadData: true})
	if err != nil || !report.OK() {
		t.Errorf("check: %+v, error %v", report, err)
	}
}
