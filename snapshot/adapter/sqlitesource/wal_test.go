package sqlitesource

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// makeWAL writes a log of one-page frames, each of the given page; the last one
// commits a database of pages pages.
func makeWAL(pageSize int64, pages uint32, frames ...uint32) ([]byte, *indexHeader) {
	h := &indexHeader{pageSize: pageSize, maxFrame: uint32(len(frames)), pages: pages, salt: [8]byte{1, 2, 3, 4, 5, 6, 7, 8}}
	b := binary.BigEndian.AppendUint32(nil, walMagic)
	b = binary.BigEndian.AppendUint32(b, walVersion)
	b = binary.BigEndian.AppendUint32(b, uint32(pageSize))
	b = binary.BigEndian.AppendUint32(b, 7)
	b = append(b, h.salt[:]...)
	s0, s1 := walChecksum(binary.LittleEndian, b, 0, 0)
	b = binary.BigEndian.AppendUint32(b, s0)
	b = binary.BigEndian.AppendUint32(b, s1)
	r := rand.New(rand.NewPCG(140, uint64(len(frames))))
	for i, page := range frames {
		at := len(b)
		b = binary.BigEndian.AppendUint32(b, page)
		commit := uint32(0)
		if i == len(frames)-1 {
			commit = pages
		}
		b = binary.BigEndian.AppendUint32(b, commit)
		body := make([]byte, pageSize)
		for i := range body {
			body[i] = byte(r.Uint32())
		}
		s0, s1 = walChecksum(binary.LittleEndian, b[at:], s0, s1)
		s0, s1 = walChecksum(binary.LittleEndian, body, s0, s1)
		b = append(b, h.salt[:]...)
		b = binary.BigEndian.AppendUint32(b, s0)
		b = binary.BigEndian.AppendUint32(b, s1)
		b = append(b, body...)
	}
	h.checksum = [2]uint32{s0, s1}
	return b, h
}

func TestIndexWAL(t *testing.T) {
	ctx := t.Context()
	log, h := makeWAL(512, 9, 3, 1, 3, 9)
	idx, err := indexWAL(ctx, bytes.NewReader(log), h)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[uint32]uint32{1: 2, 3: 3, 9: 4}, idx.frames); diff != "" {
		t.Error(diff)
	}
	tests := []struct {
		name string
		log  func(b []byte)
		head func(h *indexHeader)
		want error
	}{
		{name: "magic", log: func(b []byte) { b[0]++ }, want: ErrFormat},
		{name: "other byte order", log: func(b []byte) { b[3] |= 1 }, want: ErrFormat},
		{name: "version", log: func(b []byte) { b[7]++ }, want: ErrFormat},
		{name: "header checksum", log: func(b []byte) { b[13]++ }, want: ErrFormat},
		{name: "salt", head: func(h *indexHeader) { h.salt[0]++ }, want: ErrFormat},
		{name: "page size", head: func(h *indexHeader) { h.pageSize = 1024 }, want: ErrFormat},
		{name: "frame salt", log: func(b []byte) { b[frameOffset(2, 512)+8]++ }, want: ErrFormat},
		{name: "page 0", log: func(b []byte) { b[frameOffset(2, 512)+3] = 0 }, want: ErrFormat},
		{name: "commit of another size", head: func(h *indexHeader) { h.pages++ }, want: ErrFormat},
		{name: "not a commit", head: func(h *indexHeader) { h.maxFrame-- }, want: ErrFormat},
		{name: "checksum", head: func(h *indexHeader) { h.checksum[0]++ }, want: ErrFormat},
		{name: "too short", head: func(h *indexHeader) { h.maxFrame++ }, want: io.ErrUnexpectedEOF},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			log, h := makeWAL(512, 9, 3, 1, 3, 9)
			if tt.log != nil {
				tt.log(log)
			}
			if tt.head != nil {
				tt.head(h)
			}
			if _, err := indexWAL(ctx, bytes.NewReader(log), h); !errors.Is(err, tt.want) {
				t.Errorf("error: %v, want %v", err, tt.want)
			}
		})
	}
	t.Run("context", func(t *testing.T) {
		log, h := makeWAL(512, 9, make([]uint32, 3000)...)
		for n := range uint32(3000) {
			log[frameOffset(n+1, 512)+3] = 1
		}
		canceled, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := indexWAL(canceled, bytes.NewReader(log), h); !errors.Is(err, context.Canceled) {
			t.Errorf("error: %v", err)
		}
	})
}

func indexHeaderBytes(h *indexHeader) []byte {
	b := make([]byte, 40)
	binary.NativeEndian.PutUint32(b, walVersion)
	b[12] = 1
	binary.NativeEndian.PutUint16(b[14:], uint16(h.pageSize&0xff00|h.pageSize>>16))
	binary.NativeEndian.PutUint32(b[16:], h.maxFrame)
	binary.NativeEndian.PutUint32(b[20:], h.pages)
	binary.NativeEndian.PutUint32(b[24:], h.checksum[0])
	binary.NativeEndian.PutUint32(b[28:], h.checksum[1])
	copy(b[32:], h.salt[:])
	s0, s1 := walChecksum(binary.NativeEndian, b, 0, 0)
	b = binary.NativeEndian.AppendUint32(b, s0)
	return binary.NativeEndian.AppendUint32(b, s1)
}

