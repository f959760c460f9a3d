package snapshot

import (
	"errors"
	"fmt"
	"runtime/debug"
)

// A panic in a goroutine that nobody recovers ends the process, and the process is a
// database that serves. So what a source panics with in a goroutine of the engine's is taken
// to the goroutine of the caller, who may recover it, as from a call of the source's own.

// A relayedPanic is what a goroutine panicked with.
type relayedPanic struct {
	value any
	stack []byte
}

func (p *relayedPanic) Error() string {
	return fmt.Sprintf("%v\n\nin a goroutine of the engine:\n%s", p.value, p.stack)
}

// Unwrap returns the value if that is an error.
func (p *relayedPanic) Unwrap() error {
	err, _ := p.value.(error)
	return err
}

// relay makes a panic of f an error, for relayed.
func relay(f func() error) func() error {
	return func() (err error) {
		defer func() {
			if value := recover(); value != nil {
				err = &relayedPanic{value, debug.Stack()}
			}
		}()
		return f()
	}
}

// relayed panics if an error is the panic of a goroutine.
func relayed(err error) error {
	if p := (*relayedPanic)(nil); errors.As(err, &p) {
		panic(p)
	}
	return err
}
