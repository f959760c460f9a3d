package snapshot

import (
	"context"
	"errors"
	"sync"

	"github.com/holdstill/holdstill/repo"
)

// noteChunks is how many new chunks a session keeps in memory before they are noted in the
// repository, some 8 MiB of memory.
const noteChunks = 128 << 10

// notes keeps the memory of a session small, however much it stores. The zero value works.
type notes struct {
	// mu is held by who notes, and guards at.
	mu sync.Mutex
	// at is how many chunks the session holds when it is next worth while; 0 for noteChunks.
	at int
}

// note lets the session forget what it has stored, if that is much and the repository's index
// needs no memory. That it fails is only a matter of memory.
func (n *notes) note(ctx context.Context, e *Engine, s *repo.Session) {
	if e.config.Options.CacheDir == "" {
		return
	}
	held := s.Held()
	if held < e.noteChunks || !n.mu.TryLock() {
		return
	}
	defer n.mu.Unlock()
	if held < n.at {
		return
	}
	if err := errors.Join(s.Checkpoint(ctx), s.Refresh(ctx)); err != nil && ctx.Err() == nil {
		e.log.Warn("what was stored so far could not be noted: a snapshot takes more memory than it needs", "error", err)
	}
	// What is on its way stays.
	n.at = s.Held() + e.noteChunks
}
