package repo

import (
	"context"

	"github.com/holdstill/holdstill/chunk"
)

// A StoredChunk is a chunk as it is stored, and its plain bytes, as far as they are known. They
// were checked against the ID. None of its bytes may be written to, or used after the call that it is
// an argument of.
type StoredChunk struct {
	ID chunk.ID
	// Codec says how Stored is encoded. Writer.AddEncoded takes both.
	Codec chunk.Codec
	// Stored is nil where the chunk was damaged in its first place and came from another
	// one; then only Plain is known.
	Stored []byte
	// Plain is the chunk itself. It may be nil under ReadStoredOptions.FramesOnly where Stored
	// is not.
	Plain []byte
	// Size is the length of the chunk itself, in bytes.
	Size int
}

// ReadStoredOptions are the settings of ReadStored. The zero value works.
type ReadStoredOptions struct {
	ReadChunksOptions
	// WantBase is asked for the chunk that a wanted chunk is stored as the difference to.
	// If it reports true that chunk is handed out too, before the first difference to it,
	// under the number -1 unless it is wanted itself, and maybe several times. It is called
	// by several goroutines. May be nil.
	WantBase func(id chunk.ID) bool
	// Shuffle goes through the packs in a random order, each still front to back: of
	// several callers who send the same chunks to one place, each then soon finds that the
	// others have sent what it comes to.
	Shuffle bool
	// FramesOnly checks the stored form of a chunk, its frame, and does not decode it: in an
	// encrypted repository the seal, which covers the chunk's ID, and otherwise the CRC-32C in
	// the pack's footer, which the pack's name covers. That finds all that happens to bytes in a
	// store and on the way. It does not find what was wrong already when the frame was written, or
	// was written so on purpose by somebody who needs no key. Such a chunk is found when it
	// is decoded, which every read does.
	//
	// It costs one more request for a pack, beside those that Fetches counts. A chunk is decoded all the same where only a little of its
	// pack is wanted, and where the footer cannot be read or the frame is not what it says.
	FramesOnly bool
	// Planned is told once, before the first put, how many bytes the wanted chunks take as
	// they are stored. May be nil.
	Planned func(bytes int64)
}

// ReadStored is ReadChunks for a caller who wants the chunks as they are stored, to add
// them to another repository.
func (r *Repository) ReadStored(ctx context.Context, wants []Ref, opts ReadStoredOptions, put func(i int, c *StoredChunk, err error) error) (ReadStats, error) {
	if err := r.use(); err != nil {
		return ReadStats{}, err
	}
	if err := opts.complete(); err != nil {
		return ReadStats{}, err
	}
	m := manyReads{
		repo: r, opts: opts.ReadChunksOptions, put: put, wantBase: opts.WantBase, planned: opts.Planned, shuffle: opts.Shuffle, framesOnly: opts.FramesOnly,
		tokens: make(chan struct{}, opts.Workers),
	}
	err := m.all(ctx, wants)
	return ReadStats{Requests: m.requests.Load() + m.proofs.requests.Load(), Bytes: m.bytes.Load() + m.proofs.bytes.Load()}, err
}

// HasFull reports whether an index that is in memory says that a chunk is stored in full.
// It asks the bucket nothing, so that the answer may be out of date.
func (r *Repository) HasFull(id chunk.ID) bool {
	set := r.indexes.Load()
	if set == nil {
		return false
	}
	_, ok := set.locateFull(&id)
	return ok
}
