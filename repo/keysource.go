package repo

import (
	"context"
	"errors"
	"fmt"

	"gocloud.dev/secrets"
	"golang.org/x/crypto/argon2"
)

// A KeySource opens key slots of an encrypted repository, and makes new ones:
// [Passphrase], [PassphraseFunc] or [Keeper]. Printing one shows no secret. It is safe
// for concurrent use.
type KeySource interface {
	fmt.Stringer

	// lock fills in the kind, the parameters and the wrapped payload of a slot.
	lock(ctx context.Context, slot *slotDocument, payload []byte) error
	// unlock tries the slots of its kind and returns the number of the first that
	// opens, and its payload. It fails with errNoSlot or errWrongKey.
	unlock(ctx context.Context, slots []*slotDocument) (n int, payload []byte, err error)
}

var (
	// errNoSlot means that none of a repository's key slots is of a source's kind.
	errNoSlot = errors.New("no key slot is of the kind of this key")
	// errWrongKey means that a source opens none of those that are.
	errWrongKey = errors.New("wrong key")
)

// Kinds of key slots.
const (
	// KindPassphrase is a slot under a passphrase and Argon2id.
	KindPassphrase = "argon2id"
	// KindKeeper is a slot under a secrets.Keeper.
	KindKeeper = "keeper"
)

// Argon2 is what it costs to try a passphrase, once, with Argon2id (RFC 9106). The zero
// value is the second recommendation of that document: 3 passes over 64 MiB in 4 lanes,
// about a tenth of a second. The figures stand in each key slot; a slot whose figures
// are beyond the ranges given here is refused before any memory is taken.
type Argon2 struct {
	// Time is the number of passes, 1 to 16.
	Time int
	// Memory is in bytes, a multiple of 1024 from 8 MiB to 1 GiB. Time and Memory
	// multiplied are 4 GiB at most.
	Memory int64
	// Threads is the number of lanes, 1 to 16.
	Threads int
}

const (
	minArgonMemory = 8 << 20
	maxArgonMemory = 1 << 30
	maxArgonWork   = 4 << 30
	maxArgonTime   = 16
	maxArgonLanes  = 16

	argonSaltSize = 16
)

func (a Argon2) withDefaults() Argon2 {
	if a.Time == 0 {
		a.Time = 3
	}
	if a.Memory == 0 {
		a.Memory = 64 << 20
	}
	if a.Threads == 0 {
		a.Threads = 4
	}
	return a
}

// check says whether the figures are within bounds; the text names the one that is not.
func (a Argon2) check() error {
	switch {
	case a.Time < 1 || a.Time > maxArgonTime:
		return fmt.Errorf("Argon2 time %d is not between 1 and %d", a.Time, maxArgonTime)
	case a.Memory < minArgonMemory || a.Memory > maxArgonMemory || a.Memory%1024 != 0:
		return fmt.Errorf("Argon2 memory of %d bytes is not a multiple of 1024 between 8 MiB and 1 GiB", a.Memory)
	case a.Threads < 1 || a.Threads > maxArgonLanes:
		return fmt.Errorf("Argon2 threads %d are not between 1 and %d", a.Threads, maxArgonLanes)
	case int64(a.Time)*a.Memory > maxArgonWork:
		return fmt.Errorf("Argon2 time %d times memory %d is more than 4 GiB", a.Time, a.Memory)
	}
	return nil
}

// PassphraseOptions are the settings of a passphrase. The zero value works.
type PassphraseOptions struct {
	// Argon2 is what trying the passphrase of a new key slot costs. Slots that exist
	// say it themselves.
	Argon2 Argon2
}

// Passphrase is the key source of a passphrase: any bytes, at least one, taken as they
// are. They are copied. Opening a repository with it takes the time and the memory that
// Argon2 says, once for each slot that is tried.
func Passphrase(passphrase []byte, opts PassphraseOptions) KeySource {
	kept := append([]byte(nil), passphrase...)
	return PassphraseFunc(func(context.Context) ([]byte, error) { return kept, nil }, opts)
}

// PassphraseFunc is Passphrase for one that is asked for when it is needed: once for each
// Open, Init and AddKey. What it returns is not written to and not kept. Its error ends
// the call and can be found in that call's error with errors.Is.
func PassphraseFunc(ask func(context.Context) ([]byte, error), opts PassphraseOptions) KeySource {
	return passphraseSource{ask: ask, argon: opts.Argon2.withDefaults()}
}

