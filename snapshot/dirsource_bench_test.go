package snapshot_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/holdstill/holdstill/snapshot"
)

// BenchmarkDirPin measures what a server would stall for: sealed files that Prepare
// has linked, sealed files that it has not, and bytes that have to be copied.
func BenchmarkDirPin(b *testing.B) {
	for _, c := range []struct {
		sealed  int
		mutable int // bytes
		prepare bool
	}{
		{1000, 0, true},
		{1000, 0, false},
		{10_000, 0, true},
		{0, 64 << 20, true},
	} {
		b.Run(fmt.Sprintf("sealed=%d/mutable=%dMiB/prepared=%t", c.sealed, c.mutable>>20, c.prepare), func(b *testing.B) {
			dir := filepath.Join(b.TempDir(), "data")
			for i := range c.sealed {
				putFile(b, dir, fmt.Sprintf("%02d/%06d.sst", i%16, i), text(uint64(i), 100))
			}
			if c.mutable > 0 {
				putFile(b, dir, "main.db", text(1, c.mutable))
			}
			s := newDir(b, dir, snapshot.DirOptions{Hint: lsm})
			b.SetBytes(int64(c.mutable))
			for b.Loop() {
				b.StopTimer()
				if c.prepare {
					if err := s.Prepare(b.Context()); err != nil {
						b.Fatal(err)
					}
				}
				b.StartTimer()
				v := pinDir(b, s)
				b.StopTimer()
				closeView(b, v)
				b.StartTimer()
			}
			b.StopTimer()
			if err := os.RemoveAll(dir); err != nil {
				b.Fatal(err)
			}
		})
	}
}
