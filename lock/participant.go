package lock

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"
)

// A Participant is something that has to stand still together with the
// transactions of a gate: a second database, a log, a queue. See
// [Gate.Register].
type Participant interface {
	// Freeze brings the participant to a stop. It is called when no
	// transaction is inside the gate any more, on the goroutine that called
	// Gate.Freeze. While it runs the transactions at the gate are held, so the
	// time it takes counts into MaxStall. When ctx ends it has to return soon;
	// it may return an error or nil then. After an error nothing is frozen,
	// and Thaw is not called.
	Freeze(ctx context.Context) error

	// Thaw lets the participant go on. It is called once for each Freeze that
	// has returned nil, just after the gate was opened, perhaps on another
	// goroutine. It must not wait for anything.
	Thaw()
}

// Register makes p freeze together with the gate, from the next attempt of a
// freeze on. Participants are frozen one after the other in the order of their
// names, and the pin runs when all of them are frozen, so that it sees one
// moment of all. Thawing goes the other way round.
//
// It is all or nothing: when one fails, the others are thawed, the gate is
// opened, and Freeze returns a [*ParticipantError]. When one is not done
// before the attempt has used up its MaxStall, the same happens at once, but
// the freeze makes another attempt after a pause. When one panics, all others
// are thawed and the panic goes on.
//
// Register returns ErrRegistered for a name that is taken, ErrClosed for a
// closed gate and an error that matches ErrBadOptions for an empty name or a
// nil p.
func (g *Gate) Register(name string, p Participant) error {
	if name == "" || p == nil {
		return fmt.Errorf("%w: a participant needs a name and must not be nil (name %q)", ErrBadOptions, name)
	}
	select {
	case <-g.done:
		return ErrClosed
	default:
	}
	return g.members.add(member{name, p})
}

// Unregister undoes Register and reports whether there was a participant of
// that name. It does not wait: a freeze that is under way still freezes and
// thaws it.
func (g *Gate) Unregister(name string) bool { return g.members.remove(name) }

type member struct {
	name string
	Participant
}

// members are the participants of a gate, in the order of their names.
type members struct {
	mu  sync.Mutex
	all []member
}

func (m *members) find(name string) (int, bool) {
	return slices.BinarySearchFunc(m.all, name, func(e member, name string) int { return cmp.Compare(e.name, name) })
}

func (m *members) add(e member) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	i, found := m.find(e.name)
	if found {
		return fmt.Errorf("%w: %q", ErrRegistered, e.name)
	}
	m.all = slices.Insert(m.all, i, e)
	return nil
}

func (m *members) remove(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	i, found := m.find(name)
	if found {
		m.all = slices.Delete(m.all, i, i+1)
	}
	return found
}

func (m *members) list() []member {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.all)
}

// memberHold is the participants that one attempt has frozen.
type memberHold struct {
	mu       sync.Mutex
	frozen   []member
	thawed   bool // thaw was called: what is frozen after that is thawed at once
	count    int  // how many were frozen
	panicked any  // the first panic of a Thaw
}

// add is called for each one that is frozen.
func (h *memberHold) add(e member) {
	h.mu.Lock()
	late := h.thawed
	h.count++
	if !late {
		h.frozen = append(h.frozen, e)
	}
	h.mu.Unlock()
	if late {
		h.thawEach([]member{e})
	}
}

// thaw thaws them all, the last first, unless that has been done.
func (h *memberHold) thaw() {
	h.mu.Lock()
	list := h.frozen
	h.frozen, h.thawed = nil, true
	h.mu.Unlock()
	h.thawEach(list)
}

// thawEach goes on with the next one whatever one does.
func (h *memberHold) thawEach(list []member) {
	last := len(list) - 1
	if last < 0 {
		return
	}
	defer h.thawEach(list[:last])
	defer func() {
		if v := recover(); v != nil {
			h.mu.Lock()
			defer h.mu.Unlock()
			if h.panicked == nil {
				h.panicked = fmt.Sprintf("lock: Thaw of participant %q: %v\n%s", list[last].name, v, debug.Stack())
			}
		}
	}()
	list[last].Thaw()
}

// any reports whether any were frozen.
func (h *memberHold) any() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.count > 0
}

// rethrow panics, on the goroutine of the freeze, when a Thaw has.
func (h *memberHold) rethrow() {
	h.mu.Lock()
	v := h.panicked
	h.mu.Unlock()
	if v != nil {
		panic(v)
	}
}

// errStalled is the cause of the context of a participant that is too slow.
var errStalled = errors.New("lock: the attempt has held transactions for as long as it may")

// freezeMembers freezes the participants and reports whether all are frozen.
// If not, the gate is open and none is frozen. When end passes that happens at
// once, even if the one that is being frozen does not return.
func (f *freeze) freezeMembers(ctx context.Context, p *period, end time.Time, held *memberHold) (all bool, err error) {
	g := f.g
	list := g.members.list()
	if len(list) == 0 {
		return true, nil
	}
	ctx, cancel := context.WithDeadlineCause(ctx, end, errStalled)
	defer cancel()
	opened := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(opened)
		g.thaw(p)
		held.thaw()
	})
	defer func() { // also after a panic
		switch {
		case all:
		case stop():
			g.thaw(p)
			held.thaw()
		default:
			<-opened
		}
	}()
	for _, e := range list {
		err := e.Freeze(ctx)
		if err == nil {
			held.add(e)
		}
		if ctx.Err() != nil {
			return false, f.tooSlow(ctx, e.name)
		}
		if err != nil {
			return false, &ParticipantError{Name: e.name, Err: err}
		}
	}
	if !stop() {
		<-opened
		return false, f.tooSlow(ctx, list[len(list)-1].name)
	}
	return true, nil
}

// tooSlow says how to go on after ctx has ended during the Freeze of a
// participant: with another attempt if the error is nil.
func (f *freeze) tooSlow(ctx context.Context, name string) error {
	switch cause := context.Cause(ctx); {
	case f.ctx.Err() != nil:
		return contextError(f.ctx, "freeze")
	case errors.Is(cause, ErrClosed):
		return ErrClosed
	}
	f.slow, f.res.SlowParticipant = name, name
	return nil
}
