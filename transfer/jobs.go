package transfer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// JobsOptions are the settings of Jobs. The zero value keeps records in memory only.
type JobsOptions struct {
	// Dir is the folder for the records, made if it is not there. One Jobs at a time
	// may use it. Empty: jobs are forgotten with the process.
	Dir string
	// Unrecorded lets a job run also where its record cannot be written, as on a disk that
	// is full: that is logged, and with the process it is forgotten, and its number may come
	// again. Otherwise Start fails.
	Unrecorded bool
	// Keep is how long jobs that have ended stay listed. Default 24 hours; less than 0
	// forgets them at once.
	Keep time.Duration
	// Concurrent is how many jobs of one kind run at a time; others wait as StateAck.
	// Default 4.
	Concurrent int
	// MaxWaiting is how many jobs may be under way or waiting in all, before Start fails
	// with ErrJobBusy. Default 1000.
	MaxWaiting int
	// OnFinish is called in order when a job has ended and its record is durable, also for
	// those that OpenJobs finds interrupted, once it has returned. A panic in one is logged
	// and goes no further. The job counts as ended for Wait only after them, and Close waits
	// for them: what may take long belongs elsewhere, as webhook.Sender does it.
	OnFinish []func(Status)
	// Errors are more errors that a record should bring back, each under a kind of its
	// own.
	Errors map[ErrorKind]error
	// Logger hears of damaged records, of records that cannot be written, and of panics.
	// Default: nothing is logged.
	Logger *slog.Logger
}

// DefaultKeep is how long jobs that have ended stay listed where JobsOptions do not
// say.
const DefaultKeep = 24 * time.Hour

