package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdstill/holdstill/bench/database"
	"github.com/holdstill/holdstill/chunk"
	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/snapshot"
)

// childVerb, as the first argument, makes this program do one piece of work, so
// that its time and its memory can be measured like any other tool's.
const childVerb = "child"

// child does one piece of work and returns the exit code.
func child(ctx context.Context, args []string, out, errOut io.Writer) int {
	if err := childWork(ctx, args, out); err != nil {
		fmt.Fprintln(errOut, "holdstill:", err)
		return 1
	}
	return 0
}

func childWork(ctx context.Context, args []string, out io.Writer) error {
	works := map[string]struct {
		count int
		do    func() error
	}{
		"corpus":  {3, func() error { return childCorpus(ctx, args[1], args[2], args[3]) }},
		"init":    {1, func() error { return withEngine(ctx, args[1], "", "", func(*snapshot.Engine) error { return nil }) }},
		"create":  {4, func() error { return childCreate(ctx, args[1], args[2], args[3], args[4]) }},
		"again":   {4, func() error { return childAgain(ctx, args[1], args[2], args[3], args[4], out) }},
		"restore": {3, func() error { return childRestore(ctx, args[1], args[2], args[3]) }},
		"check":   {1, func() error { return childCheck(ctx, args[1]) }},
		"remove":  {1, func() error { return childRemove(ctx, args[1]) }},
	}
	if len(args) == 0 {
		return errors.New("child: which work?")
	}
	work, ok := works[args[0]]
	if !ok || len(args) != work.count+1 {
		return fmt.Errorf("child: bad call %q", args)
	}
	return work.do()
}

func childCorpus(ctx context.Context, dir, size, seed string) error {
	bytes, err := strconv.ParseInt(size, 10, 64)
	if err != nil {
		return err
	}
	number, err := strconv.ParseUint(seed, 10, 64)
	if err != nil {
		return err
	}
	return makeCorpus(ctx, dir, bytes, number)
}

// withEngine opens an engine, and closes it afterwards. An empty corpus means that
// no snapshot will be taken.
func withEngine(ctx context.Context, dir, policy, corpus string, do func(*snapshot.Engine) error) (err error) {
	config := snapshot.Config{Repository: "local:" + filepath.ToSlash(dir)}
	if policy == policyFast {
		config.Options.Policy = chunk.Fast
	}
	if corpus != "" {
		config.Sources = make(map[string]snapshot.Source)
		for _, name := range database.Kinds() {
			config.Sources[name] = closed(filepath.Join(corpus, name))
		}
	}
	if p := os.Getenv(passphraseEnv); p != "" {
		config.Key = repo.Passphrase([]byte(p), repo.PassphraseOptions{})
	}
	e, err := snapshot.Open(ctx, config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	return do(e)
}

func childCreate(ctx context.Context, dir, policy, corpus, label string) error {
	return withEngine(ctx, dir, policy, corpus, func(e *snapshot.Engine) error {
		_, err := e.Create(ctx, snapshot.CreateOptions{Label: label})
		return err
	})
}

// childAgain takes snapshots of an unchanged corpus, deletes them, and prints the
// median of what one took, in seconds. The first is not counted: it loads the index.
func childAgain(ctx context.Context, dir, policy, corpus, count string, out io.Writer) error {
	runs, err := strconv.Atoi(count)
	if err != nil || runs < 1 {
		return fmt.Errorf("child: bad number of runs %q", count)
	}
	return withEngine(ctx, dir, policy, corpus, func(e *snapshot.Engine) error {
		var took []float64
		for n := range runs + 1 {
			start := time.Now()
			s, err := e.Create(ctx, snapshot.CreateOptions{})
			if err != nil {
				return err
			}
			if n > 0 {
				took = append(took, time.Since(start).Seconds())
			}
			if err := e.Delete(ctx, s.ID); err != nil {
				return err
			}
		}
		_, err := fmt.Fprintln(out, median(took))
		return err
	})
}

func childRestore(ctx context.Context, dir, label, to string) error {
	return withEngine(ctx, dir, "", "", func(e *snapshot.Engine) error {
		for s, err := range e.List(ctx, snapshot.Filter{Label: label}) {
			if err != nil {
				return err
			}
			_, err = e.Restore(ctx, s.ID, snapshot.RestoreOptions{To: to})
			return err
		}
		return fmt.Errorf("no snapshot has the label %q", label)
	})
}

func childCheck(ctx context.Context, dir string) error {
	return withEngine(ctx, dir, "", "", func(e *snapshot.Engine) error {
		report, err := e.Repository().Check(ctx, repo.CheckOptions{ReadData: true})
		if err == nil && !report.OK() {
			err = fmt.Errorf("the repository is damaged: %v", report.Damage[0])
		}
		return err
	})
}

// childRemove keeps the newest snapshot, and frees what only the others needed.
func childRemove(ctx context.Context, dir string) error {
	return withEngine(ctx, dir, "", "", func(e *snapshot.Engine) error {
		if _, err := e.Prune(ctx, snapshot.KeepPolicy{Last: 1}, snapshot.PruneOptions{}); err != nil {
			return err
		}
		_, err := e.Collect(ctx, repo.CollectOptions{})
		return err
	})
}

// closed is a Source of a folder that nobody writes to: a database that is closed.
// It knows unchanged files as backup tools do, by size, times and inode.
type closed string

// Pin implements snapshot.Source.
func (dir closed) Pin(context.Context) (*snapshot.View, error) {
	return &snapshot.View{
		FS: os.DirFS(string(dir)), Kind: "closed", Method: "none-needed", Epoch: "closed-1",
		Hint: func(name string) snapshot.Hint {
			hint := snapshot.Hint{Identity: statIdentity(filepath.Join(string(dir), name))}
			switch {
			case strings.HasSuffix(name, ".sst"):
				hint.Class = snapshot.Immutable
			case strings.HasSuffix(name, ".db"):
				hint.Class, hint.PageSize = snapshot.Paged, 4096
			}
			return hint
		},
	}, nil
}

// median returns the middle of some numbers, and of an even number of them the mean
// of the two in the middle. It is 0 of none.
func median(numbers []float64) float64 {
	if len(numbers) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(numbers))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}
