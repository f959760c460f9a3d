package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"
)

// RecoverAction is what Recover had to do.
type RecoverAction string

const (
	// RecoverNone means that there was nothing to do.
	RecoverNone RecoverAction = "none"
	// RecoverUndone means that a restore had not got as far as its exchange, or
	// was being undone: the target is what it was before the restore, and what the
	// restore had written is removed.
	RecoverUndone RecoverAction = "undone"
	// RecoverCompleted means that a restore was past its exchange: the target is
	// the restored state.
	RecoverCompleted RecoverAction = "completed"
)

// RecoverResult is what Recover did.
type RecoverResult struct {
	Action RecoverAction
	// Previous is the failsafe of a restore that was completed: the path of what
	// stood at the target before. Empty if nothing did.
	Previous string
}

// Recover completes or undoes what a restore to the folder to left behind when
// its process was killed or the machine went down. A server calls it at every
// start, before it opens its database; where there is nothing to do it only lists
// the parent folder, and writes nothing.
//
// While a restore of the same target is under way it fails with ErrBusy, with one
// exception: when that restore has just put the target in its place and is
// waiting in RestoreOptions.Start, Recover returns RecoverNone at once, so that
// the server which is being started can go on.
//
// It fails with ErrTarget, with ErrJournal if it cannot tell what to do, and then
// changes nothing, or with an error of the file system, and can be called again.
func Recover(ctx context.Context, to string) (RecoverResult, error) {
	return recoverTarget(ctx, to, nil)
}

func recoverTarget(ctx context.Context, to string, ops *fileOps) (result RecoverResult, err error) {
	result.Action = RecoverNone
	if err := context.Cause(ctx); err != nil {
		return result, err
	}
	s, err := openSite(to, ops)
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	found, err := s.leftovers()
	if err != nil {
		return result, err
	}
	lock := "." + s.base + targetLockSuffix
	if len(found) == 0 {
		return result, nil
	}
	passes, err := s.acquireUnlessStarting(ctx)
	// A lock file alone that this user may not open is no restore.
	stale := errors.Is(err, fs.ErrPermission) && len(found) == 1 && found[0] == lock
	if passes || stale {
		return result, nil
	}
	if err == nil {
		result, err = s.recover()
	}
	if err != nil {
		err = fmt.Errorf("snapshot: recover %s: %w", s.target(), err)
	}
	return result, err
}

// busyWait is how long Recover waits for a restore that may be about to end: one
// whose Start returned before the server it started came to call Recover.
const busyWait = 500 * time.Millisecond

// acquireUnlessStarting takes the lock, or says that the one who holds it only
// waits for the database to start.
func (s *site) acquireUnlessStarting(ctx context.Context) (passes bool, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, busyWait, ErrBusy)
	defer cancel()
	again := time.NewTicker(busyWait / 50)
	defer again.Stop()
	for {
		err := s.acquire()
		if !errors.Is(err, ErrBusy) {
			return false, err
		}
		if s.isStarting() {
			return true, nil
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			if cause := context.Cause(ctx); cause != ErrBusy {
				return false, cause
			}
			return false, err
		}
	}
}

// isStarting says whether the restore that holds the lock has the target in its
// place and only waits for the database to start.
func (s *site) isStarting() bool {
	j, err := s.readJournal()
	return err == nil && j != nil && (j.State == stateExchanged || j.State == stateUndone)
}

// recover brings the site in order. The caller holds the lock.
func (s *site) recover() (RecoverResult, error) {
	result := RecoverResult{Action: RecoverNone}
	j, err := s.readJournal()
	if err != nil {
		return result, err
	}
	if j != nil {
		if result, err = s.settle(j); err != nil {
			return result, err
		}
	}
	stranded, err := s.removeStranded()
	if stranded && result.Action == RecoverNone {
		result.Action = RecoverUndone
	}
	if err == nil && stranded {
		err = s.ops.syncDir(s.dir)
	}
	return result, err
}

// settle ends what a journal speaks of, one way or the other.
func (s *site) settle(j *journal) (RecoverResult, error) {
	w, err := s.look(j)
	if err != nil {
		return RecoverResult{Action: RecoverNone}, err
	}
	if w.target == newFolder && j.State != stateUndoing && j.State != stateUndone {
		previous, err := s.keepOld(j)
		return RecoverResult{Action: RecoverCompleted, Previous: previous}, err
	}
	if err := s.bringOld(j); err != nil {
		return RecoverResult{Action: RecoverNone}, err
	}
	return RecoverResult{Action: RecoverUndone}, s.dropNew(j)
}

// Undo takes a restore in place back: previous, the failsafe that the restore
// kept, becomes the target again, in the same way and with the same safety as in
// Restore. What stood at the target becomes a failsafe in its turn, whose path is
// returned, so that an Undo can be undone; it is empty if nothing stood there.
//
// The database must be closed. previous is the failsafe's path, as in
// RestoreResult.Previous, or its name in the target's parent folder.
//
// It fails with ErrTarget, ErrBusy or ErrJournal before anything is changed, or
// with a *RestoreError that says which of the two folders is at the target.
func Undo(ctx context.Context, to, previous string) (failsafe string, err error) {
	return undoTarget(ctx, to, previous, nil)
}

func undoTarget(ctx context.Context, to, previous string, ops *fileOps) (failsafe string, err error) {
	if err := context.Cause(ctx); err != nil {
		return "", err
	}
	s, err := openSite(to, ops)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	name, err := s.siblingName(previous)
	if err != nil {
		return "", err
	}
	if err := s.acquire(); err != nil {
		return "", err
	}
	if _, err := s.recover(); err != nil {
		return "", err
	}
	if _, err := checkFolder(s.parent, name); err != nil {
		return "", fmt.Errorf("%w: the failsafe: %w", ErrTarget, err)
	}
	if _, err := s.inspect(true); err != nil {
		return "", err
	}
	j, err := s.newJournal("", name, false, time.Now())
	if err != nil {
		return "", err
	}
	return (&swap{site: s, j: j}).run(ctx)
}

// siblingName returns the name of a folder beside the target, given as a path or
// as that name.
func (s *site) siblingName(path string) (string, error) {
	name := path
	if strings.ContainsRune(filepath.ToSlash(path), '/') {
		abs, err := filepath.Abs(path)
		if err != nil {
			return "", fmt.Errorf("%w: %w", ErrTarget, err)
		}
		dir, err := filepath.EvalSymlinks(filepath.Dir(abs))
		if err != nil {
			return "", fmt.Errorf("%w: %w", ErrTarget, err)
		}
		if dir != s.path {
			return "", fmt.Errorf("%w: the failsafe %s does not lie beside %s", ErrTarget, path, s.target())
		}
		name = filepath.Base(abs)
	}
	return name, checkSibling(name, s.base)
}

// newJournal describes the exchange of the target with a folder beside it.
func (s *site) newJournal(id, staged string, discard bool, now time.Time) (*journal, error) {
	j := &journal{Version: journalVersion, Snapshot: id, Staged: staged, Discard: discard}
	var err error
	if j.New, err = identify(s.parent, staged); err != nil {
		return nil, err
	}
	j.Live, err = identify(s.parent, s.base)
	if errors.Is(err, fs.ErrNotExist) {
		j.Live, err = identity{}, nil
	}
	if err != nil {
		return nil, err
	}
	j.Previous, err = s.previousName(now)
	return j, err
}
