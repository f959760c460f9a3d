package webhook

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/holdstill/holdstill/transfer"
)

// Errors of a Sender.
var (
	// ErrClosed means that the Sender is closed.
	ErrClosed = errors.New("webhook: the sender is closed")
	// ErrFull means that Options.Queue deliveries wait already.
	ErrFull = errors.New("webhook: too much waits to be delivered")
)

// Options are the settings of a Sender. The zero value sends nothing by itself and allows no URL.
type Options struct {
	// URL is told of every job, if it is set. It is the operator's, and need not be on the
	// allow-list, nor public, nor have TLS.
	URL string
	// Secret signs the requests. They are not signed without one. At least 24 bytes.
	Secret []byte
	// Allow says which other URLs may be used: hosts ("hooks.example.org", with ":8443" for
	// another port than 443), domains ("*.example.org"), networks and addresses ("10.0.0.0/8"), or beginnings of
	// URLs ("https://example.org/hooks/"), which are compared by whole parts of the path. Hosts
	// that stand for an address that is not public are refused unless a network
	// of the list or of Networks has it; an address that is written in the beginning of a URL
	// is allowed there. Without TLS only addresses and beginnings of URLs are allowed.
	Allow []string
	// Networks are networks and addresses that are not public and that the hosts of Allow may
	// stand for. Other than those in Allow they allow no URL by themselves.
	Networks []string
	// Attempts is how often a delivery is tried. Default 8.
	Attempts int
	// Timeout bounds one attempt. Default 10 seconds.
	Timeout time.Duration
	// MinDelay is the pause after the first attempt, which doubles with each, up to
	// MaxDelay; a random part of up to a half is taken off. A Retry-After is heeded, up to
	// MaxDelay. Defaults: 1 second and 5 minutes.
	MinDelay, MaxDelay time.Duration
	// Queue is how many deliveries may wait, or be under way. Default 1000.
	Queue int
	// Concurrency is how many requests are under way at once. Default 8.
	Concurrency int
	// TLS is the configuration for connections, if it is set.
	TLS *tls.Config
	// Logger hears of deliveries that failed. Of URLs it gets the host only. Default: nothing
	// is logged.
	Logger *slog.Logger
}

func (o Options) withDefaults() (Options, error) {
	set := func(n *int, d int) {
		if *n == 0 {
			*n = d
		}
	}
	set(&o.Attempts, 8)
	set(&o.Queue, 1000)
	set(&o.Concurrency, 8)
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	if o.MinDelay == 0 {
		o.MinDelay = time.Second
	}
	if o.MaxDelay == 0 {
		o.MaxDelay = max(5*time.Minute, o.MinDelay)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	switch {
	case o.Attempts < 0 || o.Queue < 0 || o.Concurrency < 0 || o.Timeout < 0 || o.MinDelay < 0 || o.MaxDelay < o.MinDelay:
		return o, errors.New("webhook: Options have a negative number, or MaxDelay is less than MinDelay")
	case len(o.Secret) > 0 && len(o.Secret) < 24:
		return o, fmt.Errorf("webhook: Options.Secret has %d bytes, fewer than 24", len(o.Secret))
	}
	return o, nil
}

// A DeliveryError reports that a webhook could not be delivered. It unwraps to the cause.
type DeliveryError struct {
	// Host is where it should have gone. The rest of a URL may be a secret.
	Host string
	// Status is the last answer, 0 if there was none.
	Status int
	// Attempts is how often it was tried.
	Attempts int
	Err      error
}

func (e *DeliveryError) Error() string {
	return fmt.Sprintf("webhook: %s was not told, after %d attempts: %v", e.Host, e.Attempts, e.Err)
}

// Unwrap returns the cause.
func (e *DeliveryError) Unwrap() error { return e.Err }

// A Sender delivers webhooks. It is safe for concurrent use. Close it after use.
type Sender struct {
	opts  Options
	allow *allowList
	fixed *target
	// turns holds a token for each request under way.
	turns chan struct{}

	// life ends when Close gives up waiting.
	life    context.Context
	endLife context.CancelFunc
	// mu guards closed and waiting; running is added to only before closed is set.
	mu      sync.Mutex
	closed  bool
	closing chan struct{}
	waiting int
	running sync.WaitGroup
}

// New returns a Sender. It makes no request. It fails for options that cannot be.
func New(opts Options) (*Sender, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	allow, err := parseAllow(opts.Allow, opts.Networks)
	if err != nil {
		return nil, err
	}
	s := &Sender{opts: opts, allow: allow, turns: make(chan struct{}, opts.Concurrency), closing: make(chan struct{})}
	if opts.URL != "" {
		u, err := parseURL(opts.URL)
		if err != nil {
			return nil, fmt.Errorf("webhook: Options.URL: %w", err)
		}
		s.fixed = &target{url: u, trusted: true}
	}
	s.life, s.endLife = context.WithCancel(context.Background())
	return s, nil
}

// Check says whether a URL may be used, as far as that can be told without looking up its
// name. It fails with ErrNotAllowed.
func (s *Sender) Check(url string) error {
	_, err := s.allow.check(url)
	return err
}

// OnFinish tells Options.URL of a job that has ended, and returns at once. It is meant for
// transfer.JobsOptions.OnFinish.
func (s *Sender) OnFinish(status transfer.Status) {
	if s.fixed == nil {
		return
	}
	if err := s.start(*s.fixed, nil, func() transfer.Status { return status }); err != nil {
		s.opts.Logger.Error("a webhook was not sent", "host", s.fixed.url.Host, "job", status.ID, "error", err)
	}
}

// Watch tells a URL of a job when it has ended, or at once if it has. It returns soon. It
// fails with ErrNotAllowed, ErrFull or ErrClosed.
func (s *Sender) Watch(job *transfer.Job, url string) error {
	t, err := s.allow.check(url)
	if err != nil {
		return err
	}
	return s.start(t, job.Done(), job.Status)
}

// start delivers in a goroutine, when done is closed.
func (s *Sender) start(t target, done <-chan struct{}, status func() transfer.Status) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return ErrClosed
	case s.waiting >= s.opts.Queue:
		return fmt.Errorf("%w: %d deliveries", ErrFull, s.waiting)
	}
	s.waiting++
	s.running.Add(1)
	go func() {
		defer func() {
			s.mu.Lock()
			s.waiting--
			s.mu.Unlock()
			s.running.Done()
		}()
		if done != nil {
			select {
			case <-done:
			case <-s.closing:
				// A job that has ended by now is told of.
				select {
				case <-done:
				default:
					return
				}
			}
		}
		last := status()
		body, err := json.Marshal(last)
		if err == nil {
			err = s.deliver(s.life, t, body)
		}
		if err != nil {
			s.opts.Logger.Error("a webhook was not delivered", "host", t.url.Host, "job", last.ID, "error", err)
		}
	}()
	return nil
}

