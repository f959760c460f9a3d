// Package program is what the commands of bench have in common: flags, exit codes, and a
// folder to work in.
package program

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
)

// Context returns a context that the first interrupt ends. The second one ends the
// program.
func Context() context.Context {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	context.AfterFunc(ctx, stop)
	return ctx
}

// Run runs a command with the settings that parse makes of its arguments, and returns its
// exit code: 0 if all went well or help was asked for, 1 if run failed, 2 if the arguments
// are wrong. What was wrong goes to stderr.
func Run[S any](ctx context.Context, name string, args []string, parse func(args []string, usage io.Writer) (S, error), run func(context.Context, S) error) int {
	set, err := parse(args, os.Stdout)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		return 2
	}
	if err := run(ctx, set); err != nil {
		fmt.Fprintf(os.Stderr, "\n%s: FAILED: %v\n", name, err)
		return 1
	}
	return 0
}

// Parse reads flags, and refuses arguments that are none. Only the answer to -help is
// printed, to usage; the error is then flag.ErrHelp.
func Parse(flags *flag.FlagSet, args []string, usage io.Writer) error {
	flags.SetOutput(io.Discard)
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			flags.SetOutput(usage)
			flags.Usage()
		}
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q; all settings are flags, see -help", flags.Arg(0))
	}
	return nil
}

// Folder makes a new folder inside parent, the system's temporary folder if that is empty,
// and returns its absolute path, and what removes it.
func Folder(parent, name string) (dir string, remove func() error, err error) {
	made, err := os.MkdirTemp(parent, "holdstill-"+name+"-")
	if err != nil {
		return "", nil, fmt.Errorf("cannot make a working folder: %w", err)
	}
	if dir, err = filepath.Abs(made); err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(made))
	}
	return dir, func() error { return os.RemoveAll(dir) }, nil
}
