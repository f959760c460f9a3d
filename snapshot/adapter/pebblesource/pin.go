package pebblesource

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/holdstill/holdstill/snapshot"
)

// Prepare writes the log out and syncs it, so that a pin soon after finds little
// left to be written. Where an early release is possible it also has Pebble finish
// the deletions of obsolete files that are under way, for which a checkpoint
// waits, and start no others until the next Pin: at most three minutes. It
// returns ErrClosed, the context's cause or Pebble's error.
func (s *Source) Prepare(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if err := s.enter(); err != nil {
		return err
	}
	defer s.wg.Done()
	if err := s.fs.MkdirAll(s.scratch, 0o755); err != nil {
		return fmt.Errorf("pebblesource: cannot make the scratch folder: %w", err)
	}
	if s.why == nil {
		return s.putBrakeOn(ctx)
	}
	m, err := s.mark(nil)
	if err != nil {
		return err
	}
	return m.wait(ctx)
}

// Pin returns a View of exactly the rows that are committed now. No transaction
// may be running: it is called inside the freeze. Writes with pebble.NoSync
// count as committed once the call has returned.
//
// With an early release it takes about as long as one write to the log, plus
// what Pebble has under way there or in the manifest. Otherwise it takes as long
// as DB.Checkpoint. When ctx ends first it returns the cause at once; what was
// begun is undone in the background, and Close waits for that.
//
// The Position of the View is Pebble's sequence number in decimal: the rows of
// the View are those with a lower one. It returns ErrClosed, the context's cause,
// or the error of Pebble or of the file system.
func (s *Source) Pin(ctx context.Context) (*snapshot.View, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.wg.Done()
	defer s.takeBrakeOff()
	k, err := s.begin(s.why == nil)
	if err != nil {
		return nil, err
	}
	if k.cap != nil {
		k.early, err = k.awaitCapture(ctx)
	}
	if err != nil {
		k.discard()
		return nil, err
	}
	meta := map[string]string{}
	if k.early {
		log, length := k.cap.cut()
		meta["wal"] = s.fs.PathBase(log)
		meta["wal_length"] = strconv.FormatInt(length, 10)
		k.cap.release()
	} else if err := k.finish(ctx); err != nil {
		k.discard()
		return nil, err
	}
	return k.view(meta), nil
}

// awaitCapture waits until the checkpoint holds in MkdirAll and the mark was
// seen. It returns false if that will not happen: then the checkpoint goes on,
// not cut, and has to be completed inside the freeze.
func (k *checkpoint) awaitCapture(ctx context.Context) (bool, error) {
	c := k.cap
	select {
	case <-c.captured:
	case <-k.done:
		if errors.Is(k.err, errAborted) {
			return false, ErrClosed // nobody else gives up a pin that waits
		}
		return false, k.err
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
	// The mark is committed before the checkpoint begins.
	select {
	case <-c.marked:
		return true, nil
	case <-k.mark.synced:
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
	if k.mark.err == nil && isDone(c.marked) {
		return true, nil
	}
	c.release()
	return false, k.mark.err
}

// finish waits for the end of the checkpoint.
func (k *checkpoint) finish(ctx context.Context) error {
	select {
	case <-k.done:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if k.err != nil {
		return fmt.Errorf("pebblesource: checkpoint: %w", k.err)
	}
	names, err := k.s.fs.List(k.dest)
	if err != nil {
		return fmt.Errorf("pebblesource: checkpoint: %w", err)
	}
	for _, name := range names {
		if strings.HasPrefix(name, "REMOTE-OBJ-CATALOG") {
			return fmt.Errorf("%w: the checkpoint refers to them in %s", ErrRemoteObjects, name)
		}
	}
	if k.s.walDir {
		return bringLogHome(k.s.fs, k.dest, names)
	}
	return nil
}

func (k *checkpoint) view(meta map[string]string) *snapshot.View {
	v := &snapshot.View{
		FS:       viewFS{k.s.fs, k.dest},
		Hint:     k.hint,
		Close:    k.close,
		Kind:     Kind,
		Method:   MethodUnderGate,
		Epoch:    epoch,
		Position: strconv.FormatUint(k.mark.seq, 10),
		Metadata: meta,
	}
	if k.early {
		v.Method = MethodEarlyRelease
		v.Settle = k.finish
	}
	return v
}
