package rows

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/zeebo/blake3"
)

func TestRowBounds(t *testing.T) {
	g := New(1)
	seen := make(map[string]int)
	tables := make(map[string]int)
	var total, shortest, longest int
	shortest = math.MaxInt
	for i := range 80_000 {
		n, version := i, 0
		switch i % 4 {
		case 2:
			version = i
		case 3:
			n = -i * 10_000_000 // far away, and of other sign
		}
		key, value := g.Row(n, version)
		if len(key) > MaxKeySize {
			t.Fatalf("row %d: key of %d bytes", n, len(key))
		}
		if len(value) < MinValueSize || len(value) > MaxValueSize {
			t.Fatalf("row %d version %d: value of %d bytes: %s", n, version, len(value), value)
		}
		if other, ok := seen[string(key)]; ok {
			t.Fatalf("rows %d and %d share key %s", other, n, key)
		}
		seen[string(key)] = n
		name, _, _ := strings.Cut(string(key), "/")
		tables[name]++
		total += len(value)
		shortest, longest = min(shortest, len(value)), max(longest, len(value))
		if i%100 == 0 && !json.Valid(value) {
			t.Fatalf("row %d: not JSON: %s", n, value)
		}
	}
	t.Logf("values: %d to %d bytes, %d on average; tables %v", shortest, longest, total/80_000, tables)
	for _, name := range []string{"users", "orders", "events"} {
		if tables[name] < 16_000 {
			t.Errorf("only %d rows in %s", tables[name], name)
		}
	}
}

func TestKeysAscend(t *testing.T) {
	g := New(3)
	last := map[string]string{}
	for n := range 20_000 {
		key := string(g.AppendKey(nil, n))
		name, _, _ := strings.Cut(key, "/")
		if name == "orders" {
			continue
		}
		if last[name] >= key {
			t.Fatalf("row %d: %s does not come after %s", n, key, last[name])
		}
		last[name] = key
	}
}

func TestVersions(t *testing.T) {
	g := New(7)
	for n := range 2_000 {
		key, v0 := g.Row(n, 0)
		values := [][]byte{v0}
		for _, version := range []int{1, 2, 3, -1, 1 << 30} {
			k, v := g.Row(n, version)
			if !bytes.Equal(k, key) {
				t.Fatalf("row %d version %d: key %s, was %s", n, version, k, key)
			}
			for _, other := range values {
				if bytes.Equal(v, other) {
					t.Fatalf("row %d: version %d is like another", n, version)
				}
			}
			values = append(values, v)
			if same := commonPrefix(v0, v); same < len(v0)/4 {
				t.Fatalf("row %d version %d keeps only %d of %d bytes in front", n, version, same, len(v0))
			}
		}
	}
}

func commonPrefix(a, b []byte) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

func TestSeedsDiffer(t *testing.T) {
	a, b := New(1), New(2)
	for n := range 1_000 {
		if bytes.Equal(a.AppendValue(nil, n, 0), b.AppendValue(nil, n, 0)) {
			t.Fatalf("row %d is the same under two seeds", n)
		}
	}
}

// The digests are part of what this package promises: figures of two runs, or of
// two machines, can be compared only if the bytes are the same.
func TestGolden(t *testing.T) {
	want := map[string]string{
		"json":       "1f035eb79410de75",
		"pairs":      "f5953a880f8bdfd2",
		"pages":      "c782fc26f712626a",
		"snappy-sst": "11cf70980c5f4b62",
		"random":     "513a793a5adc6884",
		"zeros":      "456aae94b37d7313",
	}
	for _, kind := range Kinds() {
		p := make([]byte, 3<<20+123)
		kind.Fill(p, 42)
		sum := blake3.Sum256(p)
		if got := hex.EncodeToString(sum[:8]); got != want[kind.Name] {
			t.Errorf("%q: %q, want %q", kind.Name, got, want[kind.Name])
		}
	}
}

func TestFillIgnoresWhatWasThere(t *testing.T) {
	for _, kind := range Kinds() {
		for _, size := range []int{0, 1, 7, 8, 31, 99, 1060, 1061, 4095, 4096, 4097, 100_003} {
			clean, dirty := make([]byte, size), bytes.Repeat([]byte{0xa5}, size)
			kind.Fill(clean, 5)
			kind.Fill(dirty, 5)
			if !bytes.Equal(clean, dirty) {
				t.Errorf("%s: %d bytes depend on what the buffer held", kind.Name, size)
			}
			// What is shorter is a prefix of what is longer.
			longer := make([]byte, size+5_000)
			kind.Fill(longer, 5)
			if !bytes.Equal(clean, longer[:size]) {
				t.Errorf("%s: %d bytes are no prefix of %d", kind.Name, size, len(longer))
			}
		}
	}
}

