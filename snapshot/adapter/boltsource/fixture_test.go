package boltsource

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/holdstill/holdstill/snapshot"
)

func openDB(t testing.TB, opts *bbolt.Options) *bbolt.DB {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(t.TempDir(), "meta.db"), 0o600, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return db
}

// roomy is a mapping that no test outgrows.
func roomy() *bbolt.Options { return &bbolt.Options{InitialMmapSize: 1 << 28, NoSync: true} }

// value is what stands under a key in its n-th version: of varying length, and
// compressible like a row.
func value(key, version uint64) []byte {
	r := rand.New(rand.NewPCG(key, version))
	v := fmt.Appendf(nil, "key=%d version=%d ", key, version)
	for range r.IntN(60) {
		v = fmt.Appendf(v, "field%d=%08x;", r.IntN(20), r.Uint32())
	}
	return v
}

// model is what a database should hold.
type model map[uint64]uint64 // key to version

func (m model) clone() model {
	c := make(model, len(m))
	for k, v := range m {
		c[k] = v
	}
	return c
}

func bucketOf(key uint64) []byte { return fmt.Appendf(nil, "bucket%d", key%3) }

// mutate commits one transaction of some puts and deletes, and follows it in m.
func mutate(db *bbolt.DB, r *rand.Rand, m model, rows int) error {
	return db.Update(func(tx *bbolt.Tx) error {
		for range rows {
			key := r.Uint64N(2000)
			b, err := tx.CreateBucketIfNotExists(bucketOf(key))
			if err != nil {
				return err
			}
			if b, err = b.CreateBucketIfNotExists([]byte("nested")); err != nil {
				return err
			}
			k := binary.BigEndian.AppendUint64(nil, key)
			if r.IntN(4) == 0 {
				if err := b.Delete(k); err != nil {
					return err
				}
				delete(m, key)
				continue
			}
			m[key]++
			if m[key] == 1 {
				m[key] = r.Uint64N(1 << 40)
			}
			if err := b.Put(k, value(key, m[key])); err != nil {
				return err
			}
		}
		return nil
	})
}

func readView(t testing.TB, v *snapshot.View) []byte {
	t.Helper()
	entries, err := fs.ReadDir(v.FS, ".")
	if err != nil || len(entries) != 1 {
		t.Fatalf("ReadDir: %v, %v", entries, err)
	}
	data, err := fs.ReadFile(v.FS, entries[0].Name())
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// checkCopy opens a copy of a database and compares it with what it should hold.
func checkCopy(t testing.TB, data []byte, want model, opts *bbolt.Options) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "copy.db")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open(path, 0o600, opts)
	if err != nil {
		t.Fatalf("open the copy: %v", err)
	}
	defer db.Close()
	err = db.View(func(tx *bbolt.Tx) error {
		for err := range tx.Check() {
			t.Errorf("check: %v", err)
		}
		rows := 0
		err := tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
			return b.Bucket([]byte("nested")).ForEach(func(k, v []byte) error {
				rows++
				key := binary.BigEndian.Uint64(k)
				version, ok := want[key]
				if !ok {
					return fmt.Errorf("key %d is there, and should not be", key)
				}
				if !bytes.Equal(v, value(key, version)) {
					return fmt.Errorf("key %d is %.40q, want version %d", key, v, version)
				}
				return nil
			})
		})
		if err == nil && rows != len(want) {
			err = fmt.Errorf("%d rows, want %d", rows, len(want))
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	// The copy must be fit for use, its list of free pages included.
	r := rand.New(rand.NewPCG(9, 9))
	m := want.clone()
	for range 5 {
		if err := mutate(db, r, m, 50); err != nil {
			t.Fatalf("write to the copy: %v", err)
		}
	}
	if err := db.View(func(tx *bbolt.Tx) error {
		for err := range tx.Check() {
			t.Errorf("check after writes: %v", err)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
