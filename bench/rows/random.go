package rows

import "encoding/binary"

// random is a SplitMix64 stream (Steele, Lea and Flood, OOPSLA 2014). It is here
// rather than math/rand/v2 because a row needs a fresh stream for the price of
// one multiplication, and because its output is part of what tests pin.
type random uint64

const golden = 0x9e3779b97f4a7c15

// mix is the finaliser of SplitMix64. It is a bijection, so different inputs
// never meet: identifiers made from it are unique.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

// stream returns the stream that belongs to the given numbers.
func stream(seed, n, version uint64) random {
	return random(mix(mix(mix(seed+golden)^n) + version*golden))
}

func (r *random) next() uint64 {
	*r += golden
	return mix(uint64(*r))
}

// below returns a number in [0, n). Its bias is below n / 2^32, which is no
// matter here. n must be below 2^32.
func (r *random) below(n uint64) uint64 {
	return (r.next() >> 32) * n >> 32
}

// few returns a number in [0, n), small ones far more often than large ones.
func (r *random) few(n uint64) uint64 {
	x := r.next()
	a, b := (x>>32)*n>>32, (x&0xffffffff)*n>>32
	return min(a, b)
}

// fill overwrites p with random bytes.
func (r *random) fill(p []byte) {
	for len(p) >= 8 {
		binary.LittleEndian.PutUint64(p, r.next())
		p = p[8:]
	}
	if len(p) > 0 {
		var last [8]byte
		binary.LittleEndian.PutUint64(last[:], r.next())
		copy(p, last[:])
	}
}

const (
	hexDigits = "0123456789abcdef"
	base64URL = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
)

// appendHex appends n hex digits, four random bits each.
func (r *random) appendHex(dst []byte, n int) []byte {
	for n > 0 {
		x := r.next()
		for i := min(n, 16); i > 0; i-- {
			dst = append(dst, hexDigits[x&15])
			x >>= 4
			n--
		}
	}
	return dst
}

// appendToken appends n characters of URL-safe base 64, six random bits each.
func (r *random) appendToken(dst []byte, n int) []byte {
	for n > 0 {
		x := r.next()
		for i := min(n, 10); i > 0; i-- {
			dst = append(dst, base64URL[x&63])
			x >>= 6
			n--
		}
	}
	return dst
}

// appendUUID appends id in the form of a UUID. id comes first in it, so that
// different ids give different UUIDs, and ids in random order stay so.
func appendUUID(dst []byte, id uint64) []byte {
	rest := mix(id ^ golden)
	var raw [16]byte
	binary.BigEndian.PutUint64(raw[:8], id)
	binary.BigEndian.PutUint64(raw[8:], rest)
	for i, b := range raw {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			dst = append(dst, '-')
		}
		dst = append(dst, hexDigits[b>>4], hexDigits[b&15])
	}
	return dst
}

// appendPadded appends x with leading zeros up to width digits.
func appendPadded(dst []byte, x uint64, width int) []byte {
	var digits [20]byte
	at := len(digits)
	for x > 0 || len(digits)-at < width {
		at--
		digits[at] = byte('0' + x%10)
		x /= 10
	}
	return append(dst, digits[at:]...)
}