func TestParseIndexHeader(t *testing.T) {
	for _, size := range []int64{512, 4096, 32768, 65536} {
		_, want := makeWAL(size, 9, 3, 9)
		got, err := parseIndexHeader(indexHeaderBytes(want))
		if err != nil {
			t.Fatalf("%d: %v", size, err)
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(indexHeader{})); diff != "" {
			t.Error(diff)
		}
	}
	_, h := makeWAL(4096, 9, 3, 9)
	b := indexHeaderBytes(h)
	for i := range b {
		bad := bytes.Clone(b)
		bad[i] ^= 0x10
		if _, err := parseIndexHeader(bad); !errors.Is(err, ErrFormat) {
			t.Errorf("byte %d changed: %v", i, err)
		}
	}
	if _, err := parseIndexHeader(b[:47]); !errors.Is(err, ErrFormat) {
		t.Errorf("cut: %v", err)
	}
	h.pageSize = 0x600
	if _, err := parseIndexHeader(indexHeaderBytes(h)); !errors.Is(err, ErrFormat) {
		t.Errorf("page size: %v", err)
	}
}

func FuzzIndexWAL(f *testing.F) {
	log, h := makeWAL(512, 9, 3, 1, 3, 9)
	f.Add(log, indexHeaderBytes(h))
	f.Add([]byte{}, make([]byte, 48))
	f.Fuzz(func(t *testing.T, log, header []byte) {
		// Both as given and with a right checksum, which random bytes never have.
		if len(header) >= 48 {
			header = bytes.Clone(header)
			s0, s1 := walChecksum(binary.NativeEndian, header[:40], 0, 0)
			binary.NativeEndian.PutUint32(header[40:], s0)
			binary.NativeEndian.PutUint32(header[44:], s1)
		}
		h, err := parseIndexHeader(header)
		if err != nil {
			return
		}
		idx, err := indexWAL(t.Context(), bytes.NewReader(log), h)
		if err != nil {
			return
		}
		for n := range maps.Values(idx.frames) {
			if n == 0 || n > h.maxFrame || frameOffset(n, h.pageSize)+frameHeaderSize > int64(len(log)) {
				t.Fatalf("frame %d of %d in a log of %d bytes", n, h.maxFrame, len(log))
			}
		}
	})
}

// sparse is a large file of which each byte tells its page. Like a locked range
// on Windows, the lock page cannot be read.
type sparse struct {
	t    *testing.T
	size int64
	page int64
}

func (s sparse) ReadAt(p []byte, off int64) (int, error) {
	lock := lockPageOffset / s.page * s.page
	if off < lock+s.page && off+int64(len(p)) > lock {
		s.t.Errorf("the lock page is read: %d bytes at %d", len(p), off)
	}
	n := 0
	for ; n < len(p) && off+int64(n) < s.size; n++ {
		p[n] = byte((off+int64(n))/s.page) | 1
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func TestOverlayAroundTheLockPage(t *testing.T) {
	for _, page := range []int64{512, 4096, 65536} {
		main := sparse{t: t, size: lockPageOffset + 3*page, page: page}
		o := &overlay{main: main, pageSize: page, index: &walIndex{}}
		f := &pagedFile{pages: o, pageSize: page, size: lockPageOffset + 5*page}
		for _, r := range []struct{ from, to int64 }{{-3 * page, 6 * page}, {0, page}, {page / 2, page}, {-1, 1}, {-page, 0}, {page - 1, 4 * page}} {
			buf := bytes.Repeat([]byte{0xEE}, int(r.to-r.from))
			n, err := f.ReadAt(buf, lockPageOffset+r.from)
			end := min(lockPageOffset+r.to, f.size)
			if int64(n) != end-lockPageOffset-r.from || err != nil && err != io.EOF {
				t.Fatalf("%+v: %d, %v", r, n, err)
			}
			for i, b := range buf[:n] {
				at := lockPageOffset + r.from + int64(i)
				want := byte(at/page) | 1
				if at >= main.size || at >= lockPageOffset && at < lockPageOffset+page {
					want = 0
				}
				if b != want {
					t.Fatalf("page size %d: byte at %d is %d, want %d", page, at-lockPageOffset, b, want)
				}
			}
		}
	}
}

// A log that is reset in spite of the open transaction must not pass.
func TestOverlayChecksFrames(t *testing.T) {
	log, h := makeWAL(512, 4, 2, 3, 4)
	idx, err := indexWAL(t.Context(), bytes.NewReader(log), h)
	if err != nil {
		t.Fatal(err)
	}
	o := &overlay{main: bytes.NewReader(nil), wal: bytes.NewReader(log), index: idx, pageSize: 512}
	p := make([]byte, 3*512)
	if err := o.readPages(p, 1); err != nil {
		t.Fatal(err)
	}
	if want := log[frameOffset(2, 512)+frameHeaderSize:][:512]; !bytes.Equal(p[512:1024], want) {
		t.Error("page 3 is not the one in frame 2")
	}
	log[frameOffset(2, 512)+9]++
	if err := o.readPages(p, 1); !errors.Is(err, ErrFormat) {
		t.Errorf("other salts: %v", err)
	}
	log[frameOffset(2, 512)+9]--
	log[frameOffset(2, 512)+3] = 4
	if err := o.readPages(p, 1); !errors.Is(err, ErrFormat) {
		t.Errorf("other page: %v", err)
	}
	o.wal = bytes.NewReader(log[:frameOffset(3, 512)])
	if err := o.readPages(p[:512], 3); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a cut log: %v", err)
	}
}
