package repo

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/holdstill/holdstill/chunk"
)

// Session adds chunks to a repository and ends with the commit of a manifest,
// or with nothing. Take one Writer for each goroutine that adds chunks. Until
// the commit nobody else sees anything of a Session but what a Checkpoint makes known.
//
// The methods of a Session are safe for concurrent use; those of a Writer are
// not.
type Session struct {
	repo *Repository
	// lease says that the session is under way.
	lease *lease
	// there is what the session found in the repository: when it began, or at the last
	// Refresh. Only these two set it, under refreshMu or before anybody else has the session.
	there atomic.Pointer[found]
	// refreshMu is held by Refresh from beginning to end.
	refreshMu sync.Mutex

	// ctx is what uploads run under: a pack may still be on its way when the call
	// that filled it has returned, so that call's context cannot govern it.
	ctx    context.Context
	cancel context.CancelCauseFunc

	// commitMu is held by Commit and Abort from beginning to end, so that one never
	// takes away what the other relies on. It comes before all others.
	commitMu sync.Mutex

	// attached are the keys of the attachments that the session has stored; commitMu
	// guards it.
	attached []string

	// metaMu guards meta, the Writer for nodes and file tables. They go into packs
	// of their own, so that a listing reads little and near together. It comes
	// before mu.
	metaMu sync.Mutex
	meta   *Writer

	// mu guards the fields up to the next blank line. Nothing waits while it is held.
	mu sync.Mutex
	// pending holds every chunk that a writer of this session took on.
	pending *pendingSet
	// packs are those handed to the bucket, durable or not.
	packs []*sessionPack
	// packed counts the chunks in packs. Whenever no Writer holds an unfinished
	// pack it equals pending.n.
	packed int
	// written counts the bytes of the packs that are durable.
	written int64
	// err is the first failure; nothing can be committed after it.
	err   error
	ended bool
	// running counts the uploads under way; idle is closed when it falls to zero.
	running int
	idle    chan struct{}

	// stopped is set together with err or ended, to be read without mu.
	stopped atomic.Bool
	// buffers holds idle pack builders; its capacity bounds the session's memory.
	buffers chan *packBuilder
	// uploads holds a token for each upload under way.
	uploads  chan struct{}
	newPlain atomic.Int64
	newDelta atomic.Int64
	// warned is set once it was logged that a base cannot be read.
	warned atomic.Bool
}

// NewSession begins a write session. End it with Commit, Abort or Suspend: Abort may be
// deferred, after Commit it does nothing. Uploads, and what shows collections that the
// session lives, run under ctx until the session ends, so ctx must live as long as the
// session; when it ends the session fails.
//
// It fails with ErrClosed or with the bucket's error. An index that is damaged is no
// error: chunks that only it names are stored again.
func (r *Repository) NewSession(ctx context.Context) (*Session, error) {
	if err := r.use(); err != nil {
		return nil, err
	}
	s := &Session{
		repo:    r,
		pending: newPendingSet(),
		buffers: make(chan *packBuilder, r.opts.Uploads+2),
		uploads: make(chan struct{}, r.opts.Uploads),
	}
	var err error
	if s.meta, err = s.NewWriter(); err != nil {
		return nil, err
	}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	// The lease comes before the look at what is there, so that no collection which begins
	// later deletes any of it.
	if s.lease, err = takeLease(s.ctx, r.store, r.opts.Logger); err == nil {
		if err = s.look(ctx); err == nil {
			return s, nil
		}
	}
	if s.lease == nil {
		s.cancel(err)
		s.meta.Close()
		return nil, err
	}
	return nil, errors.Join(err, s.abort(ctx))
}

// claim says whether the caller has to store the chunk: it is in no pack, and no
// other Writer took it on. full says that it will be stored in full.
func (s *Session) claim(id *chunk.ID, full bool) (bool, error) {
	if s.stopped.Load() {
		return false, s.state()
	}
	there := s.there.Load()
	if there.has(id) {
		return false, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil || s.ended {
		return false, s.stateLocked()
	}
	// pending may have lost it since to what was found meanwhile.
	if now := s.there.Load(); now != there && now.has(id) {
		return false, nil
	}
	if int64(s.pending.n) >= maxPending {
		return false, errors.New("repo: the session has more chunks than one can take on")
	}
	return s.pending.add(id, full), nil
}

// state returns why the session can no longer be used, nil if it can.
func (s *Session) state() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stateLocked()
}

