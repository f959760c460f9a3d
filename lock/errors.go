package lock

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// The errors of this package, to be told apart with errors.Is. Errors of
// contexts and of pins are passed on, wrapped, so errors.Is finds these too.
var (
	// ErrClosed is returned by Begin, BeginContext and Freeze once the gate
	// has been closed, also to callers that were waiting at that moment.
	ErrClosed = errors.New("lock: the gate is closed")

	// ErrSessionClosed is returned by Session.Enter after Session.Close.
	ErrSessionClosed = errors.New("lock: the session is closed")

	// ErrTimeout is matched by the *TimeoutError of a freeze that found no
	// moment without transactions within its timeout.
	ErrTimeout = errors.New("lock: the freeze timed out")

	// ErrForced is matched by the *ForcedError that is the cause of the
	// context of a transaction that a freeze has aborted.
	ErrForced = errors.New("lock: the transaction was aborted by a freeze")

	// ErrInsidePin is returned by Begin, BeginContext and Freeze when they
	// are called with the context of a pin and would wait for that pin to
	// end: it would wait for itself.
	ErrInsidePin = errors.New("lock: called from inside the pin of a freeze, which would wait for itself")

	// ErrInsideTx is returned by Freeze when its context belongs to a
	// transaction that is still running: the freeze would wait for its caller.
	ErrInsideTx = errors.New("lock: Freeze called from inside a transaction, which would wait for itself")

	// ErrRegistered is returned by Register for a name that is taken.
	ErrRegistered = errors.New("lock: a participant of this name is registered")

	// ErrBadOptions is matched by the error for options and arguments that
	// make no sense; its text says which.
	ErrBadOptions = errors.New("lock: bad options")
)

// TimeoutError says why a freeze gave up. It matches ErrTimeout.
type TimeoutError struct {
	// Waited is how long the freeze tried, its time in the queue included.
	Waited time.Duration
	// Attempts is how many times the gate was shut.
	Attempts int
	// Queued is true when the time passed behind another freeze.
	Queued bool
	// Pin is true when transactions had ended in time, but the pin had not
	// returned when the time was over. The gate was opened at that moment.
	Pin bool
	// Inside is the number of transactions that were inside when the last
	// attempt ended.
	Inside int64
	// Oldest is the oldest of them of which the gate knows the age. It is the
	// zero TxInfo when there was none.
	Oldest TxInfo
	// Forced is the number of transactions that were aborted in vain.
	Forced int
	// Participant is the name of the participant that was still freezing when
	// the last attempt had to be given up, else empty.
	Participant string
}

// Error describes the timeout and what was in the way.
func (e *TimeoutError) Error() string {
	waited := e.Waited.Round(time.Millisecond)
	switch {
	case e.Queued:
		return fmt.Sprintf("lock: the freeze timed out after %v: another freeze was under way; try again when it has ended", waited)
	case e.Pin:
		return fmt.Sprintf("lock: the freeze timed out after %v: the pin had not returned, so the gate was opened without it", waited)
	}
	if e.Participant != "" {
		return fmt.Sprintf("lock: the freeze timed out after %v and %d attempts: participant %q did not freeze in time", waited, e.Attempts, e.Participant)
	}
	s := fmt.Sprintf("lock: the freeze timed out after %v and %d attempts: %d transactions were still inside", waited, e.Attempts, e.Inside)
	if e.Forced > 0 {
		s += fmt.Sprintf(", after %d had been aborted", e.Forced)
	}
	if !e.Oldest.Began.IsZero() {
		s += ", the oldest known: " + e.Oldest.String()
	}
	return s
}

// Is reports whether target is ErrTimeout.
func (e *TimeoutError) Is(target error) bool { return target == ErrTimeout }

// Timeout returns true, as the method of the same name in package net does.
func (e *TimeoutError) Timeout() bool { return true }

// ForcedError is the cause of the context of a transaction that a freeze has
// aborted, see [FreezeOptions.Force]. It matches ErrForced.
type ForcedError struct {
	// Tx is the transaction as it stood when it was aborted.
	Tx TxInfo
}

// Error names the transaction and its age.
func (e *ForcedError) Error() string {
	return "lock: " + e.Tx.String() + " was aborted by a freeze that had waited too long"
}

// Is reports whether target is ErrForced.
func (e *ForcedError) Is(target error) bool { return target == ErrForced }

// ParticipantError is returned by Freeze when a participant could not be
// frozen, for another reason than the time. All others were thawed and the
// gate was opened.
type ParticipantError struct {
	// Name is what the participant was registered as.
	Name string
	// Err is what its Freeze has returned.
	Err error
}

// Error names the participant.
func (e *ParticipantError) Error() string {
	return fmt.Sprintf("lock: participant %q cannot be frozen: %v", e.Name, e.Err)
}

// Unwrap returns Err.
func (e *ParticipantError) Unwrap() error { return e.Err }

// contextError describes the end of a context. Both what ctx.Err returns and
// the cause, when there is another one, are found by errors.Is.
func contextError(ctx context.Context, doing string) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if errors.Is(cause, err) {
		return fmt.Errorf("lock: %s: %w", doing, cause)
	}
	return fmt.Errorf("lock: %s: %w: %w", doing, err, cause)
}
