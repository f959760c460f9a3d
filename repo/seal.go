package repo

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/zeebo/blake3"
)

// A sealed document is a JSON object with a checksum of its own, so that small
// objects are readable by a person and damage to any byte of them is found:
//
//	{"format":1,"blake3":"<64 hex digits>","document":{...}}
//
// The checksum is of the format's digits, a line feed, and the bytes of the
// document exactly as they stand. Nothing else may differ from what seal writes,
// white space included. This envelope is the same in every format version, so
// that a newer format can be told from damage.

const (
	sealHead   = `{"format":`
	sealSum    = `,"blake3":"`
	sealDoc    = `","document":`
	sealTail   = "}\n"
	sealHexLen = 64
)

// seal renders v as a sealed document.
func seal(v any) ([]byte, error) {
	doc, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	sum := sealOf(strconv.Itoa(FormatVersion), doc)
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s%d%s%x%s%s%s", sealHead, FormatVersion, sealSum, sum, sealDoc, doc, sealTail)
	return b.Bytes(), nil
}

// unseal checks a sealed document and decodes it into v. Unknown fields of the
// document are ignored: what a reader must know is guarded by the version and
// by the features that the repository requires.
func unseal(object string, data []byte, v any) error {
	rest, ok := bytes.CutPrefix(data, []byte(sealHead))
	if !ok {
		return corrupt(object, "it does not begin as a sealed document")
	}
	version, rest, ok := bytes.Cut(rest, []byte(sealSum))
	if !ok {
		return corrupt(object, "its head is damaged")
	}
	number, err := strconv.Atoi(string(version))
	if err != nil || number < 1 || strconv.Itoa(number) != string(version) {
		return corrupt(object, "its version %q is no number", clip(version))
	}
	doc, err := openSeal(object, string(version), rest)
	if err != nil {
		return err
	}
	if number != FormatVersion {
		return &FormatError{Object: object, Version: number}
	}
	if err := json.Unmarshal(doc, v); err != nil {
		return corrupt(object, "its document cannot be decoded: %v", err)
	}
	return nil
}

// openSeal returns the document behind a head, if its checksum holds.
func openSeal(object, version string, rest []byte) ([]byte, error) {
	if len(rest) < sealHexLen+len(sealDoc)+len(sealTail) {
		return nil, corrupt(object, "it is cut off")
	}
	var sum [32]byte
	if _, err := hex.Decode(sum[:], rest[:sealHexLen]); err != nil || hex.EncodeToString(sum[:]) != string(rest[:sealHexLen]) {
		return nil, corrupt(object, "its checksum is not 64 lower-case hexadecimal digits")
	}
	doc, ok := bytes.CutPrefix(rest[sealHexLen:], []byte(sealDoc))
	if !ok {
		return nil, corrupt(object, "its head is damaged")
	}
	doc, ok = bytes.CutSuffix(doc, []byte(sealTail))
	if !ok {
		return nil, corrupt(object, "its end is cut off or damaged")
	}
	if sealOf(version, doc) != sum {
		return nil, corrupt(object, "its checksum does not match")
	}
	return doc, nil
}

func sealOf(version string, doc []byte) (sum [32]byte) {
	h := blake3.New()
	_, _ = h.WriteString(version + "\n")
	_, _ = h.Write(doc)
	h.Sum(sum[:0])
	return sum
}

// clip shortens foreign bytes for an error text.
func clip(b []byte) []byte {
	return b[:min(len(b), 32)]
}
