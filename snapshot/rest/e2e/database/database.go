// Package database is a small database server for tests: rows in Pebble, every transaction through a
// gate, and a snapshot engine over both that restores in place.
//
// Start with New.
package database

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"github.com/holdstill/holdstill/lock"
	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/snapshot/adapter/pebblesource"
)

// Source is the name of the one source in every snapshot.
const Source = "kv"

// ErrStopped means that the database is stopped, as it is for a moment during a restore in place.
var ErrStopped = errors.New("database: it is stopped")

// Options are the settings of a DB. The zero value works.
type Options struct {
	// Dir is the folder for everything. Default: t.TempDir().
	Dir string
	// Version is the DatabaseVersion of its snapshots. Default "3.12.5".
	Version string
	// Configure, if set, changes the engine's configuration before it is opened.
	Configure func(*snapshot.Config)
}

// A DB is a database server without its network side. It is safe for concurrent use.
type DB struct {
	gate   *lock.Gate
	engine *snapshot.Engine
	dir    string
	root   string
	// mu guards kv and source, which are nil while the database is stopped. Calls that use
	// them hold it for reading, so that Stop waits for them.
	mu     sync.RWMutex
	kv     *pebble.DB
	source *pebblesource.Source
}

// New returns a running database with an engine that keeps its snapshots in a local repository. The
// test's end closes both.
func New(t testing.TB, opts Options) *DB {
	t.Helper()
	if opts.Dir == "" {
		opts.Dir = t.TempDir()
	}
	if opts.Version == "" {
		opts.Version = "3.12.5"
	}
	d := &DB{gate: lock.New(lock.Options{}), root: opts.Dir, dir: filepath.Join(opts.Dir, "data")}
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	config := snapshot.Config{
		Repository: "local:" + filepath.ToSlash(filepath.Join(opts.Dir, "snapshots")), Lock: d.gate,
		Sources: map[string]snapshot.Source{Source: pinner{d}}, DatabaseVersion: opts.Version,
	}
	if opts.Configure != nil {
		opts.Configure(&config)
	}
	var err error
	if d.engine, err = snapshot.Open(t.Context(), config); err != nil {
		t.Fatal(errors.Join(err, d.Stop(t.Context())))
	}
	t.Cleanup(func() {
		err := d.engine.Close()
		if errors.Is(err, snapshot.ErrClosed) {
			err = nil
		}
		if err := errors.Join(err, d.Stop(context.Background())); err != nil {
			t.Error(err)
		}
	})
	return d
}

// Engine returns the snapshot engine.
func (d *DB) Engine() *snapshot.Engine { return d.engine }

// Gate returns the gate that every transaction passes.
func (d *DB) Gate() *lock.Gate { return d.gate }

// Dir returns the folder of the rows, which a restore in place replaces.
func (d *DB) Dir() string { return d.dir }

// Root returns the folder above Dir, for what a test needs on the same file system.
func (d *DB) Root() string { return d.root }

// RestoreOptions are those of a restore in place of this database.
func (d *DB) RestoreOptions() snapshot.RestoreOptions {
	return snapshot.RestoreOptions{To: d.dir, Source: Source, InPlace: true, Stop: d.Stop, Start: d.Start}
}

// Start opens the rows, after it has finished or undone what an interrupted restore left.
func (d *DB) Start(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.kv != nil {
		return nil
	}
	if _, err := snapshot.Recover(ctx, d.dir); err != nil {
		return err
	}
	var err error
	d.kv, d.source, err = pebblesource.Open(d.dir, &pebble.Options{MemTableSize: 1 << 20, Logger: silent{}}, pebblesource.Options{})
	return err
}

// Stop closes the rows. Further calls do nothing until Start.
func (d *DB) Stop(context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.kv == nil {
		return nil
	}
	err := errors.Join(d.source.Close(), d.kv.Close())
	d.kv, d.source = nil, nil
	return err
}

// Put sets rows in one transaction: keys and values in turn.
func (d *DB) Put(ctx context.Context, pairs ...string) error {
	if len(pairs)%2 != 0 {
		return fmt.Errorf("database: Put takes keys and values in turn, not %d strings", len(pairs))
	}
	return d.Update(ctx, func(b *pebble.Batch) error {
		for i := 0; i < len(pairs); i += 2 {
			if err := b.Set([]byte(pairs[i]), []byte(pairs[i+1]), nil); err != nil {
				return err
			}
		}
		return nil
	})
}

// Delete removes rows in one transaction.
func (d *DB) Delete(ctx context.Context, keys ...string) error {
	return d.Update(ctx, func(b *pebble.Batch) error {
		for _, key := range keys {
			if err := b.Delete([]byte(key), nil); err != nil {
				return err
			}
		}
		return nil
	})
}

// Update runs one transaction, which a freeze may abort by its context. It fails with ErrStopped.
func (d *DB) Update(ctx context.Context, change func(*pebble.Batch) error) error {
	ctx, tx, err := d.gate.BeginContext(ctx)
	if err != nil {
		return err
	}
	defer tx.End()
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.kv == nil {
		return ErrStopped
	}
	b := d.kv.NewBatch()
	err = change(b)
	if err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return errors.Join(err, b.Close())
	}
	return b.Commit(pebble.NoSync)
}

// Fill sets n rows named "row00000" and on, with values like those of a database. seed makes two
// calls differ.
func (d *DB) Fill(ctx context.Context, n int, seed int) error {
	for at := 0; at < n; at += 100 {
		var pairs []string
		for i := at; i < min(at+100, n); i++ {
			h := uint64(i+1) * 0x9e3779b97f4a7c15 * uint64(2*seed+1)
			pairs = append(pairs, fmt.Sprintf("row%05d", i), fmt.Sprintf(
				`{"_key":"%d","name":"customer %x","balance":%d,"city":"city %d","note":"%x%x"}`, i, h>>40, h%100000, h%97, h, h*h))
		}
		if err := d.Put(ctx, pairs...); err != nil {
			return err
		}
	}
	return nil
}

// Rows returns all rows. It fails with ErrStopped.
func (d *DB) Rows(ctx context.Context) (map[string]string, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.kv == nil {
		return nil, ErrStopped
	}
	it, err := d.kv.NewIterWithContext(ctx, nil)
	if err != nil {
		return nil, err
	}
	rows := map[string]string{}
	for it.First(); it.Valid(); it.Next() {
		value, err := it.ValueAndErr()
		if err != nil {
			return nil, errors.Join(err, it.Close())
		}
		rows[string(it.Key())] = string(value)
	}
	return rows, it.Close()
}

// pinner is the source of whichever Pebble database is open at the moment.
type pinner struct{ d *DB }

func (p pinner) Prepare(ctx context.Context) error {
	p.d.mu.RLock()
	defer p.d.mu.RUnlock()
	if p.d.source == nil {
		return ErrStopped
	}
	return p.d.source.Prepare(ctx)
}

func (p pinner) Pin(ctx context.Context) (*snapshot.View, error) {
	p.d.mu.RLock()
	defer p.d.mu.RUnlock()
	if p.d.source == nil {
		return nil, ErrStopped
	}
	return p.d.source.Pin(ctx)
}

// silent is a Pebble logger that says nothing.
type silent struct{}

func (silent) Infof(string, ...any)  {}
func (silent) Errorf(string, ...any) {}
func (silent) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf(format, args...))
}
