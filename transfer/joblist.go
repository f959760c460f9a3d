package transfer

import (
	"fmt"
	"iter"
	"slices"
	"strconv"
	"time"
)

// Get returns a job by its ID. It fails with ErrJobNotFound.
func (j *Jobs) Get(id string) (*Job, error) {
	n, err := strconv.ParseUint(id, 10, 64)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.tidy(time.Now())
	job := j.jobs[n]
	if err != nil || job == nil || strconv.FormatUint(n, 10) != id {
		return nil, fmt.Errorf("%w: %.40q", ErrJobNotFound, id)
	}
	return job, nil
}

// Abort is Job.Abort by the job's ID. It fails with ErrJobNotFound.
func (j *Jobs) Abort(id string) error {
	job, err := j.Get(id)
	if err == nil {
		job.Abort()
	}
	return err
}

// A JobFilter picks jobs. The zero JobFilter picks all; of several conditions all must
// hold.
type JobFilter struct {
	// Kinds and States pick jobs of one of these. Empty is any.
	Kinds  []Kind
	States []State
	// Snapshot picks jobs about this snapshot.
	Snapshot string
	// NewestFirst turns the order round, which else is that of the IDs.
	NewestFirst bool
	// After begins behind the job with this ID, in the order asked for: the last of the
	// page before. The job need not be there any more.
	After string
	// Limit ends the listing after so many. Zero is no limit.
	Limit int
}

func (f *JobFilter) matches(s *Status) bool {
	return (len(f.Kinds) == 0 || slices.Contains(f.Kinds, s.Kind)) &&
		(len(f.States) == 0 || slices.Contains(f.States, s.State)) &&
		(f.Snapshot == "" || f.Snapshot == s.Snapshot)
}

// List returns the jobs that a filter picks, as they stand when it comes to them.
func (j *Jobs) List(f JobFilter) iter.Seq[Status] {
	return func(yield func(Status) bool) {
		found := 0
		for _, job := range j.inOrder(f) {
			s := job.Status()
			if !f.matches(&s) {
				continue
			}
			if !yield(s) {
				return
			}
			if found++; found == f.Limit {
				return
			}
		}
	}
}

// inOrder returns the jobs behind f.After.
func (j *Jobs) inOrder(f JobFilter) []*Job {
	after, err := strconv.ParseUint(f.After, 10, 64)
	bounded := f.After != "" && err == nil
	j.mu.Lock()
	defer j.mu.Unlock()
	j.tidy(time.Now())
	numbers := make([]uint64, 0, len(j.jobs))
	for n := range j.jobs {
		if !bounded || n > after && !f.NewestFirst || n < after && f.NewestFirst {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	if f.NewestFirst {
		slices.Reverse(numbers)
	}
	out := make([]*Job, len(numbers))
	for i, n := range numbers {
		out[i] = j.jobs[n]
	}
	return out
}
