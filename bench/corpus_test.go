package bench

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdstill/holdstill/bench/rows"
	"github.com/holdstill/holdstill/snapshot"
)

// corpus is a directory of files like databases', of about the given size: sealed
// tables of 4 MiB, one file of B-tree pages, and an export. Half of the bytes are in
// the tables, three eighths in the pages.
type corpus struct {
	dir  string
	size int64
}

const tableSize = 4 << 20

// newCorpus writes the first generation.
func newCorpus(tb testing.TB, dir string, size int64) *corpus {
	tb.Helper()
	c := &corpus{dir: dir}
	tables := int(size / 2 / tableSize)
	for n := range tables {
		c.write(tb, c.table(n, 0), tableSize, func(p []byte) { rows.Fill(p, uint64(1000+n)) })
	}
	c.write(tb, "meta.db", int(size*3/8), func(p []byte) { rows.Pages(p, 7) })
	c.write(tb, "export.json", int(size/8), func(p []byte) { rows.JSON(p, 9) })
	return c
}

func (c *corpus) table(n, generation int) string {
	return fmt.Sprintf("%06d.sst", generation*100_000+n)
}

func (c *corpus) write(tb testing.TB, name string, size int, fill func([]byte)) {
	tb.Helper()
	p := make([]byte, size)
	fill(p)
	if err := os.WriteFile(filepath.Join(c.dir, name), p, 0o644); err != nil {
		tb.Fatal(err)
	}
	c.size += int64(size)
}

// change makes the second generation: 5 % of the rows of the pages and of the export
// are updated, and one table in ten is replaced by another, as after a compaction.
func (c *corpus) change(tb testing.TB) {
	tb.Helper()
	versions := func(n int) int {
		if rows.IsChanged(5, n, 5) {
			return 1
		}
		return 0
	}
	names, err := filepath.Glob(filepath.Join(c.dir, "*.sst"))
	if err != nil {
		tb.Fatal(err)
	}
	for n, name := range names {
		if n%10 != 0 {
			continue
		}
		if err := os.Remove(name); err != nil {
			tb.Fatal(err)
		}
		c.size -= tableSize
		c.write(tb, c.table(n, 1), tableSize, func(p []byte) { rows.FillAt(p, uint64(1000+n), func(int) int { return 1 }) })
	}
	for name, fill := range map[string]func([]byte){
		"meta.db":     func(p []byte) { rows.PagesAt(p, 7, versions) },
		"export.json": func(p []byte) { rows.JSONAt(p, 9, versions) },
	} {
		info, err := os.Stat(filepath.Join(c.dir, name))
		if err != nil {
			tb.Fatal(err)
		}
		c.size -= info.Size()
		c.write(tb, name, int(info.Size()), fill)
	}
}

// Pin implements snapshot.Source. Nobody writes to a corpus while it is read.
func (c *corpus) Pin(context.Context) (*snapshot.View, error) {
	fsys := os.DirFS(c.dir)
	return &snapshot.View{
		FS: fsys, Kind: "corpus", Epoch: "1",
		Hint: func(name string) snapshot.Hint {
			switch {
			case strings.HasSuffix(name, ".sst"):
				info, err := fs.Stat(fsys, name)
				if err != nil {
					return snapshot.Hint{Class: snapshot.Immutable}
				}
				return snapshot.Hint{Class: snapshot.Immutable, Identity: fmt.Sprintf("%s %d %d", name, info.Size(), info.ModTime().UnixNano())}
			case strings.HasSuffix(name, ".db"):
				return snapshot.Hint{Class: snapshot.Paged, PageSize: rows.PageSize}
			}
			return snapshot.Hint{}
		},
	}, nil
}
