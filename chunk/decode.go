package chunk

import (
	"errors"
	"fmt"
	"slices"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// Decoder turns stored forms back into plain bytes. It is reusable but not safe for concurrent use. Close it when done.
type Decoder struct {
	zstd  *zstd.Decoder // nil after Close
	delta *zstd.Decoder // nil before the first DecodeDelta and after Close
}

// NewDecoder returns a Decoder for all codecs: Decode is for all but Delta, which takes DecodeDelta.
func NewDecoder() (*Decoder, error) {
	z, err := newZstdDecoder()
	if err != nil {
		return nil, err
	}
	return &Decoder{zstd: z}, nil
}

func newZstdDecoder(opts ...zstd.DOption) (*zstd.Decoder, error) {
	return zstd.NewReader(nil, append(opts,
		zstd.WithDecoderConcurrency(1),
		zstd.WithDecoderMaxMemory(MaxSize),
		zstd.WithDecoderMaxWindow(MaxSize),
		zstd.WithDecodeAllCapLimit(true))...)
}

// Decode appends to dst the size plain bytes that stored holds. It fails with a *DecodeError unless stored is, from
// its first byte to its last, one encoding of exactly size bytes; the error says which of ErrCorrupt, ErrUnknownCodec,
// ErrNeedsBase, ErrTooLarge, ErrEmpty and ErrClosed it is. That the right bytes came out only Identifier.Verify can tell.
//
// Nothing is allocated when dst has room for size bytes. Else dst grows for them as append would make it grow, however stored
// is made, and not before the declared sizes are found sound. The zstd decoder's own tables and buffers stay below 1 MiB. No byte behind the size bytes is touched, so neighbours
// in one buffer may be decoded into by different Decoders. On an error dst comes back with its length; the size bytes of room
// behind it may have been written to.
func (d *Decoder) Decode(dst []byte, codec Codec, stored []byte, size int) ([]byte, error) {
	if err := d.check(codec, stored, size); err != nil {
		return dst, &DecodeError{Codec: codec, StoredLen: len(stored), Want: size, Err: err}
	}
	base := len(dst)
	out := slices.Grow(dst, size)
	// The decoders get this window and no more: they fill spare capacity with scratch bytes.
	window := out[base : base+size : base+size]
	var err error
	switch codec {
	case Raw:
		copy(window, stored)
	case S2:
		err = decodeS2(window, stored)
	case Zstd:
		err = decodeZstd(d.zstd, window, stored)
	}
	if err != nil {
		return dst, &DecodeError{Codec: codec, StoredLen: len(stored), Want: size, Err: err}
	}
	return out[:base+size], nil
}

// check does all that can be done before there is room for the plain bytes.
func (d *Decoder) check(codec Codec, stored []byte, size int) error {
	switch {
	case d.zstd == nil:
		return ErrClosed
	case codec > Delta:
		return ErrUnknownCodec
	case codec == Delta:
		return ErrNeedsBase
	case size > MaxSize:
		return ErrTooLarge
	case size < 1:
		return ErrEmpty
	}
	if codec == Raw {
		if len(stored) != size {
			return errors.New("raw bytes must be exactly as many as the chunk's")
		}
		return nil
	}
	if len(stored) >= size {
		return errors.New("the encoded form must be shorter than the plain one")
	}
	if codec == S2 {
		n, err := s2.DecodedLen(stored)
		if err != nil {
			return fmt.Errorf("bad length in front of the block: %w", err)
		}
		if n != size {
			return fmt.Errorf("the block declares %d plain bytes", n)
		}
		return nil
	}
	return checkFrame(stored, size)
}

// checkFrame walks the block headers of stored: it must be one frame without a dictionary that declares size bytes and ends
// where stored ends.
func checkFrame(stored []byte, size int) error {
	var h zstd.Header
	if err := h.Decode(stored); err != nil {
		return fmt.Errorf("bad frame header: %w", err)
	}
	switch {
	case h.Skippable:
		return errors.New("a skippable frame instead of data")
	case h.DictionaryID != 0:
		return fmt.Errorf("the frame wants dictionary %d", h.DictionaryID)
	case !h.HasFCS:
		return errors.New("the frame does not declare its content size")
	case h.FrameContentSize != uint64(size):
		return fmt.Errorf("the frame declares %d plain bytes", h.FrameContentSize)
	}
	const (
		blockHeaderLen = 3
		checksumLen    = 4
		rle            = 1
	)
	at := h.HeaderSize
	for lastBlock := false; !lastBlock; {
		if len(stored)-at < blockHeaderLen {
			return fmt.Errorf("the frame is cut off at byte %d", len(stored))
		}
		v := int(stored[at]) | int(stored[at+1])<<8 | int(stored[at+2])<<16
		lastBlock = v&1 != 0
		n := v >> 3
		if v>>1&3 == rle { // n is the plain length of one repeated byte
			n = 1
		}
		at += blockHeaderLen + n
	}
	if h.HasCheckSum {
		at += checksumLen
	}
	if at != len(stored) {
		return fmt.Errorf("the frame's blocks end at byte %d", at)
	}
	return nil
}

func decodeS2(window, stored []byte) error {
	// window has the declared length, so s2 decodes in place.
	if _, err := s2.Decode(window, stored); err != nil {
		return err
	}
	return nil
}

func decodeZstd(d *zstd.Decoder, window, stored []byte) error {
	plain, err := d.DecodeAll(stored, window[:0])
	switch {
	case err != nil:
		return err
	case len(plain) != len(window):
		return fmt.Errorf("the frame holds %d plain bytes", len(plain))
	case &plain[0] != &window[0]:
		// The cap limit forbids it; a silent copy elsewhere would return whatever the room held before.
		return errors.New("decoded outside the room given")
	}
	return nil
}

// Close releases what the Decoder holds. More calls do nothing.
func (d *Decoder) Close() {
	if d.zstd != nil {
		d.zstd.Close()
		d.zstd = nil
	}
	if d.delta != nil {
		d.delta.Close()
		d.delta = nil
	}
}
