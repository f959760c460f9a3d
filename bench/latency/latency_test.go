package latency

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func Example() {
	var h Histogram
	for i := range 1000 {
		h.Record(time.Duration(i+1) * time.Millisecond)
	}
	within := h.Percentile(99) >= 990*time.Millisecond && h.Percentile(99) < 1006*time.Millisecond
	fmt.Println(h.Count(), h.Max(), within)
	// Output: 1000 1s true
}

func TestPercentiles(t *testing.T) {
	const seed = 1
	r := rand.New(rand.NewPCG(seed, 0))
	var h Histogram
	var all []time.Duration
	for range 10_000 {
		d := time.Duration(r.Int64N(1 << (1 + r.Int64N(40))))
		h.Record(d)
		all = append(all, d)
	}
	slices.Sort(all)
	for _, p := range []float64{1, 50, 90, 99, 99.9, 100} {
		exact, got := all[int(p/100*10_000)-1], h.Percentile(p)
		if got < exact || float64(got) > float64(exact)*1.0157+1 {
			t.Errorf("p%v is %v, exactly %v", p, got, exact)
		}
	}
	if h.Max() != all[len(all)-1] || h.Count() != 10_000 {
		t.Errorf("longest %v, count %d", h.Max(), h.Count())
	}
	var double Histogram
	double.Add(&h)
	double.Add(&h)
	if double.Count() != 20_000 || double.Percentile(50) != h.Percentile(50) || double.Max() != h.Max() {
		t.Errorf("added: %d, p50 %v", double.Count(), double.Percentile(50))
	}
}

func TestBounds(t *testing.T) {
	var h Histogram
	for _, d := range []time.Duration{0, 1, 63, 64, 65, 127, 128, 129, 1<<62 - 1, 1 << 62, 1<<63 - 1} {
		h.Record(d)
		if b := bucket(d); b < 0 || b >= len(h.counts) || upper(b) < d || b > 0 && upper(b-1) >= d {
			t.Errorf("%d falls into bucket %d, up to %d", d, b, upper(b))
		}
	}
	if h.Percentile(-1) != 0 || h.Percentile(1e9) != 1<<63-1 {
		t.Errorf("from %v to %v", h.Percentile(-1), h.Percentile(1e9))
	}
	h.Record(-5)
	if h.counts[0] != 2 {
		t.Errorf("a negative time is not counted as 0")
	}
	if none := new(Histogram).Percentile(99); none != 0 {
		t.Errorf("p99 of nothing is %v", none)
	}
}
