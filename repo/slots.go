package repo

import (
	"context"
	"crypto/hmac"
	"errors"
	"fmt"
	"iter"
	"time"
)

// A KeySlot is one way to open an encrypted repository: a passphrase, or a key of a
// key management service. All slots give access to the same keys.
type KeySlot struct {
	// ID is random, 32 lower-case hexadecimal digits.
	ID string
	// Kind is KindPassphrase or KindKeeper.
	Kind string
	// Label is what the slot was made with. Anybody who sees the store can read it.
	Label string
	// Created is when the slot was made, in UTC, by the clock of who made it.
	Created time.Time
}

func (d *slotDocument) keySlot() KeySlot {
	return KeySlot{ID: d.ID, Kind: d.Kind, Label: d.Label, Created: d.created()}
}

// AddKeyOptions are the settings of a new key slot. The zero value works.
type AddKeyOptions struct {
	// Label is kept with the slot, readable by anybody. At most 256 bytes.
	Label string
}

// Keys lists the key slots of an encrypted repository, oldest first. A slot that is
// damaged, or that was changed by somebody without the keys, comes as an error that
// names it, and the listing goes on. It fails with ErrKey where the repository is not
// encrypted.
func (r *Repository) Keys(ctx context.Context) iter.Seq2[KeySlot, error] {
	return func(yield func(KeySlot, error) bool) {
		slots, damaged, err := r.keySlots(ctx)
		if err != nil {
			yield(KeySlot{}, err)
			return
		}
		for _, d := range slots {
			if !yield(d.keySlot(), nil) {
				return
			}
		}
		for _, err := range damaged {
			if !yield(KeySlot{}, err) {
				return
			}
		}
	}
}

// keySlots reads the key slots, and what is wrong with those that cannot be trusted.
func (r *Repository) keySlots(ctx context.Context) (slots []*slotDocument, damaged []error, err error) {
	if err := r.use(); err != nil {
		return nil, nil, err
	}
	k := r.store.keys
	if k == nil {
		return nil, nil, fmt.Errorf("%w: the repository is not encrypted", ErrKey)
	}
	all, damaged, err := r.store.readSlots(ctx, k.repository)
	for _, d := range all {
		if hmac.Equal(k.slotMAC(d), d.MAC) {
			slots = append(slots, d)
		} else {
			damaged = append(damaged, corrupt(slotKey(d.ID), "it was changed by somebody without the keys"))
		}
	}
	return slots, damaged, err
}

// AddKey makes a further key slot, so that source opens the repository too. No data are
// written anew, and who has the repository open goes on undisturbed. To change a
// passphrase, add the new one, and then remove the slot of the old one. It fails
// with ErrKey where the repository is not encrypted or the passphrase is empty, with
// ErrInvalid for settings out of range or one slot too many (32 are allowed), or with the error of
// the source or the bucket.
func (r *Repository) AddKey(ctx context.Context, source KeySource, opts AddKeyOptions) (KeySlot, error) {
	slots, damaged, err := r.keySlots(ctx)
	if err != nil {
		return KeySlot{}, err
	}
	if source == nil {
		return KeySlot{}, fmt.Errorf("%w: no key source is given", ErrInvalid)
	}
	if len(slots)+len(damaged) >= maxSlots {
		return KeySlot{}, fmt.Errorf("%w: there are %d key slots, and no more are allowed: remove one first", ErrInvalid, maxSlots)
	}
	d, data, err := r.store.keys.makeSlot(ctx, source, opts.Label)
	if err != nil {
		return KeySlot{}, err
	}
	if err := r.store.create(ctx, slotKey(d.ID), data); err != nil && !r.store.holds(ctx, slotKey(d.ID), data) {
		return KeySlot{}, err
	}
	return d.keySlot(), nil
}

// RemoveKey removes a key slot, damaged ones included. What it wrapped stays known to
// who has opened the repository with it, or kept a copy of the slot: removing a slot
// does not change the keys of the data. The last slot that works is never removed, also when
// several processes remove slots at the same time, unless the store fails just then: the error
// says so, and AddKey of this Repository makes a new one. It fails with ErrNotFound, with ErrKey where the
// repository is not encrypted or for the last slot, with ErrInvalid for what is no
// slot's ID, or with an error of the bucket.
func (r *Repository) RemoveKey(ctx context.Context, id string) error {
	if err := checkSlotID(id); err != nil {
		return err
	}
	others, err := r.otherSlots(ctx, id)
	if err != nil {
		return err
	}
	if others == 0 {
		return fmt.Errorf("%w: slot %s is the last that opens the repository: add another first", ErrKey, id)
	}
	key := slotKey(id)
	data, err := r.store.readAll(ctx, key, maxSlotSize)
	if errors.Is(err, errKeyMissing) {
		return fmt.Errorf("%w: key slot %s: %w", ErrNotFound, id, err)
	}
	if err != nil && !errors.Is(err, ErrCorrupt) {
		return err
	}
	if err := r.store.remove(ctx, key); err != nil {
		return err
	}
	// From here on it must be finished: another process may have removed the other slot
	// since it was seen. Of several, the last to delete finds none left, and puts its own
	// back.
	ctx, cancel := outlive(ctx, commitGrace)
	defer cancel()
	if others, err = r.otherSlots(ctx, id); err == nil && others > 0 {
		return nil
	}
	if len(data) == 0 {
		return errors.Join(err, lostSlots(id)) // too damaged to be read, and so to open anything
	}
	if back := r.store.create(ctx, key, data); back != nil && !errors.Is(back, errKeyExists) {
		return errors.Join(err, lostSlots(id), back)
	}
	if err == nil {
		err = fmt.Errorf("%w: the other slots were removed meanwhile, slot %s stays", ErrKey, id)
	}
	return err
}

// lostSlots is the error of a removal after which there may be no slot.
func lostSlots(id string) error {
	return fmt.Errorf("%w: slot %s is removed, and perhaps none is left that opens the repository: use AddKey before this Repository is closed, which has the keys still", ErrKey, id)
}

// otherSlots counts the slots that work besides one.
func (r *Repository) otherSlots(ctx context.Context, id string) (n int, err error) {
	slots, _, err := r.keySlots(ctx)
	for _, d := range slots {
		if d.ID != id {
			n++
		}
	}
	return n, err
}

// holds says whether an object has certain bytes: then a create that failed has taken
// effect all the same.
func (s store) holds(ctx context.Context, key string, data []byte) bool {
	got, err := s.readAll(ctx, key, int64(len(data)))
	return err == nil && string(got) == string(data)
}
