package main

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/holdstill/holdstill/bench/latency"
	"github.com/holdstill/holdstill/lock"
)

// A door is how a writer's transactions pass the gate.
type door struct {
	enter func(ctx context.Context) (leave func(), err error)
	close func() error
}

func newDoor(m mode, set settings, gate *lock.Gate) door {
	nothing := func() error { return nil }
	switch {
	case !m.gate:
		leave := func() {}
		return door{enter: func(context.Context) (func(), error) { return leave, nil }, close: nothing}
	case set.begin:
		return door{enter: func(ctx context.Context) (func(), error) {
			tx, err := gate.Begin(ctx)
			return tx.End, err
		}, close: nothing}
	}
	session := gate.NewSession()
	leave := session.Exit
	return door{
		enter: func(ctx context.Context) (func(), error) { return leave, session.Enter(ctx) },
		close: session.Close,
	}
}

// A writer is one of those that commit, for one round.
type writer struct {
	d        *database
	number   int
	door     door
	arrivals arrivals
	options  *pebble.WriteOptions
	times    latency.Histogram // from when a commit was due until it was made
	served   latency.Histogram // from when the writer ran until it was made

	key, value, count []byte
}

// run commits until the arrivals end. Commits that are late then are still made, so
// that a round has as many as its timetables say.
func (w *writer) run(ctx context.Context) error {
	done := &w.d.done[w.number]
	for {
		w.prepare(*done + 1)
		due, err := w.arrivals.next()
		if errors.Is(err, errEnd) {
			return nil
		}
		if err := errors.Join(err, context.Cause(ctx)); err != nil {
			return err
		}
		begun := time.Now()
		if err := w.transaction(ctx); err != nil {
			return err
		}
		made := time.Now()
		w.times.Record(made.Sub(due))
		w.served.Record(made.Sub(begun))
		*done++
	}
}

// prepare makes what commit i of the writer puts into the database: the next
// version of a row anywhere in it, so that it does not grow, and the count.
func (w *writer) prepare(i int64) {
	x := (uint64(i)<<8 + uint64(w.number)) * 0x9e3779b97f4a7c15
	x = (x ^ x>>29) * 0xbf58476d1ce4e5b9
	n := int((x >> 33) % uint64(w.d.filled))
	w.key = w.d.g.AppendKey(w.key[:0], n)
	w.value = w.d.g.AppendValue(w.value[:0], n, int(i))
	w.count = strconv.AppendInt(w.count[:0], i, 10)
}

func (w *writer) transaction(ctx context.Context) (err error) {
	leave, err := w.door.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	batch := w.d.db.NewBatch()
	defer func() { err = errors.Join(err, batch.Close()) }()
	if err := batch.Set(w.key, w.value, nil); err != nil {
		return err
	}
	if err := batch.Set(counterKey(w.number), w.count, nil); err != nil {
		return err
	}
	return batch.Commit(w.options)
}
