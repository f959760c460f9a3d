package snapshot

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdstill/holdstill/repo"
)

// Phase says what a long call is busy with.
type Phase string

// The phases of Create come in the order prepare, freeze, settle, read, commit;
// those of Restore in the order write, sync, exchange. Export has read alone, Import
// read and commit.
const (
	PhasePrepare  Phase = "prepare"
	PhaseFreeze   Phase = "freeze"
	PhaseSettle   Phase = "settle"
	PhaseRead     Phase = "read"
	PhaseCommit   Phase = "commit"
	PhaseWrite    Phase = "write"
	PhaseSync     Phase = "sync"
	PhaseExchange Phase = "exchange"
)

// Progress tells how far a long call is. Sizes are in bytes.
type Progress struct {
	Phase Phase
	// FilesDone and BytesDone count what needs no more work, FilesTotal and
	// BytesTotal what there is. The totals are zero until they are known. Files
	// that are taken over unread from the parent count as done.
	FilesDone, FilesTotal int64
	BytesDone, BytesTotal int64
	// BytesStored is what was added to the repository so far. Zero in Restore and Export.
	BytesStored int64
	// Elapsed is the time since the call.
	Elapsed time.Duration
}

// progressInterval is the shortest time between two reports of one phase.
const progressInterval = 100 * time.Millisecond

// tracker counts what many workers do and reports it to one function, one call at
// a time. All methods are safe for concurrent use, and cheap with a nil function.
type tracker struct {
	report func(Progress)
	start  time.Time

	filesDone, filesTotal atomic.Int64
	bytesDone, bytesTotal atomic.Int64
	// next is the earliest time of the next report, in nanoseconds after start.
	next atomic.Int64

	// mu is held while report runs, and guards what follows.
	mu     sync.Mutex
	phase  Phase
	stored func() int64
}

func newTracker(report func(Progress)) *tracker {
	return &tracker{report: report, start: time.Now()}
}

// enter begins a phase and reports it.
func (t *tracker) enter(p Phase) {
	if t.report == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.phase = p
	t.send()
}

// count takes Progress.BytesStored from a session.
func (t *tracker) count(s *repo.Session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stored = s.BytesStored
}

// restart counts from the beginning again, with totals that are not known.
func (t *tracker) restart() {
	for _, n := range []*atomic.Int64{&t.filesDone, &t.filesTotal, &t.bytesDone, &t.bytesTotal} {
		n.Store(0)
	}
}

// add counts finished work and reports it when the last report is old enough.
func (t *tracker) add(files, bytes int64) {
	t.filesDone.Add(files)
	t.bytesDone.Add(bytes)
	if t.report == nil {
		return
	}
	now := int64(time.Since(t.start))
	due := t.next.Load()
	if now < due || !t.next.CompareAndSwap(due, now+int64(progressInterval)) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.send()
}

// finish reports the last state.
func (t *tracker) finish() {
	if t.report == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.send()
}

// send calls report. The caller holds mu.
func (t *tracker) send() {
	p := Progress{
		Phase:      t.phase,
		FilesDone:  t.filesDone.Load(),
		FilesTotal: t.filesTotal.Load(),
		BytesDone:  t.bytesDone.Load(),
		BytesTotal: t.bytesTotal.Load(),
		Elapsed:    time.Since(t.start),
	}
	if t.stored != nil {
		p.BytesStored = t.stored()
	}
	t.report(p)
}
