package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/holdstill/holdstill/bench/internal/program"
)

// settings are what the flags set.
type settings struct {
	size     int64 // of each database, in bytes
	percents []float64
	kinds    []string
	only     []string // names of systems; all if empty
	seed     uint64
	parent   string // where the working folder is made
}

func main() {
	ctx, args := program.Context(), os.Args[1:]
	if len(args) > 0 && args[0] == childVerb {
		if err := child(ctx, args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, "deltas:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(program.Run(ctx, "deltas", args, parse, func(ctx context.Context, set settings) error {
		return measure(ctx, set, os.Stdout, os.Stderr)
	}))
}

// measure measures and prints the table to out.
func measure(ctx context.Context, set settings, out, progress io.Writer) (err error) {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	dir, remove, err := program.Folder(set.parent, "deltas")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	b := &bench{dir: dir, set: set, progress: progress}
	for _, s := range systems(self) {
		if len(set.only) > 0 && !slices.Contains(set.only, s.name) {
			continue
		}
		if !s.installed() {
			fmt.Fprintf(progress, "%s is not installed: left out\n", s.name)
			continue
		}
		b.systems = append(b.systems, s)
	}
	figures, err := b.run(ctx)
	if err != nil {
		return err
	}
	return table(out, set, b.systems, figures)
}

// parse reads the flags. What -help prints goes to usage.
func parse(args []string, usage io.Writer) (settings, error) {
	set := settings{}
	flags := flag.NewFlagSet("deltas", flag.ContinueOnError)
	mebibytes := flags.Int64("size", 128, "size of each database, in MiB")
	percents := flags.String("percent", "1,5,20", "shares of the rows to change, in percent")
	kinds := flags.String("kinds", "meta,sql,json", "databases: kv (Pebble), meta (bbolt), sql (SQLite), json (an export)")
	only := flags.String("only", "", "names of systems, with commas between them (default: all)")
	flags.Uint64Var(&set.seed, "seed", 1, "seed of the data")
	flags.StringVar(&set.parent, "dir", "", "folder to work in (default: the system's temporary folder)")
	if err := program.Parse(flags, args, usage); err != nil {
		return set, err
	}
	set.size = *mebibytes << 20
	set.kinds = split(*kinds)
	set.only = split(*only)
	for _, text := range split(*percents) {
		p, err := strconv.ParseFloat(text, 64)
		if err != nil || !(p > 0 && p <= 100) {
			return set, fmt.Errorf("-percent %q: want numbers above 0 and up to 100", text)
		}
		set.percents = append(set.percents, p)
	}
	if *mebibytes < 1 || len(set.percents) == 0 || len(set.kinds) == 0 {
		return set, errors.New("-size, -percent and -kinds must not be empty")
	}
	return set, nil
}

func split(list string) []string {
	var out []string
	for part := range strings.SplitSeq(list, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}

func join(dir string, parts ...string) string {
	return filepath.Join(append([]string{dir}, parts...)...)
}
