package repo

import (
	"bytes"
	"context"
	"crypto/hmac"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/zeebo/blake3"
)

// featureEncryption stands in what an encrypted repository requires of its readers.
const featureEncryption = "encryption-1"

// hashKeyed is the identity of chunks where it depends on a secret.
const hashKeyed = "blake3-256-keyed"

// Encryption says how a new repository is encrypted.
type Encryption struct {
	// Key makes the first key slot, and opens the repository from then on. It must be
	// set.
	Key KeySource
	// Label is kept with the key slot, readable by anybody. At most 256 bytes.
	Label string
	// SameIdentityAs is another open repository whose chunk IDs and cuts this one shares,
	// so that chunks travel between the two without being encoded anew. Data keys
	// are not shared: who can read one repository cannot read the other for that. The
	// other may be one that is not encrypted; then chunk IDs and cuts are not keyed here
	// either, and FORMAT.md says what that gives away. Default: IDs and cuts of its own.
	SameIdentityAs *Repository
}

// encryptionConfig is the part of holdstill.json that only encrypted repositories have.
type encryptionConfig struct {
	// Keys name the data secret by its fingerprint: one entry.
	Keys []KeyFingerprint `json:"keys"`
}

// A KeyFingerprint names the key of an encrypted repository. It gives nothing of
// the key away.
type KeyFingerprint struct {
	// SHA256 is the SHA-256 of a value derived from the key, as 64 lower-case
	// hexadecimal digits.
	SHA256 string `json:"sha256"`
}

// initSecrets returns the secrets of a new repository, and completes its configuration.
func (e *Encryption) initSecrets(c *config) (secretPair, error) {
	s := newSecrets()
	if e.Key == nil {
		return s, fmt.Errorf("%w: Encryption.Key is not set", ErrInvalid)
	}
	c.Hash = hashKeyed
	if other := e.SameIdentityAs; other != nil {
		s.keyed, s.identity = false, [secretSize]byte{}
		c.Hash = hashBLAKE3
		if k := other.store.keys; k != nil && k.keyed {
			s.keyed, s.identity = true, k.identity
			c.Hash = hashKeyed
		}
	}
	c.Requires = append(c.Requires, featureEncryption)
	sum := fingerprintOf(s)
	c.Encryption = &encryptionConfig{Keys: []KeyFingerprint{{SHA256: hex.EncodeToString(sum[:])}}}
	return s, nil
}

// unlock returns the keys of the repository that a configuration describes; stored are
// its bytes.
func (s store) unlock(ctx context.Context, c *config, stored []byte, source KeySource) (*keyring, error) {
	if c.Encryption == nil {
		if source != nil {
			return nil, fmt.Errorf("%w: the repository is not encrypted, and a key was given: if it should be, somebody has put another in its place; if not, leave the key out", ErrKey)
		}
		return nil, nil
	}
	if source == nil {
		return nil, fmt.Errorf("%w: the repository is encrypted, and no key was given", ErrKey)
	}
	slots, damaged, err := s.readSlots(ctx, c.ID)
	if err != nil {
		return nil, err
	}
	n, payload, err := source.unlock(ctx, slots)
	if err != nil {
		return nil, unlockError(err, len(slots), damaged)
	}
	object := slotKey(slots[n].ID)
	pair, digest, err := parsePayload(object, payload)
	if err != nil {
		return nil, err
	}
	if digest != blake3.Sum256(stored) {
		return nil, corrupt(configKey, "it is not the one that the keys in %s were made for: it was changed", object)
	}
	k := newKeyring(pair, c.ID, digest)
	if !hmac.Equal(k.slotMAC(slots[n]), slots[n].MAC) {
		return nil, corrupt(object, "it was changed by somebody without the keys")
	}
	if hash := map[bool]string{true: hashKeyed, false: hashBLAKE3}[k.keyed]; c.Hash != hash || !slices.Equal(c.Encryption.Keys, k.fingerprints()) {
		return nil, corrupt(configKey, "it does not agree with its keys")
	}
	return k, nil
}

// unlockError says why no slot was opened.
func unlockError(err error, slots int, damaged []error) error {
	if !errors.Is(err, errNoSlot) && !errors.Is(err, errWrongKey) {
		return err
	}
	if slots == 0 {
		err = fmt.Errorf("%w: no key slot is left that can be used: put back a copy of the objects below %s", ErrKey, slotPrefix)
	} else {
		err = fmt.Errorf("%w: %w; the repository has %d key slots", ErrKey, err, slots)
	}
	if len(damaged) > 0 {
		err = fmt.Errorf("%w, and %d that cannot be used: %w", err, len(damaged), errors.Join(damaged...))
	}
	return err
}

func (k *keyring) fingerprints() []KeyFingerprint {
	if k == nil {
		return nil
	}
	return []KeyFingerprint{{SHA256: hex.EncodeToString(k.fingerprint[:])}}
}

// Encrypted reports whether the repository is encrypted.
func (r *Repository) Encrypted() bool { return r.store.keys != nil }

// KeyFingerprints names the keys that the repository's data are encrypted with: one for
// an encrypted repository, however many key slots it has, and none for another.
func (r *Repository) KeyFingerprints() []KeyFingerprint { return r.store.keys.fingerprints() }

// Format prints the repository's ID and whether it is encrypted, under every verb, and no
// more: by way of the fields a verb such as %q would reach keys.
func (r *Repository) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "repo.Repository(%s, %v)", r.config.ID, r.store.keys)
}

// SameIdentity reports whether the same bytes have the same chunk ID in both
// repositories, so that what ReadEncoded of the one returns can be given to AddEncoded
// of the other. It is true of any two that are not encrypted.
func (r *Repository) SameIdentity(other *Repository) bool {
	return r.store.keys.sameIdentity(other.store.keys)
}

// createConfig writes a new configuration, and before it the first key slot if it is to be
// encrypted. A crash in between leaves a slot that belongs to no repository.
func (s store) createConfig(ctx context.Context, c config, e *Encryption) error {
	var pair secretPair
	if e != nil {
		var err error
		if pair, err = e.initSecrets(&c); err != nil {
			return err
		}
	}
	data, err := seal(c)
	if err != nil {
		return err
	}
	slot := ""
	if e != nil {
		d, slotData, err := newKeyring(pair, c.ID, blake3.Sum256(data)).makeSlot(ctx, e.Key, e.Label)
		if err != nil {
			return err
		}
		if err := s.create(ctx, slotKey(d.ID), slotData); err != nil {
			return err
		}
		slot = slotKey(d.ID)
	}
	err = s.create(ctx, configKey, data)
	if errors.Is(err, errKeyExists) {
		// The ID is random: where the very same bytes stand, the store repeated a
		// request whose answer was lost.
		if got, readErr := s.readAll(ctx, configKey, maxConfigSize); readErr == nil && bytes.Equal(got, data) {
			return nil
		}
		err = fmt.Errorf("%w: %w", ErrRepositoryExists, err)
		if slot != "" {
			err = errors.Join(err, s.remove(ctx, slot))
		}
	}
	return err
}
