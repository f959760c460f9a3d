package chunk

// MinFixedSize is the smallest chunk NewFixed accepts, in bytes.
const MinFixedSize = 512

// A Cutter says where the chunks of a stream end. Gear and Fixed are the two of this package. Implementations are
// immutable and safe for concurrent use.
type Cutter interface {
	// Next returns the length in bytes of the first chunk of p, which must begin where a chunk begins. With last, p
	// ends where the stream ends. It returns 0 when the chunk's end is not in p: then the caller must come back with
	// more bytes behind the same ones. That happens only without last and with len(p) < Max(), or with an empty p.
	//
	// An answer other than 0 depends only on the bytes of the chunk and on whether the stream ends there,
	// never on how much of what follows is in p. So the cuts are the same however the stream was read.
	// After a 0 the next call looks at the same bytes again: a reader that offers Max() bytes at a time pays for
	// each byte once.
	Next(p []byte, last bool) int
	// Max returns the largest length Next can return, in bytes.
	Max() int
}

// Fixed cuts every size bytes; the last chunk of a stream may be shorter. It suits data that is changed in place, such as
// pages, and data in which nothing repeats at an offset. Make one with NewFixed.
type Fixed struct {
	size int
}

// NewFixed returns a Cutter for chunks of size bytes, MinFixedSize to MaxSize; any other size is a *ParamError.
func NewFixed(size int) (Fixed, error) {
	if size < MinFixedSize || size > MaxSize {
		return Fixed{}, &ParamError{Param: "size", Value: size, Reason: "a fixed chunk has 512 bytes to 8 MiB"}
	}
	return Fixed{size: size}, nil
}

// Next implements Cutter.
func (f Fixed) Next(p []byte, last bool) int {
	switch size := f.Max(); {
	case len(p) >= size:
		return size
	case last:
		return len(p)
	}
	return 0
}

// Max implements Cutter: the size of every chunk but the last. The zero Fixed has MaxSize.
func (f Fixed) Max() int {
	if f.size == 0 {
		return MaxSize
	}
	return f.size
}
