package lock

import (
	"fmt"
	"time"

	"go.opentelemetry.io/otel/metric"
)

// The defaults of [Options] and [FreezeOptions].
const (
	DefaultTimeout  = 120 * time.Second
	DefaultMaxStall = 250 * time.Millisecond
)

// Options are the settings of a gate. The zero value works.
type Options struct {
	// Timeout is used by a freeze whose own options have none.
	// Zero means DefaultTimeout.
	Timeout time.Duration

	// MaxStall is used by a freeze whose own options have none.
	// Zero means DefaultMaxStall, less than zero means no bound.
	MaxStall time.Duration

	// Meter is given the figures of the gate when it is not nil: the counts
	// and histograms of [Stats], as instruments whose names begin with
	// holdstill.lock. One that it cannot make is left out. The gauges are
	// taken back by Gate.Close.
	Meter metric.Meter
}

// FreezeOptions are the settings of one freeze. The zero value works.
type FreezeOptions struct {
	// Timeout is how long the freeze may take, its time in the queue behind
	// other freezes included. Zero means the Timeout of the gate; less than
	// zero is an error. When it has passed, Force and AllowInconsistent say
	// what to do; with neither, the freeze fails with a *TimeoutError.
	Timeout time.Duration

	// MaxStall bounds how long one attempt keeps the gate shut while it waits
	// for running transactions and freezes participants. Zero means the MaxStall of the gate, less than
	// zero means no bound: there is one attempt, and it lasts until the
	// timeout. After an attempt in vain the gate stays open for a pause that
	// begins at MaxStall and doubles, up to 32 times MaxStall or a sixteenth of
	// the timeout, whichever is shorter. The bound ends the waiting, not the pin: a pin that runs
	// longer than what is left of MaxStall keeps the gate shut for longer,
	// which [FreezeResult.Overrun] tells.
	MaxStall time.Duration

	// Force aborts transactions that are still inside when the timeout has
	// passed, and waits up to the timeout once more. Only those that were
	// begun with BeginContext can be aborted. With a MaxStall, the attempts go
	// on as before and each aborts what is still inside after half of its
	// time, so that transactions that end soon by themselves are left alone.
	// Without a MaxStall everything inside is aborted when the timeout passes.
	// Force comes before AllowInconsistent when both are set.
	Force bool

	// AllowInconsistent runs the pin with the gate open when neither the
	// timeout nor Force brought a moment without transactions. The result
	// then has Consistent false.
	AllowInconsistent bool
}

// withDefaults fills in what is not set and refuses what makes no sense.
func (o FreezeOptions) withDefaults(gate Options) (FreezeOptions, error) {
	if o.Timeout == 0 {
		o.Timeout = gate.Timeout
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Timeout < 0 {
		return o, fmt.Errorf("%w: Timeout is %v; give a positive duration, or zero for the default", ErrBadOptions, o.Timeout)
	}
	if o.MaxStall == 0 {
		o.MaxStall = gate.MaxStall
	}
	if o.MaxStall == 0 {
		o.MaxStall = DefaultMaxStall
	}
	return o, nil
}
