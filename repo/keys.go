package repo

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// FormatVersion is the version of the repository format that this library
// writes, and the only one it reads. FORMAT.md describes it to the byte.
const FormatVersion = 1

// The keys of a repository's objects; those below attachment/ are told in attachment.go.
const (
	configKey      = "holdstill.json"
	packPrefix     = "pack/"
	indexPrefix    = "index/"
	snapshotPrefix = "snapshot/"
	sessionPrefix  = "session/"
	garbagePrefix  = "garbage/"
)

// MaxIDLength is the longest snapshot ID in bytes: what fits a file name on every
// file system that matters, with room for a suffix.
const MaxIDLength = 240

// CheckID reports whether id can name a snapshot: 1 to 240 letters, digits, dots,
// hyphens and underscores (A-Z a-z 0-9 . - _), not beginning with a dot. An ID
// that passes is safe as a file name and in a URL. Any other fails with ErrBadID.
func CheckID(id string) error {
	switch {
	case id == "":
		return fmt.Errorf("%w: it is empty", ErrBadID)
	case len(id) > MaxIDLength:
		return fmt.Errorf("%w: %d bytes are more than the %d allowed", ErrBadID, len(id), MaxIDLength)
	case id[0] == '.':
		return fmt.Errorf("%w %q: it begins with a dot", ErrBadID, id)
	}
	for i := range len(id) {
		if !idByte(id[i]) {
			return fmt.Errorf("%w %q: byte %d is not one of A-Z a-z 0-9 . - _", ErrBadID, id, i)
		}
	}
	return nil
}

func idByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '-' || c == '_'
}

// parsePackKey returns the ID that a pack's key names, if it is the key of a pack.
func parsePackKey(key string) (id packID, ok bool) {
	rest, ok := strings.CutPrefix(key, packPrefix)
	if !ok || len(rest) != 3+64 || rest[2] != '/' {
		return id, false
	}
	name := rest[3:]
	if _, err := hex.Decode(id[:], []byte(name)); err != nil || packKey(id) != key {
		return id, false
	}
	return id, true
}

// parseIndexKey returns the ID that an index's key names, if it is one.
func parseIndexKey(key string) (id indexID, ok bool) {
	name, ok := strings.CutPrefix(key, indexPrefix)
	if !ok || len(name) != 64 {
		return id, false
	}
	if _, err := hex.Decode(id[:], []byte(name)); err != nil || indexKey(id) != key {
		return id, false
	}
	return id, true
}
