package snapshot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/holdstill/holdstill/chunk"
	"github.com/holdstill/holdstill/repo"
)

// The file system is asked to set aside the blocks of large stretches before they are
// written. Chunks arrive in the order of the packs and from several goroutines: the
// blocks of a file lie together all the same, and a lack of room shows before the work is
// done. (While the system wrote out all the time, a file of 256 MiB came to lie in some 20
// pieces on ext4 and 50 on XFS without this, and in one or two with it.)
//
// What is known to be zeros is not set aside, and what turns out to be zeros is given
// back, so that holes stay holes.

// allocateFrom is the shortest stretch that is set aside, in bytes. For a shorter one the
// call costs more than it brings.
const allocateFrom = 1 << 20

// A stretch is part of a file, in bytes.
type stretch struct{ start, end int64 }

// reserve notes in each file what of it is going to be written.
func (st *stager) reserve(parts []part, pieces []repo.Piece) {
	for from := 0; from < len(pieces); {
		first := &pieces[from]
		end := first.Offset
		for ; from < len(pieces) && pieces[from].Extent == first.Extent && pieces[from].Offset == end; from++ {
			end += pieces[from].Span
		}
		if end-first.Offset >= allocateFrom {
			f := parts[first.Extent].file
			f.mu.Lock()
			f.wanted = append(f.wanted, stretch{first.Offset, end})
			f.mu.Unlock()
		}
	}
}

// allocate sets aside what reserve noted. It is only a hint to the file system: where it
// is not understood the restore goes on without it. The caller holds mu.
func (f *outFile) allocate() error {
	wanted := f.wanted
	f.wanted = nil
	for _, s := range wanted {
		if f.st.unallocated.Load() {
			return nil
		}
		err := f.st.ops.allocate(f.file, s.start, s.end-s.start)
		full := errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
		switch {
		case full && !f.st.tight:
			return fmt.Errorf("%q: %w", f.entry.Path, f.st.lacking(s.end-s.start, err))
		case err != nil:
			f.st.unallocated.Store(true)
		default:
			f.filled.Store(true)
		}
	}
	return nil
}

// lacking describes why n bytes cannot be set aside. A quota may be the reason as well,
// of which the room that is left tells nothing.
func (st *stager) lacking(n int64, err error) error {
	if free, ok := freeSpace(filepath.Dir(st.to)); ok && free < n {
		return &SpaceError{To: st.to, Needed: n, Available: free}
	}
	return fmt.Errorf("set %d bytes aside: %w", n, err)
}

// withoutZeros returns those pieces that have to be fetched. A chunk of nothing but zeros
// is told by its ID. To look for each size of a chunk that there is would cost as much
// as to read them all, so only those are looked at that stand beside a chunk like them, as
// they do in a hole.
func (st *stager) withoutZeros(parts []part, pieces []repo.Piece) ([]repo.Piece, error) {
	var z zeroChunks
	var last repo.Ref
	rest := pieces[:0]
	for i := range pieces {
		piece := pieces[i]
		repeated := piece.Ref == last || i+1 < len(pieces) && piece.Ref == pieces[i+1].Ref
		last = piece.Ref
		if repeated {
			is, err := z.has(st.repo, piece.Ref)
			if err != nil {
				return nil, err
			}
			if is {
				if err := parts[piece.Extent].file.putZeros(piece.Offset, piece.Span); err != nil {
					return nil, err
				}
				continue
			}
		}
		rest = append(rest, piece)
	}
	return rest, nil
}

// zeroChunks knows the IDs of chunks of zeros. The zero value is ready.
type zeroChunks struct {
	ident *chunk.Identifier
	zeros []byte
	ids   map[int64]chunk.ID
}

func (z *zeroChunks) has(r *repo.Repository, ref repo.Ref) (bool, error) {
	if ref.Span < holeSize || ref.Span > chunk.MaxSize {
		return false, nil
	}
	id, ok := z.ids[ref.Span]
	if !ok {
		if z.ident == nil {
			ident, err := r.NewIdentifier()
			if err != nil {
				return false, err
			}
			z.ident, z.ids = ident, make(map[int64]chunk.ID)
		}
		if int64(len(z.zeros)) < ref.Span {
			z.zeros = make([]byte, ref.Span)
		}
		id = z.ident.Identify(z.zeros[:ref.Span])
		z.ids[ref.Span] = id
	}
	return id == ref.ID, nil
}

// putZeros has zeros at a place of the file.
func (f *outFile) putZeros(at, n int64) error {
	if f.filled.Load() {
		if err := f.hold(); err != nil {
			return err
		}
		err := f.st.ops.clear(f.file, at, n)
		f.mu.RUnlock()
		if err != nil {
			return fmt.Errorf("%q: %w", f.entry.Path, err)
		}
	}
	f.arrived(n)
	return nil
}

// clearRange makes n bytes of a file zeros, as a hole where the system can.
func clearRange(f *os.File, at, n int64) error {
	if punch(f, at, n) == nil {
		return nil
	}
	for n > 0 {
		step := min(n, holeSize)
		if _, err := f.WriteAt(zeros[:step], at); err != nil {
			return err
		}
		at, n = at+step, n-step
	}
	return nil
}
