// Command load measures what commits of a Pebble database feel of snapshots.
// Several goroutines commit at a fixed rate through the gate, with and without
// snapshots being taken, beside Pebble's own DB.Checkpoint with and without a gate;
// the same with ten times the tables, and with a long transaction inside.
//
//	go run ./load                        # about two minutes
//	go run ./load -modes 2,3 -workers 1  # two lines only, one snapshot worker
//
// # How it measures
//
// Each writer has a timetable, and the latency of a commit runs from the time at
// which it was due until Commit returned: whoever comes late because the one before
// was held counts the wait too (no coordinated omission). What a commit writes is
// made beforehand. The modes take turns, in rounds, each round beginning with
// another one, so a machine that drifts hits all alike. p50 to max and served are
// medians over the rounds; worst, hold, stall and felt are the largest of all rounds.
//
//	served  from the moment the writer ran until Commit returned, the gate included:
//	        the latency without the time for which the scheduler let it wait
//	hold    how long the gate was shut without a break
//	stall   how long a transaction waited at the gate until it was let in
//	felt    the same until it ran again: the scheduler's part is in it
//	CPU     share of the processors that this process took, everything included
//	ratio   p99 by that of the same tables without snapshots; the median of the
//	        ratios of each round
//
// # What the figures can show, and what they cannot
//
// Writers, snapshot workers, Pebble's compactions and the garbage collector share
// GOMAXPROCS processors, in one Go runtime. hold and stall are the gate's doing.
// Percentiles above them are mostly the scheduler's: a commit that is due while
// every processor is taken waits until one is given up. A goroutine of a server is
// woken by a timer or by the network poller, and the difference is large: a
// processor looks at its timers whenever it changes goroutines, but at the network
// only when it has nothing else to run, or when the runtime's monitor does so for
// it, every 10 ms. -arrivals chooses: "poller" wakes writers like requests from the
// network (Linux only), "timer" like a ticker. An idle Go process rounds timers up
// to a millisecond, which "poller" does not have. A machine that others use, or a
// rate that takes more than about 40 % of the processors, makes every figure
// worthless but hold and served.
//
// How often snapshots are taken decides which percentile shows them. A worker keeps
// its processor for some tenths of a millisecond, and commits that are due then may
// have to wait for it. With two snapshots a second, the default here and far
// more than a server takes, these are more than one commit in a hundred; see
// -snapshot-every.
//
// It exits with 0 if everything worked, whether or not the targets are met.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/holdstill/holdstill/bench/internal/program"
)

// settings are what the flags set.
type settings struct {
	parent   string // where the working folder is made
	writers  int
	rate     float64 // commits per second of each writer; 0 is as fast as they can
	span     time.Duration
	rounds   int
	tables   int
	every    time.Duration
	maxStall time.Duration
	workers  int // of the engine; 0 is its default
	arrivals string
	modes    []mode
	sync     bool
	begin    bool
	full     bool
	seed     uint64
}

func main() {
	os.Exit(program.Run(program.Context(), "load", os.Args[1:], parse, func(ctx context.Context, set settings) error {
		return inFolder(ctx, set, os.Stdout)
	}))
}

// parse reads the flags. What -help prints goes to usage.
func parse(args []string, usage io.Writer) (settings, error) {
	set := settings{}
	flags := flag.NewFlagSet("load", flag.ContinueOnError)
	flags.StringVar(&set.parent, "dir", "", "folder to work in; a new folder is made inside it (default: the system's temporary folder)")
	flags.IntVar(&set.writers, "writers", 4, "how many goroutines commit")
	flags.Float64Var(&set.rate, "rate", 1000, "commits per second of each writer, 10 to 100000; 0 is one after the other, as fast as they can")
	seconds := flags.Float64("seconds", 2, "length of a round of one mode")
	flags.IntVar(&set.rounds, "rounds", 5, "how many rounds of every mode")
	flags.IntVar(&set.tables, "tables", 100, "tables of the database at the beginning; the large one has ten times as many")
	every := flags.Float64("snapshot-every", 0.5, "seconds from the start of one snapshot to that of the next")
	flags.DurationVar(&set.maxStall, "max-stall", 50*time.Millisecond, "MaxStall of the gate")
	flags.IntVar(&set.workers, "workers", 0, "workers of the engine (default GOMAXPROCS)")
	flags.StringVar(&set.arrivals, "arrivals", defaultArrivals, "what wakes a writer: poller or timer")
	chosen := flags.String("modes", "", "numbers of the modes to run, such as 2,3 (default all)")
	flags.BoolVar(&set.sync, "sync", false, "commits wait for the disk")
	flags.BoolVar(&set.begin, "begin", false, "writers use Gate.Begin and not a session")
	flags.BoolVar(&set.full, "full", false, "take every snapshot into an empty repository: all is read, encoded and stored")
	flags.Uint64Var(&set.seed, "seed", 1, "seed of the data")
	if err := program.Parse(flags, args, usage); err != nil {
		return set, err
	}
	set.span, set.every = inSeconds(*seconds), inSeconds(*every)
	var err error
	if set.modes, err = choose(*chosen); err != nil {
		return set, err
	}
	switch {
	case set.writers < 1 || set.writers > 100:
		err = fmt.Errorf("-writers %d is not between 1 and 100", set.writers)
	case set.rate != 0 && !(set.rate >= 10 && set.rate <= 100_000):
		err = fmt.Errorf("-rate %v is neither 0 nor between 10 and 100000", set.rate)
	case !(*seconds >= 0.1 && *seconds <= 3600):
		err = fmt.Errorf("-seconds %v is not between 0.1 and 3600", *seconds)
	case set.rounds < 1 || set.rounds > 1000:
		err = fmt.Errorf("-rounds %d is not between 1 and 1000", set.rounds)
	case set.tables < 1 || set.tables > 100_000:
		err = fmt.Errorf("-tables %d is not between 1 and 100000", set.tables)
	case !(*every >= 0 && *every <= 3600):
		err = fmt.Errorf("-snapshot-every %v is not between 0 and 3600", *every)
	case set.maxStall < time.Millisecond || set.maxStall > time.Minute:
		err = fmt.Errorf("-max-stall %v is not between 1ms and 1m", set.maxStall)
	case set.workers < 0 || set.workers > 1024:
		err = fmt.Errorf("-workers %d is not between 0 and 1024", set.workers)
	case set.arrivals != byPoller && set.arrivals != byTimer:
		err = fmt.Errorf("-arrivals %q is neither %q nor %q", set.arrivals, byPoller, byTimer)
	case set.arrivals == byPoller && defaultArrivals != byPoller:
		err = fmt.Errorf("-arrivals %q works on Linux only", byPoller)
	}
	return set, err
}

func inSeconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// choose returns the modes of a list of numbers; all of them for an empty list.
func choose(list string) (chosen []mode, err error) {
	if list == "" {
		return allModes(), nil
	}
	picked := make(map[int]bool)
	for part := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(part))
		if err != nil || n < 1 || n > len(allModes()) {
			return nil, fmt.Errorf("-modes %q: %q is not a number between 1 and %d", list, part, len(allModes()))
		}
		picked[n] = true
	}
	for _, m := range allModes() {
		if picked[m.number] {
			chosen = append(chosen, m)
		}
	}
	return chosen, nil
}

// inFolder runs everything in a folder of its own.
func inFolder(ctx context.Context, set settings, out io.Writer) (err error) {
	dir, remove, err := program.Folder(set.parent, "load")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	return run(ctx, dir, set, out)
}
