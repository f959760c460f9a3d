package chunk

import (
	"bytes"
	"encoding/hex"

	"github.com/zeebo/blake3"
)

// MaxSize is the largest plain chunk, in bytes. It is a limit of the format.
const MaxSize = 8 << 20

// KeySize is the length of an Identifier's key, in bytes.
const KeySize = 32

// ID identifies a chunk by content: it is BLAKE3-256 of the plain bytes, keyed when the repository has a secret.
type ID [32]byte

const idTextLen = 2 * len(ID{})

// String returns the 64 lower-case hexadecimal digits of the ID.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// ParseID reads what String writes: exactly 64 lower-case hexadecimal digits. Everything else is a *ParseError.
// Upper case is refused so that an ID has one text form, and so one object name.
func ParseID(s string) (ID, error) {
	var id ID
	if err := parseID(&id, s); err != nil {
		return ID{}, err
	}
	return id, nil
}

func parseID[T string | []byte](id *ID, s T) error {
	var out ID
	for i := range min(len(s), idTextLen) {
		v, ok := hexDigit(s[i])
		if !ok {
			return newParseError(string(s[:min(len(s), maxErrText)]), i, "want a lower-case hexadecimal digit")
		}
		out[i/2] = out[i/2]<<4 | v
	}
	if len(s) != idTextLen {
		return newParseError(string(s[:min(len(s), maxErrText)]), min(len(s), idTextLen), "want exactly 64 digits")
	}
	*id = out
	return nil
}

const maxErrText = 80

func newParseError(text string, offset int, reason string) *ParseError {
	return &ParseError{Text: text, Offset: offset, Reason: reason}
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	}
	return 0, false
}

// Compare orders IDs by their bytes, which is the order of their text: -1, 0 or +1.
func (id ID) Compare(o ID) int { return bytes.Compare(id[:], o[:]) }

// IsZero reports whether the ID is the zero value, which stands for "no chunk": no content is known to have it.
func (id ID) IsZero() bool { return id == ID{} }

// MarshalText returns the text form, as String does. The error is always nil.
func (id ID) MarshalText() ([]byte, error) { return id.AppendText(nil) }

// AppendText appends the text form to b. The error is always nil.
func (id ID) AppendText(b []byte) ([]byte, error) { return hex.AppendEncode(b, id[:]), nil }

// UnmarshalText reads the text form, as ParseID does. On an error the ID keeps its value.
func (id *ID) UnmarshalText(text []byte) error { return parseID(id, text) }

// Identify returns BLAKE3-256 of p. It allocates nothing and is safe for concurrent use.
func Identify(p []byte) ID { return blake3.Sum256(p) }

// Identifier computes identities with one key. It is reusable but not safe for concurrent use: it holds the state of
// the hash, about 10 KiB.
type Identifier struct {
	keyed *blake3.Hasher // nil without a key
	sum   [32]byte       // kept here so that Sum does not make the result escape
}

// NewIdentifier returns an Identifier. A nil key gives plain BLAKE3-256, as Identify; a key of KeySize bytes gives
// keyed BLAKE3. Any other length, zero included, is a *ParamError. The key is copied.
func NewIdentifier(key []byte) (*Identifier, error) {
	if key == nil {
		return &Identifier{}, nil
	}
	if len(key) != KeySize {
		return nil, &ParamError{Param: "key length", Value: len(key), Reason: "want 32 bytes, or nil for no key"}
	}
	h, err := blake3.NewKeyed(key)
	if err != nil {
		return nil, err
	}
	return &Identifier{keyed: h}, nil
}

// Identify returns the identity of the plain bytes p.
func (h *Identifier) Identify(p []byte) ID {
	if h.keyed == nil {
		return blake3.Sum256(p)
	}
	h.keyed.Reset()
	h.keyed.Write(p) // documented never to fail
	h.keyed.Sum(h.sum[:0])
	return h.sum
}

// Verify returns nil if p has the identity want, else a *MismatchError, which matches ErrCorrupt.
func (h *Identifier) Verify(want ID, p []byte) error {
	if got := h.Identify(p); got != want {
		return &MismatchError{Want: want, Got: got}
	}
	return nil
}
