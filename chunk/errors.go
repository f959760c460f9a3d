package chunk

import (
	"errors"
	"fmt"
)

// What a call reports is told apart with errors.Is against these values and with errors.As against the structs below.
var (
	// ErrCorrupt matches every error that says stored or plain bytes are not what they must be: a DecodeError
	// for a damaged stored form, a MismatchError for bytes with another identity.
	ErrCorrupt = errors.New("chunk: corrupt data")
	// ErrTooLarge is returned for a plain size above MaxSize, before anything is allocated for it.
	ErrTooLarge = errors.New("chunk: larger than the format's limit of 8 MiB")
	// ErrEmpty is returned for a plain size below one byte: the format has no empty chunks.
	ErrEmpty = errors.New("chunk: empty; a chunk holds at least one byte")
	// ErrUnknownCodec is returned for a codec number this version does not know. It does not match ErrCorrupt: the
	// chunk may have been written by a newer version.
	ErrUnknownCodec = errors.New("chunk: unknown codec; a newer version may have written it")
	// ErrNeedsBase is returned by Decode for the codec Delta: it takes DecodeDelta, with the bytes of the base.
	ErrNeedsBase = errors.New("chunk: a delta cannot be decoded without its base")
	// ErrClosed is returned by an Encoder or Decoder after its Close.
	ErrClosed = errors.New("chunk: used after Close")
)

// ParseError says why a string is not the text form of an ID.
type ParseError struct {
	Text   string // what was given, shortened to at most 80 bytes
	Offset int    // index of the first bad byte; the length of the text when it is too short
	Reason string
}

// Error names the text, the place and the reason.
func (e *ParseError) Error() string {
	return fmt.Sprintf("chunk: bad ID %q at byte %d: %s", e.Text, e.Offset, e.Reason)
}

// MismatchError says that bytes do not have the identity they were asked for by. It matches ErrCorrupt.
type MismatchError struct {
	Want, Got ID
}

// Error names both identities.
func (e *MismatchError) Error() string {
	return fmt.Sprintf("chunk: content mismatch: want %v, the bytes are %v", e.Want, e.Got)
}

// Unwrap returns ErrCorrupt.
func (e *MismatchError) Unwrap() error { return ErrCorrupt }

// ParamError says which parameter of a constructor is out of its range.
type ParamError struct {
	Param  string // the name of the field or argument
	Value  int    // what was given: a size in bytes, a length, or a number
	Reason string // the rule it breaks
}

// Error names the parameter, its value and the rule.
func (e *ParamError) Error() string {
	return fmt.Sprintf("chunk: bad %s %d: %s", e.Param, e.Value, e.Reason)
}

// DecodeError says why a stored form could not be decoded. It wraps Err, and matches ErrCorrupt unless Err is
// ErrUnknownCodec, ErrNeedsBase, ErrTooLarge, ErrEmpty or ErrClosed: those are about what was asked for, not about the bytes.
type DecodeError struct {
	Codec     Codec
	StoredLen int   // length of the stored form, in bytes
	Want      int   // plain size asked for, in bytes
	Err       error // the reason
}

// Error names the codec, both sizes and the reason.
func (e *DecodeError) Error() string {
	return fmt.Sprintf("chunk: cannot decode %d bytes of %v to %d: %v", e.StoredLen, e.Codec, e.Want, e.Err)
}

// Unwrap returns the reason.
func (e *DecodeError) Unwrap() error { return e.Err }

// Is reports whether the error is about damaged bytes, when asked for ErrCorrupt.
func (e *DecodeError) Is(target error) bool {
	if target != ErrCorrupt {
		return false
	}
	switch e.Err {
	case ErrUnknownCodec, ErrNeedsBase, ErrTooLarge, ErrEmpty, ErrClosed:
		return false
	}
	return true
}
