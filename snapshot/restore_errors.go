package snapshot

import (
	"errors"
	"fmt"
	"syscall"
)

// Errors of Restore, Recover and Undo.
var (
	// ErrTarget means that a folder cannot be the target of a restore: it has no
	// parent folder, is a file, a symbolic link or a mount point, or holds the
	// repository or lies in it. The message says which.
	ErrTarget = errors.New("snapshot: bad target")
	// ErrTargetExists means that the target is a folder that is not empty. Set
	// RestoreOptions.InPlace to replace it.
	ErrTargetExists = errors.New("snapshot: the target is not empty")
	// ErrBusy means that another Restore, Recover or Undo of the same target is
	// under way, in this process or in another one.
	ErrBusy = errors.New("snapshot: another restore of this target is under way")
	// ErrUnknownSource means that the snapshot has no source of the name asked for.
	ErrUnknownSource = errors.New("snapshot: no such source in the snapshot")
	// ErrNoMatch means that RestoreOptions.Match, or patterns, chose nothing.
	ErrNoMatch = errors.New("snapshot: nothing matches")
	// ErrPartial means that a snapshot which was made with patterns was to be restored in
	// place; see RestoreOptions.AllowPartial.
	ErrPartial = errors.New("snapshot: a partial snapshot")
	// ErrJournal means that the journal of an interrupted restore cannot be
	// followed: it is damaged, or the folders it names were moved by hand. Nothing
	// is changed then. The message says what to look at.
	ErrJournal = errors.New("snapshot: the journal of an interrupted restore cannot be followed")
	// ErrRestoreOptions means that RestoreOptions contradict each other.
	ErrRestoreOptions = errors.New("snapshot: bad restore options")
)

// A RestoreError reports a restore in place that failed after the database was
// asked to stop. It unwraps to the cause: what Stop or Start returned, the
// context's error, or an error of the file system.
type RestoreError struct {
	// ID is the snapshot; empty in Undo.
	ID string
	// To is the target.
	To string
	// Undone is true when the target holds what it held before. When it is false
	// the target holds the restored data, or Recover(ctx, To) has to be called
	// before the database opens; the message says which.
	Undone bool
	Err    error
}

func (e *RestoreError) Error() string {
	what := "restore snapshot " + e.ID + " to " + e.To
	if e.ID == "" {
		what = "put back " + e.To
	}
	state := "; the target holds the restored data, but it was not tidied up: call Recover before the database opens next"
	if e.Undone {
		state = "; the target is as it was before"
	}
	return "snapshot: " + what + ": " + e.Err.Error() + state
}

// Unwrap returns the cause.
func (e *RestoreError) Unwrap() error { return e.Err }

// A SpaceError reports that the file system of the target has too little room for
// what is to be restored, or that others took so much of it since the restore began. Nothing
// of the restore is left. It matches syscall.ENOSPC.
type SpaceError struct {
	// To is the target.
	To string
	// Needed is the sum of the files' sizes, or of a restore under way the size of what
	// could not be set aside. Available is what the file system has left for this user. Both
	// are in bytes.
	Needed, Available int64
}

func (e *SpaceError) Error() string {
	return fmt.Sprintf("snapshot: restore to %s needs %d bytes, its file system has %d left: make room, restore elsewhere, or set SkipSpaceCheck if the files are mostly holes or shared with what is there", e.To, e.Needed, e.Available)
}

// Is reports whether target is syscall.ENOSPC.
func (e *SpaceError) Is(target error) bool { return target == syscall.ENOSPC }
