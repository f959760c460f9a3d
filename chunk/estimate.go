package chunk

import (
	"encoding/binary"
	"math/bits"
)

// What incompressible looks at: sampleWindows windows, evenly spread, after a first look at every sixteenth of them.
// Shorter data is left to the codec.
const (
	sampleWindow  = 64
	sampleWindows = 64
	sampleFirst   = 4 // as many in the first look, which divides sampleWindows
	sampleMin     = 16 << 10
)

// incompressible reports whether p looks as if no codec could save a thirty-second of it: its bytes are all about equally
// frequent, as in what is encrypted or compressed well, and no long stretch of it comes twice. What is compressible is
// mostly told at the first look, in less than a hundredth of the time that it takes to encode.
func (e *Encoder) incompressible(p []byte) bool {
	// Zeros are encoded so quickly that even the first look would take a fifth of the time.
	if len(p) < sampleMin || binary.LittleEndian.Uint64(p) == binary.LittleEndian.Uint64(p[8:]) {
		return false
	}
	var counts [256]uint32
	stride := (len(p) - sampleWindow) / (sampleWindows - 1)
	const step = sampleWindows / sampleFirst
	// Most data is found out by a few windows.
	for i := 0; i < sampleWindows; i += step {
		countBytes(&counts, p[i*stride:i*stride+sampleWindow])
	}
	if !uniform(&counts, sampleFirst*sampleWindow) {
		return false
	}
	for i := range sampleWindows {
		if i%step != 0 {
			countBytes(&counts, p[i*stride:i*stride+sampleWindow])
		}
	}
	if !uniform(&counts, sampleWindows*sampleWindow) {
		return false
	}
	if e.repeats == nil {
		e.repeats = new(repeatTable)
	}
	return !e.repeats.find(p)
}

func countBytes(counts *[256]uint32, p []byte) {
	for _, b := range p {
		counts[b]++
	}
}

// uniform reports whether n bytes with these counts may well be random ones: Pearson's chi-squared of 255 degrees
// of freedom is at most five standard deviations above its mean. Of 4 KiB, a source of less than 7.9 bits a byte does not
// pass.
func uniform(counts *[256]uint32, n int) bool {
	var sum int64 // 256 times the square of 4 KiB is 2^32
	for _, c := range counts {
		sum += int64(c) * int64(c)
	}
	const limit = 255 + 5*23 // the standard deviation is the root of 2 * 255
	return sum*256-int64(n)*int64(n) <= limit*int64(n)
}

// The search for repeats remembers the word at every repeatUnit-th byte, and looks up those at repeatUnit bytes in a row in the
// middle of every repeatSpan: of any repeat of two spans, whatever its distance, one of them is remembered.
const (
	repeatUnit = 128
	repeatSpan = 16 << 10
)

// A repeatTable remembers words of 8 bytes by their hashes. It is 64 KiB, what a chunk of 1 MiB needs to be half full; larger
// ones overwrite a part of what they remember.
type repeatTable [1 << 14]uint32

// find reports whether p most probably repeats itself at a distance of more than repeatSpan.
func (t *repeatTable) find(p []byte) bool {
	slots := t[:min(len(t), 1<<bits.Len(uint(len(p)/repeatUnit)))]
	clear(slots)
	mask := uint64(len(slots) - 1)
	place := func(at int) (slot *uint32, tag uint32) {
		hash := binary.LittleEndian.Uint64(p[at:]) * 0x9e3779b97f4a7c15
		return &slots[hash>>32&mask], uint32(hash>>48) | uint32(hash>>16)<<16 | 1
	}
	remembered := 0
	for span := 0; span+repeatSpan <= len(p); span += repeatSpan {
		window := span + repeatSpan/2
		for at := window; at < window+repeatUnit; at++ {
			if slot, tag := place(at); *slot == tag {
				return true
			}
		}
		for ; remembered < span+repeatSpan-8; remembered += repeatUnit {
			slot, tag := place(remembered)
			*slot = tag
		}
	}
	return false
}
