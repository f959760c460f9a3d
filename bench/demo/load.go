package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/holdstill/holdstill/bench/rows"
	"github.com/holdstill/holdstill/lock"
	"github.com/holdstill/holdstill/snapshot"
)

// state says how far every writer has come. As each write is a function of its
// writer and its number, a state determines every row of the database.
type state struct {
	Seed    uint64  `json:"seed"`
	Filled  int     `json:"filled"`  // rows the database was filled with
	Updated int     `json:"updated"` // rows that the bulk update has done
	Percent float64 `json:"percent"` // share of rows that the bulk update takes
	Writers []int   `json:"writers"` // writes done by each live writer
}

// An oracle counts what was written. It is a Source of the snapshot beside the
// database: its Pin runs in the same freeze, so what it pins must be exactly what
// the database holds. It is what the restored database is checked against.
type oracle struct {
	seed    uint64
	filled  int
	percent float64
	updated atomic.Int64
	writers []atomic.Int64

	mu     sync.Mutex
	pinned []state // one for each Pin, in order
}

func newOracle(seed uint64, filled, writers int, percent float64) *oracle {
	return &oracle{seed: seed, filled: filled, percent: percent, writers: make([]atomic.Int64, writers)}
}

// Pin implements snapshot.Source. It only copies the counters; the file is written
// when the server goes on.
func (o *oracle) Pin(context.Context) (*snapshot.View, error) {
	s := state{Seed: o.seed, Filled: o.filled, Percent: o.percent, Updated: int(o.updated.Load())}
	for i := range o.writers {
		s.Writers = append(s.Writers, int(o.writers[i].Load()))
	}
	o.mu.Lock()
	o.pinned = append(o.pinned, s)
	o.mu.Unlock()

	dir, err := os.MkdirTemp("", "holdstill-oracle-")
	if err != nil {
		return nil, err
	}
	return &snapshot.View{
		FS:     os.DirFS(dir),
		Kind:   "oracle",
		Method: "copy",
		Settle: func(context.Context) error {
			text, err := json.Marshal(s)
			if err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(dir, oracleFile), text, 0o644)
		},
		Close: func() error { return os.RemoveAll(dir) },
	}, nil
}

const oracleFile = "oracle.json"

// lastPinned returns what the last Pin saw.
func (o *oracle) lastPinned() (state, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.pinned) == 0 {
		return state{}, false
	}
	return o.pinned[len(o.pinned)-1], true
}

// A write of a live writer: one new row, and new versions of a few that the
// database was filled with.
const updatesPerWrite = 2

// inserted is the number of the row that write i of writer w inserts.
func (s *state) inserted(w, i int) int { return s.Filled + i*len(s.Writers) + w }

// touched appends the rows that write i of writer w updates to dst, and returns
// them with the version that it gives them. Writers share no rows, and leave those
// to the bulk update that are its own: the result must not depend on who comes
// first. A writer that is left without a row updates none.
func (s *state) touched(dst []int, w, i int) ([]int, int) {
	all := len(s.Writers)
	own := (s.Filled - w + all - 1) / all // how many rows are this writer's
	x := uint64(w)<<40 + uint64(i)
	for range updatesPerWrite {
		// Late rows are updated more often than early ones, as in most databases.
		x = x*0xd1342543de82ef95 + s.Seed | 1
		a, _ := bits.Mul64(x, uint64(own))
		b, _ := bits.Mul64(x*0x9e3779b97f4a7c15, uint64(own))
		n := int(max(a, b))
		for range own {
			if !rows.IsChanged(s.Seed, n*all+w, s.Percent) {
				dst = append(dst, n*all+w)
				break
			}
			n = (n + 1) % own
		}
	}
	return dst, i + 1
}

// counterKey is where a writer keeps the number of its writes, within the same
// batch as the rows. It is no row's key.
func counterKey(w int) []byte { return fmt.Appendf(nil, "writers/%03d", w) }

// fill puts rows into the database until their keys and values add up to size
// bytes, and returns how many rows that took.
func fill(ctx context.Context, db *pebble.DB, g *rows.Generator, size int64, progress func(done int64)) (int, error) {
	var key, value []byte
	var done int64
	n := 0
	for done < size {
		if err := ctx.Err(); err != nil {
			return 0, context.Cause(ctx)
		}
		batch := db.NewBatch()
		for range 500 {
			key, value = g.AppendKey(key[:0], n), g.AppendValue(value[:0], n, 0)
			if err := batch.Set(key, value, nil); err != nil {
				return 0, errors.Join(err, batch.Close())
			}
			done += int64(len(key) + len(value))
			n++
		}
		if err := errors.Join(batch.Commit(pebble.NoSync), batch.Close()); err != nil {
			return 0, err
		}
		progress(min(done, size))
	}
	return n, db.Flush()
}

