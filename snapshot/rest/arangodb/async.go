package arangodb

import (
	"context"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// asyncHeader carries the ID of an asynchronous request.
const asyncHeader = "X-Arango-Async-Id"

// asyncJobs are the requests that are answered later.
type asyncJobs struct {
	max  int
	keep time.Duration

	// mu guards the fields below.
	mu   sync.Mutex
	last int64
	// running counts those under way, also those that were forgotten.
	running int
	jobs    map[string]*asyncJob
}

// An asyncJob is one of them. Its fields are guarded by asyncJobs.mu.
type asyncJob struct {
	caller Caller
	cancel context.CancelFunc
	// answer is nil while the request is under way.
	answer *answer
	ended  time.Time
}

// newAsyncJobs begins with an ID that no earlier process has reached.
func newAsyncJobs(most int, keep time.Duration) *asyncJobs {
	return &asyncJobs{max: most, keep: keep, last: time.Now().UnixMicro(), jobs: map[string]*asyncJob{}}
}

// later answers a request at once and serves it in the background. store keeps the answer.
func (h *Handler) later(e endpoint, r *request, store bool) answer {
	a := h.async
	a.mu.Lock()
	defer a.mu.Unlock()
	a.expire(time.Now())
	if len(a.jobs) >= a.max || a.running >= a.max {
		return refuse(http.StatusServiceUnavailable, http.StatusServiceUnavailable, "too many asynchronous requests, fetch the answers of earlier ones")
	}
	ctx, cancel := context.WithCancel(h.life)
	job := &asyncJob{caller: r.caller, cancel: cancel}
	a.last++
	id := strconv.FormatInt(a.last, 10)
	r.http = r.http.WithContext(ctx)
	begun := h.spawn(func() {
		defer cancel()
		result := h.serveSafely(ctx, e, r)
		a.mu.Lock()
		defer a.mu.Unlock()
		a.running--
		if !store {
			delete(a.jobs, id)
			return
		}
		job.answer, job.ended = &result, time.Now()
	})
	if !begun {
		cancel()
		return closing()
	}
	a.jobs[id] = job
	a.running++
	accepted := answer{code: http.StatusAccepted}
	if store {
		accepted.header = http.Header{asyncHeader: {id}}
	}
	return accepted
}

// serveSafely serves a request outside the HTTP server, which would contain a panic.
func (h *Handler) serveSafely(ctx context.Context, e endpoint, r *request) (a answer) {
	defer func() {
		if p := recover(); p != nil {
			h.log.Error("a request ended in a panic", "path", r.http.URL.Path, "panic", p)
			a = refuse(http.StatusInternalServerError, numInternal, "")
		}
	}()
	return e.serve(ctx, r)
}

// expire forgets answers that nobody fetched.
func (a *asyncJobs) expire(now time.Time) {
	for id, job := range a.jobs {
		if job.answer != nil && now.Sub(job.ended) > a.keep {
			delete(a.jobs, id)
		}
	}
}

// find returns a job of the caller's. The lock is held.
func (a *asyncJobs) find(r *request) (string, *asyncJob) {
	if len(r.suffix) == 0 {
		return "", nil
	}
	a.expire(time.Now())
	job := a.jobs[r.suffix[0]]
	if job == nil || job.caller != r.caller {
		return "", nil
	}
	return r.suffix[0], job
}

func noAsyncJob() answer {
	return refuse(http.StatusNotFound, http.StatusNotFound, "there is no such asynchronous request")
}

// asyncLook serves GET /_api/job/<id>, and the lists /_api/job/done and /_api/job/pending.
func (h *Handler) asyncLook(_ context.Context, r *request) answer {
	a := h.async
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(r.suffix) != 1 {
		return noAsyncJob()
	}
	if wanted := r.suffix[0]; wanted == "done" || wanted == "pending" {
		a.expire(time.Now())
		ids := []string{}
		for id, job := range a.jobs {
			if job.caller == r.caller && (job.answer != nil) == (wanted == "done") {
				ids = append(ids, id)
			}
		}
		return answer{code: http.StatusOK, raw: ids}
	}
	switch _, job := a.find(r); {
	case job == nil:
		return noAsyncJob()
	case job.answer == nil:
		return answer{code: http.StatusNoContent}
	}
	return good(http.StatusOK, nil)
}

// asyncFetch serves PUT /_api/job/<id> and PUT /_api/job/<id>/cancel.
func (h *Handler) asyncFetch(_ context.Context, r *request) answer {
	a := h.async
	a.mu.Lock()
	defer a.mu.Unlock()
	id, job := a.find(r)
	switch {
	case job == nil || len(r.suffix) > 2 || len(r.suffix) == 2 && r.suffix[1] != "cancel":
		return noAsyncJob()
	case len(r.suffix) == 2:
		job.cancel()
		return good(http.StatusOK, true)
	case job.answer == nil:
		// The header with the ID would say that there is an answer, without a body.
		return answer{code: http.StatusNoContent}
	}
	delete(a.jobs, id)
	result := *job.answer
	result.header = result.header.Clone()
	if result.header == nil {
		result.header = http.Header{}
	}
	result.header.Set(asyncHeader, id)
	return result
}

// asyncForget serves DELETE /_api/job/<id>; "all" and "expired" stand for more than one. What is under way
// goes on, and its answer is dropped.
func (h *Handler) asyncForget(_ context.Context, r *request) answer {
	a := h.async
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(r.suffix) == 1 && (r.suffix[0] == "all" || r.suffix[0] == "expired") {
		a.expire(time.Now())
		for id, job := range a.jobs {
			if r.suffix[0] == "all" && job.caller == r.caller {
				delete(a.jobs, id)
			}
		}
		return good(http.StatusOK, true)
	}
	id, job := a.find(r)
	if job == nil || len(r.suffix) != 1 {
		return noAsyncJob()
	}
	delete(a.jobs, id)
	return good(http.StatusOK, true)
}
