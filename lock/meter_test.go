package lock_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"

	"github.com/holdstill/holdstill/lock"
)

// notebook is a meter that writes down what it is given.
type notebook struct {
	noop.Meter
	fail bool // no instrument can be made

	mu       sync.Mutex
	values   map[string][]float64
	callback metric.Callback
}

type noteHistogram struct {
	noop.Float64Histogram
	b    *notebook
	name string
}

type noteCounter struct {
	noop.Int64Counter
	b    *notebook
	name string
}

type noteGauge struct {
	noop.Int64ObservableUpDownCounter
	name string
}

type noteRegistration struct {
	noop.Registration
	b *notebook
}

var errNoInstrument = errors.New("no more instruments")

func (b *notebook) note(ctx context.Context, name string, v float64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if ctx.Err() != nil {
		name += " with an ended context"
	}
	b.values[name] = append(b.values[name], v)
}

func (h noteHistogram) Record(ctx context.Context, v float64, _ ...metric.RecordOption) {
	h.b.note(ctx, h.name, v)
}

func (c noteCounter) Add(ctx context.Context, v int64, _ ...metric.AddOption) {
	c.b.note(ctx, c.name, float64(v))
}

func (b *notebook) Float64Histogram(name string, _ ...metric.Float64HistogramOption) (metric.Float64Histogram, error) {
	if b.fail {
		return nil, errNoInstrument
	}
	return noteHistogram{b: b, name: name}, nil
}

func (b *notebook) Int64Counter(name string, _ ...metric.Int64CounterOption) (metric.Int64Counter, error) {
	if b.fail {
		return nil, errNoInstrument
	}
	return noteCounter{b: b, name: name}, nil
}

func (b *notebook) Int64ObservableUpDownCounter(name string, _ ...metric.Int64ObservableUpDownCounterOption) (metric.Int64ObservableUpDownCounter, error) {
	if b.fail {
		return nil, errNoInstrument
	}
	return noteGauge{name: name}, nil
}

func (b *notebook) RegisterCallback(f metric.Callback, _ ...metric.Observable) (metric.Registration, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.callback = f
	return noteRegistration{b: b}, nil
}

func (r noteRegistration) Unregister() error {
	r.b.mu.Lock()
	defer r.b.mu.Unlock()
	r.b.callback = nil
	return nil
}

type observer struct {
	noop.Observer
	seen map[string]int64
}

func (o observer) ObserveInt64(g metric.Int64Observable, v int64, _ ...metric.ObserveOption) {
	o.seen[g.(noteGauge).name] = v
}

func (b *notebook) observe(ctx context.Context) map[string]int64 {
	o := observer{seen: map[string]int64{}}
	if b.callback == nil {
		return nil
	}
	if err := b.callback(ctx, o); err != nil {
		return nil
	}
	return o.seen
}

// runForMeter makes one of each kind of freeze.
func runForMeter(t *testing.T, g *lock.Gate) {
	t.Helper()
	short := lock.FreezeOptions{Timeout: time.Second, MaxStall: -1}
	s := g.NewSession()
	enter(t, s)
	if _, err := g.Freeze(t.Context(), short, noPin); !errors.Is(err, lock.ErrTimeout) {
		t.Error(err)
	}
	short.AllowInconsistent = true
	if _, err := g.Freeze(t.Context(), short, noPin); err != nil {
		t.Error(err)
	}
	s.Close()
	ctx, tx, err := g.BeginContext(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	context.AfterFunc(ctx, tx.End)
	short.Force = true
	if _, err := g.Freeze(t.Context(), short, noPin); err != nil {
		t.Error(err)
	}
	// A freeze whose context ends, with a transaction that is held for 1 s.
	ending, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	f := goFreeze(ending, g, lock.FreezeOptions{}, func(ctx context.Context) error {
		<-ctx.Done()
		time.Sleep(time.Millisecond) // until the gate has been opened for it
		return nil
	})
	synctest.Wait()
	begin(t, g).End()
	<-f.done
	wantErr(t, f.err, context.DeadlineExceeded)
}

func TestMeter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &notebook{values: map[string][]float64{}}
		g := lock.New(lock.Options{Meter: b})
		runForMeter(t, g)
		synctest.Wait()
		want := map[string][]float64{
			"holdstill.lock.stall.duration":       {1},
			"holdstill.lock.freeze.wait.duration": {1, 1, 1, 0},
			"holdstill.lock.hold.duration":        {1, 1, 1, 1},
			"holdstill.lock.freezes":              {1, 1, 1, 1},
			"holdstill.lock.freezes.consistent":   {1},
			"holdstill.lock.freezes.inconsistent": {1},
			"holdstill.lock.freezes.timeout":      {1},
			"holdstill.lock.attempts":             {1, 1, 1, 1},
			"holdstill.lock.transactions.forced":  {1},
		}
		if diff := cmp.Diff(want, b.values); diff != "" {
			t.Errorf("recorded (-want +got):\n%s", diff)
		}
		// The same in Stats.
		st := g.Stats()
		got := fmt.Sprint(st.Stalls.Count, st.Stalls.Sum, st.Waits.Count, st.Waits.Sum, st.Holds.Count, st.Holds.Sum)
		if got != "1 1s 4 3s 4 4s" {
			t.Errorf("Stats: %s", got)
		}

		tx := begin(t, g)
		_, release := hold(t, lock.New(lock.Options{Meter: b})) // another gate has its own
		release()
		b2 := &notebook{values: map[string][]float64{}}
		g2 := lock.New(lock.Options{Meter: b2})
		_, release = hold(t, g2)
		go func() { begin(t, g2).End() }()
		synctest.Wait()
		if diff := cmp.Diff(map[string]int64{"holdstill.lock.transactions.inside": 0, "holdstill.lock.transactions.waiting": 1}, b2.observe(t.Context())); diff != "" {
			t.Errorf("observed (-want +got):\n%s", diff)
		}
		release()
		synctest.Wait()
		inside := begin(t, g2)
		if got := b2.observe(t.Context()); got["holdstill.lock.transactions.inside"] != 1 {
			t.Errorf("observed %v", got)
		}
		inside.End()
		tx.End()
		g2.Close()
		if b2.callback != nil {
			t.Error("the gauges outlive the gate")
		}
	})
}

// A meter that makes no instruments does not harm the gate.
func TestMeterThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &notebook{fail: true, values: map[string][]float64{}}
		g := lock.New(lock.Options{Meter: b})
		runForMeter(t, g)
		if len(b.values) != 0 {
			t.Errorf("recorded %v", slices.Collect(maps.Keys(b.values)))
		}
		usable(t, g)
		g.Close()
	})
}
