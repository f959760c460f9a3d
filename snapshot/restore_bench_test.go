package snapshot

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/holdstill/holdstill/repo"
)

// BenchmarkRestore restores from memory to disk, so that it shows what decoding,
// verifying, writing and syncing cost.
func BenchmarkRestore(b *testing.B) {
	for _, bb := range []struct {
		name  string
		files int
		size  int
	}{{"large", 2, 96 << 20}, {"small", 2000, 4 << 10}} {
		b.Run(bb.name, func(b *testing.B) {
			r := newRepository(b)
			m := storeTable(b, r, "s", func(s *repo.Session, w *repo.Writer) repo.Content {
				table := make([]repo.File, bb.files)
				for i := range table {
					table[i] = repo.File{Path: fmt.Sprintf("kv/%06d.sst", i), Mode: 0o600, ModTime: aTime, Size: int64(bb.size)}
					table[i].Content = putChunks(b, s, w, tableRows(uint64(i), bb.size), 256<<10)
				}
				content, err := s.PutTable(b.Context(), func(yield func(repo.File) bool) {
					if !yield(repo.File{Path: "kv", Mode: fs.ModeDir | 0o700, ModTime: aTime}) {
						return
					}
					for _, f := range table {
						if !yield(f) {
							return
						}
					}
				})
				if err != nil {
					b.Fatal(err)
				}
				return content
			}, repo.SourceInfo{Name: "kv"})
			to := filepath.Join(b.TempDir(), "to")
			b.SetBytes(int64(bb.files) * int64(bb.size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := restoreWith(b.Context(), r, m, RestoreOptions{To: to}, nil); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if err := os.RemoveAll(to); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}
