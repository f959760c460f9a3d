package pieces

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

// maxName bounds a name for a backup, in bytes.
const maxName = 512

// An idMaker makes the IDs of backups, in which no time stands twice.
type idMaker struct {
	mu   sync.Mutex
	last int64 // milliseconds since 1970
}

// next returns a new ID: a UUID of version 7 (RFC 9562, section 5.7), which holds the time.
// So a backup has its ID and its timestamp before there is anything of it, and both can be
// told from the label of its snapshot afterwards.
func (m *idMaker) next(now time.Time) string {
	m.mu.Lock()
	ms := max(now.UnixMilli(), m.last+1)
	m.last = ms
	m.mu.Unlock()
	var b [16]byte
	_, _ = rand.Read(b[:])
	for i := range 6 {
		b[i] = byte(ms >> (40 - 8*i))
	}
	b[6] = b[6]&0x0f | 0x70
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// idTime returns the time in an ID that next made; ok is false for any other text.
func idTime(id string) (at time.Time, ok bool) {
	if len(id) != 36 || id[8] != '-' || id[13] != '-' || id[18] != '-' || id[23] != '-' || id != strings.ToLower(id) {
		return time.Time{}, false
	}
	b, err := hex.DecodeString(strings.ReplaceAll(id, "-", ""))
	if err != nil || len(b) != 16 || b[6]>>4 != 7 || b[8]>>6 != 2 {
		return time.Time{}, false
	}
	var ms int64
	for _, part := range b[:6] {
		ms = ms<<8 | int64(part)
	}
	return time.UnixMilli(ms).UTC(), true
}

// A name is what a client calls a backup by: its ID, that of its snapshot, or its version and
// timestamp.
type name struct {
	text string
	// version and at are set where the text can be those two.
	version string
	at      time.Time
	dated   bool
}

// timeLayouts are how clients write back a timestamp: as they got it, with an offset, or
// without any zone, which means UTC. A fraction of a second is accepted by all.
var timeLayouts = []string{time.RFC3339, "2006-01-02T15:04:05Z0700", "2006-01-02T15:04:05", "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05"}

// parseName checks and takes apart the name of a backup in a path.
func parseName(text string) (name, error) {
	switch {
	case text == "":
		return name{}, badRequest("the backup's id is empty")
	case len(text) > maxName:
		return name{}, badRequest("the backup's id has %d bytes, which is more than %d", len(text), maxName)
	case !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl):
		return name{}, badRequest("the backup's id %q is not plain text", text)
	case text == "." || strings.Contains(text, "..") || strings.ContainsAny(text, `/\`):
		return name{}, badRequest("the backup's id %q has a slash or two dots in it", text)
	}
	n := name{text: text}
	if i := strings.LastIndexByte(text, '_'); i > 0 {
		if at, ok := parseTime(text[i+1:]); ok {
			n.version, n.at, n.dated = text[:i], at, true
		}
	}
	return n, nil
}

func parseTime(text string) (time.Time, bool) {
	for _, layout := range timeLayouts {
		if at, err := time.Parse(layout, text); err == nil {
			return at.UTC(), true
		}
	}
	return time.Time{}, false
}

// means reports whether the name stands for a backup whose snapshot has this ID, which may be
// empty.
func (n *name) means(b *backup, snapshotID string) bool {
	if n.text == b.ID || n.text == snapshotID {
		return true
	}
	if !n.dated || n.version != b.Version {
		return false
	}
	at, ok := parseTime(b.Timestamp)
	return ok && at.Equal(n.at.Truncate(time.Millisecond))
}
