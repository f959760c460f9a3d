package repo

import (
	"container/list"
	"sync"

	"github.com/holdstill/holdstill/chunk"
)

// chunkCache keeps decoded chunks, least recently used out first. It is safe for
// concurrent use. What it returns must not be written to.
type chunkCache struct {
	limit int64

	// mu guards the fields below.
	mu    sync.Mutex
	size  int64
	order *list.List // of *cachedEntry, newest first
	byID  map[chunk.ID]*list.Element
}

type cachedEntry struct {
	id   chunk.ID
	data []byte
}

func newChunkCache(limit int64) *chunkCache {
	return &chunkCache{limit: limit, order: list.New(), byID: make(map[chunk.ID]*list.Element)}
}

func (c *chunkCache) get(id chunk.ID) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.byID[id]
	if e == nil {
		return nil
	}
	c.order.MoveToFront(e)
	return e.Value.(*cachedEntry).data
}

// put keeps data, which must not be written to afterwards.
func (c *chunkCache) put(id chunk.ID, data []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byID[id] != nil || int64(len(data)) > c.limit/2 {
		return
	}
	c.byID[id] = c.order.PushFront(&cachedEntry{id, data})
	c.size += cacheRoom(data)
	for c.size > c.limit {
		old := c.order.Remove(c.order.Back()).(*cachedEntry)
		delete(c.byID, old.id)
		c.size -= cacheRoom(old.data)
	}
}

// cacheRoom is what a chunk takes in the cache, in bytes: itself, an entry, and its place in the
// list and the map.
func cacheRoom(data []byte) int64 { return int64(cap(data)) + 224 }

func (c *chunkCache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.order.Init()
	clear(c.byID)
	c.size = 0
}
