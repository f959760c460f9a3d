package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/holdstill/holdstill/bench/internal/program"
)

// settings are what the flags set.
type settings struct {
	size     int64 // of the corpus, in bytes
	runs     int
	parent   string // where the working folder is made
	seed     uint64
	flush    bool
	install  bool
	only     []string // names of peers; all if empty
	markdown string
	svg      string
}

func main() {
	ctx, args := program.Context(), os.Args[1:]
	if len(args) > 0 && args[0] == childVerb {
		os.Exit(child(ctx, args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(program.Run(ctx, "peers", args, parse, func(ctx context.Context, set settings) error {
		return compare(ctx, set, os.Stdout, os.Stderr)
	}))
}

// parse reads the flags. What -help prints goes to usage.
func parse(args []string, usage io.Writer) (settings, error) {
	set := settings{}
	flags := flag.NewFlagSet("peers", flag.ContinueOnError)
	mebibytes := flags.Int64("size", 256, "size of the databases together, in MiB")
	only := flags.String("only", "", "names of peers, with commas between them (default: all)")
	flags.IntVar(&set.runs, "runs", 1, "how many times each step runs; the table has the medians")
	flags.StringVar(&set.parent, "dir", "", "folder to work in; a new folder is made inside it (default: the system's temporary folder)")
	flags.Uint64Var(&set.seed, "seed", 1, "seed of the data")
	flags.BoolVar(&set.flush, "flush", true, "let the time of a step end when its data is on disk, for all alike")
	flags.BoolVar(&set.install, "install", false, "install missing peers with apt-get first; needs root")
	flags.StringVar(&set.markdown, "md", "", "`file` for the Markdown (default: stdout)")
	flags.StringVar(&set.svg, "svg", "", "`file` for a bar chart")
	if err := program.Parse(flags, args, usage); err != nil {
		return set, err
	}
	set.size = *mebibytes << 20
	for name := range strings.SplitSeq(*only, ",") {
		if name = strings.TrimSpace(name); name != "" {
			set.only = append(set.only, name)
		}
	}
	switch {
	case *mebibytes < 4 || *mebibytes > 1<<20:
		return set, fmt.Errorf("-size %d is not between 4 and %d MiB", *mebibytes, 1<<20)
	case set.runs < 1 || set.runs > 100:
		return set, fmt.Errorf("-runs %d is not between 1 and 100", set.runs)
	}
	_, err := choose(allPeers(), set.only)
	return set, err
}

// choose returns the peers of the given names, and holdstill first: all others are
// compared with it. No names mean all peers.
func choose(all []peer, names []string) ([]peer, error) {
	var known []string
	var chosen []peer
	for i, p := range all {
		name := p.describe().name
		known = append(known, name)
		if i == 0 || len(names) == 0 || slices.Contains(names, name) {
			chosen = append(chosen, p)
		}
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("-only: there is no peer %q; there are %s", name, strings.Join(known, ", "))
		}
	}
	return chosen, nil
}

// compare does everything, in a folder of its own.
func compare(ctx context.Context, set settings, out, progress io.Writer) (err error) {
	peers, err := choose(allPeers(), set.only)
	if err != nil {
		return err
	}
	if set.install {
		if err := install(ctx, peers, progress); err != nil {
			return err
		}
	}
	dir, remove, err := program.Folder(set.parent, "peers")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	report, err := measureAll(ctx, dir, peers, set, progress)
	if err != nil {
		return err
	}
	if err := write(set.markdown, out, report.markdown()); err != nil {
		return err
	}
	if set.svg != "" {
		if err := write(set.svg, nil, report.chart()); err != nil {
			return err
		}
	}
	return report.failure()
}

// write writes text to the named file, or to out if it has no name.
func write(name string, out io.Writer, text string) error {
	if name == "" {
		_, err := io.WriteString(out, text)
		return err
	}
	return os.WriteFile(name, []byte(text), 0o644)
}
