package sqlitesource

import (
	"database/sql"
	"fmt"
	"io"
	"testing"
)

func fill(b *testing.B, rows int64) (*sql.DB, string) {
	db, path := openServer(b)
	for done := int64(0); done < rows; done += 5000 {
		tx, err := db.Begin()
		if err != nil {
			b.Fatal(err)
		}
		for id := done; id < done+5000; id++ {
			if _, err := tx.Exec("INSERT INTO rows(id, version, body) VALUES(?, 1, ?)", id, body(id, 1)); err != nil {
				b.Fatal(err)
			}
		}
		if err := tx.Commit(); err != nil {
			b.Fatal(err)
		}
	}
	return db, path
}

// BenchmarkPin shows that the time under the gate does not grow with the
// database.
func BenchmarkPin(b *testing.B) {
	for _, rows := range []int64{5_000, 100_000} {
		b.Run(fmt.Sprintf("rows=%d", rows), func(b *testing.B) {
			_, path := fill(b, rows)
			src := newSource(b, path, Options{})
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
	_, path := fill(b, 100_000)
	for _, opts := range []Options{{}, {DBPage: true}} {
		v := pin(b, newSource(b, path, opts))
		settle(b, v)
		b.Run(v.Method, func(b *testing.B) {
			f, err := v.FS.Open("app.db")
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
		})
		if err := v.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
