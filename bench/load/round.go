package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"golang.org/x/sync/errgroup"

	"github.com/holdstill/holdstill/bench/latency"
	"github.com/holdstill/holdstill/lock"
)

// result is what one round of one mode came to.
type result struct {
	times     latency.Histogram // from when commits were due until they were made
	served    latency.Histogram // from when their writers ran until they were made
	gate      lock.Stats
	disturbed int64   // how many snapshots or checkpoints were made
	busy      float64 // share of the processors that the process took
	tables    int64   // of the database, at the end
}

// run makes the databases, runs all rounds and prints what came out.
func run(ctx context.Context, dir string, set settings, out io.Writer) (err error) {
	fmt.Fprintf(out, "%d writers, %s, %v a round, %d rounds, %d processors, load average %s\n",
		set.writers, set.pace(), set.span, set.rounds, runtime.GOMAXPROCS(0), loadAverage())
	dbs := make(map[bool]*database) // by mode.large
	defer func() {
		for _, d := range dbs {
			err = errors.Join(err, d.close())
		}
	}()
	for _, m := range set.modes {
		if dbs[m.large] != nil {
			continue
		}
		tables := set.tables
		if m.large {
			tables *= 10
		}
		d, err := openDatabase(ctx, filepath.Join(dir, fmt.Sprint(tables)), tables, set)
		if err != nil {
			return err
		}
		dbs[m.large] = d
		fmt.Fprintf(out, "a database of %d rows in %d tables\n", d.filled, d.tables())
		// The first snapshot of a database stores all of it. The rounds measure what
		// comes after.
		warm := mode{gate: true, what: engineSnapshots, large: m.large}
		if _, err := round(ctx, warm, set, d, min(set.span, time.Second/2)); err != nil {
			return fmt.Errorf("warm up: %w", err)
		}
	}
	results := make(map[int][]result)
	for r := range set.rounds {
		for i := range set.modes {
			m := set.modes[(r+i)%len(set.modes)]
			res, err := round(ctx, m, set, dbs[m.large], set.span)
			if err != nil {
				return fmt.Errorf("round %d, %s: %w", r+1, m.name, err)
			}
			results[m.number] = append(results[m.number], *res)
		}
	}
	for _, d := range dbs {
		if err := d.check(); err != nil {
			return err
		}
	}
	fmt.Fprintf(out, "load average afterwards %s\n\n", loadAverage())
	return report(out, set, results)
}

// round runs one mode once.
func round(ctx context.Context, m mode, set settings, d *database, span time.Duration) (_ *result, err error) {
	gate := lock.New(lock.Options{MaxStall: set.maxStall})
	defer func() { err = errors.Join(err, gate.Close()) }()
	nuisance, err := newDisturber(ctx, m, set, d, gate)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, nuisance.close()) }()
	runtime.GC() // the garbage of the mode before is not to be this one's burden

	res := &result{}
	begin, used := time.Now(), processorTime()
	group, ctx := errgroup.WithContext(ctx)
	if m.long {
		tx, err := gate.Begin(ctx)
		if err != nil {
			return nil, err
		}
		group.Go(func() error { return stayInside(ctx, gate, tx, span) })
	}
	writers := make([]*writer, set.writers)
	for i := range writers {
		writers[i] = &writer{d: d, number: i, options: pebble.NoSync}
		if set.sync {
			writers[i].options = pebble.Sync
		}
		group.Go(func() error { return writers[i].round(ctx, m, set, gate, span) })
	}
	group.Go(func() (err error) {
		res.disturbed, err = nuisance.loop(ctx, set.every, span)
		return err
	})
	if err := group.Wait(); err != nil {
		return nil, err
	}
	res.busy = float64(processorTime()-used) / float64(time.Since(begin)) / float64(runtime.GOMAXPROCS(0))
	for _, w := range writers {
		res.times.Add(&w.times)
		res.served.Add(&w.served)
	}
	res.gate, res.tables = gate.Stats(), d.tables()
	return res, nil
}

// round opens what the writer needs, runs it and closes that again.
func (w *writer) round(ctx context.Context, m mode, set settings, gate *lock.Gate, span time.Duration) (err error) {
	w.door = newDoor(m, set, gate)
	defer func() { err = errors.Join(err, w.door.close()) }()
	if w.arrivals, err = newArrivals(set, w.number, span); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.arrivals.close()) }()
	return w.run(ctx)
}
