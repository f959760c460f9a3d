package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2"
	"go.etcd.io/bbolt"
	_ "modernc.org/sqlite"

	"github.com/holdstill/holdstill/bench/rows"
)

// databases are the folders of a corpus.
var databases = []string{"kv", "meta", "sql"}

// A database is one of the corpus, open for writing.
type database interface {
	// put sets rows to a version, in one transaction.
	put(ns []int, version int) error
	// size is what the files take, in bytes, as far as is known before a flush.
	size() (int64, error)
	// Close writes everything to the files and closes them.
	Close() error
}

// openers open the database in a folder, and make it if there is none. The size is
// what it will be filled to.
var openers = map[string]func(dir string, g *rows.Generator, size int64) (database, error){
	"kv":   openPebble,
	"meta": openBolt,
	"sql":  openSQLite,
}

// batchRows is how many rows one transaction writes.
const batchRows = 500

// fill puts rows into the database in dir until it has the size, and returns how
// many there are.
func fill(ctx context.Context, open func(string, *rows.Generator, int64) (database, error), dir string, g *rows.Generator, size int64) (n int, err error) {
	db, err := open(dir, g, size)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	batch := make([]int, batchRows)
	for {
		if err := ctx.Err(); err != nil {
			return n, context.Cause(ctx)
		}
		has, err := db.size()
		if err != nil || has >= size {
			return n, err
		}
		for i := range batch {
			batch[i] = n
			n++
		}
		if err := db.put(batch, 0); err != nil {
			return n, err
		}
	}
}

// update gives a share of the first n rows their next version.
func update(ctx context.Context, open func(string, *rows.Generator, int64) (database, error), dir string, g *rows.Generator, seed uint64, n int, percent float64) (err error) {
	db, err := open(dir, g, 0)
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
		if err := db.put(batch, 1); err != nil {
			return err
		}
		batch = batch[:0]
	}
	return db.put(batch, 1)
}

type pebbleDB struct {
	db *pebble.DB
	g  *rows.Generator
}

func openPebble(dir string, g *rows.Generator, size int64) (database, error) {
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

func (p *pebbleDB) put(ns []int, version int) error {
	batch := p.db.NewBatch()
	for _, n := range ns {
		key, value := p.g.Row(n, version)
		if err := batch.Set(key, value, nil); err != nil {
			return errors.Join(err, batch.Close())
		}
	}
	return errors.Join(batch.Commit(pebble.NoSync), batch.Close())
}

func (p *pebbleDB) size() (int64, error) {
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

func openBolt(dir string, g *rows.Generator, _ int64) (database, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	db, err := bbolt.Open(filepath.Join(dir, "meta.db"), 0o644, &bbolt.Options{NoSync: true, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType})
	if err != nil {
		return nil, err
	}
	return &boltDB{db, g}, nil
}

func (b *boltDB) put(ns []int, version int) error {
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

func (b *boltDB) size() (size int64, err error) {
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

func openSQLite(dir string, g *rows.Generator, _ int64) (database, error) {
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

func (s *sqliteDB) put(ns []int, version int) error {
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

func (s *sqliteDB) size() (size int64, err error) {
	err = s.db.QueryRow("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()").Scan(&size)
	return size, err
}

// Close moves the log into the file, as the last connection does, and removes it.
func (s *sqliteDB) Close() error { return s.db.Close() }
