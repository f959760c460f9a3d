package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/holdstill/holdstill/snapshot"
)

// childVerb, as the first argument, makes this program take one snapshot, in a process
// of its own like any other tool.
const childVerb = "child"

const (
	modeDeltas = "deltas"
	modeFull   = "full"
)

// child takes a snapshot: of args[1] into the repository args[0], in the mode args[2],
// with the label args[3].
func child(ctx context.Context, args []string) (err error) {
	if len(args) != 4 {
		return fmt.Errorf("child: bad call %q", args)
	}
	config := snapshot.Config{
		Repository: "local:" + filepath.ToSlash(args[0]),
		Sources:    map[string]snapshot.Source{"db": closed(args[1])},
	}
	config.Options.NoDeltas = args[2] == modeFull
	e, err := snapshot.Open(ctx, config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	_, err = e.Create(ctx, snapshot.CreateOptions{Label: args[3]})
	return err
}

// closed is a Source of a folder that nobody writes to: a database that is closed. It
// knows nothing of what changed, so that all of it is read, as by the other tools.
type closed string

// Pin implements snapshot.Source.
func (dir closed) Pin(context.Context) (*snapshot.View, error) {
	return &snapshot.View{
		FS: os.DirFS(string(dir)), Kind: "closed", Method: "none-needed",
		Hint: func(name string) snapshot.Hint {
			switch {
			case strings.HasSuffix(name, ".sst"):
				return snapshot.Hint{Class: snapshot.Immutable}
			case strings.HasSuffix(name, ".db"):
				return snapshot.Hint{Class: snapshot.Paged, PageSize: pageBytes}
			}
			return snapshot.Hint{}
		},
	}, nil
}
