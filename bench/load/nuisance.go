package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/holdstill/holdstill/lock"
	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/snapshot"
)

// A disturber does once, at each call, what a mode does to its writers.
type disturber struct {
	disturb func(ctx context.Context) error
	close   func() error
}

func newDisturber(ctx context.Context, m mode, set settings, d *database, gate *lock.Gate) (disturber, error) {
	none := func() error { return nil }
	switch m.what {
	case engineSnapshots:
		if set.full {
			return disturber{disturb: func(ctx context.Context) error { return snapshotOnce(ctx, set, d, gate) }, close: none}, nil
		}
		engine, err := openEngine(ctx, filepath.Join(d.dir, "snapshots"), set, d, gate)
		if err != nil {
			return disturber{}, err
		}
		return disturber{disturb: func(ctx context.Context) error { return create(ctx, engine) }, close: engine.Close}, nil
	case checkpoints:
		return disturber{disturb: func(context.Context) error {
			to := filepath.Join(d.dir, "checkpoint")
			return errors.Join(d.db.Checkpoint(to), os.RemoveAll(to))
		}, close: none}, nil
	case gateCheckpoints:
		return disturber{disturb: func(ctx context.Context) error {
			to := filepath.Join(d.dir, "checkpoint")
			_, err := gate.Freeze(ctx, lock.FreezeOptions{}, func(context.Context) error { return d.db.Checkpoint(to) })
			return errors.Join(err, os.RemoveAll(to))
		}, close: none}, nil
	}
	return disturber{close: none}, nil
}

func openEngine(ctx context.Context, dir string, set settings, d *database, gate *lock.Gate) (*snapshot.Engine, error) {
	return snapshot.Open(ctx, snapshot.Config{
		Repository: "local:" + dir,
		Lock:       gate,
		Sources:    map[string]snapshot.Source{"kv": d.source},
		Workers:    set.workers,
	})
}

func create(ctx context.Context, engine *snapshot.Engine) error {
	snap, err := engine.Create(ctx, snapshot.CreateOptions{})
	if err != nil {
		return err
	}
	if snap.Consistency != repo.ConsistencyFrozen {
		return fmt.Errorf("snapshot %s is of consistency %q, must be %q", snap.ID, snap.Consistency, repo.ConsistencyFrozen)
	}
	return nil
}

// snapshotOnce takes a snapshot into a repository of its own, and removes it.
func snapshotOnce(ctx context.Context, set settings, d *database, gate *lock.Gate) (err error) {
	dir := filepath.Join(d.dir, "full")
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	engine, err := openEngine(ctx, dir, set, d, gate)
	if err != nil {
		return err
	}
	return errors.Join(create(ctx, engine), engine.Close())
}

// loop disturbs at once, and then again and again until the round is over. One that
// is due while another runs comes right after it. It returns how many there were.
func (n disturber) loop(ctx context.Context, every, span time.Duration) (count int64, err error) {
	if n.disturb == nil {
		return 0, nil
	}
	begin := time.Now()
	for due := begin; due.Sub(begin) < span; due = laterOf(due.Add(every), time.Now()) {
		if err := pause(ctx, time.Until(due)); err != nil {
			return count, err
		}
		if err := n.disturb(ctx); err != nil {
			return count, err
		}
		count++
	}
	return count, nil
}

func laterOf(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// pause waits that long, or until ctx ends, whose cause it returns then.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return context.Cause(ctx)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// longShare is the share of the round for which a long transaction stays inside.
const longShare = 0.6

// stayInside is the long transaction: begun before the first snapshot, in the form
// of which a freeze knows neither name nor age. However late that snapshot comes on a
// slow machine, the transaction is in its way: a second attempt tells that the first
// one made way for it.
func stayInside(ctx context.Context, gate *lock.Gate, tx lock.Tx, span time.Duration) error {
	defer tx.End()
	err := pause(ctx, time.Duration(longShare*float64(span)))
	for err == nil && gate.Stats().Attempts < 2 {
		err = pause(ctx, time.Millisecond)
	}
	return err
}
