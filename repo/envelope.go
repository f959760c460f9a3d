package repo

import (
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"strings"
)

// In an encrypted repository every object but packs, key slots and holdstill.json is
// stored as a whole in an envelope, all numbers little-endian:
//
//	"HOLDSEAL" | version uint32 = 1 | reserved uint32 = 0 | salt [32]byte | ciphertext | tag [16]byte
//
// A pack's footer is sealed in the same way without the first 16 bytes. The ciphertext
// is AES-256-GCM with a nonce of zeros, under a key of its own: HKDF-Expand of the
// objects key, labelled with the salt. What the tag covers besides says what it is: the
// first 16 bytes and the object's key, so that an object under another name is found out.

const (
	envelopeMagic    = "HOLDSEAL"
	envelopeVersion  = 1
	envelopeHeadSize = 16
	sealSaltSize     = 32
	sealTagSize      = 16
	sealOverhead     = sealSaltSize + sealTagSize
	envelopeOverhead = envelopeHeadSize + sealOverhead

	labelObject = labelHead + "object "
	aboutObject = "object "
	aboutFooter = "footer "
)

// sealsObject says whether the object under a key is stored in an envelope.
func (k *keyring) sealsObject(key string) bool {
	return k != nil && key != configKey && !strings.HasPrefix(key, packPrefix) && !strings.HasPrefix(key, slotPrefix)
}

// sealObject returns what is stored under a key in the place of data.
func (k *keyring) sealObject(key string, data []byte) []byte {
	if !k.sealsObject(key) {
		return data
	}
	out := append(make([]byte, 0, len(data)+envelopeOverhead), envelopeMagic...)
	out = binary.LittleEndian.AppendUint32(out, envelopeVersion)
	out = binary.LittleEndian.AppendUint32(out, 0)
	var salt [sealSaltSize]byte
	_, _ = rand.Read(salt[:]) // documented never to fail
	return k.sealBytes(out, salt, aboutObject+string(out)+key, data)
}

// objectRoom returns how many bytes sealing adds to the object under a key.
func (k *keyring) objectRoom(key string) int64 {
	if !k.sealsObject(key) {
		return 0
	}
	return envelopeOverhead
}

// openObject returns the data of the object under a key. It writes to stored.
func (k *keyring) openObject(key string, stored []byte) ([]byte, error) {
	if !k.sealsObject(key) {
		return stored, nil
	}
	if len(stored) < envelopeOverhead || string(stored[:8]) != envelopeMagic {
		return nil, corrupt(key, "it is not sealed as all of this encrypted repository is")
	}
	if v := binary.LittleEndian.Uint32(stored[8:]); v != envelopeVersion {
		// The version is covered by the tag, under a key that later versions may derive
		// otherwise: newer and damaged cannot be told apart.
		return nil, corrupt(key, "its seal has version %d, this library knows %d", v, envelopeVersion)
	}
	data, ok := k.openBytes(aboutObject+string(stored[:envelopeHeadSize])+key, stored[envelopeHeadSize:])
	if !ok {
		return nil, corrupt(key, "its seal does not hold: it was changed, or comes from another place")
	}
	return data, nil
}

// sealFooter appends to dst what stands in a pack in the place of its footer.
func (k *keyring) sealFooter(dst, header, footer []byte) []byte {
	var salt [sealSaltSize]byte
	_, _ = rand.Read(salt[:])
	return k.sealBytes(dst, salt, aboutFooter+string(header), footer)
}

// openFooter returns the footer of a pack.
func (k *keyring) openFooter(object string, header, sealed []byte) ([]byte, error) {
	footer, ok := k.openBytes(aboutFooter+string(header), append([]byte(nil), sealed...))
	if !ok {
		return nil, corrupt(object, "the seal of its footer does not hold: it was changed, or is another repository's")
	}
	return footer, nil
}

// sealBytes appends salt, ciphertext and tag of data to dst.
func (k *keyring) sealBytes(dst []byte, salt [sealSaltSize]byte, about string, data []byte) []byte {
	dst = append(dst, salt[:]...)
	return k.sealKey(salt[:]).Seal(dst, make([]byte, frameNonceSize), data, []byte(about))
}

// openBytes undoes sealBytes, in the place of the ciphertext.
func (k *keyring) openBytes(about string, sealed []byte) ([]byte, bool) {
	if len(sealed) < sealOverhead {
		return nil, false
	}
	salt, text := sealed[:sealSaltSize], sealed[sealSaltSize:]
	data, err := k.sealKey(salt).Open(text[:0], make([]byte, frameNonceSize), text, []byte(about))
	return data, err == nil
}

// sealKey returns the key that belongs to a salt. Each is used once, which is why the
// nonce may be constant.
func (k *keyring) sealKey(salt []byte) cipher.AEAD {
	return newGCM(expand(k.objects, labelObject+string(salt)))
}

// footerRoom returns how many bytes sealing adds to a pack's footer.
func (k *keyring) footerRoom() int64 {
	if k == nil {
		return 0
	}
	return sealOverhead
}
