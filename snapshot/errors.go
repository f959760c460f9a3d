package snapshot

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/holdstill/holdstill/repo"
)

// Errors that more than one call returns. Those of the repository come through as
// they are: repo.ErrCorrupt, repo.ErrMissing, *repo.ChunkError and the rest.
var (
	// ErrNotFound means that no snapshot has the ID asked for.
	ErrNotFound = repo.ErrNotFound
	// ErrBadID means that a string cannot be the ID of a snapshot.
	ErrBadID = repo.ErrBadID
	// ErrClosed means that the Engine is closed, or was closed during the call.
	ErrClosed = errors.New("snapshot: the engine is closed")
	// ErrConfig means that Open was given settings that cannot be.
	ErrConfig = errors.New("snapshot: bad configuration")
	// ErrDamaged means that a check job has found something damaged.
	ErrDamaged = errors.New("snapshot: the repository is damaged")
	// ErrFilter means that a Filter has settings that cannot be.
	ErrFilter = errors.New("snapshot: bad filter")
)

// Errors of Create.
var (
	// ErrBadLabel means that a label has a character that labels cannot have, or
	// is too long; see CheckLabel.
	ErrBadLabel = errors.New("snapshot: bad label")
	// ErrNoSources means that there is nothing to take a snapshot of.
	ErrNoSources = errors.New("snapshot: the engine has no sources")
	// ErrFileKind means that a source shows something that is neither a regular
	// file nor a directory.
	ErrFileKind = errors.New("snapshot: neither a regular file nor a directory")
	// ErrChanged means that a file of a View shrank or changed while it was read.
	ErrChanged = errors.New("snapshot: the file changed while it was read")
	// ErrBrokenPromise means that what a source called unchanged has other content
	// than before; see BrokenPromiseError.
	ErrBrokenPromise = errors.New("snapshot: a file called unchanged has changed")
)

// A SourceError reports what a source, or reading from its View, failed with.
type SourceError struct {
	// Source is the source's name.
	Source string
	// Op is what the engine was doing: "prepare", "pin", "settle", "read", "close".
	Op string
	// Path is the file concerned, within the source; empty if none.
	Path string
	Err  error
}

func (e *SourceError) Error() string {
	s := "snapshot: " + e.Op + " source " + e.Source
	if e.Path != "" {
		s += ", file " + e.Path
	}
	return s + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *SourceError) Unwrap() error { return e.Err }

// A BrokenPromiseError reports a file of which a Source promised, by Hint.Identity or
// View.Changed, that it or a part of it had not changed since the parent snapshot, and
// whose content had. Snapshots since the promise was first made may hold the old
// content; this one was not made. Create with NoParent reads everything. It matches
// ErrBrokenPromise.
type BrokenPromiseError struct {
	// Path is the file, beginning with the source's name.
	Path string
	// Identity is what the source called the file; it may be empty if the promise was
	// one of View.Changed.
	Identity string
	// Parent is the snapshot with the other content.
	Parent string
	// Offset is where the chunk begins in which the first change was found, in bytes.
	Offset int64
}

func (e *BrokenPromiseError) Error() string {
	promise := "its source named the ranges that changed, and left this one out"
	if e.Identity != "" {
		promise = fmt.Sprintf("its source vouched for it, under the identity %q", e.Identity)
	}
	return fmt.Sprintf("snapshot: %s has other content near offset %d than in snapshot %s, though %s; create with NoParent to read everything", e.Path, e.Offset, e.Parent, promise)
}

// Is reports whether target is ErrBrokenPromise.
func (e *BrokenPromiseError) Is(target error) bool { return target == ErrBrokenPromise }

// pathError gives a fs.PathError for the FS of a snapshot.
func pathError(op, name string, err error) error {
	return &fs.PathError{Op: op, Path: name, Err: err}
}
