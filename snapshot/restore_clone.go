package snapshot

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"

	"github.com/holdstill/holdstill/repo"
)

// Where the file system can, a file that is much like the one in the local folder shares
// its blocks: then what is the same is not written at all. The blocks are shared first and
// compared after that, since the local file may change in between. What differs is
// fetched and written over, into blocks of its own. Only content is shared, never
// permissions or attributes: the file itself is made as all others are.

const (
	// cloneFrom is the shortest stretch that is worth sharing, in bytes.
	cloneFrom = 64 << 10
	// cloneSamples is how many pieces of a unit are looked at to learn whether it is
	// worth sharing. With less than twice as many, it is shared anyway.
	cloneSamples = 8
)

// clone takes over what a local file of the given size has at some pieces of a file,
// which follow one another, and returns those that differ. They are moved to the front of
// pieces. It reports false where blocks cannot be shared, or are not worth it.
func (c *comparison) clone(ctx context.Context, out *outFile, local *os.File, size int64, pieces []repo.Piece) (rest []repo.Piece, cloned bool, err error) {
	last := &pieces[len(pieces)-1]
	s := stretch{pieces[0].Offset, min(last.Offset+last.Span, size)}
	if s.end-s.start < cloneFrom {
		return nil, false, nil
	}
	stamp, err := stampOpen(local)
	if err != nil || !stamp.known() || !c.st.reuser.clones.worthTrying(stamp.dev) {
		return nil, false, nil
	}
	if alike, err := c.alike(ctx, local, size, pieces); !alike || err != nil {
		return nil, false, err
	}
	if err := out.hold(); err != nil {
		return nil, false, err
	}
	var same int64
	cloned, err = c.share(out, local, stamp.dev, s)
	if cloned {
		rest, same, err = c.sift(ctx, out, s.end, pieces)
	}
	out.mu.RUnlock()
	if err != nil {
		return nil, false, fmt.Errorf("%q: %w", out.entry.Path, err)
	}
	if same > 0 {
		c.st.reuser.bytes.Add(same)
		c.st.reuser.cloned.Add(same)
		out.arrived(same)
	}
	return rest, cloned, nil
}

// alike says whether at least half of some pieces are the same in a local file. Which
// they are is left to chance, the same each time, since what differs may lie at even
// distances.
func (c *comparison) alike(ctx context.Context, local *os.File, size int64, pieces []repo.Piece) (bool, error) {
	if len(pieces) < 2*cloneSamples {
		return true, nil
	}
	random := rand.New(rand.NewPCG(uint64(pieces[0].Offset), uint64(len(pieces))))
	found := 0
	for n := range cloneSamples {
		from, to := n*len(pieces)/cloneSamples, (n+1)*len(pieces)/cloneSamples
		same, _, err := c.same(ctx, local, size, pieces[from+random.IntN(to-from)])
		if err != nil {
			return false, err
		}
		if same {
			found++
		}
	}
	return found >= cloneSamples/2, nil
}

// share puts a stretch of a local file into a file that is held open, and says whether it
// did. It can only share whole blocks; what lies beside them is copied.
func (c *comparison) share(out *outFile, local *os.File, dev uint64, s stretch) (bool, error) {
	whole, err := c.st.ops.clone(out.file, local, s)
	if err == nil && whole.start >= whole.end {
		return false, nil
	}
	if err != nil {
		c.st.reuser.clones.learn(dev, err)
		if !cloneUnsupported(err) {
			// It may have come half-way.
			out.filled.Store(true)
		}
		return false, nil
	}
	out.filled.Store(true)
	for _, edge := range []stretch{{s.start, whole.start}, {whole.end, s.end}} {
		p := make([]byte, edge.end-edge.start)
		if n, err := local.ReadAt(p, edge.start); n < len(p) && err != nil {
			continue // it will not be the same
		}
		if len(p) > 0 {
			if err := c.st.ops.writeAt(out.file, p, edge.start); err != nil {
				return false, err
			}
		}
	}
	return true, nil
}

// sift compares the pieces of a file that is held open, and counts the bytes of those
// that are as they should be. The others it moves to the front of pieces and returns.
func (c *comparison) sift(ctx context.Context, out *outFile, size int64, pieces []repo.Piece) (rest []repo.Piece, same int64, err error) {
	rest = pieces[:0]
	for _, piece := range pieces {
		is, id, err := c.same(ctx, out.file, size, piece)
		if err != nil {
			return nil, 0, err
		}
		if is {
			same += piece.Span
			continue
		}
		c.keepBase(id, out, piece)
		rest = append(rest, piece)
	}
	return rest, same, nil
}
