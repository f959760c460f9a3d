// Package faultproxy stands between a client and an HTTP server, for tests, and does what networks and busy servers do:
// it delays, refuses, cuts, stalls, and loses answers to requests that took effect. What it does is drawn from a seed.
package faultproxy

import (
	"bytes"
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"
)

// Kind is a kind of fault.
type Kind string

// The kinds.
const (
	// Latency delays a request, which then goes well.
	Latency Kind = "latency"
	// ResetBefore breaks the connection instead of taking the request.
	ResetBefore Kind = "reset before the request"
	// ResetDuring breaks it when half of the request's body has come.
	ResetDuring Kind = "reset during the request"
	// Internal answers 500, SlowDown 503, without asking the server.
	Internal Kind = "500 InternalError"
	SlowDown Kind = "503 SlowDown"
	// Truncated ends the connection in the middle of the answer's body.
	Truncated Kind = "truncated body"
	// Stalled stops sending there, and keeps the connection open.
	Stalled Kind = "stalled body"
	// LostAnswer lets the server do the request, and breaks the connection instead of answering.
	LostAnswer Kind = "lost answer"
)

// Kinds are all of them.
var Kinds = []Kind{Latency, ResetBefore, ResetDuring, Internal, SlowDown, Truncated, Stalled, LostAnswer}

// Options are the settings of a Proxy.
type Options struct {
	Seed uint64
	// Rate is the share of requests that have a fault, from 0 to 1.
	Rate float64
	// Operation names what a request belongs to, from its path and query. Faults are counted for it, and drawn in an
	// order that other operations do not change.
	Operation func(*url.URL) string
}

// Proxy is a proxy under way.
type Proxy struct {
	URL string

	backend   *url.URL
	opts      Options
	transport *http.Transport
	// life ends with the proxy, and with it what is stalled.
	life context.Context

	mu         sync.Mutex
	operations map[string]*operation
}

// operation is what happened to the requests of one.
type operation struct {
	draw *rand.Rand
	// faults are those injected, in their order, each with the request it hit.
	faults []fault
}

type fault struct {
	kind    Kind
	request string
	retried bool
}

// Start starts a proxy in front of backend. It ends with the test.
func Start(t testing.TB, backend string, opts Options) *Proxy {
	t.Helper()
	u, err := url.Parse(backend)
	if err != nil {
		t.Fatal(err)
	}
	life, end := context.WithCancel(context.Background())
	p := &Proxy{backend: u, opts: opts, transport: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64}, life: life, operations: make(map[string]*operation)}
	server := httptest.NewServer(http.HandlerFunc(p.serve))
	p.URL = server.URL
	t.Cleanup(func() {
		end()
		server.CloseClientConnections()
		server.Close()
		p.transport.CloseIdleConnections()
	})
	return p
}

// draw says which fault a request will have, "" for none.
func (p *Proxy) draw(r *http.Request) (kind Kind, delay time.Duration) {
	name := p.opts.Operation(r.URL)
	request := r.Method + " " + r.URL.Path
	p.mu.Lock()
	defer p.mu.Unlock()
	o := p.operations[name]
	if o == nil {
		h := fnv.New64a()
		_, _ = h.Write([]byte(name))
		o = &operation{draw: rand.New(rand.NewPCG(p.opts.Seed, h.Sum64()))}
		p.operations[name] = o
	}
	for i := range o.faults {
		if o.faults[i].request == request {
			o.faults[i].retried = true
		}
	}
	if o.draw.Float64() >= p.opts.Rate {
		return "", 0
	}
	kind = Kinds[o.draw.IntN(len(Kinds))]
	if r.Method != http.MethodGet && (kind == Truncated || kind == Stalled) {
		kind = LostAnswer // there is no body to speak of
	}
	if r.Method != http.MethodPut && kind == ResetDuring {
		kind = ResetBefore
	}
	o.faults = append(o.faults, fault{kind: kind, request: request})
	return kind, time.Duration(1+o.draw.IntN(30)) * time.Millisecond
}

func (p *Proxy) serve(w http.ResponseWriter, r *http.Request) {
	kind, delay := p.draw(r)
	switch kind {
	case Latency:
		time.Sleep(delay)
	case ResetBefore:
		reset(w)
		return
	case ResetDuring:
		_, _ = io.CopyN(io.Discard, r.Body, r.ContentLength/2)
		reset(w)
		return
	case Internal:
		refuse(w, r, http.StatusInternalServerError, "InternalError")
		return
	case SlowDown:
		refuse(w, r, http.StatusServiceUnavailable, "SlowDown")
		return
	}
	resp, body, err := p.forward(r)
	if err != nil {
		reset(w)
		return
	}
	if kind == LostAnswer {
		reset(w)
		return
	}
	for key, values := range resp.Header {
		w.Header()[key] = values
	}
	if r.Method != http.MethodHead {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	}
	w.WriteHeader(resp.StatusCode)
	if kind != Truncated && kind != Stalled {
		_, _ = w.Write(body)
		return
	}
	_, _ = w.Write(body[:len(body)/2])
	_ = http.NewResponseController(w).Flush()
	if kind == Stalled {
		select {
		case <-r.Context().Done():
		case <-p.life.Done():
		}
	}
	// The server's own way to break a connection without the rest of the body.
	panic(http.ErrAbortHandler)
}

// forward lets the server do the request. The host stays as the client wrote it, since it is part of what is signed.
func (p *Proxy) forward(r *http.Request) (*http.Response, []byte, error) {
	sent, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, nil, err
	}
	// The answer may be one that nobody waits for any more.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), time.Minute)
	defer cancel()
	out := r.Clone(ctx)
	out.URL.Scheme, out.URL.Host = p.backend.Scheme, p.backend.Host
	out.RequestURI = ""
	out.Body = io.NopCloser(bytes.NewReader(sent))
	out.ContentLength = int64(len(sent))
	out.TransferEncoding = nil
	resp, err := p.transport.RoundTrip(out)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, body, err
}

// reset breaks the connection so that the client sees a reset, not an end.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

func refuse(w http.ResponseWriter, r *http.Request, status int, code string) {
	_, _ = io.Copy(io.Discard, r.Body)
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		fmt.Fprintf(w, "<?xml version=\"1.0\"?><Error><Code>%s</Code><Message>injected</Message></Error>", code)
	}
}

// Count is what became of the faults of one kind.
type Count struct {
	Kind Kind
	// Injected counts the faults, Retried those after which the same request came once more.
	Injected, Retried int
	// Completed and Failed count the operations that had such a fault.
	Completed, Failed int
}

// Counts returns a Count for each kind; failed tells which operations failed.
func (p *Proxy) Counts(failed func(operation string) bool) []Count {
	counts := make([]Count, len(Kinds))
	for i, kind := range Kinds {
		counts[i].Kind = kind
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, o := range p.operations {
		hit := make(map[int]bool)
		for _, f := range o.faults {
			i := slices.Index(Kinds, f.kind)
			counts[i].Injected++
			if f.retried {
				counts[i].Retried++
			}
			hit[i] = true
		}
		for i := range hit {
			if failed(name) {
				counts[i].Failed++
			} else {
				counts[i].Completed++
			}
		}
	}
	return counts
}

// Table renders counts for a log.
func Table(counts []Count) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "fault\tinjected\tretried\toperations completed\tfailed\t")
	for _, c := range counts {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t\n", c.Kind, c.Injected, c.Retried, c.Completed, c.Failed)
	}
	_ = w.Flush()
	return b.String()
}
