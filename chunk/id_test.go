package chunk

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// vectorInput is the input of the official BLAKE3 test vectors: bytes that count from 0 to 250 and start again.
func vectorInput(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i % 251)
	}
	return p
}

// TestIdentifyVectors holds the identity to the first 32 bytes of BLAKE3's official test vectors (test_vectors.json of the
// BLAKE3 project), at lengths around its 1,024-byte leaves.
func TestIdentifyVectors(t *testing.T) {
	const key = "whats the Elvish word for friend"
	for _, tt := range []struct {
		n            int
		plain, keyed string
	}{
		{0, "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262", "92b2b75604ed3c761f9d6f62392c8a9227ad0ea3f09573e783f1498a4ed60d26"},
		{1, "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213", "6d7878dfff2f485635d39013278ae14f1454b8c0a3a2d34bc1ab38228a80c95b"},
		{1023, "10108970eeda3eb932baac1428c7a2163b0e924c9a9e25b35bba72b28f70bd11", "c951ecdf03288d0fcc96ee3413563d8a6d3589547f2c2fb36d9786470f1b9d6e"},
		{1024, "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7", "75c46f6f3d9eb4f55ecaaee480db732e6c2105546f1e675003687c31719c7ba4"},
		{1025, "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444", "357dc55de0c7e382c900fd6e320acc04146be01db6a8ce7210b7189bd664ea69"},
	} {
		p := vectorInput(tt.n)
		if got := Identify(p).String(); got != tt.plain {
			t.Errorf("Identify of %d bytes = %s, want %s", tt.n, got, tt.plain)
		}
		for _, c := range []struct {
			key  []byte
			want string
		}{{nil, tt.plain}, {[]byte(key), tt.keyed}} {
			h, err := NewIdentifier(c.key)
			if err != nil {
				t.Fatal(err)
			}
			h.Identify([]byte("what came before must not matter"))
			if got := h.Identify(p).String(); got != c.want {
				t.Errorf("key %q: Identify of %d bytes = %s, want %s", c.key, tt.n, got, c.want)
			}
		}
	}
}

func TestNewIdentifierRefusesOtherKeyLengths(t *testing.T) {
	for _, n := range []int{0, 1, 16, 31, 33, 64} {
		_, err := NewIdentifier(make([]byte, n))
		var pe *ParamError
		if !errors.As(err, &pe) || pe.Value != n || pe.Param != "key length" {
			t.Errorf("key of %d bytes: error %v, want a *ParamError with the length", n, err)
		}
	}
}

func TestIdentifierKeepsNoReferenceToTheKey(t *testing.T) {
	key := randomBytes(KeySize, 1)
	h, err := NewIdentifier(key)
	if err != nil {
		t.Fatal(err)
	}
	p := rows(5000, 1)
	before := h.Identify(p)
	clear(key)
	if got := h.Identify(p); got != before {
		t.Errorf("identity changed from %v to %v when the caller cleared the key", before, got)
	}
}

func TestVerify(t *testing.T) {
	for _, key := range [][]byte{nil, randomBytes(KeySize, 1)} {
		h, err := NewIdentifier(key)
		if err != nil {
			t.Fatal(err)
		}
		p := rows(70000, 2)
		id := h.Identify(p)
		if err := h.Verify(id, p); err != nil {
			t.Errorf("Verify of the right bytes: %v", err)
		}
		p[len(p)-1] ^= 1
		err = h.Verify(id, p)
		var me *MismatchError
		if !errors.As(err, &me) || !errors.Is(err, ErrCorrupt) {
			t.Fatalf("Verify after one flipped bit: %v, want a *MismatchError that is ErrCorrupt", err)
		}
		if me.Want != id || me.Got != h.Identify(p) {
			t.Errorf("mismatch names %v and %v", me.Want, me.Got)
		}
	}
}

func TestParseID(t *testing.T) {
	good := strings.Repeat("0123456789abcdef", 4)
	id, err := ParseID(good)
	if err != nil || id.String() != good {
		t.Fatalf("ParseID(%q) = %v, %v", good, id, err)
	}
	for _, tt := range []struct {
		name, text string
		offset     int
	}{
		{"empty", "", 0},
		{"short by one", good[1:], 63},
		{"long by one", good + "0", 64},
		{"upper case", strings.Replace(good, "a", "A", 1), 10},
		{"not hexadecimal", good[:63] + "g", 63},
		{"blank in front", " " + good[1:], 0},
		{"line end behind", good + "\n", 64},
		{"prefix", "0x" + good[2:], 1},
		{"other digits", good[:62] + "\u0663", 62},
		{"zero byte", good[:5] + "\x00" + good[6:], 5},
		{"very long", strings.Repeat("0", 1<<20), 64},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseID(tt.text)
			var pe *ParseError
			if !errors.As(err, &pe) {
				t.Fatalf("error %v, want a *ParseError", err)
			}
			if pe.Offset != tt.offset {
				t.Errorf("offset %d, want %d (%v)", pe.Offset, tt.offset, err)
			}
			if !got.IsZero() {
				t.Errorf("ID %v beside an error", got)
			}
			if len(err.Error()) > 500 {
				t.Errorf("error text of %d bytes", len(err.Error()))
			}
			kept := Identify([]byte("kept"))
			into := kept
			if err := into.UnmarshalText([]byte(tt.text)); !errors.As(err, &pe) || into != kept {
				t.Errorf("UnmarshalText: error %v, ID changed: %v", err, into != kept)
			}
		})
	}
}

func TestIDText(t *testing.T) {
	type record struct {
		ID    ID
		ByKey map[ID]int
	}
	in := record{ID: Identify([]byte("a")), ByKey: map[ID]int{Identify([]byte("b")): 1, {}: 2}}
	text, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), `"`+in.ID.String()+`"`) {
		t.Errorf("no hexadecimal ID in %s", text)
	}
	var out record
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(in, out); diff != "" {
		t.Errorf("after JSON and back (-want +got):\n%s", diff)
	}
}

func TestIDCompareIsTheOrderOfTheText(t *testing.T) {
	ids := []ID{{}, {0: 1}, {31: 1}, {0: 0xff}, {31: 0xff}, {0: 0x7f}, {0: 0x80}}
	for _, s := range []string{"a", "b", "c"} {
		ids = append(ids, Identify([]byte(s)))
	}
	slices.SortFunc(ids, ID.Compare)
	if !slices.IsSortedFunc(ids, func(a, b ID) int { return strings.Compare(a.String(), b.String()) }) {
		t.Errorf("not in the order of their text: %v", ids)
	}
	if !ids[0].IsZero() || ids[1].IsZero() || ids[0].Compare(ID{}) != 0 {
		t.Errorf("zero value: %v, %v", ids[0], ids[1])
	}
}

func FuzzParseID(f *testing.F) {
	for _, s := range []string{"", strings.Repeat("0", 64), strings.Repeat("F", 64), Identify(nil).String(), "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseID(s)
		// The standard decoder plus the case rule is the reference.
		want, refErr := hex.DecodeString(s)
		ok := refErr == nil && len(want) == len(id) && s == strings.ToLower(s)
		if ok != (err == nil) {
			t.Fatalf("ParseID(%q): error %v, but valid is %v", s, err, ok)
		}
		var pe *ParseError
		switch {
		case err == nil && id.String() != s:
			t.Fatalf("ParseID(%q).String() = %q", s, id)
		case err != nil && (!errors.As(err, &pe) || pe.Offset < 0 || pe.Offset > len(s)):
			t.Fatalf("ParseID(%q): %#v", s, err)
		}
	})
}
