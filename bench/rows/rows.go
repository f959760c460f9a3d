package rows

import (
	"strconv"
	"time"
)

// Bounds of a row, in bytes. A test holds the generator to them.
const (
	MinValueSize = 100
	MaxValueSize = 1000
	MaxKeySize   = 48
)

// A Generator makes rows by number: users, orders and events, mixed. It is
// immutable after New, so any number of goroutines may use it at once.
type Generator struct {
	seed  uint64
	words vocabularies
}

// New returns the generator of the given seed. Every seed is as good as another.
func New(seed uint64) *Generator {
	return &Generator{seed: seed, words: newVocabularies()}
}

// Row returns the key and the value of row n at the given version, in memory of
// their own. Version 0 is the row as it was inserted; every other version has
// the same key and another value. Row numbers up to 10^12 in either direction give
// dates of four-digit years; versions have no bounds.
func (g *Generator) Row(n, version int) (key, value []byte) {
	return g.AppendKey(nil, n), g.AppendValue(nil, n, version)
}

// AppendKey appends the key of row n to dst and returns the longer slice. Keys
// of different rows differ. Keys of users and events go up with n, keys of orders
// are scattered like UUIDs. It does not allocate when dst has room for
// MaxKeySize more bytes.
func (g *Generator) AppendKey(dst []byte, n int) []byte {
	switch table(g.seed, n) {
	case users:
		dst = append(dst, "users/"...)
		return appendPadded(dst, uint64(n), 12)
	case orders:
		dst = append(dst, "orders/"...)
		return appendUUID(dst, orderID(g.seed, n))
	default:
		dst = append(dst, "events/"...)
		dst = appendPadded(dst, uint64(created(g.seed, n).UnixMilli()), 13)
		dst = append(dst, '/')
		return appendPadded(dst, uint64(n), 12)
	}
}

// AppendValue appends the value of row n at the given version to dst and returns
// the longer slice. The value is one JSON object of MinValueSize to MaxValueSize
// bytes. A new version keeps most fields, as an update does: the revision, a
// timestamp, a state, a number and a short token change. It does not allocate
// when dst has room for MaxValueSize more bytes.
func (g *Generator) AppendValue(dst []byte, n, version int) []byte {
	fixed := stream(g.seed, uint64(n), 0)
	changing := stream(g.seed, uint64(n), uint64(version)+1)
	switch table(g.seed, n) {
	case users:
		dst = g.appendUser(dst, n, &fixed, &changing)
	case orders:
		dst = g.appendOrder(dst, n, &fixed, &changing)
	default:
		dst = g.appendEvent(dst, n, &fixed, &changing)
	}
	dst = append(dst, `,"updated_at":"`...)
	updated := created(g.seed, n).Add(time.Duration(version)*time.Hour +
		time.Duration(changing.below(3_600_000))*time.Millisecond)
	dst = appendTime(dst, updated)
	// The revision is what makes two versions differ for certain.
	dst = append(dst, `","rev":`...)
	dst = strconv.AppendInt(dst, int64(version), 10)
	return append(dst, '}')
}

const (
	users = iota
	orders
	events
)

// table says which table row n belongs to: 2 of 8 are users, 3 orders, 3 events.
func table(seed uint64, n int) int {
	switch x := mix(seed^mix(uint64(n)+golden)) & 7; {
	case x < 2:
		return users
	case x < 5:
		return orders
	default:
		return events
	}
}

func orderID(seed uint64, n int) uint64 { return mix(uint64(n) ^ mix(seed)) }

// created returns when row n was inserted: 37 ms after the row before it, within
// a jitter that never puts two rows in the wrong order.
func created(seed uint64, n int) time.Time {
	const epoch = 1_704_067_200_000 // 2024-01-01 in Unix milliseconds
	jitter := int64(mix(seed+uint64(n)) % 37)
	return time.UnixMilli(epoch + 37*int64(n) + jitter).UTC()
}

func appendTime(dst []byte, t time.Time) []byte {
	return t.AppendFormat(dst, "2006-01-02T15:04:05.000Z")
}

func (g *Generator) appendUser(dst []byte, n int, fixed, changing *random) []byte {
	first, last := g.words.firstNames.word(fixed), g.words.lastNames.word(fixed)
	dst = append(dst, `{"id":`...)
	dst = strconv.AppendInt(dst, int64(n), 10)
	dst = append(dst, `,"name":"`...)
	dst = append(dst, first...)
	dst = append(dst, ' ')
	dst = append(dst, last...)
	dst = append(dst, `","email":"`...)
	dst = append(dst, first...)
	dst = append(dst, '.')
	dst = append(dst, last...)
	dst = strconv.AppendUint(dst, fixed.few(10_000), 10)
	dst = append(dst, '@')
	dst = append(dst, g.words.domains.word(fixed)...)
	dst = append(dst, `","city":"`...)
	dst = append(dst, g.words.cities.word(fixed)...)
	dst = append(dst, `","country":"`...)
	dst = append(dst, g.words.countries.word(fixed)...)
	dst = append(dst, `","created_at":"`...)
	dst = appendTime(dst, created(g.seed, n))
	dst = append(dst, `","password":"`...)
	dst = fixed.appendToken(dst, 43)
	dst = append(dst, `","tags":[`...)
	for i := range fixed.few(6) {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, '"')
		dst = append(dst, g.words.tags.word(fixed)...)
		dst = append(dst, '"')
	}
	dst = append(dst, `],"about":"`...)
	dst = g.appendProse(dst, fixed, fixed.few(72))
	dst = append(dst, `","status":"`...)
	dst = append(dst, g.words.statuses.word(changing)...)
	dst = append(dst, `","balance":`...)
	dst = appendMoney(dst, changing.few(2_000_000))
	dst = append(dst, `,"session":"`...)
	dst = changing.appendToken(dst, 22)
	return append(dst, '"')
}

