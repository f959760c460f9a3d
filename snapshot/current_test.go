package snapshot_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"sync/atomic"
	"testing"
	"testing/fstest"

	"gocloud.dev/blob/memblob"

	"github.com/holdstill/holdstill/snapshot"
)

// A server whose database was opened anew: the engine stays, and snapshots are of the new one.
func ExampleCurrent() {
	ctx := context.Background()
	bucket := memblob.OpenBucket(nil)
	defer bucket.Close()

	var open atomic.Pointer[versions] // what the server has open
	engine, err := snapshot.Open(ctx, snapshot.Config{
		Bucket: bucket,
		Sources: map[string]snapshot.Source{"kv": snapshot.Current(func() snapshot.Source {
			if v := open.Load(); v != nil {
				return v
			}
			return nil
		})},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close()

	for _, v := range []*versions{{"monday"}, nil, {"tuesday"}} {
		open.Store(v)
		snap, err := engine.Create(ctx, snapshot.CreateOptions{})
		if err != nil {
			fmt.Println(err)
			continue
		}
		fsys, err := engine.OpenFS(ctx, snap.ID)
		if err != nil {
			log.Fatal(err)
		}
		text, err := fs.ReadFile(fsys, "kv/VERSION")
		fmt.Printf("%s %v\n", text, err)
	}
	// Output:
	// monday <nil>
	// snapshot: prepare source kv: snapshot: the source is closed
	// tuesday <nil>
}

// prepared counts what is asked of it.
type prepared struct {
	versions
	prepares, pins int
	refuses        error
}

func (p *prepared) Prepare(context.Context) error { p.prepares++; return p.refuses }

func (p *prepared) Pin(ctx context.Context) (*snapshot.View, error) {
	p.pins++
	return p.versions.Pin(ctx)
}

func TestCurrentHandsOn(t *testing.T) {
	refuses := errors.New("not now")
	with, without := &prepared{}, &versions{"x"}
	var now snapshot.Source = with
	s := snapshot.Current(func() snapshot.Source { return now })
	if err := s.Prepare(t.Context()); err != nil || with.prepares != 1 {
		t.Errorf("prepared %d times, error %v", with.prepares, err)
	}
	if _, err := s.Pin(t.Context()); err != nil || with.pins != 1 {
		t.Errorf("pinned %d times, error %v", with.pins, err)
	}
	with.refuses = refuses
	if err := s.Prepare(t.Context()); !errors.Is(err, refuses) {
		t.Errorf("its error became %v", err)
	}
	now = without
	if err := s.Prepare(t.Context()); err != nil {
		t.Errorf("one that prepares nothing: %v", err)
	}
	if v, err := s.Pin(t.Context()); err != nil || v.FS.(fstest.MapFS)["VERSION"] == nil {
		t.Errorf("pinned %v, error %v", v, err)
	}
	now = nil // closed since it was prepared
	if v, err := s.Pin(t.Context()); v != nil || !errors.Is(err, snapshot.ErrSourceClosed) {
		t.Errorf("without one: %v, %v", v, err)
	}
}