// update gives a share of the rows a new version, in transactions of their own.
func (o *oracle) update(ctx context.Context, db *pebble.DB, gate *lock.Gate, g *rows.Generator, progress func(done int64)) error {
	pending := slices.Collect(rows.Changed(o.seed, o.filled, o.percent))
	var key, value []byte
	for part := range slices.Chunk(pending, 50) {
		tx, err := gate.Begin(ctx)
		if err != nil {
			return err
		}
		batch := db.NewBatch()
		for _, n := range part {
			key, value = g.AppendKey(key[:0], n), g.AppendValue(value[:0], n, 1)
			if err = batch.Set(key, value, nil); err != nil {
				break
			}
		}
		if err == nil {
			err = batch.Commit(pebble.NoSync)
		}
		if err == nil {
			// Before End: whoever freezes the gate sees the rows and their count.
			progress(o.updated.Add(int64(len(part))))
		}
		err = errors.Join(err, batch.Close())
		tx.End()
		if err != nil {
			return err
		}
	}
	return nil
}

// A load is the live writers at work.
type load struct {
	db     *pebble.DB
	gate   *lock.Gate
	g      *rows.Generator
	oracle *oracle
	cancel context.CancelFunc
	wg     sync.WaitGroup

	snapshotting atomic.Bool
	quiet, busy  []latencies  // of each writer, without and during a snapshot
	stall        atomic.Int64 // the longest wait at the gate since takeStall, in ns

	mu  sync.Mutex
	err error // the first
}

// thinkTime is what a writer waits between two writes, as a client would.
const thinkTime = 500 * time.Microsecond

// startLoad starts the writers. stop ends them.
func startLoad(ctx context.Context, db *pebble.DB, gate *lock.Gate, g *rows.Generator, o *oracle) *load {
	ctx, cancel := context.WithCancel(ctx)
	l := &load{
		db: db, gate: gate, g: g, oracle: o, cancel: cancel,
		quiet: make([]latencies, len(o.writers)), busy: make([]latencies, len(o.writers)),
	}
	for w := range o.writers {
		l.wg.Go(func() {
			if err := l.write(ctx, w); err != nil && ctx.Err() == nil {
				l.mu.Lock()
				l.err = errors.Join(l.err, fmt.Errorf("writer %d: %w", w, err))
				l.mu.Unlock()
			}
		})
	}
	return l
}

// stop ends the writers and waits for them. The latencies may be read after it.
func (l *load) stop() error {
	l.cancel()
	l.wg.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// takeStall returns the longest wait of any writer at the gate since it was last
// called.
func (l *load) takeStall() time.Duration { return time.Duration(l.stall.Swap(0)) }

func (l *load) noteStall(d time.Duration) {
	for old := l.stall.Load(); int64(d) > old && !l.stall.CompareAndSwap(old, int64(d)); old = l.stall.Load() {
	}
}

func (l *load) write(ctx context.Context, w int) error {
	plan := state{Seed: l.oracle.seed, Filled: l.oracle.filled, Percent: l.oracle.percent, Writers: make([]int, len(l.oracle.writers))}
	think := time.NewTimer(0)
	defer think.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return nil
		case <-think.C:
		}
		seen := l.snapshotting.Load()
		start := time.Now()
		tx, err := l.gate.Begin(ctx)
		if err != nil {
			return err
		}
		stall := time.Since(start)
		l.noteStall(stall)
		err = l.writeOne(&plan, w, i)
		if err == nil {
			// Before End: whoever freezes the gate sees the rows and their count.
			l.oracle.writers[w].Store(int64(i + 1))
		}
		tx.End()
		if err != nil {
			return err
		}
		to := &l.quiet[w]
		if seen || l.snapshotting.Load() {
			to = &l.busy[w]
		}
		to.record(time.Since(start), stall)
		think.Reset(thinkTime)
	}
}

func (l *load) writeOne(plan *state, w, i int) (err error) {
	batch := l.db.NewBatch()
	defer func() { err = errors.Join(err, batch.Close()) }()
	set := func(n, version int) error {
		key, value := l.g.Row(n, version)
		return batch.Set(key, value, nil)
	}
	var room [updatesPerWrite]int
	touched, version := plan.touched(room[:0], w, i)
	for _, n := range touched {
		if err := set(n, version); err != nil {
			return err
		}
	}
	if err := set(plan.inserted(w, i), 0); err != nil {
		return err
	}
	if err := batch.Set(counterKey(w), fmt.Append(nil, i+1), nil); err != nil {
		return err
	}
	return batch.Commit(pebble.NoSync)
}
