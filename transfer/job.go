package transfer

import (
	"context"
	"iter"
	"sync"
	"time"
)

// A Job is something under way, or that was. It is safe for concurrent use.
type Job struct {
	exclusive string
	cancel    context.CancelCauseFunc
	table     []errorKind
	// done is closed when the job has ended, its record is durable and its hooks have
	// run.
	done chan struct{}

	// mu guards the fields below. Nothing waits while it is held.
	mu sync.Mutex
	// status becomes final when the record of the end is durable.
	status Status
	// err is the error as the job returned it; nil in a job from a record.
	err error
	// changed is closed and replaced whenever status changes.
	changed chan struct{}
	meter   meter
}

// ID returns the job's number.
func (j *Job) ID() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.status.ID
}

// Status returns how the job stands now.
func (j *Job) Status() Status {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.status.clone()
}

// Err returns why the job did not complete: nil while it is under way, and if it did.
// For a job of an earlier process it is a *JobError, which matches what the original
// matched as far as ErrorKind tells.
func (j *Job) Err() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err != nil || !j.status.State.Final() {
		return j.err
	}
	return recordedError(j.table, &j.status)
}

// Done returns a channel that is closed when the job has ended, its record is durable, and
// the hooks have run.
func (j *Job) Done() <-chan struct{} { return j.done }

// Wait waits for the end of the job and returns Err, or the cause of ctx if that ends
// first. The job does not mind.
func (j *Job) Wait(ctx context.Context) error {
	select {
	case <-j.done:
		return j.Err()
	default:
	}
	select {
	case <-j.done:
		return j.Err()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Abort asks the job to end, with ErrAborted, and returns at once; Wait waits until it
// has. A job that is past the point of no return completes all the same. On a job that
// has ended it does nothing.
func (j *Job) Abort() { j.cancel(ErrAborted) }

// Progress returns the job's status now, after each change, and at its end, which is the
// last. A caller who is slow misses states between and never holds up the job. Breaking
// off is fine.
func (j *Job) Progress() iter.Seq[Status] {
	return func(yield func(Status) bool) {
		for {
			j.mu.Lock()
			s, changed := j.status.clone(), j.changed
			j.mu.Unlock()
			if !yield(s) || s.State.Final() {
				return
			}
			<-changed
		}
	}
}

// update changes the status and tells those who watch.
func (j *Job) update(change func(*Status)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.status.State.Final() {
		return
	}
	change(&j.status)
	j.tell()
}

// tell wakes those who watch. The caller holds mu.
func (j *Job) tell() {
	close(j.changed)
	j.changed = make(chan struct{})
}

// A Reporter is how the work of a job says how far it is. It is safe for concurrent use,
// never waits for those who watch, and has no effect after the job's end.
type Reporter struct{ job *Job }

// Progress says how far the job is. Rate and Left are filled in, and Elapsed too if it is
// zero.
func (r *Reporter) Progress(p Progress) {
	j := r.job
	now := time.Now()
	j.update(func(s *Status) {
		if p.Elapsed == 0 {
			p.Elapsed = now.Sub(s.Started)
		}
		done, total := p.work()
		p.Rate, p.Left = j.meter.add(now, done, total)
		s.Progress = p
		if one, ok := s.Servers[SingleServer]; ok && len(s.Servers) == 1 {
			one.Progress, one.Updated = p, now.UTC()
			s.Servers[SingleServer] = one
		}
	})
}

// Server says how far the job is on one of several servers.
func (r *Reporter) Server(name string, status ServerStatus) {
	if status.Updated.IsZero() {
		status.Updated = time.Now().UTC()
	}
	r.job.update(func(s *Status) {
		if len(s.Servers) == 1 && name != SingleServer {
			delete(s.Servers, SingleServer)
		}
		s.Servers[name] = status
	})
}

// Snapshot says which snapshot the job is about, where that was not known before.
func (r *Reporter) Snapshot(id string) {
	r.job.update(func(s *Status) { s.Snapshot = id })
}

// Reencoded says that chunks cannot travel as they are stored.
func (r *Reporter) Reencoded() {
	r.job.update(func(s *Status) { s.Reencoded = true })
}

// Detail adds to Status.Details.
func (r *Reporter) Detail(key, value string) {
	r.job.update(func(s *Status) {
		if s.Details == nil {
			s.Details = make(map[string]string)
		}
		s.Details[key] = value
	})
}

// meter estimates a rate from totals at different times: the mean of the last few
// seconds, so that it neither jumps nor remembers how a slow start was.
type meter struct {
	marks []mark
}

type mark struct {
	at   time.Time
	done int64
}

// The estimate looks back meterSpan, in steps of at least meterStep.
const (
	meterSpan = 10 * time.Second
	meterStep = 250 * time.Millisecond
)

func (m *meter) add(now time.Time, done, total int64) (rate float64, left time.Duration) {
	if n := len(m.marks); n > 0 && done < m.marks[n-1].done {
		m.marks = m.marks[:0] // it counts something else now
	}
	if n := len(m.marks); n == 0 || now.Sub(m.marks[n-1].at) >= meterStep {
		m.marks = append(m.marks, mark{now, done})
	}
	for len(m.marks) > 2 && now.Sub(m.marks[1].at) >= meterSpan {
		m.marks = m.marks[1:]
	}
	first := m.marks[0]
	span := now.Sub(first.at).Seconds()
	if span <= 0 || done <= first.done {
		return 0, 0
	}
	rate = float64(done-first.done) / span
	if total > done {
		// More than a year says no more than a year.
		seconds := min(float64(total-done)/rate, (365 * 24 * time.Hour).Seconds())
		left = time.Duration(seconds * float64(time.Second)).Round(time.Second)
	}
	return rate, left
}
