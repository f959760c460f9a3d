package repo

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/zeebo/blake3"

	"github.com/holdstill/holdstill/chunk"
)

// What the vectors of FORMAT.md are made with: secrets that count up, fixed nonces and
// salts.
func vectorKeyring() *keyring {
	s := secretPair{keyed: true}
	for n := range secretSize {
		s.identity[n], s.data[n] = byte(n), byte(secretSize+n)
	}
	return newKeyring(s, "00112233445566778899aabbccddeeff", blake3.Sum256([]byte(vectorEncryptedConfig(s))))
}

func vectorEncryptedConfig(s secretPair) string {
	sum := fingerprintOf(s)
	doc := `{"id":"00112233445566778899aabbccddeeff","requires":["leases","encryption-1"],"hash":"blake3-256-keyed",` +
		`"cut":{"min":65536,"avg":262144,"max":1048576},"encryption":{"keys":[{"sha256":"` + hex.EncodeToString(sum[:]) + `"}]}}`
	return string(sealedAs("1", []byte(doc)))
}

func vectorSalt() (salt [sealSaltSize]byte) {
	for n := range salt {
		salt[n] = byte(0xa0 + n)
	}
	return salt
}

// vectorSlot is a key slot for the passphrase "open sesame".
func vectorSlot(k *keyring) *slotDocument {
	d := &slotDocument{
		ID: strings.Repeat("0f", 16), Repository: k.repository, Kind: KindPassphrase, Label: "first", Created: "2026-03-14T15:09:26.535897932Z",
		Argon2: &argonDocument{Time: 1, Memory: minArgonMemory, Threads: 1, Salt: []byte("0123456789abcdef")},
	}
	d.Wrapped = newGCM(d.argonKey([]byte("open sesame"))).Seal(nil, make([]byte, frameNonceSize), k.payload(), d.about())
	d.MAC = k.slotMAC(d)
	return d
}

// encryptionVectors computes what FORMAT.md gives as test vectors of encryption.
func encryptionVectors(t *testing.T) map[string]string {
	t.Helper()
	k := vectorKeyring()
	h, err := k.newIdentifier()
	if err != nil {
		t.Fatal(err)
	}
	text := []byte("holdstill")
	id := h.Identify(text)
	var context frameContext
	context.set(&id, uint32(len(text)), chunk.Raw)
	var frame []byte
	for n := range frameNonceSize {
		frame = append(frame, byte(0xc0+n))
	}
	nonce := bytes.Clone(frame)
	frame = k.sealFrameUnder(append(frame, text...), 0, &id, &context)
	base, deltaID := h.Identify(vectorBase()), h.Identify(vectorDelta())
	plainFrame, err := hex.DecodeString(vectorFrame)
	if err != nil {
		t.Fatal(err)
	}
	copy(plainFrame, base[:])
	context.set(&deltaID, uint32(len(vectorDelta())), chunk.Delta)
	delta := k.sealFrameUnder(append(nonce, plainFrame...), 0, &deltaID, &context)
	head := binary.LittleEndian.AppendUint32([]byte(envelopeMagic), envelopeVersion)
	head = binary.LittleEndian.AppendUint32(head, 0)
	object := k.sealBytes(bytes.Clone(head), vectorSalt(), aboutObject+string(head)+"snapshot/s", text)
	header := binary.LittleEndian.AppendUint32([]byte(packMagic), FormatVersion)
	header = binary.LittleEndian.AppendUint32(header, packSealed)
	footer := k.sealBytes(nil, vectorSalt(), aboutFooter+string(header), text)
	slot, err := seal(vectorSlot(k))
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{
		"key of chunk identity":                hexOf(k.identityKey),
		"key of frames of IDs that begin 7f":   hexOf(expand(k.data[:], labelFrames+"7f")),
		"key of objects":                       hexOf(k.objects),
		"key of key slots":                     hexOf(k.slots),
		"fingerprint":                          hexOf(k.fingerprint[:]),
		"keyed chunk ID of \"holdstill\"":      hexOf(id[:]),
		"sealed frame of \"holdstill\"":        hexOf(frame),
		"keyed chunk ID of the base":           hexOf(base[:]),
		"keyed chunk ID of the delta":          hexOf(deltaID[:]),
		"sealed frame of the delta":            hexOf(delta),
		"sealed object \"holdstill\"":          hexOf(object),
		"sealed footer \"holdstill\"":          hexOf(footer),
		"holdstill.json, encrypted":            strings.TrimSuffix(vectorEncryptedConfig(k.secretPair), "\n"),
		"payload":                              hexOf(k.payload()),
		"key slot, passphrase \"open sesame\"": strings.TrimSuffix(string(slot), "\n"),
	}
}

// FORMAT.md is kept true by this test, and what it gives opens.
func TestEncryptionVectors(t *testing.T) {
	want := readVectors(t, "encryption-vectors")
	for name, got := range encryptionVectors(t) {
		if want[name] != got {
			t.Errorf("%s\n    %s\nFORMAT.md has\n    %s", name, got, want[name])
		}
	}
	k := vectorKeyring()
	slotText := want["key slot, passphrase \"open sesame\""] + "\n"
	d := newTestDriver()
	d.put(configKey, []byte(want["holdstill.json, encrypted"]+"\n"))
	d.put(slotKey(strings.Repeat("0f", 16)), []byte(slotText))
	r, err := reopen(t, d, passphrase("open sesame"))
	if err != nil {
		t.Fatal(err)
	}
	if r.store.keys.data != k.data || r.store.keys.identity != k.identity {
		t.Error("the slot gives other secrets")
	}
	object, err := hex.DecodeString(want["sealed object \"holdstill\""])
	if err != nil {
		t.Fatal(err)
	}
	if got, err := r.store.keys.openObject("snapshot/s", object); err != nil || string(got) != "holdstill" {
		t.Errorf("%q, %v", got, err)
	}
}

// A footer names a chunk at least. Without encryption its length says so already.
func TestSealedPackWithoutChunks(t *testing.T) {
	b := packBuilder{keys: vectorKeyring()}
	b.reset()
	id := b.finish()
	footer := b.buf[packHeaderSize : len(b.buf)-packTrailerSize]
	_, err := parsePackFooter(b.keys, packKey(id), packInfo{id, int64(len(b.buf))}, b.buf[:packHeaderSize], footer)
	if !errors.Is(err, ErrCorrupt) {
		t.Errorf("got %v, want %v", err, ErrCorrupt)
	}
}
