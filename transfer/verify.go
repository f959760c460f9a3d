package transfer

import (
	"fmt"
	"slices"

	"github.com/holdstill/holdstill/repo"
)

// Verify says how a copy checks the chunks that it reads.
//
// Whatever it says, a chunk that does not pass is looked for elsewhere in the source, and where the
// two repositories name chunks differently all chunks are decoded.
type Verify int

const (
	// VerifyAuto is VerifyStored where the source is near, as in an upload, or encrypted, and
	// VerifyContent otherwise.
	VerifyAuto Verify = iota
	// VerifyContent decodes every chunk, and compares it with its ID. Nothing comes into the
	// destination that is not what its name says. It is for sources that are not to be trusted: a
	// wrong chunk would be shared by the snapshots that are made in the destination later.
	VerifyContent
	// VerifyStored compares every chunk as it is stored with the checksum that was written with it,
	// or opens its seal where the source is encrypted, and does not decode it: see
	// repo.ReadStoredOptions.FramesOnly. It takes about a quarter of the processor time, and
	// finds all that has happened to a chunk since it was written: rot, bytes that were exchanged or
	// cut off, by a store or on the way.
	//
	// It does not find a chunk that was wrong when it was written, or that somebody has
	// replaced together with its checksum and the index; where the source is encrypted, the latter
	// takes its key. Such a chunk is found when it is read, in a restore or by a check of the data, and
	// until then snapshots of the destination that have the right one may share it.
	VerifyStored
)

var verifyNames = []string{"auto", "content", "stored"}

// String returns "auto", "content" or "stored".
func (v Verify) String() string {
	if v < 0 || int(v) >= len(verifyNames) {
		return fmt.Sprintf("Verify(%d)", int(v))
	}
	return verifyNames[v]
}

// MarshalText implements encoding.TextMarshaler. It fails for no other reason than a value that
// there is not.
func (v Verify) MarshalText() ([]byte, error) {
	if v < 0 || int(v) >= len(verifyNames) {
		return nil, fmt.Errorf("%w: there is no %v", repo.ErrInvalid, v)
	}
	return []byte(verifyNames[v]), nil
}

// UnmarshalText implements encoding.TextUnmarshaler, for flags and configuration files. It takes what
// String returns.
func (v *Verify) UnmarshalText(text []byte) error {
	n := slices.Index(verifyNames, string(text))
	if n < 0 {
		return fmt.Errorf("%w: %.40q is not auto, content or stored", repo.ErrInvalid, text)
	}
	*v = Verify(n)
	return nil
}

// framesOnly says whether chunks are checked as they are stored.
func (c *copying) framesOnly() bool {
	switch c.opts.Verify {
	case VerifyContent:
		return false
	case VerifyStored:
		return true
	}
	return c.opts.Near == NearSource || c.src.Encrypted()
}
