package lock

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/metric"
)

// A meter hands the figures of a gate to OpenTelemetry. A nil meter does
// nothing. Its methods are not called while a mutex is held, as the
// instruments are foreign code.
type meter struct {
	stalls, waits, holds                                          metric.Float64Histogram
	freezes, attempts, timeouts, consistent, inconsistent, forced metric.Int64Counter

	gauges metric.Registration // nil when it could not be made
}

// stallBounds are the bounds of buckets in seconds, from 10 µs to 2 minutes.
var stallBounds = []float64{
	1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120,
}

// newMeter makes the instruments. One that cannot be made is left out.
func newMeter(g *Gate, from metric.Meter) *meter {
	if from == nil {
		return nil
	}
	seconds := func(name, what string) metric.Float64Histogram {
		h, err := from.Float64Histogram("holdstill.lock."+name, metric.WithUnit("s"), metric.WithDescription(what),
			metric.WithExplicitBucketBoundaries(stallBounds...))
		if err != nil {
			return nil
		}
		return h
	}
	count := func(name, unit, what string) metric.Int64Counter {
		c, err := from.Int64Counter("holdstill.lock."+name, metric.WithUnit(unit), metric.WithDescription(what))
		if err != nil {
			return nil
		}
		return c
	}
	m := &meter{
		stalls:       seconds("stall.duration", "How long transactions were held at the gate."),
		waits:        seconds("freeze.wait.duration", "Time from asking for a freeze to its pin, or to its failure."),
		holds:        seconds("hold.duration", "How long the gate was shut without a break."),
		freezes:      count("freezes", "{freeze}", "Freezes that have ended, however they ended."),
		consistent:   count("freezes.consistent", "{freeze}", "Freezes that ran their pin behind the shut gate."),
		inconsistent: count("freezes.inconsistent", "{freeze}", "Freezes that ran their pin with the gate open."),
		timeouts:     count("freezes.timeout", "{freeze}", "Freezes that ran out of time."),
		attempts:     count("attempts", "{attempt}", "How many times a freeze has shut the gate."),
		forced:       count("transactions.forced", "{transaction}", "Transactions that a freeze has aborted."),
	}
	inside, err := from.Int64ObservableUpDownCounter("holdstill.lock.transactions.inside",
		metric.WithUnit("{transaction}"), metric.WithDescription("Transactions inside the gate."))
	if err != nil {
		return m
	}
	waiting, err := from.Int64ObservableUpDownCounter("holdstill.lock.transactions.waiting",
		metric.WithUnit("{transaction}"), metric.WithDescription("Transactions held at the gate."))
	if err != nil {
		return m
	}
	registered, err := from.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		n, held := g.now()
		o.ObserveInt64(inside, n)
		o.ObserveInt64(waiting, int64(held))
		return nil
	}, inside, waiting)
	if err == nil {
		m.gauges = registered
	}
	return m
}

// close ends the observation of what is going on now.
func (m *meter) close() {
	if m != nil && m.gauges != nil {
		_ = m.gauges.Unregister() // there is nobody who could do anything about it
	}
}

// record adds d to h, which may be nil. The context says nothing about the
// end of the measured thing: it may be over already.
func record(ctx context.Context, h metric.Float64Histogram, d time.Duration) {
	if h != nil {
		h.Record(context.WithoutCancel(ctx), d.Seconds())
	}
}

// count adds n to c, which may be nil.
func count(ctx context.Context, c metric.Int64Counter, n int64) {
	if c != nil && n != 0 {
		c.Add(context.WithoutCancel(ctx), n)
	}
}
