package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/holdstill/holdstill/lock"
)

// small are settings for a short run of all modes in a folder of the test's.
func small(t *testing.T) settings {
	t.Helper()
	set, err := parse(strings.Fields("-seconds 0.3 -rounds 2 -writers 2 -rate 500 -tables 4 -snapshot-every 0.1 -max-stall 20ms"), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	set.parent = t.TempDir()
	return set
}

func TestAllModes(t *testing.T) {
	for name, change := range map[string]func(*settings){
		"sessions":             func(*settings) {},
		"begin, synced, timer": func(s *settings) { s.begin, s.sync, s.arrivals, s.rounds = true, true, byTimer, 1 },
		"full snapshots, closed loop": func(s *settings) {
			s.full, s.rate, s.rounds, s.workers, s.span = true, 0, 1, 1, s.span/2
		},
	} {
		t.Run(name, func(t *testing.T) {
			set := small(t)
			change(&set)
			var out bytes.Buffer
			if err := inFolder(t.Context(), set, &out); err != nil {
				t.Fatalf("%v\n%s", err, out.String())
			}
			for _, m := range set.modes {
				if !strings.Contains(out.String(), "  "+m.name+"  ") {
					t.Errorf("no line for %q in:\n%s", m.name, out.String())
				}
			}
			for _, n := range []int{3, 6, 7} {
				if !strings.Contains(out.String(), fmt.Sprintf("  %d: ", n)) {
					t.Errorf("no target of mode %d in:\n%s", n, out.String())
				}
			}
			if left, err := os.ReadDir(set.parent); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v %v", left, err)
			}
		})
	}
}

// TestRound looks at the figures of every mode that do not depend on the machine.
func TestRound(t *testing.T) {
	set := small(t)
	d, err := openDatabase(t.Context(), set.parent, set.tables, set)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.close(); err != nil {
			t.Error(err)
		}
	}()
	// A compaction since may have left fewer tables than there were.
	if d.tables() < int64(set.tables)/2 || d.filled < 100 {
		t.Errorf("%d rows in %d tables", d.filled, d.tables())
	}
	var commits int64
	for _, m := range set.modes {
		res, err := round(t.Context(), m, set, d, set.span)
		if err != nil {
			t.Fatalf("%s: %v", m.name, err)
		}
		// 500 a second for 0.3 s, and two writers: nothing that was due is left out.
		if res.times.Count() != 300 || res.served.Count() != 300 {
			t.Errorf("%s: %d commits, %d served, want 300", m.name, res.times.Count(), res.served.Count())
		}
		commits += res.times.Count()
		if (m.what != nothing) != (res.disturbed > 0) {
			t.Errorf("%s: disturbed %d times", m.name, res.disturbed)
		}
		freezes := int64(0)
		if m.gate {
			freezes = res.disturbed
		}
		g := res.gate
		if g.Freezes != freezes || g.Consistent != freezes || g.Attempts < freezes || g.Inside != 0 || g.Waiting != 0 {
			t.Errorf("%s: %d disturbances, and the gate says %+v", m.name, res.disturbed, g)
		}
		if m.long && g.Attempts <= g.Freezes {
			t.Errorf("%s: %d attempts for %d freezes: the long transaction was not in the way", m.name, g.Attempts, g.Freezes)
		}
	}
	if d.done[0]+d.done[1] != commits {
		t.Errorf("the writers count %v, the rounds %d", d.done, commits)
	}
	if err := d.check(); err != nil {
		t.Error(err)
	}
	d.done[1]++
	if err := d.check(); err == nil {
		t.Error("a lost commit is not found")
	}
	d.done[1]--
}

func TestCancelled(t *testing.T) {
	cause := errors.New("enough")
	for _, after := range []time.Duration{0, 20 * time.Millisecond, 300 * time.Millisecond} {
		set := small(t)
		set.span = time.Hour
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(after, func() { cancel(cause) })
		if err := inFolder(ctx, set, io.Discard); !errors.Is(err, cause) {
			t.Errorf("after %v: error %v, want %v", after, err, cause)
		}
		if left, err := os.ReadDir(set.parent); err != nil || len(left) > 0 {
			t.Errorf("after %v: left behind: %v %v", after, left, err)
		}
	}
}

