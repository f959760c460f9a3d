package sqlitesource

import (
	"fmt"

	"github.com/holdstill/holdstill/snapshot"
)

// position names a commit: the salts are those of one life of the log, and the
// checksum depends on every byte of the log up to the frame.
func (h *indexHeader) position() string {
	return fmt.Sprintf("%x:%d:%08x%08x", h.salt, h.maxFrame, h.checksum[0], h.checksum[1])
}

// changed is the View's Changed. Where the log has not begun anew since an earlier
// commit, the pages that were written since are those of the frames behind it.
func (v *view) changed(name, since string) ([]snapshot.Range, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if name != v.source.name || v.file == nil {
		return nil, false
	}
	o, ok := v.file.pages.(*overlay)
	if !ok {
		return nil, false
	}
	return o.index.since(since, v.pageSize)
}

// since returns the pages that commits after an earlier one may have changed, and
// false if it is not one of this log.
func (w *walIndex) since(position string, pageSize int64) ([]snapshot.Range, bool) {
	at := -1
	for i, c := range w.commits {
		h := indexHeader{maxFrame: c.frame, checksum: c.checksum, salt: w.header.salt}
		if h.position() == position {
			at = i
			break
		}
	}
	if at < 0 {
		return nil, false
	}
	var out []snapshot.Range
	for page, frame := range w.frames {
		if frame > w.commits[at].frame {
			out = append(out, snapshot.Range{Offset: int64(page-1) * pageSize, Length: pageSize})
		}
	}
	// A database that shrank in between and grew again may have pages that were never
	// written since, and a checkpoint may have cut them off in the file.
	least := w.commits[at].pages
	for _, c := range w.commits[at:] {
		least = min(least, c.pages)
	}
	if least < w.commits[at].pages {
		end := max(w.commits[at].pages, w.header.pages)
		out = append(out, snapshot.Range{Offset: int64(least) * pageSize, Length: int64(end-least) * pageSize})
	}
	return out, true
}
