package adapter_test

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path"
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/snapshot/adapter/pebblesource"
)

// TestUnchangedTablesAreNotRead takes a second snapshot of a database that nobody
// wrote to: what is read are its manifest and its log, and not a byte of a table.
func TestUnchangedTablesAreNotRead(t *testing.T) {
	db, src, err := pebblesource.Open(t.TempDir(), &pebble.Options{MemTableSize: 1 << 20, Logger: silent{}}, pebblesource.Options{})
	must(t, err)
	defer func() {
		must(t, src.Close())
		must(t, db.Close())
	}()
	r := rand.New(rand.NewPCG(3, 4))
	for n := range 20_000 {
		value := fmt.Appendf(nil, `{"id":%d,"token":"%016x%016x","state":"open"}`, n, r.Uint64(), r.Uint64())
		must(t, db.Set(key(0, uint64(n)), value, pebble.NoSync))
	}
	must(t, db.Flush())
	e, err := snapshot.Open(t.Context(), snapshot.Config{
		Repository: "local:" + t.TempDir(), VerifyShare: -1, Sources: map[string]snapshot.Source{"kv": src},
	})
	must(t, err)
	defer e.Close()
	first, err := e.Create(t.Context(), snapshot.CreateOptions{})
	must(t, err)
	second, err := e.Create(t.Context(), snapshot.CreateOptions{})
	must(t, err)

	fsys, err := e.OpenFS(t.Context(), second.ID)
	must(t, err)
	var tables, rest int64
	must(t, fs.WalkDir(fsys, "kv", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if path.Ext(name) == ".sst" {
			tables += info.Size()
		} else {
			rest += info.Size()
		}
		return nil
	}))
	t.Logf("tables %d bytes, the rest %d; the first snapshot read %d, the second %d", tables, rest, first.Stats.BytesRead, second.Stats.BytesRead)
	if tables < 500_000 || first.Stats.BytesRead < tables {
		t.Errorf("%d bytes of tables, %d read by the first snapshot: this test tests nothing", tables, first.Stats.BytesRead)
	}
	if second.Stats.BytesRead > rest {
		t.Errorf("the second snapshot read %d bytes; all files but tables have %d", second.Stats.BytesRead, rest)
	}
}
