package pebblesource

import (
	"context"
	"time"
)

// A brake is a checkpoint that is begun only to be held, and never completed.
//
// DB.Checkpoint begins by stopping the deletion of obsolete files, and waits
// until those that are queued have been deleted. With pebble.Options'
// TargetByteDeletionRate that can take minutes. While another checkpoint is held,
// deletion is stopped already and the queue is empty, so Prepare puts the brake on,
// and the pin's own checkpoint passes at once. Its mark has the log written out.

// brakeMax bounds the time for which Prepare stops the deletion of obsolete files
// if no Pin follows: long enough for the engine's attempts to freeze.
const brakeMax = 3 * time.Minute

// putBrakeOn returns once the brake holds. It takes the place of an older one.
func (s *Source) putBrakeOn(ctx context.Context) error {
	k, err := s.begin(true)
	if err != nil {
		return err
	}
	early, err := k.awaitCapture(ctx)
	if err == nil {
		err = k.mark.wait(ctx)
	}
	if err != nil || !early {
		k.discard()
		return err
	}
	s.mu.Lock()
	old := s.brake
	s.brake = k
	if _, ok := s.live[k]; ok { // not closed by Close meanwhile
		k.timer = time.AfterFunc(brakeMax, func() { _ = k.close() })
	}
	s.mu.Unlock()
	if old != nil {
		old.discard()
	}
	return nil
}

// takeBrakeOff does not wait for it. The caller has called enter.
func (s *Source) takeBrakeOff() {
	s.mu.Lock()
	k := s.brake
	s.brake = nil
	s.mu.Unlock()
	if k != nil {
		k.discard()
	}
}
