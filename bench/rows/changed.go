package rows

import (
	"iter"
	"math"
)

// IsChanged tells whether row n is among the given percentage of rows that the
// seed chooses. percent is taken as 0 below 0 and as 100 above 100. The choice of
// one row depends on no other row, and whoever is chosen at 5 % is chosen at 10 %.
func IsChanged(seed uint64, n int, percent float64) bool {
	return chosen(seed, n, threshold(percent))
}

// Changed yields, in ascending order, the rows of [0, total) that the seed
// chooses: about percent of them, uniformly spread. See IsChanged.
func Changed(seed uint64, total int, percent float64) iter.Seq[int] {
	limit := threshold(percent)
	return func(yield func(int) bool) {
		for n := range total {
			if chosen(seed, n, limit) && !yield(n) {
				return
			}
		}
	}
}

// A Versions tells which version of row n a file holds. A nil Versions is
// version 0 everywhere. It must give the same answer every time.
type Versions func(n int) int

// Updated returns the Versions of a second generation: version 1 for the rows
// that IsChanged chooses, version 0 for all others.
func Updated(seed uint64, percent float64) Versions {
	limit := threshold(percent)
	return func(n int) int {
		if chosen(seed, n, limit) {
			return 1
		}
		return 0
	}
}

func (v Versions) of(n int) int {
	if v == nil {
		return 0
	}
	return v(n)
}

// threshold turns a percentage into a bound for 32-bit numbers. One more than
// their largest stands for all of them.
func threshold(percent float64) uint64 {
	if !(percent > 0) {
		return 0
	}
	return uint64(math.Min(percent, 100) / 100 * (1 << 32))
}

func chosen(seed uint64, n int, limit uint64) bool {
	// A constant of its own keeps the choice independent of the rows' content.
	return mix(mix(seed^0xc4a9e5)+uint64(n)*golden)>>32 < limit
}