func TestRatio(t *testing.T) {
	bounds := map[string][2]float64{
		"json":       {0.30, 0.50},
		"pairs":      {0.30, 0.50},
		"pages":      {0.20, 0.50},
		"snappy-sst": {0.80, 1.01},
		"random":     {0.99, 1.01},
		"zeros":      {0, 0.001},
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	defer enc.Close()
	for _, kind := range Kinds() {
		p := make([]byte, 4<<20)
		kind.Fill(p, 11)
		for _, size := range []int{64 << 10, 256 << 10, 1 << 20} {
			packed := 0
			for block := range slices.Chunk(p, size) {
				packed += len(enc.EncodeAll(block, nil))
			}
			ratio := float64(packed) / float64(len(p))
			t.Logf("%-10s %7d-byte chunks: %.3f", kind.Name, size, ratio)
			if b := bounds[kind.Name]; ratio < b[0] || ratio > b[1] {
				t.Errorf("%s in %d-byte chunks: ratio %.3f, want %v", kind.Name, size, ratio, b)
			}
		}
	}
}

func TestBlocksAreUnique(t *testing.T) {
	seen := make(map[[32]byte]string)
	for _, kind := range Kinds() {
		if kind.Name == "zeros" {
			continue
		}
		p := make([]byte, 8<<20)
		for seed := range uint64(2) {
			kind.Fill(p, seed)
			at := 0
			for block := range slices.Chunk(p, 4096) {
				here := fmt.Sprintf("%s seed %d offset %d", kind.Name, seed, at)
				id := blake3.Sum256(block)
				if there, ok := seen[id]; ok {
					t.Fatalf("%s repeats %s", here, there)
				}
				seen[id] = here
				at += len(block)
			}
		}
	}
}

func TestPagesAreSound(t *testing.T) {
	p := make([]byte, 4<<20)
	PagesAt(p, 9, Updated(2, 5))
	g := New(9)
	var stored, changed, used int
	for number := range len(p) / PageSize {
		page := p[number*PageSize:][:PageSize]
		if got, want := crc32.Checksum(page[4:], crc32.MakeTable(crc32.Castagnoli)), binary.LittleEndian.Uint32(page); got != want {
			t.Fatalf("page %d: checksum %x, want %x", number, got, want)
		}
		if got := binary.LittleEndian.Uint32(page[4:]); got != uint32(number) {
			t.Fatalf("page %d says that it is %d", number, got)
		}
		slots := int(binary.LittleEndian.Uint16(page[10:]))
		if slots == 0 {
			t.Fatalf("page %d is empty", number)
		}
		if number%branchEvery == 0 {
			continue
		}
		used += PageSize - int(binary.LittleEndian.Uint16(page[14:])) + pageHeaderSize + 2*slots
		for slot := range slots {
			n := number*rowsPerPage + slot
			cell := page[binary.LittleEndian.Uint16(page[pageHeaderSize+2*slot:]):]
			version := 0
			if IsChanged(2, n, 5) {
				version = 1
				changed++
			}
			if want := g.appendPair(nil, n, version); !bytes.HasPrefix(cell, want) {
				t.Fatalf("page %d slot %d: not row %d", number, slot, n)
			}
			stored++
		}
	}
	share := float64(changed) / float64(stored)
	full := float64(used) / float64(len(p))
	t.Logf("%d rows on %d pages, %.3f changed, %.2f full", stored, len(p)/PageSize, share, full)
	if share < 0.04 || share > 0.06 || full < 0.6 || full > 0.9 {
		t.Errorf("changed share %.3f or fill %.2f out of bounds", share, full)
	}
}

func TestUpdatedPagesKeepTheRest(t *testing.T) {
	before, after := make([]byte, 8<<20), make([]byte, 8<<20)
	Pages(before, 9)
	for _, percent := range []float64{0, 1, 100} {
		PagesAt(after, 9, Updated(4, percent))
		same := 0
		for at := 0; at < len(before); at += PageSize {
			if bytes.Equal(before[at:at+PageSize], after[at:at+PageSize]) {
				same++
			}
		}
		share := float64(same) / float64(len(before)/PageSize)
		// With about 8 rows on a page, 0.99^8 of the pages stay.
		want := map[float64][2]float64{0: {1, 1}, 1: {0.88, 0.96}, 100: {0.015, 0.017}}[percent]
		if share < want[0] || share > want[1] {
			t.Errorf("%v %% of rows updated: %.3f of pages unchanged, want %v", percent, share, want)
		}
	}
}

func TestSnappySSTBlocks(t *testing.T) {
	p := make([]byte, 1<<20)
	SnappySST(p, 6)
	// Only the first block is parsed: where it ends is known from its checksum.
	size, header := binary.Uvarint(p)
	if size < sstBlockSize || size >= sstBlockSize+maxPairSize || header <= 0 {
		t.Fatalf("first block declares %d bytes", size)
	}
	g := New(6)
	var want []byte
	for n := 0; len(want) < sstBlockSize; n++ {
		want = g.appendPair(want, n, 0)
	}
	end := len(s2.EncodeSnappy(nil, want))
	got, err := s2.Decode(nil, p[:end])
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("first block: %d bytes, error %v", len(got), err)
	}
	if p[end] != 1 || binary.LittleEndian.Uint32(p[end+1:]) != crc32.Checksum(p[:end+1], crc32.MakeTable(crc32.Castagnoli)) {
		t.Error("first block: wrong trailer")
	}
}

