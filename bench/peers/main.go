package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
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
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	context.AfterFunc(ctx, stop) // a second interrupt ends the program at once
	args := os.Args[1:]
	if len(args) > 0 && args[0] == childVerb {
		os.Exit(child(ctx, args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(command(ctx, args))
}

// command returns the exit code, after all that was deferred has run.
func command(ctx context.Context, args []string) int {
	set, err := parse(args, os.Stdout)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		return 2
	}
	if err := compare(ctx, set, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		return 1
	}
	return 0
}

// parse reads the flags. What -help prints goes to usage.
func parse(args []string, usage io.Writer) (settings, error) {
	set := settings{}
	flags := flag.NewFlagSet("peers", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // errors are printed by the caller
	mebibytes := flags.Int64("size", 256, "size of the databases together, in MiB")
	only := flags.String("only", "", "names of peers, with commas between them (default: all)")
	flags.IntVar(&set.runs, "runs", 1, "how many times each step runs; the table has the medians")
	flags.StringVar(&set.parent, "dir", "", "folder to work in; a new folder is made inside it (default: the system's temporary folder)")
	flags.Uint64Var(&set.seed, "seed", 1, "seed of the data")
	flags.BoolVar(&set.flush, "flush", true, "let the time of a step end when its data is on disk, for all alike")
	flags.BoolVar(&set.install, "install", false, "install missing peers with apt-get first; needs root")
	flags.StringVar(&set.markdown, "md", "", "`file` for the Markdown (default: stdout)")
	flags.StringVar(&set.svg, "svg", "", "`file` for a bar chart")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			flags.SetOutput(usage)
			flags.Usage()
		}
		return set, err
	}
	set.size = *mebibytes << 20
	for name := range strings.SplitSeq(*only, ",") {
		if name = strings.TrimSpace(name); name != "" {
			set.only = append(set.only, name)
		}
	}
	switch {
	case flags.NArg() > 0:
		return set, fmt.Errorf("unexpected argument %q; all settings are flags, see -help", flags.Arg(0))
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
	dir, err := os.MkdirTemp(set.parent, "holdstill-peers-")
	if err != nil {
		return fmt.Errorf("cannot make a working folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	// Tools run in other folders, and -dir may be relative.
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
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
