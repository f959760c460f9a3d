package webhook_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/holdstill/holdstill/transfer"
	"github.com/holdstill/holdstill/transfer/webhook"
)

var secret = []byte("a secret of more than 24 bytes")

func newSender(t testing.TB, opts webhook.Options) *webhook.Sender {
	t.Helper()
	if opts.MinDelay == 0 {
		opts.MinDelay, opts.MaxDelay = time.Millisecond, 5*time.Millisecond
	}
	if opts.Timeout == 0 {
		// A slow machine must not cost an attempt: they are counted.
		opts.Timeout = 5 * time.Minute
	}
	s, err := webhook.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil && !errors.Is(err, webhook.ErrClosed) {
			t.Error(err)
		}
	})
	return s
}

// receiver is a server that remembers what it is told, and answers as it is told to.
type receiver struct {
	*httptest.Server
	mu       sync.Mutex
	ids      []string
	statuses []transfer.Status
	bad      []error
}

func newReceiver(t testing.TB, answer func(n int, w http.ResponseWriter)) *receiver {
	r := &receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, err := io.ReadAll(q.Body)
		if err == nil {
			err = webhook.Verify(secret, q.Header, body, time.Now(), 0)
		}
		var s transfer.Status
		if err == nil {
			err = json.Unmarshal(body, &s)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.ids, r.statuses = append(r.ids, q.Header.Get(webhook.HeaderID)), append(r.statuses, s)
		if err != nil || q.Method != http.MethodPost || q.Header.Get("Content-Type") != "application/json" {
			r.bad = append(r.bad, fmt.Errorf("%s %s: %w", q.Method, q.URL, err))
		}
		if answer != nil {
			answer(len(r.ids), w)
		}
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) check(t testing.TB, want int) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.ids) != want || len(r.bad) > 0 {
		t.Errorf("told %d times, not %d; %v", len(r.ids), want, r.bad)
	}
	for _, id := range r.ids {
		if id != r.ids[0] || id == "" {
			t.Errorf("the ids of one delivery are %q", r.ids)
		}
	}
}

var done = transfer.Status{ID: "7", Kind: transfer.KindCreate, State: transfer.StateCompleted, Snapshot: "s", Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}

func TestOnFinishAndRetries(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer []int // then 200
		want   int
	}{
		{"at once", nil, 1},
		{"no content", []int{204}, 1},
		{"after failures", []int{500, 503, 408, 429}, 5},
		{"given up", []int{500, 500, 500, 500, 500, 500, 500, 500}, 6},
		{"refused", []int{400}, 1},
		{"gone", []int{410}, 1},
		{"a redirect", []int{302}, 1},
		{"not implemented", []int{501}, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newReceiver(t, func(n int, w http.ResponseWriter) {
				if n <= len(test.answer) {
					w.Header().Set("Location", "http://127.0.0.1:1/")
					w.Header().Set("Retry-After", "3600") // more than MaxDelay
					w.WriteHeader(test.answer[n-1])
				}
			})
			s := newSender(t, webhook.Options{URL: r.URL + "/hook?token=x", Secret: secret, Attempts: 6})
			s.OnFinish(done)
			if err := s.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			r.check(t, test.want)
			if d := cmp.Diff(done, r.statuses[0]); d != "" {
				t.Error(d)
			}
		})
	}
}

// A connection that breaks is tried again.
func TestBrokenConnections(t *testing.T) {
	r := newReceiver(t, func(n int, w http.ResponseWriter) {
		if n < 3 {
			panic(http.ErrAbortHandler)
		}
	})
	s := newSender(t, webhook.Options{Secret: secret, Allow: []string{r.URL + "/", "127.0.0.1"}})
	if err := s.Post(t.Context(), r.URL+"/x", done); err != nil {
		t.Fatal(err)
	}
	r.check(t, 3)
	// The port that the receiver had may be another program's as soon as it is closed.
	var failed *webhook.DeliveryError
	err := s.Post(t.Context(), "http://127.0.0.1:1/secret-path?token=hunter2", done)
	if !errors.As(err, &failed) || failed.Attempts != 8 || failed.Status != 0 {
		t.Errorf("nobody listens: %v", err)
	}
	if strings.Contains(fmt.Sprint(err), "secret-path") || strings.Contains(fmt.Sprint(err), "hunter2") {
		t.Errorf("the error shows the URL: %v", err)
	}
}

