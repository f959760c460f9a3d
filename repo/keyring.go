package repo

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"sync/atomic"

	"github.com/holdstill/holdstill/chunk"
)

// An encrypted repository has two secrets of 32 random bytes, which key slots hold
// and nothing else does:
//
//	identity secret ---> key of the chunk IDs, secret of the cuts
//	data secret     ---> keys of frames, of objects, of key slots; the fingerprint
//
// Each key is HKDF-Expand (RFC 5869, SHA-256) of its secret under a label of its own.
// There are two secrets so that repositories can share the first, and so their chunk
// IDs and cuts, while nothing that one has sealed is valid in the other.

const (
	secretSize = 32
	labelHead  = "holdstill encryption-1 "

	labelIdentity    = labelHead + "chunk identity"
	labelGear        = labelHead + "gear"
	labelFrames      = labelHead + "frames "
	labelObjects     = labelHead + "objects"
	labelSlots       = labelHead + "key slots"
	labelFingerprint = labelHead + "fingerprint"
)

// secretPair is what a key slot gives access to.
type secretPair struct {
	// keyed says that chunk IDs and cuts depend on identity. Otherwise they are those of
	// a repository that is not encrypted, and identity is zero.
	keyed          bool
	identity, data [secretSize]byte
}

func newSecrets() secretPair {
	s := secretPair{keyed: true}
	_, _ = rand.Read(s.identity[:]) // documented never to fail
	_, _ = rand.Read(s.data[:])
	return s
}

// keyring holds the keys of an encrypted repository. A nil keyring is that of one that
// is not encrypted: it seals nothing. It is safe for concurrent use.
type keyring struct {
	secretPair
	// repository and config are the ID and the digest of the configuration that the
	// secrets belong to.
	repository string
	config     [32]byte

	identityKey []byte // nil where IDs are not keyed
	gearSecret  []byte // nil where cuts are public
	objects     []byte
	slots       []byte
	fingerprint [sha256.Size]byte
	// frames are the keys of frames, by the first byte of the chunk's ID, each made
	// when it is first needed. There are many so that no key ever comes near the 2^32
	// frames for which nonces drawn at random are safe.
	frames [256]atomic.Pointer[cipher.AEAD]
}

func newKeyring(s secretPair, repository string, config [32]byte) *keyring {
	k := &keyring{
		secretPair: s, repository: repository, config: config,
		objects:     expand(s.data[:], labelObjects),
		slots:       expand(s.data[:], labelSlots),
		fingerprint: fingerprintOf(s),
	}
	if s.keyed {
		k.identityKey = expand(s.identity[:], labelIdentity)
		k.gearSecret = expand(s.identity[:], labelGear)
	}
	return k
}

// fingerprintOf names the secrets without giving anything of them away.
func fingerprintOf(s secretPair) [sha256.Size]byte {
	return sha256.Sum256(expand(s.data[:], labelFingerprint))
}

// expand derives a key of 32 bytes.
func expand(secret []byte, label string) []byte {
	key, err := hkdf.Expand(sha256.New, secret, label, 32)
	if err != nil {
		panic("repo: " + err.Error()) // 32 bytes are never too many
	}
	return key
}

func newGCM(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic("repo: " + err.Error()) // the key has 32 bytes
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		panic("repo: " + err.Error()) // AES has the block size that GCM needs
	}
	return gcm
}

// Format keeps keys out of every form of printing.
func (k *keyring) Format(f fmt.State, _ rune) {
	if k == nil {
		_, _ = f.Write([]byte("not encrypted"))
		return
	}
	_, _ = fmt.Fprintf(f, "encrypted, key %x", k.fingerprint[:8])
}

// Format keeps the secrets out of every form of printing.
func (s secretPair) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("secrets")) }

// newIdentifier returns what computes chunk IDs.
func (k *keyring) newIdentifier() (*chunk.Identifier, error) {
	if k == nil {
		return chunk.NewIdentifier(nil)
	}
	return chunk.NewIdentifier(k.identityKey)
}

// gear returns the secret that cuts depend on, nil if they do not.
func (k *keyring) gear() []byte {
	if k == nil {
		return nil
	}
	return k.gearSecret
}

// sameIdentity says whether the same bytes have the same chunk ID under both.
func (k *keyring) sameIdentity(o *keyring) bool {
	keyed, okeyed := k != nil && k.keyed, o != nil && o.keyed
	if !keyed || !okeyed {
		return keyed == okeyed
	}
	return subtle.ConstantTimeCompare(k.identity[:], o.identity[:]) == 1
}

// A sealed frame is a nonce, the frame under AES-256-GCM, and its tag. The tag also
// covers which chunk it is, so that no frame passes for another.
const (
	frameNonceSize = 12
	frameTagSize   = 16
	frameOverhead  = frameNonceSize + frameTagSize

	frameContextSize = 36
)

// frameRoom returns how many bytes sealing adds to a frame.
func (k *keyring) frameRoom() int {
	if k == nil {
		return 0
	}
	return frameOverhead
}

func (k *keyring) frameKey(id *chunk.ID) cipher.AEAD {
	p := &k.frames[id[0]]
	if key := p.Load(); key != nil {
		return *key
	}
	key := newGCM(expand(k.data[:], labelFrames+hex.EncodeToString(id[:1])))
	p.Store(&key)
	return key
}

// frameContext is what a frame's tag covers besides the frame, as in a pack's record:
// chunk ID, plain length and codec.
type frameContext [frameContextSize]byte

func (c *frameContext) set(id *chunk.ID, plain uint32, codec chunk.Codec) {
	copy(c[:], id[:])
	binary.LittleEndian.PutUint32(c[32:], plain|uint32(codec)<<24)
}

// sealFrame seals buf from start on, where the frame stands behind room for the nonce,
// in its place. It returns buf with the tag behind it.
func (k *keyring) sealFrame(buf []byte, start int, id *chunk.ID, context *frameContext) []byte {
	_, _ = rand.Read(buf[start : start+frameNonceSize]) // documented never to fail
	return k.sealFrameUnder(buf, start, id, context)
}

// sealFrameUnder is sealFrame with a nonce that stands in its place already.
func (k *keyring) sealFrameUnder(buf []byte, start int, id *chunk.ID, context *frameContext) []byte {
	nonce, frame := buf[start:start+frameNonceSize], buf[start+frameNonceSize:]
	sealed := k.frameKey(id).Seal(frame[:0], nonce, frame, context[:])
	if cap(sealed) == cap(frame) { // it stands where the frame did
		return buf[:len(buf)+frameTagSize]
	}
	return append(buf[:start+frameNonceSize], sealed...)
}

// openFrame appends the frame that was sealed to dst.
func (k *keyring) openFrame(dst, sealed []byte, id *chunk.ID, context *frameContext) ([]byte, error) {
	if len(sealed) <= frameOverhead {
		return dst, fmt.Errorf("%w: its %d bytes are too few to be sealed", ErrCorrupt, len(sealed))
	}
	out, err := k.frameKey(id).Open(dst, sealed[:frameNonceSize], sealed[frameNonceSize:], context[:])
	if err != nil {
		return dst, fmt.Errorf("%w: its seal does not hold: it was changed, or it is another chunk's", ErrCorrupt)
	}
	return out, nil
}
