package repo

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A lease says that a session is under way. A collection deletes nothing that the
// session may rely on before the lease has ended. FORMAT.md, "Collection", has the
// protocol, and the names of its steps are used here.

// sessionID names a session: random, never used again. It is as long as the ID of an
// index, so that it can stand among those that an index supersedes: that is how an
// index says who wrote it.
type sessionID [32]byte

func (id sessionID) String() string { return hex.EncodeToString(id[:]) }

func newSessionID() (id sessionID) {
	_, _ = rand.Read(id[:]) // documented never to fail
	return id
}

func parseSessionID(s string) (id sessionID, ok bool) {
	if len(s) != 2*len(id) {
		return id, false
	}
	_, err := hex.Decode(id[:], []byte(s))
	return id, err == nil && id.String() == s
}

func leaseKey(id sessionID) string { return sessionPrefix + id.String() }

// beatKey names the n-th renewal of a lease, n from 1.
func beatKey(id sessionID, n int) string { return leaseKey(id) + "." + strconv.Itoa(n) }

// parseLeaseKey takes the key of a lease, or of a renewal, apart. beat is 0 for the
// lease itself.
func parseLeaseKey(key string) (id sessionID, beat int, ok bool) {
	name, ok := strings.CutPrefix(key, sessionPrefix)
	if !ok {
		return id, 0, false
	}
	name, number, renewed := strings.Cut(name, ".")
	if id, ok = parseSessionID(name); !ok || !renewed {
		return id, 0, ok
	}
	beat, err := strconv.Atoi(number)
	return id, beat, err == nil && beat > 0 && strconv.Itoa(beat) == number
}

// leaseRenewal is how often a lease is renewed. A collection watches a lease for many
// times as long before it gives it up.
const leaseRenewal = 20 * time.Second

// leaseDocument is what stands in a lease and its renewals. Only the keys matter; this
// is for people.
type leaseDocument struct {
	Session string `json:"session"`
}

// lease is a session's own. It is safe for concurrent use.
type lease struct {
	id    sessionID
	store store
	log   *slog.Logger
	// ctx ends renewals.
	ctx context.Context
	// unsure is set when a write may yet take effect that others could build on. Then
	// the lease must stay until a collection gives it up.
	unsure atomic.Bool

	// token is held by whoever uses the fields below, also while it talks to the bucket.
	token chan struct{}
	beat  int
	timer *time.Timer // nil once the lease has ended
}

// takeLease makes a lease durable and keeps it renewed until end.
func takeLease(ctx context.Context, s store, log *slog.Logger) (*lease, error) {
	l := &lease{id: newSessionID(), store: s, log: log, ctx: ctx, token: make(chan struct{}, 1)}
	data, err := seal(leaseDocument{l.id.String()})
	if err != nil {
		return nil, err
	}
	if err := s.create(ctx, leaseKey(l.id), data); err != nil && !errors.Is(err, errKeyExists) {
		// The key is random: where it exists, an answer was lost. So it may have been
		// here, and then a collection would wait for nobody.
		clean, cancel := outlive(ctx, commitGrace)
		defer cancel()
		return nil, errors.Join(err, s.remove(clean, leaseKey(l.id)))
	}
	l.token <- struct{}{}
	l.timer = time.AfterFunc(leaseRenewal, l.renew)
	<-l.token
	return l, nil
}

// renew shows those who watch that the session lives: by a new object, since one that
// was deleted must not come back.
func (l *lease) renew() {
	l.token <- struct{}{}
	defer func() { <-l.token }()
	if l.timer == nil || l.ctx.Err() != nil {
		return
	}
	if err := l.renewOnce(l.ctx); err != nil && l.ctx.Err() == nil {
		l.log.Warn("renewing the lease of a session failed; will be tried again", "error", err)
	}
	l.timer.Reset(leaseRenewal)
}

func (l *lease) renewOnce(ctx context.Context) error {
	data, err := seal(leaseDocument{l.id.String()})
	if err != nil {
		return err
	}
	l.beat++ // also after a failure: the key may be taken
	if err := l.store.create(ctx, beatKey(l.id, l.beat), data); err != nil {
		return err
	}
	if l.beat == 1 {
		return nil
	}
	return l.store.remove(ctx, beatKey(l.id, l.beat-1))
}

