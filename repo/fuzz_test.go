package repo

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io/fs"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/zeebo/blake3"

	"github.com/holdstill/holdstill/chunk"
)

func wantTyped(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrFormat) {
		t.Fatalf("an error that callers cannot tell: %v", err)
	}
}

// FuzzUnseal reads the input as a sealed document, and as the document in one: what
// is taken as a manifest can be written and read again.
func FuzzUnseal(f *testing.F) {
	for _, doc := range []string{
		`{}`, `{"a":1}`, `[]`, `null`, ` {} `, `{"id":"x","table":{"depth":1,"refs":[]}}`, `{"id":"s","created":"2026-03-14T15:09:26Z"}`,
		`{"id":"s","table":{"depth":0,"refs":[{"id":"` + strings.Repeat("0a", 32) + `","span":9}]}}`, "{\"id\":\"s\",\"label\":\"\xff\"}",
	} {
		f.Add([]byte(doc))
		f.Add(sealedAs("1", []byte(doc)))
		f.Add(sealedAs("2", []byte(doc)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var raw json.RawMessage
		if err := unseal("x", data, &raw); err == nil {
			doc := data[len(sealHead)+1+len(sealSum)+sealHexLen+len(sealDoc) : len(data)-len(sealTail)]
			if !bytes.Equal(sealedAs("1", doc), data) || !bytes.Equal(bytes.TrimSpace(doc), raw) {
				t.Fatalf("%q was read as %q", data, raw)
			}
		} else {
			wantTyped(t, err)
		}
		var m Manifest
		err := unseal("snapshot/s", sealedAs("1", data), &m)
		if err == nil {
			err = m.check("snapshot/s")
		}
		if err != nil {
			wantTyped(t, err)
			return
		}
		_, again, err := renderManifest(&m, sessionID{1})
		if err != nil {
			t.Fatalf("read, but cannot be written: %v", err)
		}
		var m2 Manifest
		if err := unseal("snapshot/s", again, &m2); err != nil {
			t.Fatal(err)
		}
		_, third, err := renderManifest(&m2, sessionID{1})
		if err != nil || !bytes.Equal(again, third) {
			t.Fatalf("%q is written again as %q: %v", again, third, err)
		}
	})
}

// samplePack is a pack with a fixed salt, and its ID.
func samplePack(plains ...string) ([]byte, packID) {
	var b packBuilder
	b.reset()
	for _, p := range plains {
		start := len(b.buf)
		b.buf = append(b.buf, p...)
		b.add(chunk.Identify([]byte(p)), start, len(p), chunk.Raw)
	}
	id := b.finishSalted([packSaltSize]byte{0xaa, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0xbb})
	return b.buf, id
}

func FuzzPackFooter(f *testing.F) {
	one, _ := samplePack("holdstill")
	f.Add(one)
	two, _ := samplePack("a", "bc")
	f.Add(two)
	withDelta, _ := vectorPack()
	f.Add(withDelta)
	f.Add(bytes.Replace(two, []byte(packMagic), []byte("HOLDSACK"), 1))
	f.Add(one[:len(one)-1])
	f.Fuzz(func(t *testing.T, data []byte) {
		size := int64(len(data))
		if size < packHeaderSize+packTrailerSize {
			return
		}
		header, rest := data[:packHeaderSize], data[:size-packTrailerSize]
		trailer, err := parsePackTrailer("x", data[size-packTrailerSize:], size)
		if err != nil {
			wantTyped(t, err)
			return
		}
		footer := rest[int64(len(rest))-trailer.footerLength:]
		// The name is made to fit: otherwise no input would get past it.
		p, err := parsePackFooter(nil, "x", packInfo{sumPack(header, footer), size}, header, footer)
		if err != nil {
			wantTyped(t, err)
			return
		}
		again := bytes.Clone(footer[:footerHeadSize])
		for _, e := range p.entries {
			again = appendPackEntry(again, e)
			if e.end() > size || e.plain > chunk.MaxSize {
				t.Fatalf("entry %+v in a pack of %d bytes", e, size)
			}
		}
		for _, base := range p.bases {
			again = append(again, base[:]...)
		}
		if !bytes.Equal(again, footer) {
			t.Fatal("the footer is encoded differently")
		}
	})
}

// sampleIndex is an index of samplePack that supersedes another.
func sampleIndex() ([]byte, *index) {
	pack, id := samplePack("holdstill", "the quick brown fox")
	size := int64(len(pack))
	trailer, _ := parsePackTrailer("", pack[size-packTrailerSize:], size)
	footer := pack[size-packTrailerSize-trailer.footerLength : size-packTrailerSize]
	p, _ := parsePackFooter(nil, "", packInfo{id, size}, pack[:packHeaderSize], footer)
	return buildIndex([]packContent{p}, []indexID{blake3.Sum256([]byte("an older index"))})
}

func FuzzIndex(f *testing.F) {
	sample, x := sampleIndex()
	f.Add(sample)
	merged, _ := mergeIndexes([]*index{x, x}, sessionID{1})
	f.Add(merged)
	empty, _ := buildIndex(nil, nil)
	f.Add(empty)
	f.Add(sample[:len(sample)-1])
	f.Add(append([]byte(indexMagic), bytes.Repeat([]byte{0xff}, 60)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		x, err := parseIndex("x", blake3.Sum256(data), data)
		if err != nil {
			wantTyped(t, err)
			return
		}
		again := append(appendIndexHead(x.packs, x.superseded, x.count()), x.records...)
		if !bytes.Equal(again, data) {
			t.Fatal("the index is encoded differently")
		}
		set := &indexSet{indexes: []*index{x}}
		for i := range x.count() {
			id := chunk.ID(x.recordID(i))
			if n := x.find(&id); n > i || chunk.ID(x.recordID(n)) != id {
				t.Fatalf("record %d is found at %d", i, n)
			}
			if len(set.locate(&id)) == 0 {
				t.Fatal("a chunk of the index has no place")
			}
		}
		if _, m := mergeIndexes([]*index{x, x}, sessionID{1}); m.count() > x.count() {
			t.Fatalf("%d records merge to %d", x.count(), m.count())
		}
	})
}

func FuzzNode(f *testing.F) {
	node := appendRef(appendRef(nil, Ref{fakeID(1), 300}), Ref{fakeID(2), 7})
	f.Add(node, int64(307))
	f.Add(node, int64(308))
	f.Add(node[:79], int64(307))
	f.Add([]byte{}, int64(0))
	f.Fuzz(func(t *testing.T, data []byte, span int64) {
		refs, err := parseNode(data, span)
		if err != nil {
			return
		}
		var again []byte
		for _, r := range refs {
			again = appendRef(again, r)
		}
		if !bytes.Equal(again, data) || (Content{Refs: refs}).Size() != span {
			t.Fatalf("%d refs of %d bytes", len(refs), span)
		}
	})
}

func FuzzBlock(f *testing.F) {
	x := fileOf("dir/file")
	x.Size, x.Content = 5, Content{Refs: []Ref{{fakeID(1), 5}}}
	d := File{Path: "a", Mode: fs.ModeDir | 0o755, ModTime: testTime, Identity: "i", Class: 3, PageSize: 4096}
	one := appendFile([]byte{1}, &x)
	f.Add(one)
	f.Add(appendFile(appendFile([]byte{2}, &d), &x))
	f.Add(append([]byte{0x81, 0}, one[1:]...)) // a count that is not in its shortest form
	f.Add(one[:len(one)-1])
	f.Add([]byte{0})
	f.Fuzz(func(t *testing.T, data []byte) {
		files, err := parseBlock(data, "")
		if err != nil {
			wantTyped(t, err)
			return
		}
		again := appendUvarint(len(files))
		for i := range files {
			again = appendFile(again, &files[i])
		}
		if !bytes.Equal(again, data) {
			t.Fatalf("the block is encoded differently: %s", cmp.Diff(data, again))
		}
	})
}

var goodID = regexp.MustCompile(`\A[A-Za-z0-9_-][A-Za-z0-9._-]{0,239}\z`)

func FuzzCheckID(f *testing.F) {
	for _, id := range []string{"", ".", "a", "2026-03-14T15.09.26Z_x", "a/b", "ä", "a\x00", strings.Repeat("x", 241), "pack/../x"} {
		f.Add(id)
	}
	f.Fuzz(func(t *testing.T, id string) {
		err := CheckID(id)
		if (err == nil) != goodID.MatchString(id) || err != nil && !errors.Is(err, ErrBadID) {
			t.Fatalf("CheckID(%q) = %v", id, err)
		}
		if err == nil && !fs.ValidPath(id) {
			t.Fatalf("%q is no file name", id)
		}
		if pid, ok := parsePackKey(id); ok && packKey(pid) != id {
			t.Fatalf("%q is taken as the key of pack %s", id, pid)
		}
		if xid, ok := parseIndexKey(id); ok && indexKey(xid) != id {
			t.Fatalf("%q is taken as the key of an index", id)
		}
	})
}

func appendUvarint(n int) []byte { return binary.AppendUvarint(nil, uint64(n)) }
