package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"time"

	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/transfer"
)

// An Attachment is a named blob that was added to a snapshot.
type Attachment = repo.Attachment

// An AttachmentReader is the content of an attachment, all of which was checked. It is in
// memory, and can be read in any order, as for http.ServeContent.
type AttachmentReader struct {
	*bytes.Reader
	name string
}

// Name returns the attachment's name.
func (r *AttachmentReader) Name() string { return r.name }

// Close does nothing; it is there so that the reader can be handed on.
func (r *AttachmentReader) Close() error { return nil }

// Attach adds a named blob to a snapshot, or replaces the one of that name: who reads it
// meanwhile gets the old one or the new one. It is durable when Attach returns. It may have up
// to repo.MaxAttachmentSize bytes, all of which are held in memory, and a snapshot up
// to repo.MaxAttachments of them. Attachments are copied with their snapshot, exported with it,
// and deleted with it. For names see repo.CheckAttachmentName.
//
// A snapshot that is being made by this engine under an ID of the caller's, see
// CreateOptions.ID, can be given attachments too; if it fails they go.
//
// A read from data that does not return is waited for, whatever becomes of ctx.
//
// It fails with ErrNotFound, ErrBadID, repo.ErrBadAttachmentName, repo.ErrAttachmentSize,
// ErrClosed, the context's cause, what reading from data fails with, or an error of the
// repository, which leaves open whether the attachment was stored.
func (e *Engine) Attach(ctx context.Context, id, name string, data io.Reader) error {
	ctx, done, err := e.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	if err := errors.Join(CheckID(id), repo.CheckAttachmentName(name)); err != nil {
		return err
	}
	var b bytes.Buffer
	if _, err := io.Copy(&b, &heedingReader{ctx: ctx, r: io.LimitReader(data, repo.MaxAttachmentSize+1)}); err != nil {
		return fmt.Errorf("snapshot: read what is to be attached as %s: %w", name, err)
	}
	if b.Len() > repo.MaxAttachmentSize {
		return fmt.Errorf("%w: %s has more than the %d bytes allowed", repo.ErrAttachmentSize, name, repo.MaxAttachmentSize)
	}
	for session := (*repo.Session)(nil); ; {
		if session, err = e.sessionAfter(ctx, id, session, true); err != nil {
			return err
		}
		if session == nil {
			// Whatever was under way has ended: the snapshot is there, or is not.
			return e.repo.PutAttachment(ctx, id, name, b.Bytes())
		}
		err = session.PutAttachment(ctx, id, name, b.Bytes())
		if errors.Is(err, repo.ErrExists) {
			return e.repo.PutAttachment(ctx, id, name, b.Bytes())
		}
		if !errors.Is(err, repo.ErrClosed) {
			return err
		}
	}
}

// Attachments lists the attachments of a snapshot in the order of their names. It fails
// as Get does, with ErrNotFound also for a snapshot that is only registered, and stops after
// the first error.
func (e *Engine) Attachments(ctx context.Context, id string) iter.Seq2[Attachment, error] {
	return func(yield func(Attachment, error) bool) {
		ctx, done, err := e.begin(ctx)
		if err == nil {
			defer done()
			err = e.attachable(ctx, id)
		}
		if err != nil {
			yield(Attachment{}, err)
			return
		}
		for a, err := range e.repo.Attachments(ctx, id) {
			if !yield(a, err) {
				return
			}
		}
	}
}

// OpenAttachment returns the content of an attachment. It fails as Attachments does, with
// repo.ErrNoAttachment, with repo.ErrBadAttachmentName, or with repo.ErrCorrupt if it is
// damaged.
func (e *Engine) OpenAttachment(ctx context.Context, id, name string) (*AttachmentReader, error) {
	ctx, done, err := e.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	if err := e.attachable(ctx, id); err != nil {
		return nil, err
	}
	data, err := e.repo.ReadAttachment(ctx, id, name)
	if err != nil {
		return nil, err
	}
	return &AttachmentReader{bytes.NewReader(data), name}, nil
}

// Detach removes an attachment. It fails as Attachments does, with repo.ErrNoAttachment, or
// with repo.ErrBadAttachmentName.
func (e *Engine) Detach(ctx context.Context, id, name string) error {
	ctx, done, err := e.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	if err := e.attachable(ctx, id); err != nil {
		return err
	}
	return e.repo.DeleteAttachment(ctx, id, name)
}

