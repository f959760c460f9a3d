package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdstill/holdstill/repo"
)

const (
	// defaultFileMode and defaultFolderMode are for entries without permissions.
	defaultFileMode   fs.FileMode = 0o600
	defaultFolderMode fs.FileMode = 0o700
)

// syncing is how many files may wait for the disk while all workers decode others.
const syncing = 8

// A stager writes a selection into a new folder.
type stager struct {
	selection
	ops    *fileOps
	root   *os.Root
	stands standing
	track  *tracker
	// folders are those made so far, each before what it holds. Only the goroutine
	// that runs write touches it.
	folders []stagedFolder
	// top is the folder itself.
	top stagedFolder
	// parent is the folder that the staging folder lies in, under the name staging.
	parent  *os.Root
	staging string
	// reuser is nil where everything is fetched.
	reuser *reuser
	limits batchLimits
	// reads says how the repository is read.
	reads repo.ReadChunksOptions
	// group finishes files.
	group *errgroup.Group
	open  openFiles
	// to is the target. tight is set where there may be less room than the sum of the
	// sizes: then a lack of it shows only when writing fails.
	to    string
	tight bool
	// unallocated is set where blocks cannot be set aside.
	unallocated atomic.Bool
	// fetched is how many bytes were read from packs. Only the goroutine that runs write
	// touches it.
	fetched int64
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
	st.track.enter(PhaseWrite)
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(syncing)
	st.group = group
	err := st.writeEntries(groupCtx)
	// What failed in the group is what ended the context that err may come from.
	if groupErr := group.Wait(); groupErr != nil {
		err = groupErr
	}
	if err != nil {
		return errors.Join(err, st.open.closeAll())
	}
	st.track.enter(PhaseSync)
	return st.finishFolders(ctx)
}

func (st *stager) writeEntries(ctx context.Context) error {
	var b batch
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
			if err := st.addFile(ctx, &b, &e); err != nil {
				return err
			}
		}
	}
	return st.restoreBatch(ctx, &b)
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