func (o JobsOptions) withDefaults() (JobsOptions, error) {
	if o.Keep == 0 {
		o.Keep = DefaultKeep
	}
	if o.Concurrent == 0 {
		o.Concurrent = 4
	}
	if o.MaxWaiting == 0 {
		o.MaxWaiting = 1000
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Concurrent < 0 || o.MaxWaiting < 0 {
		return o, fmt.Errorf("transfer: JobsOptions.Concurrent %d and MaxWaiting %d must not be negative", o.Concurrent, o.MaxWaiting)
	}
	return o, nil
}

// Jobs starts jobs and knows them by their IDs. It is safe for concurrent use.
type Jobs struct {
	opts    JobsOptions
	table   []errorKind
	records *records // nil without a folder
	damaged []error

	life    context.Context
	endLife context.CancelCauseFunc
	running sync.WaitGroup

	// mu guards the fields below.
	mu     sync.Mutex
	closed bool
	next   uint64
	jobs   map[uint64]*Job
	// slots has a token for each running job of a kind.
	slots map[Kind]chan struct{}
	// active counts the jobs that have not ended.
	active int
	// exclusive has the job that holds each key.
	exclusive map[string]uint64
	// unsaved are the ends of jobs that could not be recorded yet.
	unsaved map[string]Status
}

// OpenJobs reads the records in JobsOptions.Dir. A job that was under way when its
// process ended is listed as StateFailed, with ErrInterrupted. A record that is damaged is
// set aside under a name that ends in ".damaged", logged, and told by Damaged.
//
// It fails with ErrJobsInUse, with an error of the file system, or with the cause of ctx.
func OpenJobs(ctx context.Context, opts JobsOptions) (*Jobs, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	j := &Jobs{
		opts: opts, table: kindTable(opts.Errors), next: 1,
		jobs: make(map[uint64]*Job), slots: make(map[Kind]chan struct{}), exclusive: make(map[string]uint64), unsaved: make(map[string]Status),
	}
	j.life, j.endLife = context.WithCancelCause(context.Background())
	if opts.Dir == "" {
		// Numbers of an earlier process must not come again.
		j.next = uint64(time.Now().UnixMilli())
		return j, nil
	}
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	if j.records, err = openRecords(opts.Dir); err != nil {
		return nil, err
	}
	if err := j.load(ctx); err != nil {
		return nil, errors.Join(err, j.records.close())
	}
	return j, nil
}

// Damaged returns a *RecordError for each record that OpenJobs could not use.
func (j *Jobs) Damaged() []error { return slices.Clone(j.damaged) }

// A Task says what a job is about. Kind must be set.
type Task struct {
	Kind Kind
	// Snapshot and Location go into the Status.
	Snapshot, Location string
	// Exclusive, if not empty, is what only one job may have from Start to its end, such
	// as the target of a restore.
	Exclusive string
	// Servers are the servers that take part. Default: SingleServer.
	Servers []string
	// Details are in Status.Details from the start; a Reporter adds to them.
	Details map[string]string
}

// Start makes a job and returns when its record is durable; the work runs in a goroutine
// of its own. It gets a context that carries ctx's values and ends with Job.Abort, with the
// cause ErrAborted, or with Close, with the cause ErrInterrupted, and not with ctx: a
// job outlives the request that asked for it. What run returns decides the job's end:
// nil completes it, also after an abort.
//
// Start fails with ErrJobBusy, a *JobBusyError among it, with ErrJobsClosed, with the
// cause of ctx, or when the record cannot be written; see JobsOptions.Unrecorded. Then there
// is no job.
func (j *Jobs) Start(ctx context.Context, task Task, run func(context.Context, *Reporter) error) (*Job, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	work, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	job, n, slots, err := j.admit(task, time.Now().UTC(), cancel)
	if err != nil {
		cancel(err)
		return nil, err
	}
	if j.records != nil {
		j.saveAll()
		status := job.Status()
		err := j.records.write(&status)
		if err != nil && j.opts.Unrecorded {
			j.opts.Logger.Warn("a job runs without a record", "job", status.ID, "error", err)
			err = nil
		}
		if err != nil {
			cancel(err)
			j.mu.Lock()
			delete(j.jobs, n)
			j.release(job)
			j.mu.Unlock()
			j.running.Done()
			return nil, err
		}
	}
	stop := context.AfterFunc(j.life, func() { cancel(ErrInterrupted) })
	go func() {
		defer j.running.Done()
		defer cancel(nil)
		defer stop()
		j.run(work, job, slots, run)
	}()
	return job, nil
}

// admit enters a new job in the books.
func (j *Jobs) admit(task Task, now time.Time, cancel context.CancelCauseFunc) (*Job, uint64, chan struct{}, error) {
	if task.Kind == "" {
		return nil, 0, nil, errors.New("transfer: Task.Kind is empty")
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return nil, 0, nil, ErrJobsClosed
	}
	j.tidy(now)
	if other, ok := j.exclusive[task.Exclusive]; ok && task.Exclusive != "" {
		return nil, 0, nil, &JobBusyError{Exclusive: task.Exclusive, Job: strconv.FormatUint(other, 10)}
	}
	if j.active >= j.opts.MaxWaiting {
		return nil, 0, nil, fmt.Errorf("%w: %d jobs have not ended yet", ErrJobBusy, j.active)
	}
	n := j.next
	j.next++
	servers := make(map[string]ServerStatus)
	for _, name := range task.Servers {
		servers[name] = ServerStatus{State: StateAck, Updated: now}
	}
	if len(servers) == 0 {
		servers[SingleServer] = ServerStatus{State: StateAck, Updated: now}
	}
	job := &Job{
		exclusive: task.Exclusive, table: j.table,
		done: make(chan struct{}), changed: make(chan struct{}), cancel: cancel,
		status: Status{
			ID: strconv.FormatUint(n, 10), Kind: task.Kind, State: StateAck, Snapshot: task.Snapshot,
			Location: task.Location, Servers: servers, Created: now, Details: maps.Clone(task.Details),
		},
	}
	if task.Exclusive != "" {
		j.exclusive[task.Exclusive] = n
	}
	slots := j.slots[task.Kind]
	if slots == nil {
		slots = make(chan struct{}, j.opts.Concurrent)
		j.slots[task.Kind] = slots
	}
	j.jobs[n] = job
	j.active++
	j.running.Add(1)
	return job, n, slots, nil
}

// release gives back what a job kept others from. The caller holds mu.
func (j *Jobs) release(job *Job) {
	j.active--
	if job.exclusive != "" {
		delete(j.exclusive, job.exclusive)
	}
}

// run waits for the job's turn, does its work and records its end.
func (j *Jobs) run(ctx context.Context, job *Job, slots chan struct{}, run func(context.Context, *Reporter) error) {
	var err error
	select {
	case slots <- struct{}{}:
		err = j.work(ctx, job, run)
		<-slots
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	j.mu.Lock()
	j.release(job)
	j.mu.Unlock()
	j.finish(ctx, job, err)
}

// work runs the job.
func (j *Jobs) work(ctx context.Context, job *Job, run func(context.Context, *Reporter) error) (err error) {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	now := time.Now().UTC()
	job.update(func(s *Status) {
		s.State, s.Started = StateStarted, now
		for name, one := range s.Servers {
			one.State, one.Updated = StateStarted, now
			s.Servers[name] = one
		}
	})
	defer func() {
		if p := recover(); p != nil {
			j.opts.Logger.Error("a job panicked", "job", job.ID(), "panic", p, "stack", string(debug.Stack()))
			// What was relayed from another goroutine has its stack below the first line.
			text, _, _ := strings.Cut(fmt.Sprint(p), "\n")
			err = fmt.Errorf("%w: %s", ErrPanic, text)
		}
	}()
	return run(ctx, &Reporter{job: job})
}

// finish gives the job its last state, first in the record and then for all to see.
func (j *Jobs) finish(ctx context.Context, job *Job, err error) {
	state, message, kind := StateCompleted, "", ErrorKind("")
	if err != nil {
		cause := context.Cause(ctx)
		if (cause == ErrAborted || cause == ErrInterrupted) && !errors.Is(err, cause) {
			// Some layers report only that something was cancelled.
			err = fmt.Errorf("%w: %w", cause, err)
		}
		state, message, kind = StateFailed, err.Error(), classify(j.table, err)
		if errors.Is(err, ErrAborted) && cause == ErrAborted {
			state = StateCancelled
		}
	}
	last := job.Status()
	finish(&last, time.Now(), state, message, kind)
	j.save(last)
	job.mu.Lock()
	job.status, job.err = last, err
	job.tell()
	job.mu.Unlock()
	j.hooks(last)
	close(job.done)
}

// finish writes an end into a status.
func finish(s *Status, now time.Time, state State, message string, kind ErrorKind) {
	now = now.UTC()
	s.State, s.Error, s.ErrorKind, s.Finished = state, message, kind, now
	s.Progress.Rate, s.Progress.Left = 0, 0
	for name, one := range s.Servers {
		// A server that ended by itself, in a job of several, keeps its own word.
		if !one.State.Final() || state == StateCancelled {
			one.State, one.Updated = state, now
			one.Error, one.Kind = message, kind
			one.Progress.Rate, one.Progress.Left = 0, 0
			s.Servers[name] = one
		}
	}
}

// hooks tells those who want to know that a job has ended.
func (j *Jobs) hooks(s Status) {
	for _, hook := range j.opts.OnFinish {
		func() {
			defer func() {
				if p := recover(); p != nil {
					j.opts.Logger.Error("an OnFinish hook panicked", "job", s.ID, "panic", p)
				}
			}()
			hook(s.clone())
		}()
	}
}

// Close ends all jobs with ErrInterrupted, waits until they have ended, and lets go of the
// folder. A second call returns ErrJobsClosed. A hook must not call it.
func (j *Jobs) Close() error {
	j.mu.Lock()
	if j.closed {
		j.mu.Unlock()
		return ErrJobsClosed
	}
	j.closed = true
	j.mu.Unlock()
	j.endLife(ErrInterrupted)
	j.running.Wait()
	if j.records == nil {
		return nil
	}
	j.saveAll()
	return j.records.close()
}
