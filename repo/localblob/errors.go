package localblob

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"gocloud.dev/gcerrors"
)

// Sentinels of this package. They pass through the *blob.Bucket, so errors.Is works on what its methods return.
var (
	// ErrInvalidKey marks a key that this store cannot hold: empty, not UTF-8, or too long. Always inside a [KeyError].
	ErrInvalidKey = errors.New("localblob: invalid key")
	// ErrKeyConflict marks a write to "a/b" while "a" is an object, or to "a" while keys begin with "a/".
	// A file system has one name for both. Always inside a [KeyError].
	ErrKeyConflict = errors.New("localblob: key conflicts with another key")
	// ErrExists is the error of a write with IfNotExist that found, or lost the race to, another object.
	ErrExists = errors.New("localblob: the object exists already")
	// ErrUncertain marks a change that is visible but was not confirmed by the disk: syncing the folder failed after
	// the object was put in place or removed. After a crash the old state or the new one will be found, whole.
	ErrUncertain = errors.New("localblob: change made but not confirmed durable")
	// ErrCorrupt marks an object whose stored attributes fail their checksum. Its content length is unknown.
	ErrCorrupt = errors.New("localblob: stored attributes are corrupt")

	errInterfered = errors.New("localblob: the temporary file or its folder was removed by somebody else")
)

// KeyError says which key was refused and why. It unwraps to [ErrInvalidKey] or [ErrKeyConflict].
type KeyError struct {
	Key    string // as the caller gave it
	Reason string // what is wrong and what to do
	Err    error  // ErrInvalidKey or ErrKeyConflict
}

// Error returns the message; a long key is cut.
func (e *KeyError) Error() string {
	key := e.Key
	if len(key) > 80 {
		key = key[:80]
		return fmt.Sprintf("%v: %q... (%d bytes): %s", e.Err, key, len(e.Key), e.Reason)
	}
	return fmt.Sprintf("%v: %q: %s", e.Err, key, e.Reason)
}

// Unwrap returns Err.
func (e *KeyError) Unwrap() error { return e.Err }

// notObjectError stands for a path that holds something other than a regular file.
func notObjectError(op, name string) error {
	return &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
}

// errorCode sorts err into gocloud's codes. ENOTDIR counts as not found: "a/b" is looked up while "a" is an object.
func errorCode(err error) gcerrors.ErrorCode {
	switch {
	case err == nil:
		return gcerrors.OK
	case errors.Is(err, context.Canceled):
		return gcerrors.Canceled
	case errors.Is(err, context.DeadlineExceeded):
		return gcerrors.DeadlineExceeded
	case errors.Is(err, ErrInvalidKey), errors.Is(err, ErrKeyConflict), errors.Is(err, errAttributesTooLarge),
		errors.Is(err, syscall.ENAMETOOLONG):
		return gcerrors.InvalidArgument
	case errors.Is(err, ErrExists):
		return gcerrors.FailedPrecondition
	case errors.Is(err, errNoSignedURL):
		return gcerrors.Unimplemented
	case errors.Is(err, ErrUncertain), errors.Is(err, ErrCorrupt), errors.Is(err, errInterfered):
		return gcerrors.Unknown
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return gcerrors.NotFound
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return gcerrors.PermissionDenied
	case isOutOfSpace(err):
		return gcerrors.ResourceExhausted
	}
	return gcerrors.Unknown
}

// errorAs serves blob.Bucket.ErrorAs for the error types a file operation can yield.
func errorAs(err error, target any) bool {
	switch target.(type) {
	case **fs.PathError, **os.LinkError, *syscall.Errno, **KeyError:
		return errors.As(err, target)
	}
	return false
}
