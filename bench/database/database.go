// Package database makes real databases from the rows of package rows, for
// benchmarks that compare backups of files: begin with [Fill].
package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"go.etcd.io/bbolt"
	_ "modernc.org/sqlite"

	"github.com/holdstill/holdstill/bench/rows"
)

// Kinds are the databases that there are: Pebble, bbolt and SQLite, by what they are
// mostly used for.
func Kinds() []string { return []string{"kv", "meta", "sql"} }

// A Database is open for writing. It is not safe for concurrent use.
type Database interface {
	// Put sets rows to a version, in one transaction.
	Put(ns []int, version int) error
	// Get returns a row's value.
	Get(key []byte) ([]byte, error)
	// Size is what the files take, in bytes, as far as is known before a flush.
	Size() (int64, error)
	// Close writes everything to the files and closes them.
	Close() error
}

// Open opens the database of a kind in a folder, and makes it if there is none. The
// size, in bytes, is what it will be filled to; 0 if it is not.
func Open(kind, dir string, g *rows.Generator, size int64) (Database, error) {
	switch kind {
	case "kv":
		return openPebble(dir, g, size)
	case "meta":
		return openBolt(dir, g)
	case "sql":
		return openSQLite(dir, g)
	}
	return nil, fmt.Errorf("no database is of the kind %q", kind)
}

// batchRows is how many rows one transaction writes.
const batchRows = 500

// Fill puts rows into the database in dir until it has the size in bytes, and returns
// how many there are.
func Fill(ctx context.Context, kind, dir string, g *rows.Generator, size int64) (n int, err error) {
	db, err := Open(kind, dir, g, size)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	batch := make([]int, batchRows)
	for {
		if err := ctx.Err(); err != nil {
			return n, context.Cause(ctx)
		}
		has, err := db.Size()
		if err != nil || has >= size {
			return n, err
		}
		for i := range batch {
			batch[i] = n
			n++
		}
		if err := db.Put(batch, 0); err != nil {
			return n, err
		}
	}
}

// Update gives a share of the first n rows, chosen by the seed, their next version.
func Update(ctx context.Context, kind, dir string, g *rows.Generator, seed uint64, n int, percent float64) (err error) {
	db, err := Open(kind, dir, g, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	batch := make([]int, 0, batchRows)
	for row := range rows.Changed(seed, n, percent) {
		if batch = append(batch, row); len(batch) < batchRows {
			continue
		}
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if err := db.Put(batch, 1); err != nil {
			return err
		}
		batch = batch[:0]
	}
	return db.Put(batch, 1)
}

type pebbleDB struct {
	db *pebble.DB
	g  *rows.Generator
}

func openPebble(dir string, g *rows.Generator, size int64) (Database, error) {
	opts := &pebble.Options{Logger: silent{}}
	if size > 0 {
		// A small database must have more than one table too.
		opts.MemTableSize = uint64(min(max(size/32, 256<<10), 64<<20))
	}
	db, err := pebble.Open(dir, opts)
	if err != nil {
		return nil, err
	}
	return &pebbleDB{db, g}, nil
}

func (p *pebbleDB) Put(ns []int, version int) error {
	batch := p.db.NewBatch()
	for _, n := range ns {
		key, value := p.g.Row(n, version)
		if err := batch.Set(key, value, nil); err != nil {
			return errors.Join(err, batch.Close())
		}
	}
	return errors.Join(batch.Commit(pebble.NoSync), batch.Close())
}

func (p *pebbleDB) Get(key []byte) ([]byte, error) {
	value, closer, err := p.db.Get(key)
	if err != nil {
		return nil, err
	}
	return slices.Clone(value), closer.Close()
}

func (p *pebbleDB) Size() (int64, error) {
	total := p.db.Metrics().Total()
	return total.TablesSize, nil
}

func (p *pebbleDB) Close() error {
	// Otherwise the last rows are only in the log.
	return errors.Join(p.db.Flush(), p.db.Close())
}

// silent keeps Pebble's messages off the screen. What matters comes as an error.
type silent struct{}

func (silent) Infof(string, ...any)  {}
func (silent) Errorf(string, ...any) {}

// Fatalf must not return: Pebble calls it where going on would lose data.
func (silent) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

type boltDB struct {
	db *bbolt.DB
	g  *rows.Generator
}

var boltBucket = []byte("rows")

func openBolt(dir string, g *rows.Generator) (Database, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	db, err := bbolt.Open(filepath.Join(dir, "meta.db"), 0o644, &bbolt.Options{NoSync: true, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType})
	if err != nil {
		return nil, err
	}
	return &boltDB{db, g}, nil
}

func (b *boltDB) Put(ns []int, version int) error {
	return b.db.Update(func(tx *bbolt.Tx) error {
		bucket, err := tx.CreateBucketIfNotExists(boltBucket)
		for _, n := range ns {
			if err == nil {
				key, value := b.g.Row(n, version)
				err = bucket.Put(key, value)
			}
		}
		return err
	})
}

func (b *boltDB) Get(key []byte) (value []byte, err error) {
	err = b.db.View(func(tx *bbolt.Tx) error {
		value = slices.Clone(tx.Bucket(boltBucket).Get(key))
		return nil
	})
	return value, err
}

func (b *boltDB) Size() (size int64, err error) {
	// Not the file's size: that grows in steps of 16 MiB.
	err = b.db.View(func(tx *bbolt.Tx) error {
		size = tx.Size()
		return nil
	})
	return size, err
}

func (b *boltDB) Close() error { return errors.Join(b.db.Sync(), b.db.Close()) }

type sqliteDB struct {
	db *sql.DB
	g  *rows.Generator
}

func openSQLite(dir string, g *rows.Generator) (Database, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "app.db")+"?_pragma=synchronous(OFF)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	_, err = db.Exec("PRAGMA journal_mode=WAL; CREATE TABLE IF NOT EXISTS rows (k TEXT PRIMARY KEY, v TEXT)")
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &sqliteDB{db, g}, nil
}

func (s *sqliteDB) Put(ns []int, version int) error {
	tx, err := s.db.Begin()
	if err != nil {
		return err
	}
	for _, n := range ns {
		key, value := s.g.Row(n, version)
		const upsert = "INSERT INTO rows VALUES (?, ?) ON CONFLICT (k) DO UPDATE SET v = excluded.v"
		if _, err := tx.Exec(upsert, string(key), string(value)); err != nil {
			return errors.Join(err, tx.Rollback())
		}
	}
	return tx.Commit()
}

func (s *sqliteDB) Get(key []byte) (value []byte, err error) {
	err = s.db.QueryRow("SELECT v FROM rows WHERE k = ?", string(key)).Scan(&value)
	return value, err
}

func (s *sqliteDB) Size() (size int64, err error) {
	err = s.db.QueryRow("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()").Scan(&size)
	return size, err
}

// Close moves the log into the file, as the last connection does, and removes it.
func (s *sqliteDB) Close() error { return s.db.Close() }
