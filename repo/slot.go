package repo

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// A key slot is an object of its own, key/<id>: a sealed document (see seal.go) with the
// repository's secrets, wrapped by a key source. So keys are added and removed without
// changing any other object. The wrapped payload is
//
//	version uint8 = 1 | flags uint8 | identity secret [32]byte | data secret [32]byte |
//	BLAKE3-256 of holdstill.json [32]byte
//
// where bit 0 of the flags says that chunk IDs are keyed. The digest is why nobody can
// change the configuration unnoticed, or pass off a slot as another repository's. The
// rest of the slot is covered by an HMAC under a key that the payload gives.

const (
	slotPrefix   = "key/"
	slotIDSize   = 16
	payloadSize  = 2 + 3*secretSize
	payloadKeyed = 1

	// maxSlotSize bounds a key slot in bytes, maxSlots how many are looked at.
	maxSlotSize  = 64 << 10
	maxSlots     = 32
	maxSlotLabel = 256
)

// slotDocument is the document of a key slot.
type slotDocument struct {
	ID         string         `json:"id"`
	Repository string         `json:"repository"`
	Kind       string         `json:"kind"`
	Label      string         `json:"label"`
	Created    string         `json:"created"` // RFC 3339, UTC
	Argon2     *argonDocument `json:"argon2,omitempty"`
	Wrapped    []byte         `json:"wrapped"`
	MAC        []byte         `json:"mac"`
}

type argonDocument struct {
	Time    int    `json:"time"`
	Memory  int64  `json:"memory"`
	Threads int    `json:"threads"`
	Salt    []byte `json:"salt"`
}

func slotKey(id string) string { return slotPrefix + id }

// parseSlotKey returns the ID that a key slot's key names, if it is one.
func parseSlotKey(key string) (id string, ok bool) {
	id, ok = strings.CutPrefix(key, slotPrefix)
	return id, ok && checkSlotID(id) == nil
}

func checkSlotID(id string) error {
	b, err := hex.DecodeString(id)
	if err != nil || len(b) != slotIDSize || hex.EncodeToString(b) != id {
		return fmt.Errorf("%w: %.80q is not the ID of a key slot, %d lower-case hexadecimal digits", ErrInvalid, id, 2*slotIDSize)
	}
	return nil
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // documented never to fail
	return b
}

// makeSlot renders a new key slot.
func (k *keyring) makeSlot(ctx context.Context, source KeySource, label string) (*slotDocument, []byte, error) {
	if len(label) > maxSlotLabel || !utf8.ValidString(label) {
		return nil, nil, fmt.Errorf("%w: the label of a key has %d bytes; want at most %d of UTF-8", ErrInvalid, len(label), maxSlotLabel)
	}
	d := &slotDocument{
		ID: hex.EncodeToString(randomBytes(slotIDSize)), Repository: k.repository, Label: label,
		Created: time.Now().UTC().Format(time.RFC3339Nano),
	}
	if err := source.lock(ctx, d, k.payload()); err != nil {
		return nil, nil, err
	}
	d.MAC = k.slotMAC(d)
	data, err := seal(d)
	return d, data, err
}

// parseSlot checks a key slot as far as that can be done without a key.
func parseSlot(object string, data []byte) (*slotDocument, error) {
	d := &slotDocument{}
	if err := unseal(object, data, d); err != nil {
		return nil, err
	}
	if slotKey(d.ID) != object {
		return nil, corrupt(object, "it is the key slot %.80q", d.ID)
	}
	if _, err := time.Parse(time.RFC3339Nano, d.Created); err != nil {
		return nil, corrupt(object, "its time cannot be read")
	}
	if (d.Kind == KindPassphrase) != (d.Argon2 != nil) {
		return nil, corrupt(object, "its kind %.80q and its parameters do not agree", d.Kind)
	}
	if a := d.Argon2; a != nil {
		if err := (Argon2{a.Time, a.Memory, a.Threads}).check(); err != nil {
			return nil, corrupt(object, "%v", err)
		}
		if len(a.Salt) != argonSaltSize {
			return nil, corrupt(object, "its salt has %d bytes", len(a.Salt))
		}
	}
	return d, nil
}

// about is what wrapping a payload covers besides, where it can.
func (d *slotDocument) about() []byte {
	return []byte(labelHead + "key slot " + d.ID + " of " + d.Repository)
}

// slotMAC covers all of a slot: each field behind its length, in this order, numbers in
// decimal, and without Argon2 none of its fields.
func (k *keyring) slotMAC(d *slotDocument) []byte {
	fields := []string{d.ID, d.Repository, d.Kind, d.Label, d.Created, string(d.Wrapped)}
	if a := d.Argon2; a != nil {
		fields = append(fields, strconv.Itoa(a.Time), strconv.FormatInt(a.Memory, 10), strconv.Itoa(a.Threads), string(a.Salt))
	}
	mac := hmac.New(sha256.New, k.slots)
	for _, f := range fields {
		_, _ = mac.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(f))))
		_, _ = mac.Write([]byte(f))
	}
	return mac.Sum(nil)
}

// payload renders what a slot wraps.
func (k *keyring) payload() []byte {
	b := []byte{1, 0}
	if k.keyed {
		b[1] = payloadKeyed
	}
	b = append(b, k.identity[:]...)
	b = append(b, k.data[:]...)
	return append(b, k.config[:]...)
}

// parsePayload takes apart what a slot wrapped.
func parsePayload(object string, b []byte) (s secretPair, config [32]byte, err error) {
	if len(b) == 0 || b[0] != 1 {
		return s, config, &FormatError{Object: object, Version: FormatVersion, Requires: "a later version of key slots"}
	}
	if len(b) != payloadSize || b[1]&^payloadKeyed != 0 {
		return s, config, corrupt(object, "what it wraps is no set of keys")
	}
	s.keyed = b[1]&payloadKeyed != 0
	b = b[2:]
	copy(s.identity[:], b)
	copy(s.data[:], b[secretSize:])
	copy(config[:], b[2*secretSize:])
	return s, config, nil
}

// readSlots returns the key slots of one repository, oldest first, and what is wrong with
// others. Slots that belong to another repository are left out: Init leaves such a one
// when it dies before the configuration is there.
func (s store) readSlots(ctx context.Context, repository string) (slots []*slotDocument, damaged []error, err error) {
	var keys []string
	err = s.list(ctx, slotPrefix, func(o object) error {
		if _, ok := parseSlotKey(o.key); ok {
			keys = append(keys, o.key)
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	if len(keys) > maxSlots {
		damaged = append(damaged, corrupt(slotPrefix, "%d key slots are more than the %d allowed", len(keys), maxSlots))
		keys = keys[:maxSlots]
	}
	for _, key := range keys {
		data, err := s.readAll(ctx, key, maxSlotSize)
		if errors.Is(err, errKeyMissing) {
			continue // removed since the listing
		}
		var slot *slotDocument
		if err == nil {
			slot, err = parseSlot(key, data)
		}
		switch {
		case errors.Is(err, ErrCorrupt) || errors.Is(err, ErrFormat):
			damaged = append(damaged, err)
		case err != nil:
			return nil, nil, err
		case slot.Repository == repository:
			slots = append(slots, slot)
		}
	}
	slices.SortStableFunc(slots, func(a, b *slotDocument) int { return a.created().Compare(b.created()) })
	return slots, damaged, nil
}

func (d *slotDocument) created() time.Time {
	t, _ := time.Parse(time.RFC3339Nano, d.Created) // checked when it was parsed
	return t.UTC()
}
