package repo

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/holdstill/holdstill/chunk"
)

// segmentBytes returns a segment of made-up indexes, and what it should say.
func segmentBytes(t testing.TB, repository [32]byte, packs, each int) ([]byte, map[chunk.ID][]location) {
	t.Helper()
	all := madePacks(rand.New(rand.NewPCG(3, uint64(packs))), packs, each)
	_, x := buildIndex(all, []indexID{{1}, {2}})
	f, err := os.Create(filepath.Join(t.TempDir(), "segment"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := writeSegment(t.Context(), f, repository, []recordSource{x}, []indexInfo{x.info()}); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return data, placesOf(all)
}

func TestSegmentSaysWhatItsIndexesSay(t *testing.T) {
	for _, n := range []struct{ packs, each int }{{1, 1}, {1, 49}, {1, 50}, {2, 51}, {40, 170}} {
		data, want := segmentBytes(t, [32]byte{7}, n.packs, n.each)
		g, err := parseSegment(&mapping{name: "segment", data: data}, [32]byte{7})
		if err != nil {
			t.Fatal(err)
		}
		wantPlaces(t, &indexSet{segments: []*segment{g}}, want)
		if err := g.err(); err != nil {
			t.Error(err)
		}
		if len(g.covers) != 1 || !slices.Equal(g.covers[0].superseded, []indexID{{1}, {2}}) {
			t.Errorf("covers %+v", g.covers)
		}
	}
	// Without any record.
	f, err := os.Create(filepath.Join(t.TempDir(), "segment"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := writeSegment(t.Context(), f, [32]byte{}, nil, nil); err != nil {
		t.Fatal(err)
	}
	if g, err := openSegment(f.Name(), [32]byte{}); err != nil || g.has(&chunk.ID{}) {
		t.Errorf("an empty segment: %v", err)
	}
}

// reseal makes the checksums of a segment right, as far as its head says where they are,
// so that what is behind them is tried.
func reseal(data []byte) {
	if len(data) < segmentBlock {
		return
	}
	l := segmentLayout{}
	for i, n := range []*int64{&l.coverBytes, &l.packs, &l.buckets, &l.records} {
		*n = int64(binary.LittleEndian.Uint64(data[48+8*i:]))
	}
	if l.place() && l.total == int64(len(data)) {
		for b := int64(1); b < l.sumsAt/segmentBlock; b++ {
			binary.LittleEndian.PutUint32(data[l.sumsAt+4*b:], crc32.Checksum(data[b*segmentBlock:][:segmentBlock], castagnoli))
		}
		binary.LittleEndian.PutUint32(data[80:], crc32.Checksum(data[l.sumsAt:], castagnoli))
	}
	binary.LittleEndian.PutUint32(data[segmentBlock-4:], crc32.Checksum(data[:segmentBlock-4], castagnoli))
}

// Whatever a file of the cache holds, asking it ends with an answer or with damage
// noted. change is written over it at some place, and unless raw is set the checksums are
// made right.
func FuzzSegment(f *testing.F) {
	repository := [32]byte{9}
	sound, _ := segmentBytes(f, repository, 3, 60)
	f.Add(0, []byte{}, false, len(sound))
	f.Add(56, []byte{1, 0, 0, 0, 0, 0, 0, 0}, false, len(sound))
	f.Add(3*segmentBlock, []byte{255, 255, 255, 255, 0, 0, 0, 0}, false, len(sound))
	f.Add(segmentBlock+40, []byte{255, 255, 255, 255}, false, len(sound))
	f.Add(5*segmentBlock+32, bytes.Repeat([]byte{255}, 16), false, len(sound))
	f.Add(2*segmentBlock, make([]byte, 200), true, len(sound))
	f.Add(8, []byte{2}, false, len(sound))
	f.Add(0, []byte{}, true, segmentBlock-1)
	f.Fuzz(func(t *testing.T, at int, change []byte, raw bool, length int) {
		if length < 0 || length > len(sound)+segmentBlock || at < 0 || at > len(sound) {
			return
		}
		data := make([]byte, length)
		copy(data, sound)
		if at < length {
			copy(data[at:], change)
		}
		if !raw {
			reseal(data)
		}
		g, err := parseSegment(&mapping{name: "segment", data: data}, repository)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrFormat) {
				t.Fatalf("%v is not typed", err)
			}
			return
		}
		ids := []chunk.ID{{}, {0: 255}}
		for i := 5 * segmentBlock; i+32 <= len(data) && len(ids) < 100; i += indexRecordSize {
			ids = append(ids, chunk.ID(data[i:]))
		}
		for _, id := range ids {
			for _, l := range g.locate(&id, nil) {
				if !entrySizesValid(l.stored, l.plain) {
					t.Fatalf("an impossible place: %+v", l)
				}
			}
			g.has(&id)
			g.locateOne(&id, true)
			g.findPack(packID(id))
			if err := g.recheck(&id); err != nil && !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%v is not typed", err)
			}
		}
		for _, err := range (&indexSet{segments: []*segment{g}}).all() {
			if err != nil && !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%v is not typed", err)
			}
		}
	})
}
