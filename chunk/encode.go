package chunk

import (
	"slices"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// EncoderOptions configure an Encoder. The zero value is the Balanced policy.
type EncoderOptions struct {
	Policy Policy
	// Pause, if set, is called again and again while a chunk of more than 128 KiB is encoded, at intervals of a
	// fraction of a millisecond: a place to let others have the processor. It must not use the Encoder. Under Fast, whose
	// codec cannot be interrupted, it is never called.
	Pause func()
}

// zstdWindow is how far back the zstd encoder looks, in bytes: a whole chunk of the default Gear. The encoder holds
// this much of history and 0.6 MiB (Balanced) or 1.7 MiB (Small) of tables; with a window of MaxSize it would hold 8 MiB,
// and store chunks of 1 MiB no smaller.
const zstdWindow = 1 << 20

// Encoder turns plain bytes into the stored form. It is reusable but not safe for concurrent use. Close it when done.
type Encoder struct {
	zstd   *zstd.Encoder // nil under Fast
	closed bool

	pause func()      // nil if there is none
	frame frameBuffer // what a chunk with pauses is written to

	repeats *repeatTable // nil before the first chunk that looks incompressible

	delta *zstd.Encoder // nil before the first EncodeDelta and after Close
}

// NewEncoder returns an Encoder. An unknown policy is a *ParamError.
func NewEncoder(opts EncoderOptions) (*Encoder, error) {
	var level zstd.EncoderLevel
	switch opts.Policy {
	case Fast:
		return &Encoder{}, nil
	case Balanced:
		level = zstd.SpeedFastest
	case Small:
		level = zstd.SpeedDefault
	default:
		return nil, &ParamError{Param: "EncoderOptions.Policy", Value: int(opts.Policy), Reason: "want Balanced, Fast or Small"}
	}
	z, err := zstd.NewWriter(nil,
		zstd.WithEncoderLevel(level),
		zstd.WithEncoderConcurrency(1),
		zstd.WithEncoderCRC(false),     // the identity vouches for the content
		zstd.WithLowerEncoderMem(true), // halves the history; costs copying only for chunks above the window
		zstd.WithSingleSegment(true),   // else a short frame would not declare its content size
		zstd.WithWindowSize(zstdWindow))
	if err != nil {
		return nil, err
	}
	return &Encoder{zstd: z, pause: opts.Pause}, nil
}

// EncodeRoom returns how much room behind dst makes Encode of n plain bytes allocate nothing: n and a little more,
// in bytes.
func EncodeRoom(n int) int {
	return n + n>>10 + 64
}

// Encode appends the stored form of plain, 1 to MaxSize bytes, to dst and returns the longer slice with the codec it
// used. The stored form is never longer than plain. It is Raw when compression would save less than a thirty-second:
// that is not worth the decoding at every read. A chunk of at least 16 KiB whose bytes look random in samples, and of which
// no long stretch comes twice, is Raw without a try.
//
// The room behind len(dst), where it suffices, is used as scratch space even beyond what is returned; EncodeRoom says how much that
// takes. On an error dst comes back as it was: ErrEmpty or ErrTooLarge for a plain of the wrong size, ErrClosed
// after Close.
func (e *Encoder) Encode(dst, plain []byte) ([]byte, Codec, error) {
	switch {
	case e.closed:
		return dst, Raw, ErrClosed
	case len(plain) == 0:
		return dst, Raw, ErrEmpty
	case len(plain) > MaxSize:
		return dst, Raw, ErrTooLarge
	}
	base := len(dst)
	dst = slices.Grow(dst, EncodeRoom(len(plain)))
	if e.incompressible(plain) {
		return append(dst, plain...), Raw, nil
	}
	out, codec := dst, S2
	if e.zstd == nil {
		// Given at least s2.MaxEncodedLen bytes, s2 encodes in place.
		out = dst[:base+len(s2.Encode(dst[base:cap(dst)], plain))]
	} else if codec = Zstd; e.pause != nil && len(plain) > zstdBlock {
		var err error
		if out, err = e.encodePausing(dst, plain); err != nil {
			return dst[:base], Raw, err
		}
	} else {
		out = e.zstd.EncodeAll(plain, dst)
	}
	if len(out)-base > len(plain)-(len(plain)+31)/32 {
		return append(dst, plain...), Raw, nil
	}
	return out, codec, nil
}

// zstdBlock is how much goes into one block of a frame, in bytes: what is encoded without a pause.
const zstdBlock = 128 << 10

// frameBuffer collects a frame.
type frameBuffer struct{ buf []byte }

func (f *frameBuffer) Write(p []byte) (int, error) {
	f.buf = append(f.buf, p...)
	return len(p), nil
}

// encodePausing is EncodeAll with a pause between blocks.
func (e *Encoder) encodePausing(dst, plain []byte) ([]byte, error) {
	e.frame.buf = dst
	defer func() { e.frame.buf = nil }()
	e.zstd.ResetContentSize(&e.frame, int64(len(plain)))
	for block := range slices.Chunk(plain, zstdBlock) {
		// A full block is encoded at once.
		if _, err := e.zstd.Write(block); err != nil {
			return nil, err
		}
		e.pause()
	}
	if err := e.zstd.Close(); err != nil {
		return nil, err
	}
	return e.frame.buf, nil
}

// Close releases what the Encoder holds. More calls do nothing.
func (e *Encoder) Close() {
	if e.closed {
		return
	}
	e.closed = true
	if e.zstd != nil {
		e.zstd.Close() // every stream was ended, so there is nothing that could fail
		e.zstd = nil
	}
	if e.delta != nil {
		e.delta.Close()
		e.delta = nil
	}
}
