package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/holdstill/holdstill/bench/rows"
	"github.com/holdstill/holdstill/snapshot/adapter/pebblesource"
)

// tableSize is what Pebble makes its tables of, in bytes: small, so that a
// thousand of them are filled soon.
const tableSize = 64 << 10

// A database is one that the writers commit to, in a folder with its snapshots.
type database struct {
	dir    string
	db     *pebble.DB
	source *pebblesource.Source
	g      *rows.Generator
	filled int     // rows
	done   []int64 // commits of each writer, in all rounds; its own while it runs
}

// openDatabase makes a database of so many tables.
func openDatabase(ctx context.Context, dir string, tables int, set settings) (*database, error) {
	opts := &pebble.Options{
		Logger:          silent{},
		FlushSplitBytes: tableSize,
		// Waits that Pebble makes its writers wait are not what is measured here.
		MemTableStopWritesThreshold: 16,
		L0StopWritesThreshold:       10_000,
	}
	for i := range opts.TargetFileSizes {
		opts.TargetFileSizes[i] = tableSize
	}
	db, source, err := pebblesource.Open(filepath.Join(dir, "db"), opts, pebblesource.Options{RequireEarlyRelease: true})
	if err != nil {
		return nil, err
	}
	d := &database{dir: dir, db: db, source: source, g: rows.New(set.seed), done: make([]int64, set.writers)}
	if err := d.fill(ctx, tables); err != nil {
		return nil, errors.Join(fmt.Errorf("fill the database: %w", err), d.close())
	}
	return d, nil
}

func (d *database) close() error { return errors.Join(d.source.Close(), d.db.Close()) }

// fill inserts rows until there are so many tables, and Pebble has put them in
// their places.
func (d *database) fill(ctx context.Context, tables int) error {
	for d.tables() < int64(tables) {
		// Small steps for small databases, to come out close to it.
		if err := d.insert(min(tables*tableSize/10, 1<<20)); err != nil {
			return err
		}
		for d.db.Metrics().Compact.NumInProgress > 0 {
			if err := pause(ctx, time.Millisecond); err != nil {
				return err
			}
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
	}
	return nil
}

// insert inserts rows of so many bytes and writes them into tables.
func (d *database) insert(size int) error {
	var key, value []byte
	batch := d.db.NewBatch()
	for ; size > 0; d.filled++ {
		key, value = d.g.AppendKey(key[:0], d.filled), d.g.AppendValue(value[:0], d.filled, 0)
		if err := batch.Set(key, value, nil); err != nil {
			return errors.Join(err, batch.Close())
		}
		size -= len(key) + len(value)
	}
	return errors.Join(batch.Commit(pebble.NoSync), batch.Close(), d.db.Flush())
}

// tables is how many the database has at the moment.
func (d *database) tables() int64 {
	total := d.db.Metrics().Total()
	return total.TablesCount
}

// counterKey is where a writer keeps the number of its commits, within the same
// batch as the row. It is no row's key.
func counterKey(writer int) []byte { return fmt.Appendf(nil, "writers/%03d", writer) }

// check compares the counters in the database with what the writers say.
func (d *database) check() error {
	for w, done := range d.done {
		value, closer, err := d.db.Get(counterKey(w))
		switch {
		case errors.Is(err, pebble.ErrNotFound) && done == 0:
			continue
		case err != nil:
			return fmt.Errorf("counter of writer %d: %w", w, err)
		}
		stored := string(value)
		if err := closer.Close(); err != nil {
			return err
		}
		if stored != strconv.FormatInt(done, 10) {
			return fmt.Errorf("writer %d has committed %d times, and its counter says %q", w, done, stored)
		}
	}
	return nil
}

// silent keeps Pebble's messages off the screen. What matters comes as an error.
type silent struct{}

func (silent) Infof(string, ...any)  {}
func (silent) Errorf(string, ...any) {}

// Fatalf must not return: Pebble calls it where going on would lose data.
func (silent) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