// end gives the lease back, unless something is unsure. The context of the lease must
// have ended. More calls do nothing.
func (l *lease) end(ctx context.Context) error {
	l.token <- struct{}{}
	defer func() { <-l.token }()
	if l.timer == nil {
		return nil
	}
	l.timer.Stop()
	l.timer = nil
	if l.unsure.Load() {
		return nil
	}
	var errs []error
	for n := max(l.beat-1, 1); n <= l.beat; n++ {
		errs = append(errs, l.store.remove(ctx, beatKey(l.id, n)))
	}
	errs = append(errs, l.store.remove(ctx, leaseKey(l.id)))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("repo: end the lease of a session: %w", err)
	}
	return nil
}

// Alive asks whether a collection has given the session up, or is about to, and fails with
// ErrGivenUp then, or with ErrClosed after the session's end. It costs one small request. Commit
// asks as well, but only after it has written the manifest, which keeps its ID from others until
// the next collection even if it does not count.
func (s *Session) Alive(ctx context.Context) error {
	s.mu.Lock()
	ended := s.ended
	s.mu.Unlock()
	if ended {
		return ErrClosed
	}
	_, err := s.repo.store.readAll(ctx, closingKey(s.lease.id), maxClosingSize)
	switch {
	case errors.Is(err, errKeyMissing):
		return nil
	case err != nil:
		return err
	}
	s.lease.unsure.Store(true)
	return ErrGivenUp
}

// confirm says whether the session may call its snapshot made, which is in the bucket
// (step 4 of a commit). If a collection has begun to give the session up, it counts only if
// it was found in time.
func (s *Session) confirm(ctx context.Context, snapshot string) error {
	id := s.lease.id
	if s.repo.collectFault == faultNoClosing {
		return nil
	}
	if _, err := s.repo.store.readAll(ctx, closingKey(id), maxClosingSize); errors.Is(err, errKeyMissing) {
		return nil
	} else if err != nil {
		return err
	}
	var v verdict
	err := s.repo.readDocument(ctx, verdictKey(id), maxVerdictSize, &v)
	switch {
	case errors.Is(err, errKeyMissing):
		return fmt.Errorf("%w just now: whether snapshot %s counts is open until the collection goes on", ErrGivenUp, snapshot)
	case err != nil:
		return err
	case !v.keeps(snapshot):
		return fmt.Errorf("%w: snapshot %s does not count", ErrGivenUp, snapshot)
	}
	return nil
}

// UseSnapshot makes sure that the session may name the chunks of a snapshot in its own
// without asking for each: that the snapshot is still there, and that nothing that it needs is
// condemned by a collection. It costs one small request, and a walk through the snapshot
// while a collection is under way. It fails with ErrNotFound, with ErrCondemned, with
// ErrClosed after the session's end, or as Manifest and Uses do.
func (s *Session) UseSnapshot(ctx context.Context, m *Manifest) error {
	if err := s.state(); err != nil {
		return err
	}
	if s.repo.collectFault == faultTrustParent {
		return nil
	}
	now, err := s.repo.Manifest(ctx, m.ID)
	if err != nil {
		return err
	}
	if now.Table.Depth != m.Table.Depth || !slices.Equal(now.Table.Refs, m.Table.Refs) {
		return fmt.Errorf("%w: %s is another one by now", ErrNotFound, m.ID)
	}
	if len(s.there.Load().condemned) == 0 {
		return nil
	}
	for u, err := range s.repo.Uses(ctx, m) {
		if err != nil {
			return err
		}
		if !s.stored(&u.ID) {
			return fmt.Errorf("%w: chunk %s of snapshot %s", ErrCondemned, u.ID, m.ID)
		}
	}
	return nil
}

// endedSessions remembers sessions that ended by themselves: of what they have written nobody
// need ask whether it counts. Of those that it has forgotten the bucket is asked. It is safe for
// concurrent use.
type endedSessions struct {
	mu    sync.Mutex
	known map[sessionID]struct{}
	// order has the known ones; next is where the oldest stands once it is full.
	order []sessionID
	next  int
}

// maxEndedSessions is how many are remembered.
const maxEndedSessions = 1024

func (e *endedSessions) add(id sessionID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, ok := e.known[id]; ok {
		return
	}
	if e.known == nil {
		e.known = make(map[sessionID]struct{})
	}
	if len(e.order) < maxEndedSessions {
		e.order = append(e.order, id)
	} else {
		delete(e.known, e.order[e.next])
		e.order[e.next] = id
		e.next = (e.next + 1) % maxEndedSessions
	}
	e.known[id] = struct{}{}
}

func (e *endedSessions) has(id sessionID) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	_, ok := e.known[id]
	return ok
}