func (s *Session) stateLocked() error {
	if s.err == nil && s.ended {
		return ErrClosed
	}
	return s.err
}

// Has reports whether a chunk is in the repository or was taken on by this
// session.
func (s *Session) Has(id chunk.ID) bool {
	there := s.there.Load()
	if there.has(&id) {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := s.there.Load(); now != there && now.has(&id) {
		return true
	}
	return s.pending.has(&id)
}

// fail records the first error, unless the session has ended, and returns why the
// session can no longer be used.
func (s *Session) fail(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil && err != nil && !s.ended {
		s.err = err
		s.stopped.Store(true)
	}
	return s.stateLocked()
}

// upload stores a full pack in the background. It waits when as many uploads as
// allowed are under way.
func (s *Session) upload(ctx context.Context, pack *packBuilder) error {
	if err := context.Cause(ctx); err != nil {
		return s.fail(err)
	}
	select {
	case s.uploads <- struct{}{}:
	case <-ctx.Done():
		return s.fail(context.Cause(ctx))
	case <-s.ctx.Done():
		return s.fail(context.Cause(s.ctx))
	}
	id := pack.finish()
	content := &sessionPack{packInfo: packInfo{id: id, size: int64(len(pack.buf))}}
	there := s.there.Load()
	content.bases = ownBases(there, pack.bases)
	s.mu.Lock()
	if err := s.stateLocked(); err != nil {
		s.mu.Unlock()
		<-s.uploads
		return err
	}
	if now := s.there.Load(); now != there {
		content.bases = ownBases(now, content.bases)
	}
	content.rows = s.pending.rows(pack.entries)
	// It is listed before it is written: an abort must delete what may be there.
	s.packs = append(s.packs, content)
	s.packed += len(content.rows)
	if s.running++; s.running == 1 {
		s.idle = make(chan struct{})
	}
	s.mu.Unlock()
	go s.store(content, pack)
	return nil
}

// largeBuilder returns what a full pack is made in, one that is idle if there is any. Who has
// little to store leaves these to others.
func (s *Session) largeBuilder(limit int) *packBuilder {
	select {
	case b := <-s.buffers:
		return b
	default:
		return &packBuilder{keys: s.repo.store.keys, buf: make([]byte, 0, limit)}
	}
}

// store writes one pack, gives its buffer back and its upload token after that.
func (s *Session) store(content *sessionPack, pack *packBuilder) {
	err := s.repo.store.create(s.ctx, packKey(content.id), pack.buf)
	if errors.Is(err, errKeyExists) {
		// Only this session can have written a pack of this name: the store
		// repeated a request whose answer was lost.
		err = nil
	}
	if cap(pack.buf) >= s.repo.opts.PackSize {
		select {
		case s.buffers <- pack:
		default:
		}
	}
	_ = s.fail(err)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		content.durable = true
		s.written += content.size
	}
	<-s.uploads
	if s.running--; s.running == 0 {
		close(s.idle)
	}
}

// settle waits until no upload is under way, or until ctx ends.
func (s *Session) settle(ctx context.Context) error {
	for {
		s.mu.Lock()
		running, idle := s.running, s.idle
		s.mu.Unlock()
		if running == 0 {
			return nil
		}
		select {
		case <-idle:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// putMeta stores a node or a block of a file table.
func (s *Session) putMeta(ctx context.Context, plain []byte) (chunk.ID, error) {
	s.metaMu.Lock()
	defer s.metaMu.Unlock()
	if s.meta == nil {
		return chunk.ID{}, ErrClosed
	}
	id, _, err := s.meta.Add(ctx, plain)
	return id, err
}

// BytesNew returns the plain size of the chunks that this session added so far.
func (s *Session) BytesNew() int64 { return s.newPlain.Load() }

// BytesStored returns the size of the packs and indexes that this session has made
// durable so far.
func (s *Session) BytesStored() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.written
}

// Sync waits until every pack that was flushed is durable. It flushes what the
// session itself still holds, but not other Writers. It fails with the session's
// first error or with the context's.
func (s *Session) Sync(ctx context.Context) error {
	if err := s.flushMeta(ctx); err != nil {
		return err
	}
	if err := s.settle(ctx); err != nil {
		return err
	}
	return s.state()
}

func (s *Session) flushMeta(ctx context.Context) error {
	s.metaMu.Lock()
	defer s.metaMu.Unlock()
	if s.meta == nil {
		return ErrClosed
	}
	return s.meta.Flush(ctx)
}
