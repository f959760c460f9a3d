package snapshot

import (
	"context"
	"sync"

	"github.com/holdstill/holdstill/repo"
)

// maxEarly is how many segments of a file may be read before the first that is missing is.
// Each is kept as a list of its chunks until then, of some 20 KiB. It is large, so that a
// worker seldom waits for another.
const maxEarly = 256

// chain makes the content of a file from its segments, which come in any order. It is safe
// for concurrent use, but for content, which belongs to whoever was told that all is there.
type chain struct {
	content *repo.ContentWriter
	total   int

	// mu guards the rest.
	mu sync.Mutex
	// next is the first segment that content lacks, early has those after it that came
	// already.
	next  int
	early map[int][]repo.Ref
	// busy is set while somebody hands segments to content.
	busy bool
	// moved is closed when next grows.
	moved chan struct{}
}

func newChain(session *repo.Session, segments int) *chain {
	return &chain{
		content: session.NewContentWriter(), total: segments, early: make(map[int][]repo.Ref), moved: make(chan struct{}),
	}
}

// wait waits until segment n is not too far ahead. Segments must be given out in their
// order: then whoever has the first that is missing does not wait.
func (c *chain) wait(ctx context.Context, n int) error {
	for {
		c.mu.Lock()
		near, moved := n-c.next < maxEarly, c.moved
		c.mu.Unlock()
		if near {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// put takes the chunks of segment n, and reports to one caller that the content has all
// segments. After an error nobody may use the chain.
func (c *chain) put(ctx context.Context, n int, refs []repo.Ref) (complete bool, err error) {
	if !c.leave(n, refs) {
		return false, nil // who is busy comes to it
	}
	for {
		refs, complete, ok := c.take()
		if !ok {
			return complete, nil
		}
		// It may have to store a node, and so to wait.
		if err := c.content.Add(ctx, refs...); err != nil {
			return false, err
		}
		c.advance()
	}
}

// leave keeps a segment, and reports whether the caller is to hand what there is to content.
func (c *chain) leave(n int, refs []repo.Ref) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.early[n] = refs
	if c.busy {
		return false
	}
	c.busy = true
	return true
}

// take returns the segment that content needs next. If that has not come, nobody is busy any
// more, and complete says whether it was the last.
func (c *chain) take() (refs []repo.Ref, complete, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if refs, ok = c.early[c.next]; !ok {
		c.busy = false
		return nil, c.next == c.total, false
	}
	delete(c.early, c.next)
	return refs, false, true
}

// advance notes that content has one segment more.
func (c *chain) advance() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next++
	close(c.moved)
	c.moved = make(chan struct{})
}
