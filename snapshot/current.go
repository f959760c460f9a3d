package snapshot

import "context"

// Current returns a Source for a database that is closed and opened again while the Engine lives,
// as RestoreOptions.Stop and Start do: get returns the Source of the database that is open now, or
// nil while none is. It is called for each Pin and each Prepare, from any goroutine. What it
// returns need not be a Preparer.
//
// get must not wait, least of all for a mutex that the server's transactions hold: it is called
// while the gate is shut, and they may be waiting there. An atomic pointer serves.
//
// While there is none a snapshot fails with ErrSourceClosed.
func Current(get func() Source) Preparer { return current(get) }

type current func() Source

// Pin pins the Source of now.
func (c current) Pin(ctx context.Context) (*View, error) {
	s := c()
	if s == nil {
		return nil, ErrSourceClosed
	}
	return s.Pin(ctx)
}

// Prepare prepares the Source of now, if it can. Should another one take its place before
// the Pin, that one is pinned without, as Preparer allows.
func (c current) Prepare(ctx context.Context) error {
	switch s := c().(type) {
	case nil:
		return ErrSourceClosed
	case Preparer:
		return s.Prepare(ctx)
	}
	return nil
}