// An answer that never comes ends with the time of the attempt.
func TestSilentReceiver(t *testing.T) {
	stop := make(chan struct{})
	var n atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { n.Add(1); <-stop }))
	defer server.Close()
	defer close(stop)
	s := newSender(t, webhook.Options{Allow: []string{"127.0.0.0/8"}, Timeout: 20 * time.Millisecond, Attempts: 2})
	var failed *webhook.DeliveryError
	if err := s.Post(t.Context(), server.URL, done); !errors.As(err, &failed) || failed.Attempts != 2 || n.Load() > 2 {
		t.Errorf("%v, asked %d times", err, n.Load())
	}
	// Close ends what is under way when its context does.
	slow := newSender(t, webhook.Options{URL: server.URL, Allow: []string{"127.0.0.1"}, Timeout: time.Hour, MinDelay: time.Hour})
	slow.OnFinish(done)
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	cancel(enough)
	if err := slow.Close(ctx); !errors.Is(err, enough) {
		t.Error(err)
	}
	if err := slow.Post(t.Context(), server.URL, done); !errors.Is(err, webhook.ErrClosed) {
		t.Error(err)
	}
	if err := slow.Close(ctx); !errors.Is(err, webhook.ErrClosed) {
		t.Error(err)
	}
}

// A name that is allowed is no way to an address that is not: the address is looked at when
// it is connected to, and the answer of a name server may be another by then.
func TestNamesOfPrivateAddresses(t *testing.T) {
	r := newReceiver(t, nil)
	port := r.URL[strings.LastIndex(r.URL, ":"):]
	s := newSender(t, webhook.Options{Secret: secret, Allow: []string{"http://localhost" + port + "/"}})
	var failed *webhook.DeliveryError
	if err := s.Post(t.Context(), "http://localhost"+port+"/", done); !errors.Is(err, webhook.ErrNotAllowed) || !errors.As(err, &failed) || failed.Attempts != 1 {
		t.Error(err)
	}
	r.check(t, 0)
	s = newSender(t, webhook.Options{Secret: secret, Allow: []string{"http://localhost" + port + "/"}, Networks: []string{"127.0.0.1", "::1"}})
	if err := s.Post(t.Context(), "http://localhost"+port+"/", done); err != nil {
		t.Error(err)
	}
	r.check(t, 1)
}

// Any value can be sent, signed or not, with the retries of a status.
func TestPost(t *testing.T) {
	for name, secret := range map[string][]byte{"signed": secret, "not signed": nil} {
		t.Run(name, func(t *testing.T) {
			var n atomic.Int64
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
				body, err := io.ReadAll(q.Body)
				if err != nil || string(body) != `{"a":[1,"x"]}` || q.URL.String() != "/in/x?token=1" {
					t.Errorf("%s is told %s, %v", q.URL, body, err)
				}
				if len(secret) > 0 {
					if err := webhook.Verify(secret, q.Header, body, time.Now(), 0); err != nil {
						t.Error(err)
					}
				} else if q.Header.Get(webhook.HeaderSignature) != "" {
					t.Error("signed without a secret")
				}
				if n.Add(1) == 1 {
					w.WriteHeader(503)
				}
			}))
			defer server.Close()
			s := newSender(t, webhook.Options{Secret: secret, Allow: []string{server.URL + "/in/"}})
			value := map[string]any{"a": []any{1, "x"}}
			if err := s.Post(t.Context(), server.URL+"/in/x?token=1", value); err != nil || n.Load() != 2 {
				t.Errorf("asked %d times: %v", n.Load(), err)
			}
			if err := s.Post(t.Context(), server.URL+"/out", value); !errors.Is(err, webhook.ErrNotAllowed) {
				t.Error(err)
			}
			var unsupported *json.UnsupportedTypeError
			if err := s.Post(t.Context(), server.URL+"/in/x", func() {}); !errors.As(err, &unsupported) {
				t.Error(err)
			}
			if err := s.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := s.Post(t.Context(), server.URL+"/in/x", value); !errors.Is(err, webhook.ErrClosed) {
				t.Error(err)
			}
			if n.Load() != 2 {
				t.Errorf("asked %d times", n.Load())
			}
		})
	}
}

