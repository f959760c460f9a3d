package pebblesource

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// newCapture returns nil where the database is not watched.
func (s *Source) newCapture(dest string) *capture {
	if s.watcher == nil {
		return nil
	}
	return s.watcher.watch(dest)
}

// A mark is a log-only record that was committed. It changes no row, but all
// that was committed before it stands before it in the log.
type mark struct {
	seq    uint64        // every row committed before has a lower sequence number
	synced chan struct{} // closed once the log is synced up to the mark
	err    error         // of the sync; to be read after synced
}

// mark commits a record with c's token, or with none if c is nil. It does not
// wait for the sync; a goroutine that s.wg counts does. The caller keeps s.wg
// above zero itself.
func (s *Source) mark(c *capture) (m *mark, err error) {
	defer recoverClosed(&err)
	b := s.db.NewBatch()
	var payload []byte
	if c != nil {
		payload = c.markPayload()
	}
	if err := b.LogData(payload, nil); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	if err := s.db.ApplyNoSyncWait(b, pebble.Sync); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	m = &mark{seq: uint64(b.SeqNum()), synced: make(chan struct{})}
	s.wg.Go(func() {
		defer close(m.synced)
		m.err = errors.Join(b.SyncWait(), b.Close())
	})
	return m, nil
}

func (m *mark) wait(ctx context.Context) error {
	select {
	case <-m.synced:
		return m.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// recoverClosed turns the panic with which Pebble meets the use of a closed
// database into an error.
func recoverClosed(err *error) {
	switch r := recover().(type) {
	case nil:
	case error:
		if !errors.Is(r, pebble.ErrClosed) {
			panic(r)
		}
		*err = r
	default:
		panic(r)
	}
}

// A checkpoint is one call of DB.Checkpoint and the folder it makes.
type checkpoint struct {
	s     *Source
	dest  string
	cap   *capture // nil: made under the gate, after the log is synced
	early bool     // the freeze was released early; set by Pin

	// The goroutine of run owns these: mark until the capture tells of the
	// checkpoint or done is closed, err until done is closed.
	mark *mark         // set before the checkpoint begins
	done chan struct{} // closed when run has ended and nothing of it goes on
	err  error

	timer     *time.Timer // of a brake; guarded by s.mu
	closeOnce sync.Once
	closeErr  error
}

// begin starts a checkpoint. The caller has called enter. With early, the checkpoint is watched and will hold
// in MkdirAll until it is released.
func (s *Source) begin(early bool) (*checkpoint, error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, ErrClosed
	}
	s.pins++
	k := &checkpoint{
		s:    s,
		dest: s.fs.PathJoin(s.scratch, fmt.Sprintf("%s%06d", pinPrefix, s.pins)),
		done: make(chan struct{}),
	}
	s.live[k] = struct{}{}
	s.wg.Add(1) // until close
	s.mu.Unlock()

	if early {
		k.cap = s.newCapture(k.dest)
	}
	s.wg.Go(func() {
		defer close(k.done)
		k.err = k.run()
	})
	return k, nil
}

func (k *checkpoint) run() error {
	m, err := k.s.mark(k.cap)
	k.mark = m
	if err != nil {
		return err
	}
	if k.cap == nil {
		<-m.synced
		if m.err != nil {
			return m.err
		}
	}
	err = k.s.makeCheckpoint(k.dest)
	<-m.synced
	return errors.Join(err, m.err)
}

func (s *Source) makeCheckpoint(dest string) (err error) {
	defer recoverClosed(&err)
	return s.make(s.db, dest)
}

// close gives the checkpoint up if it is not complete, and removes it.
func (k *checkpoint) close() error {
	k.closeOnce.Do(func() {
		if k.cap != nil {
			k.cap.abort()
		}
		<-k.done
		if k.cap != nil {
			k.cap.forget()
		}
		k.closeErr = k.s.fs.RemoveAll(k.dest)
		k.s.mu.Lock()
		if k.timer != nil {
			k.timer.Stop()
		}
		delete(k.s.live, k)
		k.s.mu.Unlock()
		k.s.wg.Done()
	})
	return k.closeErr
}

// discard closes the checkpoint without waiting for it. Source.Close waits.
func (k *checkpoint) discard() {
	if k.cap != nil {
		k.cap.abort()
	}
	k.s.wg.Go(func() { _ = k.close() })
}
