package transfer

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"time"
)

// load takes over what an earlier process has left.
func (j *Jobs) load(ctx context.Context) error {
	found, next, damaged, err := j.records.load(ctx)
	if err != nil {
		return err
	}
	j.next = max(j.next, next)
	j.damaged = damaged
	for _, err := range damaged {
		j.opts.Logger.Warn("a job record cannot be used", "error", err)
	}
	var interrupted []*Job
	for _, s := range found {
		cut := !s.State.Final()
		if cut {
			finish(&s, time.Now(), StateFailed, ErrInterrupted.Error(), ErrorInterrupted)
			j.save(s)
		}
		n, _ := strconv.ParseUint(s.ID, 10, 64)
		job := &Job{cancel: func(error) {}, table: j.table, done: make(chan struct{}), status: s, changed: make(chan struct{})}
		j.jobs[n] = job
		if cut {
			interrupted = append(interrupted, job)
		} else {
			close(job.done)
		}
	}
	j.mu.Lock()
	j.tidy(time.Now())
	j.mu.Unlock()
	// Not before the caller has the Jobs, which a hook may ask for.
	j.running.Go(func() {
		for _, job := range interrupted {
			j.hooks(job.Status())
			close(job.done)
		}
	})
	return nil
}

// save makes the end of a job durable, or keeps it for the next try.
func (j *Jobs) save(s Status) {
	if j.records == nil {
		return
	}
	err := j.records.write(&s)
	j.mu.Lock()
	defer j.mu.Unlock()
	if err == nil {
		delete(j.unsaved, s.ID)
		return
	}
	if _, known := j.unsaved[s.ID]; !known {
		j.opts.Logger.Error("the end of a job could not be recorded; will be tried again", "job", s.ID, "error", err)
	}
	j.unsaved[s.ID] = s
}

// saveAll tries again what could not be recorded.
func (j *Jobs) saveAll() {
	j.mu.Lock()
	again := slices.Collect(maps.Values(j.unsaved))
	j.mu.Unlock()
	for _, s := range again {
		j.save(s)
	}
}

// tidy is prune, whose failure is nobody's. The caller holds mu.
func (j *Jobs) tidy(now time.Time) {
	if err := j.prune(now); err != nil {
		j.opts.Logger.Warn("old job records cannot be removed", "error", err)
	}
}

// prune forgets the jobs that ended too long ago. The caller holds mu.
func (j *Jobs) prune(now time.Time) error {
	var old []uint64
	for n, job := range j.jobs {
		job.mu.Lock()
		if job.status.State.Final() && (j.opts.Keep < 0 || now.Sub(job.status.Finished) >= j.opts.Keep) {
			old = append(old, n)
		}
		job.mu.Unlock()
	}
	if len(old) == 0 {
		return nil
	}
	for _, n := range old {
		delete(j.jobs, n)
		delete(j.unsaved, strconv.FormatUint(n, 10))
	}
	if j.records == nil || j.closed {
		return nil
	}
	return j.records.forget(old, j.next)
}
