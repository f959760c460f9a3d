package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/holdstill/holdstill/bench/database"
	"github.com/holdstill/holdstill/bench/rows"
)

// percentChanged is the share of rows that differ between the two generations.
const percentChanged = 5

// The folders of a corpus. One generation at a time is moved to live: the path of
// a file, its inode and its times stay what they were, as for a database that
// stands still, and peers know it again.
const (
	liveFolder = "live"
	generation = "generation-" // and the number
)

// makeCorpus makes both generations of the databases in dir, which must exist:
// half of the size is Pebble's tables, a quarter bbolt's pages, a quarter SQLite's.
// It takes much memory, and so runs in a process of its own.
func makeCorpus(ctx context.Context, dir string, size int64, seed uint64) error {
	g := rows.New(seed)
	share := map[string]int64{"kv": size / 2, "meta": size / 4, "sql": size / 4}
	old, updated := filepath.Join(dir, generation+"1"), filepath.Join(dir, generation+"2")
	if err := errors.Join(os.Mkdir(old, 0o755), os.Mkdir(updated, 0o755)); err != nil {
		return err
	}
	for _, name := range database.Kinds() {
		n, err := database.Fill(ctx, name, filepath.Join(old, name), g, share[name])
		if err == nil {
			err = backdate(filepath.Join(old, name))
		}
		if err == nil {
			err = clone(filepath.Join(old, name), filepath.Join(updated, name))
		}
		if err == nil {
			err = database.Update(ctx, name, filepath.Join(updated, name), g, seed, n, percentChanged)
		}
		if err != nil {
			return fmt.Errorf("corpus: %s: %w", name, err)
		}
	}
	return nil
}

// backdate makes all files of a folder older. The two generations are made within
// seconds, and rsync takes files of one second and one size for the same.
func backdate(dir string) error {
	earlier := time.Now().Add(-time.Hour)
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		err = errors.Join(err, os.Chtimes(filepath.Join(dir, e.Name()), earlier, earlier))
	}
	return err
}

// clone copies a database's folder. Sealed tables are linked: in the second
// generation they are the same files still.
func clone(src, dst string) error {
	if err := os.Mkdir(dst, 0o755); err != nil {
		return err
	}
	entries, err := os.ReadDir(src)
	if err != nil {
		return err
	}
	for _, e := range entries {
		from, to := filepath.Join(src, e.Name()), filepath.Join(dst, e.Name())
		if strings.HasSuffix(e.Name(), ".sst") {
			err = os.Link(from, to)
		} else {
			err = copyFile(from, to)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func copyFile(src, dst string) (err error) {
	from, err := os.Open(src)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	_, err = io.Copy(to, from)
	return err
}

// corpus is what makeCorpus made.
type corpus struct {
	dir   string
	shown int // the generation in the live folder, 0 if none
}

func (c *corpus) live() string { return filepath.Join(c.dir, liveFolder) }

// show moves a generation to the live folder.
func (c *corpus) show(number int) error {
	if c.shown == number {
		return nil
	}
	folder := func(n int) string { return filepath.Join(c.dir, fmt.Sprint(generation, n)) }
	if c.shown != 0 {
		if err := os.Rename(c.live(), folder(c.shown)); err != nil {
			return err
		}
		c.shown = 0
	}
	if err := os.Rename(folder(number), c.live()); err != nil {
		return err
	}
	c.shown = number
	return nil
}

// listing returns the sizes of all regular files below a folder, by their paths.
func listing(dir string) (map[string]int64, error) {
	sizes := make(map[string]int64)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err == nil && !info.Mode().IsRegular() {
			err = fmt.Errorf("%s is not a regular file", path)
		}
		sizes[rel] = info.Size()
		return err
	})
	return sizes, err
}

// errDiffers means that a restored corpus is not what it must be.
var errDiffers = errors.New("the restored files differ from the original")

// compareTrees reads all files of two folders and fails with errDiffers at the
// first that differs, or is in one of them only.
func compareTrees(want, got string) error {
	wanted, err := listing(want)
	if err != nil {
		return err
	}
	restored, err := listing(got)
	if err != nil {
		return err
	}
	for name := range restored {
		if _, ok := wanted[name]; !ok {
			return fmt.Errorf("%w: %s is not in the original", errDiffers, name)
		}
	}
	for name, size := range wanted {
		has, ok := restored[name]
		switch {
		case !ok:
			return fmt.Errorf("%w: %s is missing", errDiffers, name)
		case has != size:
			return fmt.Errorf("%w: %s has %d bytes, must be %d", errDiffers, name, has, size)
		}
		if err := compareFiles(filepath.Join(want, name), filepath.Join(got, name)); err != nil {
			return err
		}
	}
	return nil
}

// compareFiles compares two files of one size.
func compareFiles(want, got string) error {
	a, err := os.Open(want)
	if err != nil {
		return err
	}
	defer a.Close()
	b, err := os.Open(got)
	if err != nil {
		return err
	}
	defer b.Close()
	var room [2][64 << 10]byte
	for at := int64(0); ; {
		n, err := io.ReadFull(a, room[0][:])
		m, otherErr := io.ReadFull(b, room[1][:])
		if !bytes.Equal(room[0][:n], room[1][:m]) {
			return fmt.Errorf("%w: %s, somewhere in the %d bytes from %d", errDiffers, got, max(n, m), at)
		}
		at += int64(n)
		for _, err := range []error{err, otherErr} {
			if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				return err
			}
		}
		if err != nil || otherErr != nil {
			return nil
		}
	}
}

// corpusSize describes what a generation holds.
type corpusSize struct {
	files int
	bytes int64
	by    map[string]int64 // of each database
	// rewritten is how many bytes lie in files that the generation before does not
	// have under the same name, size and times.
	rewritten int64
}

// describe looks at a generation, wherever it is.
func (c *corpus) describe(number int) (corpusSize, error) {
	size := corpusSize{by: make(map[string]int64)}
	folder := func(n int) string {
		if n == c.shown {
			return c.live()
		}
		return filepath.Join(c.dir, fmt.Sprint(generation, n))
	}
	sizes, err := listing(folder(number))
	if err != nil {
		return size, err
	}
	for name, n := range sizes {
		size.files++
		size.bytes += n
		top, _, _ := strings.Cut(filepath.ToSlash(name), "/")
		size.by[top] += n
		now, err := os.Stat(filepath.Join(folder(number), name))
		if err != nil {
			return size, err
		}
		before, err := os.Stat(filepath.Join(folder(number-1), name))
		if err != nil || !os.SameFile(now, before) {
			size.rewritten += n
		}
	}
	return size, nil
}

func (c corpusSize) String() string {
	var parts []string
	for _, name := range database.Kinds() {
		parts = append(parts, fmt.Sprintf("%s %s", map[string]string{"kv": "Pebble", "meta": "bbolt", "sql": "SQLite"}[name], size(c.by[name])))
	}
	slices.Sort(parts)
	return fmt.Sprintf("%s in %d files (%s)", size(c.bytes), c.files, strings.Join(parts, ", "))
}