func TestChanged(t *testing.T) {
	const total = 100_000
	for _, percent := range []float64{-1, 0, 0.1, 5, 50, 100, 250, math.NaN()} {
		count, last := 0, -1
		for n := range Changed(1, total, percent) {
			if n <= last || n >= total {
				t.Fatalf("%v %%: %d after %d", percent, n, last)
			}
			if !IsChanged(1, n, percent) || Updated(1, percent)(n) != 1 {
				t.Fatalf("%v %%: row %d is yielded but not changed", percent, n)
			}
			last = n
			count++
		}
		want := total * min(max(percent, 0), 100) / 100
		if math.IsNaN(percent) {
			want = 0
		}
		if math.Abs(float64(count)-want) > 4*math.Sqrt(want*(1-want/total)) {
			t.Errorf("%v %%: %d rows of %d, want about %.0f", percent, count, total, want)
		}
	}
	for range Changed(1, total, 100) {
		break // must not go on after the loop has ended
	}
}

func TestNoAllocations(t *testing.T) {
	g := New(1)
	buf := make([]byte, 0, MaxKeySize+MaxValueSize)
	n := 0
	allocs := testing.AllocsPerRun(1_000, func() {
		buf = g.AppendValue(g.AppendKey(buf[:0], n), n, n%3)
		n++
	})
	if allocs != 0 {
		t.Errorf("%v allocations a row", allocs)
	}
}

func TestAppendTimeIsUTC(t *testing.T) {
	if got := string(appendTime(nil, created(1, 0))); !strings.HasPrefix(got, "2024-01-01T00:00:00.0") || !strings.HasSuffix(got, "Z") {
		t.Errorf("first row is of %s", got)
	}
	if d := created(1, 1_000_000).Sub(created(1, 0)); d < 36_999*time.Second || d > 37_001*time.Second {
		t.Errorf("a million rows take %v", d)
	}
}

func FuzzRow(f *testing.F) {
	f.Add(uint64(0), int64(0), int64(0))
	f.Add(uint64(math.MaxUint64), int64(-1), int64(1)<<62)
	f.Fuzz(func(t *testing.T, seed uint64, n, version int64) {
		n %= 1_000_000_000_000
		key, value := New(seed).Row(int(n), int(version))
		if len(key) > MaxKeySize || len(value) < MinValueSize || len(value) > MaxValueSize {
			t.Errorf("%d bytes of key, %d of value", len(key), len(value))
		}
		if !json.Valid(value) {
			t.Errorf("not JSON: %s", value)
		}
	})
}

func BenchmarkFill(b *testing.B) {
	for _, kind := range Kinds() {
		b.Run(kind.Name, func(b *testing.B) {
			p := make([]byte, 4<<20)
			b.SetBytes(int64(len(p)))
			for b.Loop() {
				kind.Fill(p, 1)
			}
		})
	}
}
