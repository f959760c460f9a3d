package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"strconv"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/holdstill/holdstill/bench/rows"
	"github.com/holdstill/holdstill/lock"
	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/snapshot/adapter/pebblesource"
	"github.com/holdstill/holdstill/transfer"
)

// warmUp is how long the writers run undisturbed before the first snapshot and
// after the second one, to have something to compare with.
const warmUp = time.Second

// The names of the sources, and so the folders of a restored snapshot.
const (
	sourceKV     = "kv"
	sourceOracle = "oracle"
)

// A taken is a snapshot with what its writers felt.
type taken struct {
	snap  *snapshot.Snapshot
	stall time.Duration // the longest wait of a writer at the gate
}

// outcome is what the tables at the end show.
type outcome struct {
	snaps       [2]taken
	quiet, busy *latencies
	rows        int64
	copying     time.Duration
	restoring   time.Duration
	restored    int64 // bytes
}

// run does everything, in dir.
func run(ctx context.Context, dir string, set settings, s *show) error {
	fmt.Fprintf(s.out, "holdstill demo: a Pebble database of %s, %d writers, in %s\n\n", size(set.size), set.writers, dir)
	var out outcome
	pinned, err := serve(ctx, dir, set, s, &out)
	if err != nil {
		return err
	}
	if err := restore(ctx, dir, s, &out); err != nil {
		return err
	}
	if err := check(ctx, dir, pinned, s, &out); err != nil {
		return err
	}
	s.report(&out)
	return nil
}

// serve is the life of a server: it fills a database, writes to it, and takes two
// snapshots meanwhile. It returns what the oracle saw in the second freeze.
func serve(ctx context.Context, dir string, set settings, s *show, out *outcome) (_ state, err error) {
	db, kv, err := pebblesource.Open(filepath.Join(dir, "db"), &pebble.Options{Logger: silent{}}, pebblesource.Options{})
	if err != nil {
		return state{}, err
	}
	defer func() { err = errors.Join(err, kv.Close(), db.Close()) }()

	g := rows.New(set.seed)
	st := s.step("fill the database", set.size)
	filled, err := fill(ctx, db, g, set.size, func(done int64) { st.progress(done, set.size) })
	if err != nil {
		st.close()
		return state{}, fmt.Errorf("fill the database: %w", err)
	}
	st.finish("%d rows", filled)

	// This is all that it takes to link holdstill in.
	gate := lock.New(lock.Options{})
	defer func() { err = errors.Join(err, gate.Close()) }()
	o := newOracle(set.seed, filled, set.writers, set.percent)
	engine, err := snapshot.Open(ctx, snapshot.Config{
		Repository: "local:" + filepath.Join(dir, "snapshots"),
		Lock:       gate,
		Sources:    map[string]snapshot.Source{sourceKV: kv, sourceOracle: o},
	})
	if err != nil {
		return state{}, err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()

	l := startLoad(ctx, db, gate, g, o)
	defer func() { err = errors.Join(err, l.stop()) }()
	if err := l.undisturbed(ctx); err != nil {
		return state{}, err
	}
	if out.snaps[0], err = take(ctx, engine, l, "first", s); err != nil {
		return state{}, err
	}
	if err := updateRows(ctx, db, gate, g, o, s); err != nil {
		return state{}, err
	}
	if out.snaps[1], err = take(ctx, engine, l, "second", s); err != nil {
		return state{}, err
	}
	if err := l.undisturbed(ctx); err != nil {
		return state{}, err
	}
	if err := l.stop(); err != nil {
		return state{}, err
	}
	out.quiet, out.busy = merge(l.quiet), merge(l.busy)

	// What the second snapshot shares with the first stays.
	st = s.step("delete the first snapshot", 0)
	if err := engine.Delete(ctx, out.snaps[0].snap.ID); err != nil {
		st.close()
		return state{}, err
	}
	st.finish("")
	pinned, ok := o.lastPinned()
	if !ok {
		return state{}, fmt.Errorf("%w: the oracle was not pinned", errNotVerified)
	}
	return pinned, copyOut(ctx, dir, engine, s, out)
}

// undisturbed lets the writers run for a while.
func (l *load) undisturbed(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(warmUp):
		return nil
	}
}

func take(ctx context.Context, engine *snapshot.Engine, l *load, label string, s *show) (taken, error) {
	st := s.step("snapshot "+strconv.Quote(label)+", under load", 0)
	l.takeStall()
	l.snapshotting.Store(true)
	defer l.snapshotting.Store(false)
	snap, err := engine.Create(ctx, snapshot.CreateOptions{
		Label:    label,
		Progress: func(p snapshot.Progress) { st.progress(p.BytesDone, p.BytesTotal) },
	})
	if err != nil {
		st.close()
		return taken{}, fmt.Errorf("snapshot %q: %w", label, err)
	}
	st.finish("%s, %s stored", size(snap.Stats.Bytes), size(snap.Stats.BytesStored))
	return taken{snap: snap, stall: l.takeStall()}, nil
}