// passphraseSource has the passphrase behind a function, where no form of printing
// finds it.
type passphraseSource struct {
	ask   func(context.Context) ([]byte, error)
	argon Argon2
}

// String implements fmt.Stringer.
func (passphraseSource) String() string { return "repo.Passphrase(...)" }

// GoString keeps %#v as short as %v.
func (s passphraseSource) GoString() string { return s.String() }

func (s passphraseSource) passphrase(ctx context.Context) ([]byte, error) {
	p, err := s.ask(ctx)
	if err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("repo: ask for the passphrase: %w", err)
	}
	if len(p) == 0 {
		return nil, fmt.Errorf("%w: the passphrase is empty", ErrKey)
	}
	return p, nil
}

func (s passphraseSource) lock(ctx context.Context, slot *slotDocument, payload []byte) error {
	if err := s.argon.check(); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	p, err := s.passphrase(ctx)
	if err != nil {
		return err
	}
	slot.Kind = KindPassphrase
	slot.Argon2 = &argonDocument{Time: s.argon.Time, Memory: s.argon.Memory, Threads: s.argon.Threads, Salt: randomBytes(argonSaltSize)}
	// The salt makes the key one that is used this once, so the nonce may be constant.
	slot.Wrapped = newGCM(slot.argonKey(p)).Seal(nil, make([]byte, frameNonceSize), payload, slot.about())
	return nil
}

func (s passphraseSource) unlock(ctx context.Context, slots []*slotDocument) (int, []byte, error) {
	var p []byte
	tried := 0
	for n, slot := range slots {
		if slot.Kind != KindPassphrase {
			continue
		}
		if p == nil {
			var err error
			if p, err = s.passphrase(ctx); err != nil {
				return 0, nil, err
			}
		}
		// One try cannot be interrupted; its cost is bounded.
		if err := context.Cause(ctx); err != nil {
			return 0, nil, err
		}
		payload, err := newGCM(slot.argonKey(p)).Open(nil, make([]byte, frameNonceSize), slot.Wrapped, slot.about())
		if err == nil {
			return n, payload, nil
		}
		tried++
	}
	if tried == 0 {
		return 0, nil, errNoSlot
	}
	return 0, nil, fmt.Errorf("%w: the passphrase opens none of %d", errWrongKey, tried)
}

// argonKey derives the key that wraps the payload of a passphrase slot. The figures
// were checked when the slot was parsed or made.
func (d *slotDocument) argonKey(passphrase []byte) []byte {
	a := d.Argon2
	return argon2.IDKey(passphrase, a.Salt, uint32(a.Time), uint32(a.Memory/1024), uint8(a.Threads), 32)
}

// Keeper is the key source of a key management service, through gocloud.dev/secrets. The
// caller closes the keeper, after all that uses the source. A keeper must be
// one that authenticates what it encrypts, and whose encryption is not public: under
// one that only holds a public key, anybody can make a slot.
func Keeper(keeper *secrets.Keeper) KeySource { return keeperSource{keeper} }

type keeperSource struct{ keeper *secrets.Keeper }

// String implements fmt.Stringer.
func (keeperSource) String() string { return "repo.Keeper(...)" }

// GoString keeps %#v as short as %v.
func (s keeperSource) GoString() string { return s.String() }

func (s keeperSource) lock(ctx context.Context, slot *slotDocument, payload []byte) (err error) {
	slot.Kind = KindKeeper
	if slot.Wrapped, err = s.keeper.Encrypt(ctx, payload); err != nil {
		return fmt.Errorf("repo: wrap the keys with the keeper: %w", err)
	}
	return nil
}

func (s keeperSource) unlock(ctx context.Context, slots []*slotDocument) (int, []byte, error) {
	var errs []error
	for n, slot := range slots {
		if slot.Kind != KindKeeper {
			continue
		}
		payload, err := s.keeper.Decrypt(ctx, slot.Wrapped)
		if ctx.Err() != nil {
			return 0, nil, context.Cause(ctx)
		}
		if err == nil {
			return n, payload, nil
		}
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		return 0, nil, errNoSlot
	}
	return 0, nil, fmt.Errorf("%w: the keeper opens none of %d: %w", errWrongKey, len(errs), errors.Join(errs...))
}
