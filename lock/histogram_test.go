package lock

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestBucketsCoverEverything(t *testing.T) {
	if n := bucketOf(-1); n != 0 {
		t.Errorf("a negative duration is in bucket %d", n)
	}
	if n := bucketOf(math.MaxInt64); n != bucketCount-1 {
		t.Errorf("the longest duration is in bucket %d of %d", n, bucketCount)
	}
	begin := time.Duration(0)
	for i := range bucketCount {
		end := bucketEnd(i)
		if bucketOf(begin) != i || bucketOf(end) != i {
			t.Fatalf("bucket %d: %d is in %d, %d in %d", i, begin, bucketOf(begin), end, bucketOf(end))
		}
		if i < bucketCount-1 && end-begin > begin/8 {
			t.Errorf("bucket %d, from %d to %d, is too wide", i, begin, end)
		}
		begin = end + 1
	}
}

// Quantiles are compared with those of the sorted durations.
func TestQuantile(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var h histogram
		ds := rapid.SliceOfN(rapid.Int64Range(0, int64(9*time.Hour)), 1, 200).Draw(t, "durations")
		var sum time.Duration
		for i, d := range ds {
			ds[i] = d >> rapid.IntRange(0, 44).Draw(t, "scale")
			sum += time.Duration(ds[i])
			h.add(time.Duration(ds[i]))
		}
		slices.Sort(ds)
		r := h.read()
		if r.Count != int64(len(ds)) || r.Sum != sum || r.Max != time.Duration(ds[len(ds)-1]) || r.Mean() != sum/time.Duration(len(ds)) {
			t.Fatalf("%+v", r)
		}
		q := rapid.Float64Range(-0.1, 1.1).Draw(t, "q")
		rank := min(max(int(math.Ceil(q*float64(len(ds)))), 1), len(ds))
		exact := time.Duration(ds[rank-1])
		if got := r.Quantile(q); got < exact || got > exact+exact/8 {
			t.Fatalf("quantile %v is %v, want %v or up to an eighth more", q, got, exact)
		}
	})
}

func TestHistogramOddCases(t *testing.T) {
	var h histogram
	if r := h.read(); r.Quantile(0.5) != 0 || r.Mean() != 0 || r != (Histogram{}) {
		t.Errorf("without durations: %+v", r)
	}
	h.add(-time.Second) // the clock was set back
	h.add(math.MaxInt64 - 7)
	r := h.read()
	for q, want := range map[float64]time.Duration{math.NaN(): 0, math.Inf(-1): 0, 0.5: 0, 0.51: r.Max, math.Inf(1): r.Max} {
		if got := r.Quantile(q); got != want {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
	var got []string
	for end, n := range r.Buckets() {
		got = append(got, fmt.Sprint(int64(end), n))
	}
	if want := []string{"0 1", fmt.Sprint(int64(math.MaxInt64), 1)}; !slices.Equal(got, want) {
		t.Errorf("buckets %q, want %q", got, want)
	}
	for range r.Buckets() {
		break
	}
}

func TestHistogramLosesNothing(t *testing.T) {
	var h histogram
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 1000 {
				h.add(time.Duration(i*1000 + j))
			}
		})
	}
	all.Wait()
	if r := h.read(); r.Count != 8000 || r.Max != 7999 || r.Sum != 8000*7999/2 {
		t.Errorf("%d durations up to %v, sum %v", r.Count, r.Max, r.Sum)
	}
}
