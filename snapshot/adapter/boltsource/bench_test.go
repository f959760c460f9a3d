package boltsource

import (
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"go.etcd.io/bbolt"
)

func fill(b *testing.B, rows int) *bbolt.DB {
	db := openDB(b, &bbolt.Options{InitialMmapSize: 1 << 30, NoSync: true})
	r := rand.New(rand.NewPCG(40, 41))
	for done := 0; done < rows; done += 5000 {
		err := db.Update(func(tx *bbolt.Tx) error {
			bucket, err := tx.CreateBucketIfNotExists([]byte("rows"))
			if err != nil {
				return err
			}
			for range 5000 {
				key := r.Uint64()
				if err := bucket.Put(fmt.Appendf(nil, "%016x", key), value(key, 1)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	return db
}

// BenchmarkPin shows that the time under the gate does not grow with the
// database.
func BenchmarkPin(b *testing.B) {
	for _, rows := range []int{5_000, 100_000} {
		b.Run(fmt.Sprintf("rows=%d", rows), func(b *testing.B) {
			src := New(fill(b, rows), Options{})
			ctx := b.Context()
			b.ReportAllocs()
			for b.Loop() {
				v, err := src.Pin(ctx)
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if err := v.Close(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}

func BenchmarkRead(b *testing.B) {
	v, err := New(fill(b, 100_000), Options{}).Pin(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	defer v.Close()
	f, err := v.FS.Open("meta.db")
	if err != nil {
		b.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(info.Size())
	buf := make([]byte, 1<<20)
	for b.Loop() {
		for off := int64(0); off < info.Size(); off += int64(len(buf)) {
			if _, err := f.(io.ReaderAt).ReadAt(buf, off); err != nil && err != io.EOF {
				b.Fatal(err)
			}
		}
	}
}
