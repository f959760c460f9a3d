package repo

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/holdstill/holdstill/chunk"
)

// vectorBase and vectorDelta are two chunks of 100 bytes, the second stored as the
// difference to the first in the form vectorFrame. That is pinned, since encoders may
// find other frames for the same bytes.
func vectorBase() []byte {
	var b []byte
	for n := range 100 {
		b = append(b, byte(n))
	}
	return b
}

func vectorDelta() []byte {
	b := vectorBase()
	copy(b[50:], "holdstill")
	return b
}

const vectorFrame = "8e2eb1bba3040b8f611a1240a0e111c74b45cfc9caed10b95f6372db1c40b8b5" +
	"28b52ffd206495000048686f6c647374696c6c0210064ee83e2320"

// vectorS2 is an S2 block with every kind of element: literals, a copy with each size of offset,
// and repeats of the three shortest forms.
const vectorS2 = "fb0220686f6c647374696c6c0909002301000021150016190028004e2c011373010000f002656e64"

// vectorS2Plain is what it holds, put together step by step.
func vectorS2Plain() []byte {
	b := []byte("holdstill")
	again := func(length, offset int) {
		for range length {
			b = append(b, b[len(b)-offset])
		}
	}
	again(6, 9)
	b = append(b, '#')
	again(4, 9)
	b = append(b, '!')
	again(30, 9)
	again(300, 9)
	again(20, 300)
	again(5, 371)
	return append(b, "end"...)
}

// vectorManifest is of a snapshot whose file table is the block among the vectors.
func vectorManifest() storedManifest {
	return storedManifest{&Manifest{
		ID: "2026-03-14T15.09.26Z_nightly", Created: time.Date(2026, 3, 14, 15, 9, 26, 535897932, time.UTC), Label: "nightly",
		Consistency: ConsistencyFrozen, Sources: []SourceInfo{{Name: "kv"}},
		Stats: Stats{Files: 1, Bytes: 9}, Table: Content{Refs: []Ref{{vectorBlockID(), int64(len(vectorBlock()))}}},
	}, vectorSession}
}

const vectorSession = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

func vectorBlock() []byte {
	return appendFile([]byte{1}, &File{
		Path: "kv/CURRENT", Mode: fs.FileMode(0o640), ModTime: time.Date(2026, 3, 14, 15, 9, 26, 535897932, time.UTC), Size: 9,
		Class: 1, PageSize: 4096, Identity: "7", Content: Content{Refs: []Ref{{chunk.Identify([]byte("holdstill")), 9}}},
	})
}

func vectorBlockID() chunk.ID { return chunk.Identify(vectorBlock()) }

// sealedLine is a sealed document without its line feed.
func sealedLine(v any) string {
	b, err := seal(v)
	if err != nil {
		panic(err)
	}
	return strings.TrimSuffix(string(b), "\n")
}

// vectorPack is a pack of both, with a fixed salt.
func vectorPack() ([]byte, packID) {
	var b packBuilder
	b.reset()
	start := len(b.buf)
	b.buf = append(b.buf, vectorBase()...)
	b.add(chunk.Identify(vectorBase()), start, 100, chunk.Raw)
	start = len(b.buf)
	b.buf, _ = hex.AppendDecode(b.buf, []byte(vectorFrame))
	b.add(chunk.Identify(vectorDelta()), start, 100, chunk.Delta)
	id := b.finishSalted([packSaltSize]byte{0xaa, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0xbb})
	return b.buf, id
}

// formatVectors computes what FORMAT.md gives as test vectors: hexadecimal, in
// lines of 64 digits, or text.
func formatVectors() map[string]string {
	text := []byte("holdstill")
	id := chunk.Identify(text)
	pack, packID := samplePack("holdstill")
	entries := []packEntry{{id: id, offset: packHeaderSize, stored: 9, plain: 9, codec: chunk.Raw}}
	index, x := buildIndex([]packContent{{packInfo: packInfo{packID, int64(len(pack))}, entries: entries}}, nil)
	base, delta := chunk.Identify(vectorBase()), chunk.Identify(vectorDelta())
	deltaPack, _ := vectorPack()
	node := appendRef(appendRef(nil, Ref{id, 9}), Ref{id, 9})
	s2Plain := chunk.Identify(vectorS2Plain())
	m := vectorManifest()
	doc := `{"id":"00112233445566778899aabbccddeeff","requires":[],"hash":"blake3-256","cut":{"min":65536,"avg":262144,"max":1048576}}`
	return map[string]string{
		"chunk ID of the 9 bytes \"holdstill\"": hexOf(id[:]),
		"pack":                                  hexOf(pack),
		"chunk ID of the base":                  hexOf(base[:]),
		"chunk ID of the delta":                 hexOf(delta[:]),
		"delta":                                 vectorFrame,
		"pack of base and delta":                hexOf(deltaPack),
		"pack key":                              packKey(packID),
		"index":                                 hexOf(index),
		"index key":                             indexKey(x.id),
		"node":                                  hexOf(node),
		"block":                                 hexOf(vectorBlock()),
		"S2 block":                              vectorS2,
		"chunk ID of what the S2 block holds":   hexOf(s2Plain[:]),
		"manifest":                              sealedLine(m),
		"verdict":                               sealedLine(verdict{[]string{m.ID}}),
		"holdstill.json":                        strings.TrimSuffix(string(sealedAs("1", []byte(doc))), "\n"),
	}
}

