package repo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// Retry says how often, and how patiently, a request to the store is tried again that failed for now: see
// ErrUnavailable. Other failures are final at once. The zero value works.
//
// Drivers of gocloud.dev may try again on their own as well; those of package repo/cloud leave it to this.
type Retry struct {
	// Attempts is how often a request is made at most, 1 to 100; 1 means no second try. Default 6.
	Attempts int
	// Base is the pause after the first failure. Each further one is twice as long, up to Max. Of each a random part,
	// up to the half, is left out, so that many clients do not return together. Default 250 ms and 8 s.
	Base, Max time.Duration
	// AttemptTimeout is how long one attempt may take, not counting its bytes. Default 30 s.
	AttemptTimeout time.Duration
	// MinRate is what the connection is expected to carry at least, in bytes a second: an attempt has one more second
	// for each MinRate bytes of its object. Default 64 KiB.
	MinRate int64
	// Stall is how long a read may go without a byte. Default 30 s.
	Stall time.Duration
}

func (r Retry) withDefaults() (Retry, error) {
	if r.Attempts == 0 {
		r.Attempts = 6
	}
	if r.Base == 0 {
		r.Base = 250 * time.Millisecond
	}
	if r.Max == 0 {
		r.Max = max(8*time.Second, r.Base)
	}
	if r.AttemptTimeout == 0 {
		r.AttemptTimeout = 30 * time.Second
	}
	if r.MinRate == 0 {
		r.MinRate = 64 << 10
	}
	if r.Stall == 0 {
		r.Stall = 30 * time.Second
	}
	switch {
	case r.Attempts < 1 || r.Attempts > 100:
		return r, fmt.Errorf("%w: Retry.Attempts %d is not between 1 and 100", ErrInvalid, r.Attempts)
	case r.Base < 0 || r.Max < r.Base:
		return r, fmt.Errorf("%w: Retry.Base %v and Max %v are not 0 <= Base <= Max", ErrInvalid, r.Base, r.Max)
	case r.AttemptTimeout < 0 || r.Stall < 0:
		return r, fmt.Errorf("%w: Retry.AttemptTimeout %v or Stall %v is negative", ErrInvalid, r.AttemptTimeout, r.Stall)
	case r.MinRate < 0:
		return r, fmt.Errorf("%w: Retry.MinRate %d is negative", ErrInvalid, r.MinRate)
	}
	return r, nil
}

// timeout is how long one attempt with an object of size bytes may take.
func (r Retry) timeout(size int64) time.Duration {
	const longest = 1 << 20 // seconds; keeps the product in range
	more := time.Duration(min(size/r.MinRate, longest)) * time.Second
	return r.AttemptTimeout + min(more, math.MaxInt64-r.AttemptTimeout)
}

// pause is how long to wait before the try after n failures.
func (r Retry) pause(n int) time.Duration {
	d := r.Max
	if shift := n - 1; shift < 32 && r.Base <= r.Max>>shift {
		d = r.Base << shift
	}
	if d <= 1 {
		return d
	}
	return d - rand.N(d/2)
}

// Reasons of this package's own for giving up an attempt.
var (
	errAttemptTimeout = errors.New("the store did not answer in time")
	errStalled        = errors.New("the store stopped sending")
	errTruncated      = errors.New("the store sent less than it has")
)

// Traffic counts what went to and from the store since the repository was opened.
type Traffic struct {
	// BytesSent and BytesReceived count the bytes of objects, those of attempts that failed included, as far as they
	// got. What protocols add is not counted.
	BytesSent, BytesReceived int64
	// Requests counts attempts, Retries those among them that were not the first.
	Requests, Retries int64
}

// trafficCounter is Traffic as it grows.
type trafficCounter struct {
	sent, received, requests, retries atomic.Int64
}

func (c *trafficCounter) read() Traffic {
	return Traffic{c.sent.Load(), c.received.Load(), c.requests.Load(), c.retries.Load()}
}

// request is what is asked of the store.
type request struct {
	verb, key string
	// size is that of the bytes that travel, at most.
	size int64
	// limiter has to let size bytes pass before each attempt; may be nil.
	limiter *rate.Limiter
}

// try makes a request until it is done, fails for good, or was tried often enough. The error of attempt is the driver's;
// that of try says what was done to which key, and has been classified. attempt gets the number of failures before it.
func (s store) try(ctx context.Context, q request, attempt func(ctx context.Context, failures int) error) error {
	verb, key := q.verb, q.key
	for failures := 0; ; {
		if err := admit(ctx, q.limiter, q.size); err != nil {
			return endedError(ctx, verb, key, err)
		}
		s.traffic.requests.Add(1)
		err := s.attempt(ctx, q.size, failures, attempt)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return endedError(ctx, verb, key, err)
		}
		failures++
		if damage := (*CorruptError)(nil); errors.As(err, &damage) {
			return err // it names the object already
		}
		if classify(err) != ClassUnavailable {
			return objectError(verb, key, err)
		}
		if failures == s.retry.Attempts {
			return objectError(verb, key, fmt.Errorf("given up after %d attempts: %w", failures, err))
		}
		pause := s.retry.pause(failures)
		s.log.LogAttrs(ctx, slog.LevelInfo, "a request to the store failed and is tried again",
			slog.String("request", verb), slog.String("key", key), slog.Int("failures", failures), slog.Duration("pause", pause), slog.Any("error", err))
		s.traffic.retries.Add(1)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return endedError(ctx, verb, key, err)
		}
	}
}

// attempt runs one attempt under its time limit.
func (s store) attempt(ctx context.Context, size int64, failures int, run func(context.Context, int) error) error {
	attemptCtx, cancel := context.WithTimeoutCause(ctx, s.retry.timeout(size), errAttemptTimeout)
	defer cancel()
	err := run(attemptCtx, failures)
	if err != nil && attemptCtx.Err() != nil && ctx.Err() == nil && !errors.Is(err, errAttemptTimeout) {
		// The driver's error is only told: that of a context which ended would read as the caller's.
		return fmt.Errorf("%w: %v", context.Cause(attemptCtx), err)
	}
	return err
}

// endedError is the error of a request whose context has ended. Not all drivers say so.
func endedError(ctx context.Context, verb, key string, err error) error {
	for _, why := range []error{ctx.Err(), context.Cause(ctx)} {
		if why != nil && !errors.Is(err, why) {
			err = fmt.Errorf("%w: %w", why, err)
		}
	}
	return fmt.Errorf("repo: %s %s: %w", verb, key, err)
}

// admit waits until a limiter lets n bytes pass. It is not part of an attempt: waiting for one's turn is no failure of
// the store.
func admit(ctx context.Context, limiter *rate.Limiter, n int64) error {
	if limiter == nil || limiter.Limit() == rate.Inf {
		return nil
	}
	for n > 0 {
		part := min(n, int64(max(limiter.Burst(), 1)))
		if err := limiter.WaitN(ctx, int(part)); err != nil {
			if _, ends := ctx.Deadline(); ends && ctx.Err() == nil {
				// It does not begin to wait for what would come too late.
				return fmt.Errorf("%w: %w", context.DeadlineExceeded, err)
			}
			return err
		}
		n -= part
	}
	return nil
}
