package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// pace says how the writers are driven.
func (set settings) pace() string {
	if set.rate == 0 {
		return "one commit after the other"
	}
	return fmt.Sprintf("%v commits/s each, woken by the %s", set.rate, set.arrivals)
}

// loadAverage is that of the machine, where it can be read.
func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(text))[:3], " ")
}

// A summary is what all rounds of a mode come to.
type summary struct {
	commits              int64
	p50, p99, p999, peak time.Duration // medians over the rounds
	served99, served999  time.Duration
	worst                time.Duration // of all rounds, as the next three
	hold, stall, felt    time.Duration
	disturbed, stalled   int64
	freezes, attempts    int64
	busy                 float64 // the median
	tables               [2]int64
}

func summarise(rounds []result) (s summary) {
	over := func(figure func(*result) time.Duration) time.Duration {
		var all []time.Duration
		for i := range rounds {
			all = append(all, figure(&rounds[i]))
		}
		return median(all)
	}
	s.p50 = over(func(r *result) time.Duration { return r.times.Percentile(50) })
	s.p99 = over(func(r *result) time.Duration { return r.times.Percentile(99) })
	s.p999 = over(func(r *result) time.Duration { return r.times.Percentile(99.9) })
	s.served99 = over(func(r *result) time.Duration { return r.served.Percentile(99) })
	s.served999 = over(func(r *result) time.Duration { return r.served.Percentile(99.9) })
	s.peak = over(func(r *result) time.Duration { return r.times.Max() })
	var busy []float64
	for i := range rounds {
		r := &rounds[i]
		s.commits += r.times.Count()
		s.worst = max(s.worst, r.times.Max())
		s.hold = max(s.hold, r.gate.LongestHeld)
		s.stall = max(s.stall, r.gate.LongestStall)
		s.felt = max(s.felt, r.gate.Stalls.Max)
		s.disturbed += r.disturbed
		s.stalled += r.gate.Stalled
		s.freezes += r.gate.Freezes
		s.attempts += r.gate.Attempts
		busy = append(busy, r.busy)
		if i == 0 {
			s.tables = [2]int64{r.tables, r.tables}
		}
		s.tables = [2]int64{min(s.tables[0], r.tables), max(s.tables[1], r.tables)}
	}
	s.busy = median(busy)
	return s
}

// median returns the middle one, the lower of the two of an even number.
func median[T time.Duration | float64](all []T) (none T) {
	if len(all) == 0 {
		return none
	}
	sorted := slices.Sorted(slices.Values(all))
	return sorted[(len(sorted)-1)/2]
}

// ratio is the median over the rounds of p99 by p99 of the base, or 0 where there is
// no base.
func ratio(rounds, base []result) float64 {
	var all []float64
	for i := range min(len(rounds), len(base)) {
		if below := base[i].times.Percentile(99); below > 0 {
			all = append(all, float64(rounds[i].times.Percentile(99))/float64(below))
		}
	}
	return median(all)
}

// report prints the table and the targets.
func report(out io.Writer, set settings, results map[int][]result) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "#\tmode\ttables\tcommits\tp50\tp99\tp99.9\tmax\tworst\tserved p99\tp99.9\thold\tstall\tfelt\theld back\tmade\tfreezes\tattempts\tCPU\tratio\t")
	for _, m := range set.modes {
		s := summarise(results[m.number])
		gate := "-\t-\t-\t-\t"
		if s.freezes > 0 {
			gate = fmt.Sprintf("%s\t%s\t%s\t%d\t", short(s.hold), short(s.stall), short(s.felt), s.stalled)
		}
		compared := "-"
		if x := ratio(results[m.number], results[m.base]); x > 0 {
			compared = fmt.Sprintf("%.2f", x)
		}
		fmt.Fprintf(table, "%d\t%s\t%d-%d\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s%d\t%d\t%d\t%.0f %%\t%s\t\n",
			m.number, m.name, s.tables[0], s.tables[1], s.commits,
			short(s.p50), short(s.p99), short(s.p999), short(s.peak), short(s.worst), short(s.served99), short(s.served999),
			gate, s.disturbed, s.freezes, s.attempts, 100*s.busy, compared)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, line := range targets(set, results) {
		if _, err := fmt.Fprintln(out, line); err != nil {
			return err
		}
	}
	return nil
}

// short writes a time in microseconds below a millisecond, else in milliseconds.
func short(d time.Duration) string {
	if d < time.Millisecond {
		return fmt.Sprintf("%.0f µs", float64(d)/float64(time.Microsecond))
	}
	return fmt.Sprintf("%.2f ms", float64(d)/float64(time.Millisecond))
}

// The targets. The slack is what the scheduler may add: after 10 ms it takes a
// processor away from a goroutine that does not give it up.
const (
	wantRatio       = 1.10
	wantStall       = 2 * time.Millisecond
	schedulingSlack = 10 * time.Millisecond
)

// targets says which are met, of those whose modes were run.
func targets(set settings, results map[int][]result) (lines []string) {
	tell := func(met bool, format string, args ...any) {
		word := "missed"
		if met {
			word = "met"
		}
		lines = append(lines, fmt.Sprintf("%-7s ", word)+fmt.Sprintf(format, args...))
	}
	lines = append(lines, "")
	for _, m := range set.modes {
		if m.what != engineSnapshots {
			continue
		}
		s := summarise(results[m.number])
		if m.long {
			tell(s.felt <= set.maxStall+schedulingSlack, "%d: nobody waits at the gate for longer than MaxStall, %v, and %v of scheduling: %s until let in, %s felt",
				m.number, set.maxStall, schedulingSlack, short(s.stall), short(s.felt))
			continue
		}
		tell(s.felt < wantStall, "%d: longest stall at the gate below %v: %s until let in, %s felt", m.number, wantStall, short(s.stall), short(s.felt))
		if x := ratio(results[m.number], results[m.base]); x > 0 {
			served, before := s.served99, summarise(results[m.base]).served99
			tell(x <= wantRatio, "%d: p99 within %.0f %% of that of %d: %+.0f %%; once the writer runs %s, and %s without snapshots",
				m.number, 100*(wantRatio-1), m.base, 100*(x-1), short(served), short(before))
		}
	}
	return lines
}