// Post tells a URL of anything, such as a transfer.Status, whose JSON is the body, and returns
// when it has been told. It does not count for Options.Queue. It fails with ErrNotAllowed,
// ErrClosed, the error of encoding/json for a value that has no JSON, or a *DeliveryError, which
// unwraps to the context's cause if that ended it.
func (s *Sender) Post(ctx context.Context, url string, value any) error {
	t, err := s.allow.check(url)
	if err != nil {
		return err
	}
	body, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("webhook: the body: %w", err)
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrClosed
	}
	s.running.Add(1)
	s.mu.Unlock()
	defer s.running.Done()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(s.life, func() { cancel(ErrClosed) })()
	return s.deliver(ctx, t, body)
}

// Close takes nothing on any more, and waits until all is delivered or given up. When ctx ends
// it cancels what is under way and returns the cause of ctx. Jobs that are watched and have not ended are
// forgotten: close the Sender after the jobs. A second call returns ErrClosed.
func (s *Sender) Close(ctx context.Context) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrClosed
	}
	s.closed = true
	s.mu.Unlock()
	close(s.closing)
	done := make(chan struct{})
	go func() {
		s.running.Wait()
		close(done)
	}()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	s.endLife()
	<-done
	return err
}

// deliver tries until it is told, or it makes no sense any more.
func (s *Sender) deliver(ctx context.Context, t target, body []byte) error {
	id := "msg_" + rand.Text()
	client := s.client(t)
	defer client.CloseIdleConnections()
	failed := &DeliveryError{Host: t.url.Host}
	delay := s.opts.MinDelay
	for {
		failed.Attempts++
		a := s.attempt(ctx, client, t, id, body)
		if a.err == nil {
			return nil
		}
		failed.Status, failed.Err = a.status, a.err
		if ctx.Err() != nil {
			failed.Err = context.Cause(ctx)
			return failed
		}
		if !a.again || failed.Attempts >= s.opts.Attempts {
			return failed
		}
		pause := delay - time.Duration(mathrand.Int64N(int64(delay)/2+1))
		pause = min(max(pause, a.after), s.opts.MaxDelay)
		delay = min(2*delay, s.opts.MaxDelay)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			failed.Err = errors.Join(context.Cause(ctx), failed.Err)
			return failed
		}
	}
}

// client makes connections to where the target may lead, and follows nothing.
func (s *Sender) client(t target) *http.Client {
	dialer := &net.Dialer{Timeout: s.opts.Timeout, ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("%w: %s is no address", ErrNotAllowed, address)
		}
		return s.allow.dial(t, to.Addr())
	}}
	return &http.Client{
		Transport: &http.Transport{
			// No proxy: it would be what is connected to.
			DialContext: dialer.DialContext, TLSClientConfig: s.opts.TLS.Clone(), TLSHandshakeTimeout: s.opts.Timeout,
			MaxResponseHeaderBytes: 64 << 10, DisableKeepAlives: true, ForceAttemptHTTP2: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// attempted is what came of one request.
type attempted struct {
	status int
	err    error
	// again: it may work later, but not before after.
	again bool
	after time.Duration
}

func (s *Sender) attempt(ctx context.Context, client *http.Client, t target, id string, body []byte) attempted {
	select {
	case s.turns <- struct{}{}:
		defer func() { <-s.turns }()
	case <-ctx.Done():
		return attempted{err: context.Cause(ctx)}
	}
	ctx, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.url.String(), bytes.NewReader(body))
	if err != nil {
		return attempted{err: errors.New("the request cannot be made")}
	}
	timestamp := strconv.FormatInt(time.Now().Unix(), 10)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "holdstill")
	req.Header.Set(HeaderID, id)
	req.Header.Set(HeaderTimestamp, timestamp)
	if len(s.opts.Secret) > 0 {
		req.Header.Set(HeaderSignature, sign(s.opts.Secret, id, timestamp, body))
	}
	resp, err := client.Do(req)
	if err != nil {
		return attempted{err: withoutURL(err), again: !errors.Is(err, ErrNotAllowed)}
	}
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
	_ = resp.Body.Close()
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return attempted{status: resp.StatusCode}
	}
	return attempted{
		status: resp.StatusCode, err: fmt.Errorf("the answer was %d", resp.StatusCode),
		again: retryable(resp.StatusCode), after: retryAfter(resp.Header.Get("Retry-After"), time.Now()),
	}
}
