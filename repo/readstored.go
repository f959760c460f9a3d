package repo

import (
	"context"

	"github.com/holdstill/holdstill/chunk"
)

// A StoredChunk is a chunk as it is stored, with its plain bytes, which were checked
// against the ID. None of its bytes may be written to, or used after the call that it is
// an argument of.
type StoredChunk struct {
	ID chunk.ID
	// Codec says how Stored is encoded. Writer.AddEncoded takes both.
	Codec chunk.Codec
	// Stored is nil where the chunk was damaged in its first place and came from another
	// one; then only Plain is known.
	Stored []byte
	// Plain is the chunk itself.
	Plain []byte
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
		repo: r, opts: opts.ReadChunksOptions, put: put, wantBase: opts.WantBase, planned: opts.Planned, shuffle: opts.Shuffle,
		tokens: make(chan struct{}, opts.Workers),
	}
	err := m.all(ctx, wants)
	return ReadStats{Requests: m.requests.Load(), Bytes: m.bytes.Load()}, err
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