func updateRows(ctx context.Context, db *pebble.DB, gate *lock.Gate, g *rows.Generator, o *oracle, s *show) error {
	st := s.step(fmt.Sprintf("update %v %% of the rows", o.percent), 0)
	total := int64(float64(o.filled) * o.percent / 100)
	if err := o.update(ctx, db, gate, g, func(done int64) { st.progress(done, total) }); err != nil {
		st.close()
		return fmt.Errorf("update rows: %w", err)
	}
	st.finish("%d rows", o.updated.Load())
	return nil
}

// copyOut copies the second snapshot to another repository, as one would to
// another machine.
func copyOut(ctx context.Context, dir string, engine *snapshot.Engine, s *show, out *outcome) (err error) {
	remote, err := openCopy(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remote.Close()) }()
	st := s.step("copy the second to another place", 0)
	result, err := transfer.Copy(ctx, remote.Repository(), engine.Repository(), out.snaps[1].snap.ID, transfer.Options{
		Progress: func(p transfer.Progress) { st.progress(p.BytesDone, p.BytesTotal) },
	})
	if err != nil {
		st.close()
		return fmt.Errorf("copy: %w", err)
	}
	out.copying = st.finish("%s sent", size(result.BytesSent))
	return nil
}

// openCopy opens the second repository. It has no sources: that is how a machine
// restores whose server is dead.
func openCopy(ctx context.Context, dir string) (*snapshot.Engine, error) {
	return snapshot.Open(ctx, snapshot.Config{Repository: "local:" + filepath.Join(dir, "copy")})
}

func restore(ctx context.Context, dir string, s *show, out *outcome) (err error) {
	remote, err := openCopy(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remote.Close()) }()
	st := s.step("restore from there", 0)
	result, err := remote.Restore(ctx, out.snaps[1].snap.ID, snapshot.RestoreOptions{
		To:       filepath.Join(dir, "restored"),
		Progress: func(p snapshot.Progress) { st.progress(p.BytesDone, p.BytesTotal) },
	})
	if err != nil {
		st.close()
		return fmt.Errorf("restore: %w", err)
	}
	out.restored = result.Bytes
	out.restoring = st.finish("%s in %d files", size(result.Bytes), result.Files)
	return nil
}

// check compares the restored database with what was committed when it was frozen.
func check(ctx context.Context, dir string, pinned state, s *show, out *outcome) error {
	restored := filepath.Join(dir, "restored")
	stored, err := readState(filepath.Join(restored, sourceOracle))
	if err != nil {
		return err
	}
	if !reflect.DeepEqual(stored, pinned) {
		return fmt.Errorf("%w: the oracle in the snapshot says %+v, and at the freeze it said %+v", errNotVerified, stored, pinned)
	}
	out.rows = stored.total()
	st := s.step("compare every row", out.rows)
	err = verify(ctx, filepath.Join(restored, sourceKV), stored, func(done int64) { st.progress(done, out.rows) })
	if err != nil {
		st.close()
		return err
	}
	st.finish("%d rows", out.rows)
	return nil
}

// report prints the tables, and the result as the last line.
func (s *show) report(out *outcome) {
	first, second := out.snaps[0], out.snaps[1]
	both := func(name string, cell func(taken) string) []string {
		return []string{name, cell(first), cell(second)}
	}
	fmt.Fprintln(s.out)
	s.table([]string{"Snapshot", "first", "second"}, [][]string{
		both("Database", func(t taken) string { return size(t.snap.Stats.Bytes) }),
		both("Read from it", func(t taken) string { return size(t.snap.Stats.BytesRead) }),
		both("New to the repository", func(t taken) string { return size(t.snap.Stats.BytesNew) }),
		both("Shared with what was there", func(t taken) string {
			// What is new counts the snapshot's own file table as well.
			return percent(max(t.snap.Stats.Bytes-t.snap.Stats.BytesNew, 0), t.snap.Stats.Bytes)
		}),
		both("Stored", func(t taken) string { return size(t.snap.Stats.BytesStored) }),
		both("Stored of what is new", func(t taken) string { return percent(t.snap.Stats.BytesStored, t.snap.Stats.BytesNew) }),
		both("Time", func(t taken) string { return seconds(t.snap.Stats.Duration) }),
		both("Gate was shut for", func(t taken) string { return millis(t.snap.Freeze.Stall) }),
		both("Longest stall of a writer", func(t taken) string { return millis(t.stall) }),
		both("Consistency", func(t taken) string { return string(t.snap.Consistency) }),
	})
	fmt.Fprintln(s.out)
	writers := func(name string, l *latencies) []string {
		return []string{name, strconv.FormatInt(l.Count(), 10), millis(l.Percentile(50)), millis(l.Percentile(99)), millis(l.Max()), millis(l.stall)}
	}
	s.table([]string{"Writers", "writes", "p50", "p99", "longest", "longest at the gate"}, [][]string{
		writers("without a snapshot", out.quiet),
		writers("during a snapshot", out.busy),
	})
	fmt.Fprintf(s.out, "\nCopied in %s, restored %s in %s.\n", seconds(out.copying), size(out.restored), seconds(out.restoring))
	fmt.Fprintf(s.out, "Result: VERIFIED. All %d rows are as they were committed at the freeze, and no other.\n", out.rows)
}
