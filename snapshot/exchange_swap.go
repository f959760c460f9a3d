package snapshot

import (
	"context"
	"errors"
	"fmt"
)

// A swap puts a staged folder, complete and durable, in the place of the target
// while the database is closed. The caller holds the site's lock.
type swap struct {
	site *site
	j    *journal
	// stop and start close and open the database; both may be nil.
	stop, start func(context.Context) error
	// stopped is set once stop was called, whatever it returned.
	stopped bool
	// kept is set once the staged folder is the target for good.
	kept bool
}

// run returns the failsafe's path. When it fails with a *RestoreError, that says
// where the two folders are; any other error means that nothing was begun.
func (w *swap) run(ctx context.Context) (previous string, err error) {
	if err := context.Cause(ctx); err != nil {
		return "", errors.Join(err, w.site.dropNew(w.j))
	}
	if err := w.site.writeJournal(w.j, statePrepared); err != nil {
		return "", errors.Join(err, w.site.dropNew(w.j))
	}
	if err := w.exchange(ctx); err != nil {
		return "", w.undo(ctx, err)
	}
	// From here on it is finished, whatever becomes of ctx: the database must not
	// stay closed.
	if err := call(context.WithoutCancel(ctx), w.start); err != nil {
		return "", w.undo(ctx, fmt.Errorf("start the database on the restored data: %w", err))
	}
	w.kept = true
	previous, err = w.site.keepOld(w.j)
	if err != nil {
		err = w.failed(false, err)
	}
	return previous, err
}

// exchange stops the database and makes the staged folder the target, durably.
func (w *swap) exchange(ctx context.Context) error {
	w.stopped = true
	if err := call(ctx, w.stop); err != nil {
		return fmt.Errorf("stop the database: %w", err)
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if err := w.site.bringNew(w.j); err != nil {
		return err
	}
	if err := w.site.ops.syncDir(w.site.dir); err != nil {
		return err
	}
	return w.site.writeJournal(w.j, stateExchanged)
}

// undo puts back what stood at the target, starts the database on it again and
// removes the staged folder. It returns a *RestoreError with cause.
func (w *swap) undo(ctx context.Context, cause error) error {
	if w.j.State == stateExchanged {
		// Without this note a crash would leave the database on the new data, which
		// it has refused. Not being able to write it is no reason to stop here.
		if err := w.site.writeJournal(w.j, stateUndoing); err != nil {
			cause = errors.Join(cause, err)
		}
	}
	if err := w.site.bringOld(w.j); err != nil {
		return w.failed(false, errors.Join(cause, fmt.Errorf("put the old data back: %w", err)))
	}
	// The note lets the database's own Recover pass while this one holds the lock.
	cause = errors.Join(cause, w.site.ops.syncDir(w.site.dir), w.site.writeJournal(w.j, stateUndone))
	if w.stopped {
		if err := call(context.WithoutCancel(ctx), w.start); err != nil {
			cause = errors.Join(cause, fmt.Errorf("start the database again on its old data: %w", err))
		}
	}
	return w.failed(true, errors.Join(cause, w.site.dropNew(w.j)))
}

func (w *swap) failed(undone bool, err error) error {
	return &RestoreError{ID: w.j.Snapshot, To: w.site.target(), Undone: undone, Err: err}
}

func call(ctx context.Context, f func(context.Context) error) error {
	if f == nil {
		return nil
	}
	return f(ctx)
}