// attachable makes sure that there is such a snapshot, or will be.
func (e *Engine) attachable(ctx context.Context, id string) error {
	if session, err := e.sessionAfter(ctx, id, nil, false); err == nil && session != nil {
		return nil
	}
	_, err := e.repo.Manifest(ctx, id)
	return err
}

// A reservation says that this engine is making a snapshot under an ID that is known
// before. The engine's mu guards all of it.
type reservation struct {
	// session makes the snapshot; nil as long as it has not begun.
	session *repo.Session
	// attached is set once somebody may have attached something with the session.
	attached bool
	// ended says that there will be no other session.
	ended bool
	// changed is closed, and replaced, when one of the above changes what to wait for.
	changed chan struct{}
	// job is what will make it, nil if that is a call of Create.
	job *transfer.Job
}

// tell wakes those who wait. The caller holds the engine's mu.
func (r *reservation) tell() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// over says whether the job that was to make the snapshot ended before it began. The caller
// holds the engine's mu.
func (r *reservation) over() bool {
	if r.job == nil {
		return false
	}
	select {
	case <-r.job.Done():
		return true
	default:
		return false
	}
}

// reserve takes an ID for a snapshot that is to be made.
func (e *Engine) reserve(ctx context.Context, id string) (*reservation, error) {
	if err := CheckID(id); err != nil {
		return nil, err
	}
	_, err := e.repo.Manifest(ctx, id)
	if err == nil {
		return nil, fmt.Errorf("%w: %s", repo.ErrExists, id)
	}
	if !errors.Is(err, ErrNotFound) {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if old := e.reserved[id]; old != nil && !old.over() {
		return nil, fmt.Errorf("%w: %s is being made", repo.ErrExists, id)
	}
	if e.reserved == nil {
		e.reserved = make(map[string]*reservation)
	}
	// Jobs that were aborted while they waited for their turn have left theirs.
	maps.DeleteFunc(e.reserved, func(_ string, r *reservation) bool { return r.over() })
	r := &reservation{changed: make(chan struct{})}
	e.reserved[id] = r
	return r, nil
}

// assign says which job will make the snapshot of a reservation. Who waits for the session already
// must hear of it: a job that is aborted before its turn never begins one.
func (e *Engine) assign(r *reservation, job *transfer.Job) {
	e.mu.Lock()
	defer e.mu.Unlock()
	r.job = job
	r.tell()
}

// offer makes a session known to those who want to attach something.
func (e *Engine) offer(r *reservation, session *repo.Session) {
	e.mu.Lock()
	defer e.mu.Unlock()
	r.session = session
	r.tell()
}

// renew says whether another session may take the place of one that has ended: not if something
// was attached, which is lost.
func (e *Engine) renew(r *reservation) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return !r.attached
}

// release gives an ID back.
func (e *Engine) release(id string, r *reservation) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.reserved[id] == r {
		delete(e.reserved, id)
	}
	if !r.ended {
		r.ended = true
		r.tell()
	}
}

// sessionAfter returns the session that makes a snapshot, waiting for it to begin, or nil if
// none does. One that is known to have ended is not returned again. attach says that something
// will be attached with it.
func (e *Engine) sessionAfter(ctx context.Context, id string, known *repo.Session, attach bool) (*repo.Session, error) {
	e.mu.Lock()
	r := e.reserved[id]
	e.mu.Unlock()
	if r == nil {
		return nil, nil
	}
	for {
		e.mu.Lock()
		session, ended, changed := r.session, r.ended, r.changed
		var over <-chan struct{}
		if r.job != nil {
			over = r.job.Done()
		}
		fresh := session != nil && session != known && !ended
		r.attached = r.attached || fresh && attach
		e.mu.Unlock()
		switch {
		case ended:
			return nil, nil
		case fresh:
			return session, nil
		}
		select {
		case <-changed:
		case <-over:
			return nil, nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// NewID returns an ID such as Create would make for a snapshot that is cut now, with a
// label or, if that is empty, a UUID: for CreateOptions.ID. It fails with ErrBadLabel.
func NewID(label string) (string, error) {
	if label != "" {
		if err := CheckLabel(label); err != nil {
			return "", err
		}
	}
	return newID(time.Now(), label, 1), nil
}