// readVectors takes the vectors out of FORMAT.md: a name, then indented lines.
func readVectors(t *testing.T, fence string) map[string]string {
	t.Helper()
	doc, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(doc), "```"+fence+"\n")
	block, _, ok2 := strings.Cut(rest, "```")
	if !ok || !ok2 {
		t.Fatal("FORMAT.md has no block of vectors")
	}
	out := make(map[string]string)
	name := ""
	for line := range strings.Lines(block) {
		value, indented := strings.CutPrefix(strings.TrimRight(line, "\r\n"), "    ")
		if !indented {
			name = value
			continue
		}
		out[name] += value
	}
	return out
}

// FORMAT.md is kept true by this test.
func TestFormatVectors(t *testing.T) {
	if diff := cmp.Diff(formatVectors(), readVectors(t, "vectors")); diff != "" {
		t.Errorf("FORMAT.md (+) says other than the code (-):\n%s", diff)
	}
}

// The vectors of FORMAT.md are read by the code as what they say they are.
func TestFormatVectorsRead(t *testing.T) {
	pack, id := samplePack("holdstill")
	d := newTestDriver()
	v := formatVectors()
	d.put(configKey, []byte(v["holdstill.json"]+"\n"))
	d.put(v["pack key"], pack)
	deltaPack, deltaID := vectorPack()
	d.put(packKey(deltaID), deltaPack)
	r := openTestRepo(t, d.bucket(t), Options{})
	if r.ID() != "00112233445566778899aabbccddeeff" || v["pack key"] != packKey(id) {
		t.Errorf("repository %s, pack %s", r.ID(), v["pack key"])
	}
	done, err := r.RebuildIndex(t.Context(), RebuildOptions{})
	if err != nil || done.Packs != 2 || done.Chunks != 3 {
		t.Errorf("rebuilt %+v as %q: %v", done, d.keys(indexPrefix), err)
	}
	got, err := r.ReadChunk(t.Context(), chunk.Identify([]byte("holdstill")), nil)
	if err != nil || string(got) != "holdstill" {
		t.Errorf("chunk %q: %v", got, err)
	}
	got, err = r.ReadChunk(t.Context(), chunk.Identify(vectorDelta()), nil)
	if err != nil || !bytes.Equal(got, vectorDelta()) {
		t.Errorf("chunk %q: %v", got, err)
	}
	var b packBuilder
	b.reset()
	start := len(b.buf)
	b.buf, _ = hex.AppendDecode(b.buf, []byte(vectorS2))
	b.add(chunk.Identify(vectorS2Plain()), start, len(vectorS2Plain()), chunk.S2)
	start = len(b.buf)
	b.buf = append(b.buf, vectorBlock()...)
	b.add(vectorBlockID(), start, len(vectorBlock()), chunk.Raw)
	otherID := b.finish()
	d.put(packKey(otherID), b.buf)
	d.put(snapshotPrefix+vectorManifest().ID, []byte(v["manifest"]+"\n"))
	if _, err := r.RebuildIndex(t.Context(), RebuildOptions{}); err != nil {
		t.Fatal(err)
	}
	got, err = r.ReadChunk(t.Context(), chunk.Identify(vectorS2Plain()), nil)
	if err != nil || !bytes.Equal(got, vectorS2Plain()) {
		t.Errorf("chunk %q: %v", got, err)
	}
	wantSnapshot(t, r, vectorManifest().ID, map[string][]byte{"kv/CURRENT": []byte("holdstill")})

	// The verdict names the manifest, and bars every other one of its session.
	d.put(sessionGarbage+vectorSession+verdictSuffix, []byte(v["verdict"]+"\n"))
	other := vectorManifest()
	other.ID = "other"
	d.put(snapshotPrefix+"other", []byte(sealedLine(other)+"\n"))
	r = openTestRepo(t, d.bucket(t), Options{})
	wantSnapshot(t, r, vectorManifest().ID, map[string][]byte{"kv/CURRENT": []byte("holdstill")})
	if _, err := r.Manifest(t.Context(), "other"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a snapshot that the verdict does not name: %v", err)
	}
}
