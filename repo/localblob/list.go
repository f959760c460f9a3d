package localblob

import (
	"context"
	"strings"
	"sync"
	"time"

	"gocloud.dev/blob/driver"
)

const (
	defaultPageSize = 1000
	maxCursors      = 16
	cursorLifetime  = 2 * time.Minute
)

// A page token is one byte, tokenKey or tokenGroup, eight bytes that number a cursor, and the last key of the page.
// The cursor saves reading folders again; without it the key alone finds the place.
const (
	tokenKey   = 'k'
	tokenGroup = 'g'
	tokenHead  = 9
)

// ListPaged implements driver.Bucket. A folder is seen as it was when the listing came to it.
func (b *bucket) ListPaged(ctx context.Context, opts *driver.ListOptions) (*driver.ListPage, error) {
	if opts.BeforeList != nil {
		if err := opts.BeforeList(func(any) bool { return false }); err != nil {
			return nil, err
		}
	}
	pageSize := opts.PageSize
	if pageSize <= 0 {
		pageSize = defaultPageSize
	}
	w := b.cursors.take(string(opts.PageToken), opts.Prefix, opts.Delimiter)
	if w == nil {
		var err error
		if w, err = b.newWalk(ctx, opts); err != nil {
			return nil, err
		}
	}
	page := &driver.ListPage{}
	for {
		obj, err := w.next(ctx)
		if err != nil {
			return nil, err
		}
		if obj == nil {
			return page, nil
		}
		if len(page.Objects) == pageSize {
			w.pending = obj
			page.NextPageToken = []byte(b.cursors.put(w, page.Objects[pageSize-1]))
			return page, nil
		}
		page.Objects = append(page.Objects, obj)
	}
}

// newWalk starts at the folder that holds all keys with the prefix, behind the token's key.
func (b *bucket) newWalk(ctx context.Context, opts *driver.ListOptions) (*walk, error) {
	w := &walk{b: b, prefix: opts.Prefix, delim: opts.Delimiter}
	if token := string(opts.PageToken); len(token) >= tokenHead {
		w.after = token[tokenHead:]
		if token[0] == tokenGroup {
			w.skip = w.after
		}
	}
	folderKey := opts.Prefix[:strings.LastIndexByte(opts.Prefix, '/')+1]
	name := "."
	if folderKey != "" {
		escaped, ok := escapePath(strings.TrimSuffix(folderKey, "/"))
		if !ok || len(folderKey) > maxKeyLen {
			return w, nil // no such key can exist
		}
		name = escaped
	}
	return w, w.push(ctx, name, folderKey)
}

// cursorCache keeps walks between two pages, so that listing n keys reads each folder once and not once a page. Losing
// one costs time only. The zero value is empty and ready.
type cursorCache struct {
	mu   sync.Mutex
	next uint64            // guarded by mu
	open map[string]cursor // guarded by mu; by page token
}

type cursor struct {
	walk *walk
	used time.Time
}

// take removes and returns the walk that goes on from token, or nil.
func (c *cursorCache) take(token, prefix, delim string) *walk {
	if token == "" {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	cur, ok := c.open[token]
	if !ok || cur.walk.prefix != prefix || cur.walk.delim != delim {
		return nil
	}
	delete(c.open, token)
	return cur.walk
}

// put keeps w and returns the token of the page that ended with last.
func (c *cursorCache) put(w *walk, last *driver.ListObject) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next++
	var head [tokenHead]byte
	head[0] = tokenKey
	if last.IsDir {
		head[0] = tokenGroup
	}
	for i := range 8 {
		head[1+i] = byte(c.next >> (8 * i))
	}
	token := string(head[:]) + last.Key
	now := time.Now()
	if c.open == nil {
		c.open = make(map[string]cursor)
	}
	oldest := ""
	for t, cur := range c.open {
		if now.Sub(cur.used) > cursorLifetime {
			delete(c.open, t)
		} else if oldest == "" || cur.used.Before(c.open[oldest].used) {
			oldest = t
		}
	}
	if len(c.open) >= maxCursors {
		delete(c.open, oldest)
	}
	c.open[token] = cursor{walk: w, used: now}
	return token
}

func (c *cursorCache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open = nil
}
