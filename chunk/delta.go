package chunk

import (
	"errors"
	"fmt"
	"slices"

	"github.com/klauspost/compress/zstd"
)

// A delta, the stored form under the codec Delta:
//
//	base ID [32]byte | one Zstandard frame
//
// The frame declares its content size and no dictionary ID, and is encoded with the plain bytes of the base as a raw
// dictionary: what zstd calls a patch. The form is shorter than the plain bytes.

// deltaHead is the length of the base's ID in front of the frame, in bytes.
const deltaHead = len(ID{})

// deltaWindow is how far back the encoder of deltas looks, in bytes: what stood at the same place of a base of up to
// 1 MiB is within it.
const deltaWindow = 2 << 20

// DeltaBase returns the ID of the chunk that a stored form under Delta is the difference to, and false if it is too
// short to be one.
func DeltaBase(stored []byte) (ID, bool) {
	if len(stored) <= deltaHead {
		return ID{}, false
	}
	return ID(stored), true
}

// EncodeDelta appends to dst the stored form of plain under the codec Delta: the difference to base, which are the plain
// bytes of the chunk baseID, 1 to MaxSize like plain. Whether the two belong together is the caller's concern, and so is
// that the base is stored in full wherever the delta is. With ok false the difference would not be shorter
// than plain, and dst comes back as it was, as it does on an error: ErrEmpty, ErrTooLarge or ErrClosed.
//
// The policy makes no difference. The room behind len(dst) is used as by Encode. The encoder for deltas is made at the first call, with tables of about 2 MiB.
// Some kilobytes are allocated at every call, whatever the sizes.
func (e *Encoder) EncodeDelta(dst, plain []byte, baseID ID, base []byte) (out []byte, ok bool, err error) {
	switch {
	case e.closed:
		return dst, false, ErrClosed
	case len(plain) == 0 || len(base) == 0:
		return dst, false, ErrEmpty
	case len(plain) > MaxSize || len(base) > MaxSize:
		return dst, false, ErrTooLarge
	}
	if err := e.setBase(base); err != nil {
		return dst, false, err
	}
	start := len(dst)
	out = slices.Grow(dst, deltaHead+EncodeRoom(len(plain)))
	out = e.delta.EncodeAll(plain, append(out, baseID[:]...))
	if len(out)-start >= len(plain) {
		return dst, false, nil
	}
	return out, true, nil
}

// setBase makes base the dictionary of the encoder for deltas.
func (e *Encoder) setBase(base []byte) (err error) {
	// No ID: the one in front of the frame says more. It saves four bytes, too.
	dict := zstd.WithEncoderDictRaw(0, base)
	if e.delta != nil {
		return e.delta.ResetWithOptions(nil, dict)
	}
	e.delta, err = zstd.NewWriter(nil,
		zstd.WithEncoderLevel(zstd.SpeedFastest), // the others take three times as long and save nothing here
		zstd.WithEncoderConcurrency(1),
		zstd.WithEncoderCRC(false),
		zstd.WithLowerEncoderMem(true),
		zstd.WithSingleSegment(true),
		zstd.WithWindowSize(deltaWindow),
		dict)
	return err
}

// DecodeDelta appends to dst the size plain bytes that stored, a form under the codec Delta, holds as the difference to
// base: the plain bytes of the chunk that DeltaBase names. It is as strict as Decode, touches no more of dst's room, and fails
// with a *DecodeError for the same reasons. Another base than the right one may give an error or wrong bytes: only
// Identifier.Verify can tell.
//
// base is referred to until the next call. About a kilobyte is allocated at every call, whatever the sizes.
func (d *Decoder) DecodeDelta(dst, stored, base []byte, size int) ([]byte, error) {
	out, err := d.decodeDelta(dst, stored, base, size)
	if err != nil {
		return dst, &DecodeError{Codec: Delta, StoredLen: len(stored), Want: size, Err: err}
	}
	return out, nil
}

func (d *Decoder) decodeDelta(dst, stored, base []byte, size int) ([]byte, error) {
	switch {
	case d.zstd == nil:
		return nil, ErrClosed
	case size > MaxSize || len(base) > MaxSize:
		return nil, ErrTooLarge
	case size < 1 || len(base) < 1:
		return nil, ErrEmpty
	case len(stored) >= size:
		return nil, errors.New("the difference must be shorter than the plain bytes")
	case len(stored) <= deltaHead:
		return nil, fmt.Errorf("%d bytes are too few for the ID of a base and a frame", len(stored))
	}
	frame := stored[deltaHead:]
	if err := checkFrame(frame, size); err != nil {
		return nil, err
	}
	dict := zstd.WithDecoderDictRaw(0, base)
	var err error
	if d.delta == nil {
		d.delta, err = newZstdDecoder(dict)
	} else {
		err = d.delta.ResetWithOptions(nil, dict)
	}
	if err != nil {
		return nil, err
	}
	start := len(dst)
	out := slices.Grow(dst, size)
	if err := decodeZstd(d.delta, out[start:start+size:start+size], frame); err != nil {
		return nil, err
	}
	return out[:start+size], nil
}
