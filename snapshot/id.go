package snapshot

import (
	"crypto/rand"
	"fmt"
	"time"

	"github.com/holdstill/holdstill/repo"
)

// idTime is the layout of the time in an ID, as ArangoDB writes it: RFC 3339 in
// UTC to the second, with dots for colons.
const idTime = "2006-01-02T15.04.05Z"

// maxLabelLength leaves room in an ID for the time, and for what tells two
// snapshots in one second apart.
const maxLabelLength = repo.MaxIDLength - len(idTime) - len("_.999999")

// CheckLabel reports whether a string can be the label of a snapshot: 1 to 212
// letters, digits, dots, hyphens and underscores (A-Z a-z 0-9 . - _). Any other
// fails with ErrBadLabel.
func CheckLabel(label string) error {
	if label == "" {
		return fmt.Errorf("%w: it is empty", ErrBadLabel)
	}
	if len(label) > maxLabelLength {
		return fmt.Errorf("%w: %d bytes are more than the %d allowed", ErrBadLabel, len(label), maxLabelLength)
	}
	// What can stand in an ID can stand in a label, but a label may begin with a
	// dot: the time comes before it.
	if err := repo.CheckID("x" + label); err != nil {
		return fmt.Errorf("%w %.64q: use only A-Z a-z 0-9 . - _", ErrBadLabel, label)
	}
	return nil
}

// newID returns the n-th choice, from 1, for the ID of a snapshot cut at t.
func newID(t time.Time, label string, n int) string {
	if label == "" {
		label = newUUID()
	}
	id := t.UTC().Format(idTime) + "_" + label
	if n > 1 {
		id += fmt.Sprintf(".%d", n)
	}
	return id
}

// newUUID returns a random UUID (RFC 9562, version 4).
func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// sameSecond says whether two IDs begin with the same time.
func sameSecond(a, b string) bool {
	return len(a) >= len(idTime) && len(b) >= len(idTime) && a[:len(idTime)] == b[:len(idTime)]
}
