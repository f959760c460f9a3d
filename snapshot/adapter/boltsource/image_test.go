package boltsource

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestImageAgainstModel(t *testing.T) {
	const pageSize, pages = 512, 64
	r := rand.New(rand.NewPCG(30, 31))
	for range 200 {
		raw := make([]byte, pages*pageSize)
		for i := range raw {
			raw[i] = byte(r.Uint32())
		}
		m := &image{file: bytes.NewReader(raw), size: int64(len(raw)), pageSize: pageSize, metas: make([]byte, 2*pageSize)}
		for i := range m.metas {
			m.metas[i] = byte(i)
		}
		want := bytes.Clone(raw)
		copy(want, m.metas)
		for p := uint64(2); p < pages; {
			end := min(p+1+r.Uint64N(5), pages)
			if r.IntN(2) == 0 {
				m.free = append(m.free, pageRun{p, end})
				clear(want[p*pageSize : end*pageSize])
			}
			p = end + 1
		}
		for range 50 {
			off, buf := r.IntN(len(raw)+10), make([]byte, r.IntN(20*pageSize))
			n, err := m.ReadAt(buf, int64(off))
			exp := want[min(off, len(want)):min(off+len(buf), len(want))]
			if !bytes.Equal(buf[:n], exp) || (err != nil) != (off+len(buf) > len(want) || off >= len(want)) {
				t.Fatalf("ReadAt(%d, %d) = %d, %v; free %v", len(buf), off, n, err, m.free)
			}
		}
	}
}

func TestImageOfAShortFile(t *testing.T) {
	const pageSize = 512
	full := bytes.Repeat([]byte("bolt"), 8*pageSize/4)
	tests := []struct {
		name  string
		pages int
		free  []pageRun
		ok    bool
	}{
		{"whole", 8, nil, true},
		{"tail free", 6, []pageRun{{6, 8}}, true},
		{"free from before the end", 6, []pageRun{{3, 8}}, true},
		{"live page missing", 6, []pageRun{{7, 8}}, false},
		{"live page missing behind a free one", 6, []pageRun{{6, 7}}, false},
		{"nothing known", 6, nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := &image{file: bytes.NewReader(full[:tt.pages*pageSize]), size: 8 * pageSize, pageSize: pageSize,
				metas: full[:2*pageSize], free: tt.free}
			got, err := io.ReadAll(io.NewSectionReader(m, 0, m.size))
			if tt.ok && (err != nil || len(got) != 8*pageSize) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			if !tt.ok && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%d bytes, %v; want ErrUnexpectedEOF", len(got), err)
			}
		})
	}
}

func freelistPage(id uint64, flags, count uint16, ids ...uint64) []byte {
	p := binary.NativeEndian.AppendUint64(nil, id)
	p = binary.NativeEndian.AppendUint16(p, flags)
	p = binary.NativeEndian.AppendUint16(p, count)
	p = binary.NativeEndian.AppendUint32(p, 0)
	for _, id := range ids {
		p = binary.NativeEndian.AppendUint64(p, id)
	}
	return p
}

func TestParseFreelist(t *testing.T) {
	tests := []struct {
		name string
		page []byte
		want []pageRun
		ok   bool
	}{
		{"empty", freelistPage(9, 0x10, 0), nil, true},
		{"runs", freelistPage(9, 0x10, 5, 2, 3, 5, 7, 8), []pageRun{{2, 4}, {5, 6}, {7, 9}}, true},
		{"long count", freelistPage(9, 0x10, 0xFFFF, 2, 4, 5), []pageRun{{4, 6}}, true},
		{"room to spare", freelistPage(9, 0x10, 1, 4, 4, 4), []pageRun{{4, 5}}, true},
		{"another page", freelistPage(8, 0x10, 1, 4), nil, false},
		{"a leaf", freelistPage(9, 0x02, 1, 4), nil, false},
		{"too many", freelistPage(9, 0x10, 3, 4, 5), nil, false},
		{"far too many", freelistPage(9, 0x10, 0xFFFF, 1<<63, 5), nil, false},
		{"no count", freelistPage(9, 0x10, 0xFFFF), nil, false},
		{"meta page", freelistPage(9, 0x10, 1, 1), nil, false},
		{"beyond the end", freelistPage(9, 0x10, 1, 100), nil, false},
		{"twice", freelistPage(9, 0x10, 2, 4, 4), nil, false},
		{"unsorted", freelistPage(9, 0x10, 2, 5, 4), nil, false},
		{"cut", freelistPage(9, 0x10, 0)[:15], nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseFreelist(tt.page, 9, 100)
			if tt.ok != (err == nil) || !tt.ok && !errors.Is(err, ErrFormat) {
				t.Fatalf("error: %v", err)
			}
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(pageRun{})); diff != "" {
				t.Error(diff)
			}
		})
	}
	page := freelistPage(9, 0x10, 1, 4)
	binary.NativeEndian.PutUint32(page[12:], 1<<31)
	if _, err := readFreelist(bytes.NewReader(page), 9, 100, 512); err == nil {
		t.Error("a freelist beyond the file was read")
	}
	if _, err := readFreelist(bytes.NewReader(page), 0, 100, 512); !errors.Is(err, ErrFormat) {
		t.Errorf("a freelist in the meta page: %v", err)
	}
}

func FuzzParseFreelist(f *testing.F) {
	f.Add(freelistPage(9, 0x10, 5, 2, 3, 5, 7, 8), uint64(100))
	f.Add(freelistPage(9, 0x10, 0xFFFF, 2, 4, 5), uint64(6))
	f.Fuzz(func(t *testing.T, page []byte, highWater uint64) {
		runs, err := parseFreelist(page, 9, highWater)
		if err != nil {
			return
		}
		last := uint64(1)
		for _, r := range runs {
			if r.start <= last || r.end <= r.start || r.end > highWater {
				t.Fatalf("runs %v with high water %d", runs, highWater)
			}
			last = r.end
		}
	})
}

func FuzzParseMeta(f *testing.F) {
	f.Add(make([]byte, 80))
	f.Fuzz(func(t *testing.T, page []byte) {
		if _, ok := parseMeta(page); ok && len(page) < metaEnd {
			t.Fatal("a short meta page passed")
		}
	})
}

func TestHeadroom(t *testing.T) {
	for _, tt := range []struct{ size, want int64 }{
		{0, 32 << 10}, {32 << 10, 0}, {32<<10 + 1, 32<<10 - 1}, {1 << 30, 0}, {1<<30 + 4096, 1<<30 - 4096}, {3 << 30, 0},
	} {
		if got := headroom(tt.size); got != tt.want {
			t.Errorf("headroom(%d) = %d, want %d", tt.size, got, tt.want)
		}
	}
}
