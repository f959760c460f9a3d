package lock

import (
	"fmt"
	"time"
)

// FreezeResult tells what a freeze did. Freeze returns it with an error too,
// filled in as far as it got.
type FreezeResult struct {
	// Consistent is true when no transaction was inside at any moment from
	// before the pin was called until after it returned. It is false when
	// Freeze returns an error.
	Consistent bool

	// ClosedEpoch and ThawEpoch prove it: the gate counts each time it shuts
	// or opens. ClosedEpoch is the count when it was shut for the pin,
	// ThawEpoch the count after the pin had returned and before the gate was
	// opened. They are equal exactly when the gate stayed shut. Both are 0
	// when the pin was not run behind a shut gate.
	ClosedEpoch, ThawEpoch uint64

	// Attempts is how many times the gate was shut, the successful attempt
	// included.
	Attempts int

	// Forced is the number of transactions that were aborted.
	Forced int

	// Waited is the time from the call to the start of the pin, or to the
	// failure when the pin was not run.
	Waited time.Duration

	// PinTook is how long the pin ran.
	PinTook time.Duration

	// Held is how long the gate was shut in the attempt in which the pin ran,
	// from shutting it to opening it. It is 0 when the pin was run with the
	// gate open, or not run.
	Held time.Duration

	// LongestHeld is the longest time the gate was shut in any attempt.
	LongestHeld time.Duration

	// Overrun is by how much Held exceeded MaxStall, else 0.
	Overrun time.Duration

	// Stalled is the number of transactions that had to wait at the gate.
	Stalled int64

	// LongestStall is the longest time any of them waited.
	LongestStall time.Duration

	// Blocker is the oldest transaction that was inside when an attempt had to
	// be given up, or that an attempt was put off for; the last such one. It is
	// the zero TxInfo when there was none, or when what blocked was begun with
	// Begin and so is not known.
	Blocker TxInfo

	// SlowParticipant is the name of the last participant for which an attempt
	// had to be given up, else empty.
	SlowParticipant string
}

// TxInfo describes a transaction begun with BeginContext, or one of a Session
// that was in the way of a freeze.
type TxInfo struct {
	// Name is what [WithName] or [Session.SetName] has set, else empty.
	Name string
	// Began is when it was admitted, in UTC. For a transaction of a session it
	// is when the gate was shut in the attempt that first found it inside: it
	// began no later than that.
	Began time.Time
	// Age is how long it had been running when this was written down, counted
	// from Began.
	Age time.Duration
}

// String returns the name, when there is one, and the age.
func (t TxInfo) String() string {
	if t.Name == "" {
		return fmt.Sprintf("transaction (running for %v)", t.Age.Round(time.Millisecond))
	}
	return fmt.Sprintf("transaction %q (running for %v)", t.Name, t.Age.Round(time.Millisecond))
}
