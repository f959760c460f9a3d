package pieces

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/holdstill/holdstill/transfer"
)

// pollTime is how often a stream looks for changes.
const pollTime = 100 * time.Millisecond

// A sink is the far end of a stream of messages.
type sink interface {
	// begin sends what comes before the first message.
	begin() error
	// send sends a message. Some sinks send the last one only.
	send(ctx context.Context, message []byte, last bool) error
	// alive sends something that is no message, so that nobody takes the stream for dead.
	alive(ctx context.Context) error
}

// A view tells how things stand: a message, and whether it is the last one.
type view func(ctx context.Context) (message any, last bool, err error)

// follow sends what a view shows, at first and whenever that changes, until the last message.
// When done is closed it looks at once. If ctx ends before, the present state is sent if the
// client is still there, which is so when the Handler is closed.
func (h *Handler) follow(ctx context.Context, to sink, done <-chan struct{}, look view) error {
	poll, keep := time.NewTicker(pollTime), time.NewTicker(h.opts.KeepAlive)
	defer poll.Stop()
	defer keep.Stop()
	if err := to.begin(); err != nil {
		return err
	}
	var sent []byte
	for {
		ended := ctx.Err() != nil
		// What is shown last is read although the context of the request has ended.
		value, last, err := look(context.WithoutCancel(ctx))
		if err != nil {
			return err
		}
		message, err := json.Marshal(value)
		if err != nil {
			return err
		}
		last = last || ended
		if last || !bytes.Equal(message, sent) {
			if err := to.send(context.WithoutCancel(ctx), message, last); err != nil {
				return err
			}
			sent = message
		}
		if last {
			return nil
		}
		select {
		case <-ctx.Done():
			if !errors.Is(context.Cause(ctx), ErrClosed) {
				return context.Cause(ctx)
			}
		case <-done:
			done = nil
		case <-poll.C:
		case <-keep.C:
			if err := to.alive(ctx); err != nil {
				return err
			}
		}
	}
}

// stream answers a request with what a view shows. What goes wrong once the answer has begun
// breaks the connection off: a stream that just ends would look complete.
func (h *Handler) stream(w http.ResponseWriter, r *http.Request, done <-chan struct{}, look view) {
	patient(w)
	if err := h.follow(r.Context(), newBody(w, formatOf(r)), done, look); err != nil {
		panic(http.ErrAbortHandler)
	}
}

// A format is the form in which messages stand in a body.
type format int

const (
	// formatOne is a single JSON object, the last message, with white space before it to
	// keep the connection alive: all that generated clients can read.
	formatOne format = iota
	formatLines
	formatEvents
)

var contentTypes = map[format]string{
	formatOne: "application/json", formatLines: "application/x-ndjson", formatEvents: "text/event-stream",
}

// formatOf returns what a client asked for in Accept: of the forms that it names the one with
// the highest quality, the first of several.
func formatOf(r *http.Request) format {
	best, quality := formatOne, 0.0
	for _, part := range strings.Split(strings.Join(r.Header.Values("Accept"), ","), ",") {
		kind, params, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		q := 1.0
		if text, ok := params["q"]; ok {
			if q, err = strconv.ParseFloat(text, 64); err != nil || q > 1 {
				continue
			}
		}
		// Written so that what is not a number is not better either.
		if !(q > quality) {
			continue
		}
		switch kind {
		case "application/json", "application/*", "*/*":
			best, quality = formatOne, q
		case "application/x-ndjson":
			best, quality = formatLines, q
		case "text/event-stream":
			best, quality = formatEvents, q
		}
	}
	return best
}

// body is a sink that is the body of a response.
type body struct {
	w      http.ResponseWriter
	flush  func() error
	format format
}

func newBody(w http.ResponseWriter, f format) *body {
	return &body{w: w, flush: http.NewResponseController(w).Flush, format: f}
}

func (b *body) begin() error {
	b.w.Header().Set("Content-Type", contentTypes[b.format])
	// Proxies that collect a response before they pass it on would keep it from the client.
	b.w.Header().Set("X-Accel-Buffering", "no")
	b.w.WriteHeader(http.StatusOK)
	return b.write(nil)
}

func (b *body) send(_ context.Context, message []byte, last bool) error {
	switch {
	case b.format == formatEvents:
		return b.write([]byte("data: " + string(message) + "\n\n"))
	case b.format == formatLines || last:
		return b.write(append(bytes.Clone(message), '\n'))
	}
	return nil
}

func (b *body) alive(context.Context) error {
	if b.format == formatEvents {
		return b.write([]byte(":\n\n"))
	}
	return b.write([]byte(" "))
}

// write sends what it is given at once.
func (b *body) write(data []byte) error {
	extend(b.w)
	if _, err := b.w.Write(data); err != nil {
		return err
	}
	err := b.flush()
	if errors.Is(err, http.ErrNotSupported) {
		return nil
	}
	return err
}

// viewOf is the view of one job. The Backup of a creation that is under way names it, so that
// it can be cancelled; one that failed has none. That of a restore is given.
func (h *Handler) viewOf(job *transfer.Job, restored *backup) view {
	known := map[string]*backup{job.ID(): restored}
	return func(ctx context.Context) (any, bool, error) {
		s := job.Status()
		p, err := h.progressOf(ctx, s, known)
		return p, s.State.Final(), err
	}
}

// progressOf describes a job that creates or restores a backup. Those that were read from the
// repository are kept in known, by the IDs of their jobs: a view is asked many times.
func (h *Handler) progressOf(ctx context.Context, s transfer.Status, known map[string]*backup) (streamedProgress, error) {
	percentage := percentageOf(s)
	p := streamedProgress{Status: valueOf(s.State), Percentage: &percentage, Backup: known[s.ID]}
	switch {
	case p.Backup != nil:
	case s.Kind == transfer.KindCreate && s.State != transfer.StateCompleted:
		if b, ok := h.describeCreation(&s); ok && !s.State.Final() {
			p.Backup = &b
		}
	default:
		b, err := h.made(ctx, s)
		if err != nil && !isGone(err) {
			return p, err
		}
		known[s.ID], p.Backup = b, b
	}
	return p, nil
}

// createStreamed makes a backup, and tells how far it is.
func (h *Handler) createStreamed(w http.ResponseWriter, r *http.Request) error {
	if err := h.readSeed(w, r); err != nil {
		return err
	}
	patient(w)
	job, err := h.startCreate(r.Context(), nil)
	if err != nil {
		return err
	}
	h.stream(w, r, job.Done(), h.viewOf(job, nil))
	return nil
}

// restoreStreamed restores a backup, and tells how far that is.
func (h *Handler) restoreStreamed(w http.ResponseWriter, r *http.Request) error {
	f, err := h.findRestorable(w, r)
	if err != nil {
		return err
	}
	patient(w)
	job, err := h.startRestore(r, f)
	if err != nil {
		return err
	}
	h.stream(w, r, job.Done(), h.viewOf(job, &f.backup))
	return nil
}