func TestArrivals(t *testing.T) {
	set := settings{writers: 4, rate: 2000, seed: 1}
	for _, kind := range slices.Compact([]string{byTimer, defaultArrivals}) {
		set.arrivals = kind
		a, err := newArrivals(set, 1, 10*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		var all []time.Time
		for {
			due, err := a.next()
			if errors.Is(err, errEnd) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if now := time.Now(); now.Before(due) {
				t.Errorf("%s: woken %v too early", kind, due.Sub(now))
			}
			all = append(all, due)
		}
		if len(all) != 20 {
			t.Fatalf("%s: %d arrivals, want 20", kind, len(all))
		}
		for i := range all[1:] {
			if gap := all[i+1].Sub(all[i]); gap != 500*time.Microsecond {
				t.Errorf("%s: arrival %d is due %v after the one before", kind, i+1, gap)
			}
		}
		if err := a.close(); err != nil {
			t.Error(err)
		}
	}
}

func TestTimetable(t *testing.T) {
	for _, c := range []struct {
		rate   float64
		w      int
		span   time.Duration
		offset time.Duration
		trips  int64
	}{
		{1000, 0, time.Second, 0, 1000},
		{1000, 3, time.Second, 750 * time.Microsecond, 1000},
		{1000, 0, time.Second + 1, 0, 1001},
		{1000, 3, time.Second + 750*time.Microsecond, 750 * time.Microsecond, 1000},
		{1000, 3, 1, 750 * time.Microsecond, 0},
		{10, 1, 100 * time.Millisecond, 25 * time.Millisecond, 1},
	} {
		before := time.Now()
		got := newTimetable(settings{writers: 4, rate: c.rate}, c.w, c.span)
		if got.trips != c.trips || got.first.Before(before.Add(c.offset)) {
			t.Errorf("%+v: %d trips, the first %v after the start", c, got.trips, got.first.Sub(before))
		}
	}
}

// made returns a result of latencies from 1 to 1000 units, and a longest hold of a
// gate that really was held.
func made(t *testing.T, unit time.Duration, tables int64) result {
	t.Helper()
	r := result{tables: tables, disturbed: 2, busy: float64(tables) / 100}
	for i := range 1000 {
		r.times.Record(time.Duration(i+1) * unit)
		r.served.Record(time.Duration(i+1) * unit / 2)
	}
	r.gate = lock.Stats{Freezes: 2, Attempts: 3, Stalled: 4, LongestHeld: unit, LongestStall: 2 * unit}
	r.gate.Stalls.Max = 3 * unit
	return r
}

func TestSummary(t *testing.T) {
	ms := time.Millisecond
	s := summarise([]result{made(t, ms, 20), made(t, 3*ms, 30), made(t, 2*ms, 10)})
	want := summary{
		commits: 3000, p50: s.p50, p99: s.p99, p999: s.p999, served99: s.served99, served999: s.served999, peak: 2 * time.Second, worst: 3 * time.Second,
		hold: 3 * ms, stall: 6 * ms, felt: 9 * ms, disturbed: 6, stalled: 12, freezes: 6, attempts: 9,
		busy: 0.2, tables: [2]int64{10, 30},
	}
	if diff := cmp.Diff(want, s, cmp.AllowUnexported(summary{})); diff != "" {
		t.Error(diff)
	}
	for _, c := range []struct{ got, exact time.Duration }{{s.p50, time.Second}, {s.p99, 1980 * ms}, {s.p999, 1998 * ms}, {s.served99, 990 * ms}, {s.served999, 999 * ms}} {
		if c.got < c.exact || float64(c.got) > 1.016*float64(c.exact) {
			t.Errorf("percentile %v, exactly %v", c.got, c.exact)
		}
	}
	if got := summarise(nil); got != (summary{}) {
		t.Errorf("nothing comes to %+v", got)
	}
}

func TestTargets(t *testing.T) {
	set := settings{maxStall: 50 * time.Millisecond, modes: allModes()}
	words := func(unit3, unit7 time.Duration) string {
		results := make(map[int][]result)
		for _, m := range set.modes {
			results[m.number] = []result{made(t, 100*time.Microsecond, 1)}
		}
		results[3] = []result{made(t, unit3, 1)}
		results[7] = []result{made(t, unit7, 1)}
		var got []string
		for _, line := range targets(set, results)[1:] {
			verdict, rest, _ := strings.Cut(line, " ")
			number, _, _ := strings.Cut(strings.TrimSpace(rest), ":")
			got = append(got, number+" "+verdict)
		}
		return strings.Join(got, ", ")
	}
	us := time.Microsecond
	if got, want := words(100*us, 20_000*us), "3 met, 3 met, 6 met, 6 met, 7 met"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := words(120*us, 20_100*us), "3 met, 3 missed, 6 met, 6 met, 7 missed"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := words(700*us, 20_000*us), "3 missed, 3 missed, 6 met, 6 met, 7 met"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestParse(t *testing.T) {
	for _, c := range []struct {
		args string
		ok   bool
	}{
		{"", true},
		{"-modes 2,3 -rate 0 -full -sync -begin -arrivals timer -workers 1", true},
		{"-modes 0", false}, {"-modes 10", false}, {"-modes 1,,2", false}, {"-modes x", false},
		{"-writers 0", false}, {"-rate 9", false}, {"-rate NaN", false}, {"-rate -1", false},
		{"-seconds 0", false}, {"-seconds NaN", false}, {"-seconds 1e99", false}, {"-rounds 0", false},
		{"-tables 0", false}, {"-snapshot-every -1", false}, {"-max-stall 0s", false},
		{"-workers -1", false}, {"-arrivals bus", false}, {"stray", false},
	} {
		if _, err := parse(strings.Fields(c.args), io.Discard); (err == nil) != c.ok {
			t.Errorf("%q: error %v", c.args, err)
		}
	}
	set, err := parse([]string{"-modes", "3, 2,3"}, io.Discard)
	if err != nil || len(set.modes) != 2 || set.modes[0].number != 2 || set.modes[1].number != 3 {
		t.Errorf("modes %+v, error %v", set.modes, err)
	}
	if _, err := parse([]string{"-help"}, io.Discard); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("-help: %v", err)
	}
	for i, m := range allModes() {
		if m.number != i+1 {
			t.Errorf("mode %d has number %d", i+1, m.number)
		}
	}
}
