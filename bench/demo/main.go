// Command demo shows holdstill at work on a Pebble database that is being written
// to: it fills a database, takes a snapshot under load, changes some rows, takes
// an incremental snapshot, deletes the first one, copies the second to another
// repository, restores it from there, and compares every row with what the
// writers had committed at the moment of the freeze.
//
//	go run ./demo                 # 256 MiB, in a temporary folder
//	go run ./demo -size 1024      # 1 GiB; takes about four times the space on disk
//
// It exits with 0 only if every row was as it must be.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"golang.org/x/term"

	"github.com/holdstill/holdstill/bench/internal/program"
)

// settings are what the flags set.
type settings struct {
	parent  string // where the working folder is made
	keep    bool
	size    int64 // bytes to fill the database with
	writers int
	percent float64
	seed    uint64
}

func main() {
	os.Exit(program.Run(program.Context(), "demo", os.Args[1:], parse, func(ctx context.Context, set settings) error {
		return inFolder(ctx, set, &show{out: os.Stdout, terminal: term.IsTerminal(int(os.Stdout.Fd()))})
	}))
}

// parse reads the flags. What -help prints goes to usage.
func parse(args []string, usage io.Writer) (settings, error) {
	set := settings{}
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	mebibytes := flags.Int64("size", 256, "size of the database in MiB")
	flags.StringVar(&set.parent, "dir", "", "folder to work in; a new folder is made inside it (default: the system's temporary folder)")
	flags.BoolVar(&set.keep, "keep", false, "keep the working folder, to look at the repositories and the restored database")
	flags.IntVar(&set.writers, "writers", 4, "how many goroutines write all the time")
	flags.Float64Var(&set.percent, "update", 5, "percentage of rows to update between the two snapshots")
	flags.Uint64Var(&set.seed, "seed", 1, "seed of the data")
	if err := program.Parse(flags, args, usage); err != nil {
		return set, err
	}
	set.size = *mebibytes << 20
	switch {
	case *mebibytes < 1 || *mebibytes > 1<<20:
		return set, fmt.Errorf("-size %d is not between 1 and %d MiB", *mebibytes, 1<<20)
	case set.writers < 1 || set.writers > 100:
		return set, fmt.Errorf("-writers %d is not between 1 and 100", set.writers)
	case !(set.percent >= 0 && set.percent <= 50):
		return set, fmt.Errorf("-update %v is not between 0 and 50 percent", set.percent)
	}
	return set, nil
}

// inFolder runs the demo in a folder of its own.
func inFolder(ctx context.Context, set settings, s *show) (err error) {
	dir, remove, err := program.Folder(set.parent, "demo")
	if err != nil {
		return err
	}
	if set.keep {
		defer fmt.Fprintf(s.out, "\nKept: %s\n", dir)
	} else {
		defer func() { err = errors.Join(err, remove()) }()
	}
	return run(ctx, dir, set, s)
}
