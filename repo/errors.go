package repo

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/holdstill/holdstill/chunk"
)

// Errors of opening and making a repository.
var (
	// ErrNotRepository means that the bucket holds no repository.
	ErrNotRepository = errors.New("repo: no repository here")
	// ErrRepositoryExists means that Init found a repository in the bucket.
	ErrRepositoryExists = errors.New("repo: a repository exists here already")
	// ErrFormat means that this version of the library cannot read the
	// repository or one of its objects; see FormatError.
	ErrFormat = errors.New("repo: unsupported format")
	// ErrKey means that a key is missing, wrong, or given for a repository that is not
	// encrypted, or that the last key would be removed. The text says which.
	ErrKey = errors.New("repo: key")
	// ErrClosed means that the Repository or Session was closed or has ended.
	ErrClosed = errors.New("repo: closed")
)

// Errors of reading and writing what a repository holds.
var (
	// ErrNotFound means that no snapshot has the ID asked for.
	ErrNotFound = errors.New("repo: no such snapshot")
	// ErrExists means that a snapshot with this ID exists already.
	ErrExists = errors.New("repo: snapshot exists already")
	// ErrBadID means that a string cannot be the ID of a snapshot; see CheckID.
	ErrBadID = errors.New("repo: bad snapshot ID")
	// ErrNoAttachment means that a snapshot has no attachment of the name asked for.
	ErrNoAttachment = errors.New("repo: no such attachment")
	// ErrBadAttachmentName means that a string cannot be the name of an attachment; see
	// CheckAttachmentName.
	ErrBadAttachmentName = errors.New("repo: bad attachment name")
	// ErrAttachmentSize means that an attachment is too large, or one too many.
	ErrAttachmentSize = errors.New("repo: too much to attach")
	// ErrInvalid means that an option is out of range, or that an argument cannot be
	// stored: a chunk of the wrong size, a file table out of order, a manifest that is
	// too large, chunks that were not flushed. The text says what and where.
	ErrInvalid = errors.New("repo: invalid argument")
	// ErrCorrupt means that stored bytes are not what was written; see
	// CorruptError and ChunkError.
	ErrCorrupt = errors.New("repo: corrupt")
	// ErrTooManyChunks means that Expand was asked for more chunks than its limit allows.
	ErrTooManyChunks = errors.New("repo: too many chunks at once")
	// ErrMissing means that an object or a chunk that others rely on is not
	// there.
	ErrMissing = errors.New("repo: missing")
	// ErrGivenUp means that a collection took the session for dead, since it had shown
	// no sign of life for CollectOptions.LeaseTimeout. What it stored does not count:
	// begin anew.
	ErrGivenUp = errors.New("repo: the session was given up by a collection")
	// ErrNoLeases means that a repository cannot be collected, since it was made before
	// writers had to hold leases.
	ErrNoLeases = errors.New("repo: the repository was made before there were collections")
	// ErrCondemned means that a snapshot needs what a collection is about to delete or
	// to move: it must not be built on now.
	ErrCondemned = errors.New("repo: condemned by a collection")
)

// Errors of the store that a repository is kept in. Each wraps what the driver said.
var (
	// ErrNoBucket means that the bucket or container itself does not exist. It is
	// not made here: make it first.
	ErrNoBucket = errors.New("repo: no such bucket")
	// ErrAuthentication means that the store does not accept the credentials: they
	// are missing, unknown, wrong or expired.
	ErrAuthentication = errors.New("repo: the store refuses the credentials")
	// ErrPermission means that the store accepts the credentials and refuses the
	// operation; of a local repository, that the file system does.
	ErrPermission = errors.New("repo: the store refuses permission")
	// ErrNoSpace means that the store is full or a quota is used up. Where a file
	// system said so, errors.Is(err, syscall.ENOSPC) holds too.
	ErrNoSpace = errors.New("repo: no space left in the store")
	// ErrUnavailable means that the store could not be reached, or failed or
	// throttled, as often as Options.Retry allows. Later it may work.
	ErrUnavailable = errors.New("repo: the store is unavailable")
)

// A FormatError reports an object of a format that this version of the library
// does not know. It matches ErrFormat.
type FormatError struct {
	// Object is the key of the object.
	Object string
	// Version is the format version found, 0 where the object has none.
	Version int
	// Requires names a feature that the repository needs and this version of
	// the library lacks. Empty when the version itself is the obstacle.
	Requires string
}

func (e *FormatError) Error() string {
	what := "has format version " + strconv.Itoa(e.Version) + ", this library reads version " + strconv.Itoa(FormatVersion)
	if e.Requires != "" {
		what = "needs the feature " + strconv.Quote(e.Requires) + ", which this library lacks"
	}
	return "repo: " + e.Object + " " + what + "; use a newer holdstill"
}

// Is reports whether target is ErrFormat.
func (e *FormatError) Is(target error) bool { return target == ErrFormat }

// A CorruptError reports an object whose bytes are not what was written. It
// matches ErrCorrupt.
type CorruptError struct {
	// Object is the key of the object.
	Object string
	// Reason says what does not hold.
	Reason string
}

func (e *CorruptError) Error() string {
	return "repo: " + e.Object + " is damaged: " + e.Reason
}

// Is reports whether target is ErrCorrupt.
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }

func corrupt(object, format string, args ...any) error {
	return &CorruptError{Object: object, Reason: fmt.Sprintf(format, args...)}
}

// A ChunkError reports a chunk that could not be read. It unwraps to the cause:
// ErrMissing, ErrCorrupt, a context's error or an error of the bucket.
type ChunkError struct {
	ID chunk.ID
	// Pack is the key of the pack that should hold the chunk. Empty when no
	// index names one.
	Pack string
	// Offset and Length say where in the pack the stored bytes lie, in bytes.
	Offset, Length int64
	Err            error
}

func (e *ChunkError) Error() string {
	if e.Pack == "" {
		return "repo: chunk " + e.ID.String() + ": " + e.Err.Error()
	}
	return fmt.Sprintf("repo: chunk %s in %s at bytes %d to %d: %v", e.ID, e.Pack, e.Offset, e.Offset+e.Length, e.Err)
}

// Unwrap returns the cause.
func (e *ChunkError) Unwrap() error { return e.Err }

// A BaseError says that a chunk which is stored as the difference to another one, the
// base, cannot be read or stored because of the base. It stands within the ChunkError
// of the first, and unwraps to what is wrong with the second.
type BaseError struct {
	ID  chunk.ID // the base
	Err error
}

func (e *BaseError) Error() string {
	return "the chunk " + e.ID.String() + " that it is stored as the difference to: " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *BaseError) Unwrap() error { return e.Err }