func (g *Generator) appendOrder(dst []byte, n int, fixed, changing *random) []byte {
	dst = append(dst, `{"order":"`...)
	dst = appendUUID(dst, orderID(g.seed, n))
	dst = append(dst, `","customer":"users/`...)
	dst = appendPadded(dst, fixed.few(uint64(n)&0x7fffffff+1), 12)
	dst = append(dst, `","created_at":"`...)
	dst = appendTime(dst, created(g.seed, n))
	dst = append(dst, `","currency":"`...)
	dst = append(dst, g.words.currencies.word(fixed)...)
	dst = append(dst, `","items":[`...)
	for i := range 1 + fixed.few(6) {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"sku":"`...)
		dst = appendPadded(dst, fixed.below(100_000_000), 8)
		dst = append(dst, `","name":"`...)
		dst = append(dst, g.words.qualities.word(fixed)...)
		dst = append(dst, ' ')
		dst = append(dst, g.words.goods.word(fixed)...)
		dst = append(dst, `","qty":`...)
		dst = strconv.AppendUint(dst, 1+fixed.few(9), 10)
		dst = append(dst, `,"price":`...)
		dst = appendMoney(dst, 100+fixed.few(90_000))
		dst = append(dst, '}')
	}
	dst = append(dst, `],"note":"`...)
	dst = g.appendProse(dst, fixed, fixed.few(24))
	dst = append(dst, `","receipt":"`...)
	dst = fixed.appendToken(dst, 32)
	dst = append(dst, `","state":"`...)
	dst = append(dst, g.words.states.word(changing)...)
	dst = append(dst, `","total":`...)
	dst = appendMoney(dst, 100+changing.few(900_000))
	dst = append(dst, `,"etag":"`...)
	dst = changing.appendToken(dst, 16)
	return append(dst, '"')
}

func (g *Generator) appendEvent(dst []byte, n int, fixed, changing *random) []byte {
	dst = append(dst, `{"ts":"`...)
	dst = appendTime(dst, created(g.seed, n))
	dst = append(dst, `","type":"`...)
	dst = append(dst, g.words.actions.word(fixed)...)
	dst = append(dst, `","user":`...)
	dst = strconv.AppendUint(dst, fixed.few(5_000_000), 10)
	if fixed.below(4) > 0 { // the others come from inside, without a request
		dst = g.appendRequest(dst, fixed)
	}
	dst = append(dst, `,"ms":`...)
	dst = strconv.AppendUint(dst, changing.few(30_000), 10)
	dst = append(dst, `,"span":"`...)
	dst = changing.appendHex(dst, 16)
	return append(dst, '"')
}

func (g *Generator) appendRequest(dst []byte, fixed *random) []byte {
	dst = append(dst, `,"path":"/`...)
	dst = append(dst, g.words.sections.word(fixed)...)
	dst = append(dst, '/')
	dst = append(dst, g.words.goods.word(fixed)...)
	dst = append(dst, `?id=`...)
	dst = strconv.AppendUint(dst, fixed.few(1_000_000), 10)
	dst = append(dst, `","agent":"`...)
	dst = append(dst, g.words.agents.word(fixed)...)
	dst = append(dst, `","ip":"10.`...)
	dst = strconv.AppendUint(dst, fixed.few(256), 10)
	dst = append(dst, '.')
	dst = strconv.AppendUint(dst, fixed.below(256), 10)
	dst = append(dst, '.')
	dst = strconv.AppendUint(dst, fixed.below(256), 10)
	dst = append(dst, `","trace":"`...)
	dst = fixed.appendHex(dst, 32)
	dst = append(dst, `","payload":"`...)
	dst = fixed.appendToken(dst, int(8+fixed.few(300)))
	return append(dst, '"')
}

// appendProse appends so many words, parted by blanks.
func (g *Generator) appendProse(dst []byte, r *random, words uint64) []byte {
	for i := range words {
		if i > 0 {
			dst = append(dst, ' ')
		}
		dst = append(dst, g.words.prose.word(r)...)
	}
	return dst
}

// appendMoney appends an amount given in hundredths.
func appendMoney(dst []byte, hundredths uint64) []byte {
	dst = strconv.AppendUint(dst, hundredths/100, 10)
	dst = append(dst, '.')
	return appendPadded(dst, hundredths%100, 2)
}
