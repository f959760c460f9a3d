package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"golang.org/x/sync/errgroup"

	"github.com/holdstill/holdstill/bench/rows"
)

// errNotVerified matches every error that says a restored database is not what was
// frozen.
var errNotVerified = errors.New("not verified")

// readState reads what the oracle stored in the snapshot.
func readState(dir string) (state, error) {
	var s state
	text, err := os.ReadFile(filepath.Join(dir, oracleFile))
	if err != nil {
		return s, fmt.Errorf("%w: the oracle's file: %w", errNotVerified, err)
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return s, fmt.Errorf("%w: the oracle's file: %w", errNotVerified, err)
	}
	return s, nil
}

// versions returns the version of every row that the database was filled with.
func (s *state) versions() (of []int32) {
	of = make([]int32, s.Filled)
	done := 0
	for n := range rows.Changed(s.Seed, s.Filled, s.Percent) {
		if done == s.Updated {
			break
		}
		of[n] = 1
		done++
	}
	var room [updatesPerWrite]int
	for w, writes := range s.Writers {
		for i := range writes {
			touched, version := s.touched(room[:0], w, i)
			for _, n := range touched {
				of[n] = int32(version)
			}
		}
	}
	return of
}

// total is the number of rows in state s.
func (s *state) total() int64 {
	total := int64(s.Filled)
	for _, writes := range s.Writers {
		total += int64(writes)
	}
	return total
}

// verifyCache is the size of the block cache to verify with, in bytes: rows are
// looked up by number, which is not the order of their keys.
const verifyCache = 256 << 20

// verify reads the whole database in dir and compares it with state s: every row
// that must be there with the version that it must have, and nothing besides.
// progress is called with the rows done, from several goroutines.
func verify(ctx context.Context, dir string, s state, progress func(done int64)) (err error) {
	cache := pebble.NewCache(verifyCache)
	defer cache.Unref()
	db, err := pebble.Open(dir, &pebble.Options{ReadOnly: true, Logger: silent{}, Cache: cache})
	if err != nil {
		return fmt.Errorf("%w: the restored database does not open: %w", errNotVerified, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()

	for w, writes := range s.Writers {
		if err := verifyCounter(db, w, writes); err != nil {
			return err
		}
	}
	var done atomic.Int64
	c := checker{db: db, g: rows.New(s.Seed), tick: func() {
		if n := done.Add(1); n%1024 == 0 {
			progress(n)
		}
	}}
	group, ctx := errgroup.WithContext(ctx)
	of := s.versions()
	part := len(of)/runtime.GOMAXPROCS(0) + 1
	for first := 0; first < len(of); first += part {
		group.Go(func() error {
			for n := first; n < min(first+part, len(of)); n++ {
				if err := c.row(ctx, n, int(of[n])); err != nil {
					return err
				}
			}
			return nil
		})
	}
	group.Go(func() error {
		for w, writes := range s.Writers {
			for i := range writes {
				if err := c.row(ctx, s.inserted(w, i), 0); err != nil {
					return err
				}
			}
		}
		// If the other goroutines find what they look for as well, then any key
		// beyond that number is one too many.
		return c.count(ctx, s.total()+int64(countWritten(s.Writers)))
	})
	return group.Wait()
}

// countWritten is the number of writers that have written, and so have a counter.
func countWritten(writers []int) (n int) {
	for _, writes := range writers {
		if writes > 0 {
			n++
		}
	}
	return n
}

func verifyCounter(db *pebble.DB, w, writes int) error {
	value, closer, err := db.Get(counterKey(w))
	switch {
	case errors.Is(err, pebble.ErrNotFound):
		if writes == 0 {
			return nil
		}
		return fmt.Errorf("%w: writer %d has written %d times, and its counter is not there", errNotVerified, w, writes)
	case err != nil:
		return err
	}
	got := string(value)
	if err := closer.Close(); err != nil {
		return err
	}
	if got != strconv.Itoa(writes) {
		return fmt.Errorf("%w: writer %d has written %d times, and its counter says %q", errNotVerified, w, writes, got)
	}
	return nil
}

type checker struct {
	db   *pebble.DB
	g    *rows.Generator
	tick func()
}

func (c *checker) row(ctx context.Context, n, version int) error {
	if n%256 == 0 && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var keyRoom [rows.MaxKeySize]byte
	var valueRoom [rows.MaxValueSize]byte
	key, want := c.g.AppendKey(keyRoom[:0], n), c.g.AppendValue(valueRoom[:0], n, version)
	got, closer, err := c.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return fmt.Errorf("%w: row %s is missing", errNotVerified, key)
	}
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		err = fmt.Errorf("%w: row %s is not of version %d:\n  got  %s\n  want %s", errNotVerified, key, version, got, want)
	}
	if err := errors.Join(err, closer.Close()); err != nil {
		return err
	}
	c.tick()
	return nil
}

// count compares the number of keys in the database with want.
func (c *checker) count(ctx context.Context, want int64) (err error) {
	it, err := c.db.NewIterWithContext(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	var got int64
	for ok := it.First(); ok; ok = it.Next() {
		if got++; got%4096 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	if err := it.Error(); err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("%w: %d keys, must be %d", errNotVerified, got, want)
	}
	return nil
}

// silent keeps Pebble's messages off the screen. What matters comes as an error.
type silent struct{}

func (silent) Infof(string, ...any)  {}
func (silent) Errorf(string, ...any) {}

// Fatalf must not return: Pebble calls it where going on would lose data.
func (silent) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
