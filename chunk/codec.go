package chunk

import "strconv"

// Codec says how the stored form of a chunk is encoded. The numbers are part of the format.
type Codec uint8

// The codecs this version reads.
const (
	Raw   Codec = 0 // the plain bytes themselves
	S2    Codec = 1 // one S2 block, with its length in front (github.com/klauspost/compress/s2)
	Zstd  Codec = 2 // one Zstandard frame (RFC 8878) with its content size, without a dictionary
	Delta Codec = 3 // the ID of a base, and one such frame with the base's plain bytes as raw dictionary
)

// String returns "raw", "s2", "zstd", "delta", or "codec(n)" for a number this version does not know.
func (c Codec) String() string {
	switch c {
	case Raw:
		return "raw"
	case S2:
		return "s2"
	case Zstd:
		return "zstd"
	case Delta:
		return "delta"
	}
	return "codec(" + strconv.Itoa(int(c)) + ")"
}

// Policy chooses between speed and size when encoding. It is no part of the format: chunks written under
// different policies live side by side and are the same chunks.
type Policy uint8

// The policies of an Encoder.
const (
	Balanced Policy = iota // zstd at its fastest level
	Fast                   // s2: two to three times the speed, a fifth to a third more stored
	Small                  // zstd at its default level: slower, about a twentieth less stored
)

// String returns "balanced", "fast", "small", or "policy(n)" for any other number.
func (p Policy) String() string {
	switch p {
	case Balanced:
		return "balanced"
	case Fast:
		return "fast"
	case Small:
		return "small"
	}
	return "policy(" + strconv.Itoa(int(p)) + ")"
}
