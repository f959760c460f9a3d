package transfer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"syscall"

	"gocloud.dev/gcerrors"

	"github.com/holdstill/holdstill/repo"
)

// Errors of jobs.
var (
	// ErrJobNotFound means that no job has the ID asked for, or no longer.
	ErrJobNotFound = errors.New("transfer: no such job")
	// ErrJobBusy means that a job cannot start beside one that is under way; see
	// JobBusyError. Also that too many are waiting.
	ErrJobBusy = errors.New("transfer: another job is in the way")
	// ErrAborted is why a job's context ends that was aborted.
	ErrAborted = errors.New("transfer: aborted")
	// ErrInterrupted means that the process ended, or closed the Jobs, while the job was
	// under way.
	ErrInterrupted = errors.New("transfer: interrupted by restart; run it again, it continues")
	// ErrJobsClosed means that the Jobs were closed.
	ErrJobsClosed = errors.New("transfer: the jobs are closed")
	// ErrJobsInUse means that another process, or other Jobs, keep their records in
	// the folder.
	ErrJobsInUse = errors.New("transfer: the folder of job records is in use")
	// ErrPanic means that a job ended in a panic.
	ErrPanic = errors.New("transfer: the job panicked")
)

// A JobBusyError says which job is in the way of another one. It matches ErrJobBusy.
type JobBusyError struct {
	// Exclusive is what only one job may have at a time.
	Exclusive string
	// Job is the ID of the job that has it.
	Job string
}

func (e *JobBusyError) Error() string {
	return fmt.Sprintf("transfer: job %s is under way for %s: wait for it, or abort it", e.Job, e.Exclusive)
}

// Is reports whether target is ErrJobBusy.
func (e *JobBusyError) Is(target error) bool { return target == ErrJobBusy }

// A RecordError reports a job's record that could not be used and was set aside.
type RecordError struct {
	// Path is the file.
	Path string
	Err  error
}

func (e *RecordError) Error() string { return "transfer: job record " + e.Path + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *RecordError) Unwrap() error { return e.Err }

// ErrorKind says what an error is about, in a word that outlives the process.
type ErrorKind string

// The kinds of errors. An error that comes from a record matches the error named here
// with errors.Is, just as the original did.
const (
	ErrorNotFound       ErrorKind = "notFound"       // repo.ErrNotFound
	ErrorNotRepository  ErrorKind = "notRepository"  // repo.ErrNotRepository
	ErrorExists         ErrorKind = "exists"         // repo.ErrExists
	ErrorBadID          ErrorKind = "badID"          // repo.ErrBadID
	ErrorLocation       ErrorKind = "location"       // repo.ErrLocation
	ErrorFormat         ErrorKind = "format"         // repo.ErrFormat
	ErrorCorrupt        ErrorKind = "corrupt"        // repo.ErrCorrupt
	ErrorMissing        ErrorKind = "missing"        // repo.ErrMissing
	ErrorNoBucket       ErrorKind = "noBucket"       // repo.ErrNoBucket
	ErrorAuthentication ErrorKind = "authentication" // repo.ErrAuthentication
	ErrorPermission     ErrorKind = "permission"     // repo.ErrPermission, os.ErrPermission
	ErrorNoSpace        ErrorKind = "noSpace"        // repo.ErrNoSpace, syscall.ENOSPC
	ErrorKey            ErrorKind = "key"            // repo.ErrKey
	ErrorUnavailable    ErrorKind = "unavailable"    // repo.ErrUnavailable
	ErrorBusy           ErrorKind = "busy"           // ErrJobBusy
	ErrorAborted        ErrorKind = "aborted"        // ErrAborted
	ErrorInterrupted    ErrorKind = "interrupted"    // ErrInterrupted
	ErrorDeadline       ErrorKind = "deadline"       // context.DeadlineExceeded
	ErrorCancelled      ErrorKind = "cancelled"      // context.Canceled
	ErrorPanic          ErrorKind = "panic"          // ErrPanic
	ErrorOther          ErrorKind = "other"          // nothing in particular
)

// errorKind is one row of the table of kinds.
type errorKind struct {
	kind ErrorKind
	is   error
}

// errorKinds lists the kinds, the telling ones first: a transfer that ran into a full disk
// and was then cancelled failed for want of space.
var errorKinds = []errorKind{
	{ErrorPanic, ErrPanic},
	{ErrorAborted, ErrAborted},
	{ErrorInterrupted, ErrInterrupted},
	{ErrorBusy, ErrJobBusy},
	{ErrorLocation, repo.ErrLocation},
	{ErrorNotRepository, repo.ErrNotRepository},
	{ErrorNotFound, repo.ErrNotFound},
	{ErrorExists, repo.ErrExists},
	{ErrorBadID, repo.ErrBadID},
	{ErrorFormat, repo.ErrFormat},
	{ErrorNoBucket, repo.ErrNoBucket},
	{ErrorKey, repo.ErrKey},
	{ErrorAuthentication, repo.ErrAuthentication},
	{ErrorNoSpace, repo.ErrNoSpace},
	{ErrorNoSpace, syscall.ENOSPC},
	{ErrorPermission, repo.ErrPermission},
	{ErrorPermission, os.ErrPermission},
	{ErrorUnavailable, repo.ErrUnavailable},
	{ErrorCorrupt, repo.ErrCorrupt},
	{ErrorMissing, repo.ErrMissing},
	{ErrorDeadline, context.DeadlineExceeded},
	{ErrorCancelled, context.Canceled},
}

// kindTable returns all kinds, those of the caller first.
func kindTable(extra map[ErrorKind]error) []errorKind {
	var out []errorKind
	for _, kind := range slices.Sorted(maps.Keys(extra)) {
		out = append(out, errorKind{kind, extra[kind]})
	}
	return append(out, errorKinds...)
}

// classify returns what an error is about.
func classify(table []errorKind, err error) ErrorKind {
	for _, k := range table {
		if errors.Is(err, k.is) {
			return k.kind
		}
	}
	switch gcerrors.Code(err) {
	case gcerrors.PermissionDenied:
		return ErrorPermission
	case gcerrors.DeadlineExceeded:
		return ErrorDeadline
	}
	return ErrorOther
}

// A JobError is the error of a job that ended in an earlier process. It matches the
// errors that its kind stands for.
type JobError struct {
	// ID is the job.
	ID   string
	Kind ErrorKind
	// Message is the text of the original error.
	Message string

	is []error
}

func (e *JobError) Error() string { return e.Message }

// Unwrap returns the errors that the kind stands for, none for ErrorOther and kinds that
// are not known here.
func (e *JobError) Unwrap() []error { return e.is }

// recordedError returns the error that a status tells of, nil if it has none.
func recordedError(table []errorKind, s *Status) error {
	if s.State == StateCompleted || !s.State.Final() {
		return nil
	}
	e := &JobError{ID: s.ID, Kind: s.ErrorKind, Message: s.Error}
	for _, k := range table {
		if k.kind == s.ErrorKind {
			e.is = append(e.is, k.is)
		}
	}
	return e
}