func TestWatch(t *testing.T) {
	r := newReceiver(t, nil)
	s := newSender(t, webhook.Options{Secret: secret, Allow: []string{"127.0.0.1"}})
	jobs, err := transfer.OpenJobs(t.Context(), transfer.JobsOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer jobs.Close()
	end, failed := make(chan struct{}), errors.New("no")
	job, err := jobs.Start(t.Context(), transfer.Task{Kind: transfer.KindCheck}, func(context.Context, *transfer.Reporter) error { <-end; return failed })
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Watch(job, "http://10.1.2.3/"); !errors.Is(err, webhook.ErrNotAllowed) {
		t.Error(err)
	}
	if err := s.Watch(job, r.URL); err != nil {
		t.Fatal(err)
	}
	close(end)
	if err := job.Wait(t.Context()); !errors.Is(err, failed) {
		t.Fatal(err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.check(t, 1)
	if got := r.statuses[0]; got.State != transfer.StateFailed || got.Error != "no" || got.ID != job.ID() {
		t.Errorf("told %+v", got)
	}
}

func TestQueueIsBounded(t *testing.T) {
	s := newSender(t, webhook.Options{Allow: []string{"127.0.0.1"}, Queue: 2})
	jobs, err := transfer.OpenJobs(t.Context(), transfer.JobsOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer jobs.Close()
	end := make(chan struct{})
	defer close(end)
	job, err := jobs.Start(t.Context(), transfer.Task{Kind: transfer.KindCheck}, func(context.Context, *transfer.Reporter) error { <-end; return nil })
	if err != nil {
		t.Fatal(err)
	}
	for n := range 3 {
		if err := s.Watch(job, "http://127.0.0.1:1/"); (n == 2) != errors.Is(err, webhook.ErrFull) {
			t.Errorf("%d: %v", n, err)
		}
	}
}

// What a log is told of a failed delivery shows no path, no query and no secret.
func TestLogsShowNoSecret(t *testing.T) {
	r := newReceiver(t, func(_ int, w http.ResponseWriter) { w.WriteHeader(400) })
	var log strings.Builder
	s := newSender(t, webhook.Options{URL: r.URL + "/hunter2?token=hunter2", Secret: secret, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	s.OnFinish(done)
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "the answer was 400") || strings.Contains(log.String(), "hunter2") || strings.Contains(log.String(), string(secret)) {
		t.Errorf("logged %s", log.String())
	}
}

func TestVerifyRefuses(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	header := http.Header{}
	header.Set(webhook.HeaderID, "msg_1")
	header.Set(webhook.HeaderTimestamp, "1700000000")
	// Made with: printf 'msg_1.1700000000.{}' | openssl dgst -sha256 -hmac 'a secret of more than 24 bytes' -binary | base64
	header.Set(webhook.HeaderSignature, "v1,AAAA v1,U3NRzIjaukxhRA/ebFiNoUMK0ixlfmnbZRTvck6qVOQ=")
	if err := webhook.Verify(secret, header, []byte("{}"), now.Add(4*time.Minute), 0); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"another body":   webhook.Verify(secret, header, []byte("{ }"), now, 0),
		"another secret": webhook.Verify([]byte("another"), header, []byte("{}"), now, 0),
		"too old":        webhook.Verify(secret, header, []byte("{}"), now.Add(6*time.Minute), 0),
		"too early":      webhook.Verify(secret, header, []byte("{}"), now.Add(-6*time.Minute), 0),
		"no headers":     webhook.Verify(secret, http.Header{}, []byte("{}"), now, 0),
	} {
		if !errors.Is(err, webhook.ErrSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for _, opts := range []webhook.Options{
		{Secret: []byte("short")}, {Attempts: -1}, {MinDelay: time.Hour, MaxDelay: time.Minute}, {URL: "ftp://x/"}, {URL: "https://u:p@x/"}, {URL: "https://x/#u:p"},
		{Allow: []string{"https://u:p@x/"}}, {Allow: []string{"u:p@x"}}, {Networks: []string{"x"}}, {Networks: []string{"https://u:p@x/"}},
		{Allow: []string{""}}, {Allow: []string{"a b"}}, {Allow: []string{"*"}}, {Allow: []string{"x/y"}}, {Allow: []string{"https://x/?q"}}, {Allow: []string{"10.0.0.0/99"}},
	} {
		s, err := webhook.New(opts)
		if err == nil {
			t.Errorf("%+v is taken", opts)
			_ = s.Close(t.Context())
		} else if strings.Contains(err.Error(), "u:p") {
			t.Errorf("a secret is shown: %v", err)
		}
	}
}

func ExampleSender_Post() {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		fmt.Println(r.URL.Path, string(body), err)
	}))
	defer server.Close()

	hooks, err := webhook.New(webhook.Options{Allow: []string{server.URL + "/hooks/"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	err = hooks.Post(ctx, server.URL+"/hooks/done", map[string]string{"status": "success"})
	if err := errors.Join(err, hooks.Close(ctx)); err != nil {
		fmt.Println(err)
	}
	// Output: /hooks/done {"status":"success"} <nil>
}

func Example() {
	received := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = webhook.Verify(secret, r.Header, body, time.Now(), 0)
		}
		received <- fmt.Sprint("signed: ", err == nil)
	}))
	defer server.Close()

	hooks, err := webhook.New(webhook.Options{URL: server.URL, Secret: secret})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	jobs, err := transfer.OpenJobs(ctx, transfer.JobsOptions{OnFinish: []func(transfer.Status){hooks.OnFinish}})
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := jobs.Start(ctx, transfer.Task{Kind: transfer.KindCheck}, func(context.Context, *transfer.Reporter) error { return nil }); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(<-received)
	// The jobs first: their ends are told of.
	if err := errors.Join(jobs.Close(), hooks.Close(ctx)); err != nil {
		fmt.Println(err)
	}
	// Output: signed: true
}
