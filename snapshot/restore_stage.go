package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// defaultFileMode and defaultFolderMode are for entries without permissions.
	defaultFileMode   fs.FileMode = 0o600
	defaultFolderMode fs.FileMode = 0o700
)

// syncing is how many files may wait for the disk while all workers decode others.
const syncing = 4

// A stager writes a selection into a new folder.
type stager struct {
	selection
	ops     *fileOps
	root    *os.Root
	stands  standing
	workers int
	track   *tracker
	// folders are those made so far, each before what it holds. Only the goroutine
	// that runs write touches it.
	folders []stagedFolder
	// top is the folder itself.
	top stagedFolder
	// buffers holds the workers' buffers: who has one may decode. Waiting for the
	// disk to sync needs none.
	buffers chan []byte
}

// A stagedFolder waits for its permissions and its time until everything in it is
// written.
type stagedFolder struct {
	name string
	mode fs.FileMode
	at   time.Time
}

// write restores everything and makes it durable. On failure the folder holds
// some part of it.
func (st *stager) write(ctx context.Context) error {
	st.top = stagedFolder{name: ".", mode: defaultFolderMode}
	st.buffers = make(chan []byte, st.workers)
	for range st.workers {
		st.buffers <- nil
	}
	st.track.enter(PhaseWrite)
	g, groupCtx := errgroup.WithContext(ctx)
	g.SetLimit(st.workers + syncing)
	err := st.writeEntries(groupCtx, g)
	// A worker's error is what ended the context that err may come from.
	if groupErr := g.Wait(); groupErr != nil {
		err = groupErr
	}
	if err != nil {
		return err
	}
	st.track.enter(PhaseSync)
	return st.finishFolders(ctx)
}

func (st *stager) writeEntries(ctx context.Context, g *errgroup.Group) error {
	for e, err := range st.entries(ctx) {
		if err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			return err
		}
		switch {
		case e.name == ".":
			st.top = folderOf(&e)
		case e.IsDir() || e.bare:
			if err := st.ops.mkdir(st.root, e.name); err != nil {
				return st.explain(&e, err)
			}
			st.folders = append(st.folders, folderOf(&e))
		default:
			if err := st.startFile(ctx, g, &e); err != nil {
				return err
			}
		}
	}
	return nil
}

func folderOf(e *entry) stagedFolder {
	mode := e.Mode.Perm()
	if mode == 0 {
		mode = defaultFolderMode
	}
	return stagedFolder{name: e.name, mode: mode, at: e.ModTime}
}

// explain names the entry in an error, and says what it means that a fresh folder
// already has its name.
func (st *stager) explain(e *entry, err error) error {
	if errors.Is(err, fs.ErrExist) {
		err = fmt.Errorf("another entry has this name already, as names are told apart on this file system: %w", err)
	}
	return fmt.Errorf("%q: %w", e.Path, err)
}

// finishFolders gives the folders their permissions and times and syncs them,
// those below before those above, the staging folder last.
func (st *stager) finishFolders(ctx context.Context) error {
	for i := len(st.folders) - 1; i >= 0; i-- {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if err := st.finishFolder(&st.folders[i]); err != nil {
			return err
		}
	}
	if st.stands.exists {
		st.top.mode = st.stands.mode
	}
	return st.finishFolder(&st.top)
}

func (st *stager) finishFolder(f *stagedFolder) error {
	d, err := st.root.Open(f.name)
	if err != nil {
		return err
	}
	err = st.ops.dress(st.root, d, f.name, st.stands.owner, fs.ModeDir|f.mode, f.at)
	if err == nil {
		err = st.ops.syncDir(d)
	}
	if err = errors.Join(err, d.Close()); err != nil {
		return fmt.Errorf("folder %q: %w", filepath.ToSlash(f.name), err)
	}
	return nil
}
