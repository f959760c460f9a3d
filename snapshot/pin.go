package snapshot

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"
)

// pin prepares and pins all sources. When it fails no view is left open.
func (c *creation) pin(ctx context.Context) (err error) {
	c.track.enter(PhasePrepare)
	if err := c.prepare(ctx); err != nil {
		return err
	}
	c.track.enter(PhaseFreeze)
	// Also when a source panics inside its Pin, the views of the others are closed.
	pinned := false
	defer func() {
		if !pinned {
			err = errors.Join(err, c.closeViews())
		}
	}()
	if gate := c.engine.config.Lock; gate != nil {
		c.frozen, err = gate.Freeze(ctx, c.opts.Freeze, c.pinAll)
	} else {
		err = c.pinAll(ctx)
	}
	if err != nil {
		return preferCause(ctx, err)
	}
	pinned = true
	return nil
}

// prepare runs the slow part of pinning, all sources at once.
func (c *creation) prepare(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, name := range c.engine.names {
		p, ok := c.engine.config.Sources[name].(Preparer)
		if !ok {
			continue
		}
		group.Go(relay(func() error {
			if err := p.Prepare(ctx); err != nil {
				return &SourceError{Source: name, Op: "prepare", Err: err}
			}
			return nil
		}))
	}
	return relayed(group.Wait())
}

// pinAll pins every source, in the order of their names. It runs inside the
// freeze.
func (c *creation) pinAll(ctx context.Context) error {
	for _, name := range c.engine.names {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		v, err := c.engine.config.Sources[name].Pin(ctx)
		if err == nil && (v == nil || v.FS == nil) {
			err = errors.New("it returned no view")
		}
		if v != nil {
			c.views = append(c.views, v)
		}
		if err != nil {
			return &SourceError{Source: name, Op: "pin", Err: err}
		}
	}
	c.created = time.Now().UTC()
	return nil
}

// settle lets the views finish what their pins began, all at once.
func (c *creation) settle(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for i, v := range c.views {
		if v.Settle == nil {
			continue
		}
		group.Go(relay(func() error {
			if err := v.Settle(ctx); err != nil {
				return &SourceError{Source: c.engine.names[i], Op: "settle", Err: err}
			}
			return nil
		}))
	}
	return relayed(group.Wait())
}

// closeViews lets go of all views, each once.
func (c *creation) closeViews() (err error) {
	for i, v := range c.views {
		if v == nil || v.Close == nil {
			continue
		}
		c.views[i] = nil
		func() {
			// If this one panics the others are closed all the same.
			ended := false
			defer func() {
				if !ended {
					err = errors.Join(err, c.closeViews())
				}
			}()
			if closeErr := v.Close(); closeErr != nil {
				err = errors.Join(err, &SourceError{Source: c.engine.names[i], Op: "close", Err: closeErr})
			}
			ended = true
		}()
	}
	c.views = nil
	return err
}
