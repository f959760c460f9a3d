package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/holdstill/holdstill/chunk"
	"github.com/holdstill/holdstill/repo"
)

// A delta restore takes from a local folder what is there already. The folder may be
// in use meanwhile, so nothing in it is trusted: a chunk is taken only from a buffer
// that was compared with the chunk's ID, and what cannot be read is fetched.

const (
	// reuseUnit is how much of a file is compared by one worker at a time, in bytes.
	reuseUnit = 32 << 20
	// maxBases is how many chunks that differ are kept in mind, since others may be
	// stored as the difference to them. Each takes about 100 bytes.
	maxBases = 128 << 10
)

// A reuser finds the bytes of a snapshot in a local folder. It is safe for concurrent use.
type reuser struct {
	root *os.Root
	// linkFrom is the folder's name in the parent of the target, for hard links; empty
	// where there are to be none.
	linkFrom string

	bytes, linked, cloned atomic.Int64
	// clones knows where blocks cannot be shared.
	clones cloneMemory

	// mu guards bases: what the folder holds instead of chunks that differ.
	mu    sync.Mutex
	bases map[chunk.ID]localBytes
}

// localBytes is a stretch of a file in the folder.
type localBytes struct {
	name   string
	offset int64
	size   int
}

// openReuse opens the folder that files are taken from, nil if there is none.
func (r *restorer) openReuse(s *site, stands standing) (*reuser, error) {
	u := &reuser{bases: make(map[chunk.ID]localBytes)}
	switch {
	case r.opts.NoReuse:
		return nil, nil
	case r.opts.ReuseFrom != "":
		root, err := os.OpenRoot(r.opts.ReuseFrom)
		if err != nil {
			return nil, fmt.Errorf("%w: ReuseFrom: %w", ErrRestoreOptions, err)
		}
		u.root = root
	case !r.opts.InPlace || !stands.exists:
		return nil, nil
	default:
		there, err := checkFolder(s.parent, s.base)
		if err != nil {
			return nil, err
		}
		if u.root, err = s.parent.OpenRoot(s.base); err != nil {
			// What cannot be opened cannot be reused; it can still be replaced.
			return nil, nil
		}
		opened, err := u.root.Stat(".")
		if err != nil || !os.SameFile(there, opened) {
			return nil, errors.Join(fmt.Errorf("%w: %s was replaced by something else", ErrTarget, s.target()), u.root.Close())
		}
		// To sync a link some systems want permission to write.
		if !r.opts.NoLinks && runtime.GOOS != "windows" {
			u.linkFrom = s.base
		}
	}
	return u, nil
}

func (u *reuser) close() error {
	if u == nil {
		return nil
	}
	return u.root.Close()
}

// openLocal opens a regular file of the folder, and nothing else: no symbolic link is
// followed to a file, and no pipe waited for.
func (u *reuser) openLocal(name string) (*os.File, fs.FileInfo, bool) {
	there, err := u.root.Lstat(name)
	if err != nil || !there.Mode().IsRegular() {
		return nil, nil, false
	}
	f, err := u.root.OpenFile(name, os.O_RDONLY|openNonblock, 0)
	if err != nil {
		return nil, nil, false
	}
	info, err := f.Stat()
	if err != nil || !os.SameFile(there, info) {
		_ = f.Close()
		return nil, nil, false
	}
	return f, info, true
}

// base reads what the folder holds where a chunk is needed that others are stored as
// the difference to. The caller compares it with the ID.
func (u *reuser) base(id chunk.ID, dst []byte) ([]byte, bool) {
	u.mu.Lock()
	at, ok := u.bases[id]
	u.mu.Unlock()
	if !ok {
		return dst, false
	}
	f, _, ok := u.openLocal(at.name)
	if !ok {
		return dst, false
	}
	defer f.Close()
	n := len(dst)
	dst = append(dst, make([]byte, at.size)...)
	if _, err := f.ReadAt(dst[n:], at.offset); err != nil {
		return dst[:n], false
	}
	return dst, true
}

func (u *reuser) keepBase(id chunk.ID, at localBytes) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.bases) < maxBases {
		u.bases[id] = at
	}
}

// reuse writes those pieces that the local folder has, and returns the others.
func (st *stager) reuse(ctx context.Context, parts []part, pieces []repo.Piece) ([]repo.Piece, error) {
	if st.reuser == nil {
		return pieces, nil
	}
	units := reuseUnits(parts, pieces)
	missing := make([][]repo.Piece, len(units))
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range min(st.reads.Workers, len(units)) {
		group.Go(func() error {
			ident, err := st.repo.NewIdentifier()
			if err != nil {
				return err
			}
			c := comparison{st: st, ident: ident}
			for {
				n := int(next.Add(1)) - 1
				if n >= len(units) {
					return nil
				}
				if missing[n], err = c.unit(ctx, parts[units[n][0].Extent], units[n]); err != nil {
					return err
				}
			}
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	rest := pieces[:0]
	for _, m := range missing {
		rest = append(rest, m...)
	}
	return rest, nil
}

// reuseUnits divides pieces, by files and large files by bytes. A file that may be linked
// stays in one piece.
func reuseUnits(parts []part, pieces []repo.Piece) [][]repo.Piece {
	var out [][]repo.Piece
	from := 0
	for i := range pieces {
		first := &pieces[from]
		whole := parts[first.Extent].file.sealed()
		if pieces[i].Extent != first.Extent || !whole && pieces[i].Offset-first.Offset >= reuseUnit {
			out = append(out, pieces[from:i])
			from = i
		}
	}
	if from < len(pieces) {
		out = append(out, pieces[from:])
	}
	return out
}

// sealed says whether the database never writes to the file again.
func (f *outFile) sealed() bool { return Class(f.entry.Class) == Immutable }

// A comparison is one goroutine that compares local files with chunks.
type comparison struct {
	st    *stager
	ident *chunk.Identifier
	buf   []byte
}

// unit writes, shares or links what the local file has of some pieces of one file, and returns
// the others. They are moved to the front of pieces.
func (c *comparison) unit(ctx context.Context, p part, pieces []repo.Piece) ([]repo.Piece, error) {
	f, info, ok := c.st.reuser.openLocal(p.file.entry.name)
	if !ok {
		return pieces, nil
	}
	defer f.Close()
	if c.linkable(p, info) {
		linked, err := c.link(ctx, p.file, f, info, pieces)
		if linked || err != nil {
			return nil, err
		}
	}
	rest, cloned, err := c.clone(ctx, p.file, f, info.Size(), pieces)
	if cloned || err != nil {
		return rest, err
	}
	rest = pieces[:0]
	for _, piece := range pieces {
		same, id, err := c.same(ctx, f, info.Size(), piece)
		if err != nil {
			return nil, err
		}
		if !same {
			c.keepBase(id, p.file, piece)
			rest = append(rest, piece)
			continue
		}
		c.st.reuser.bytes.Add(piece.Span)
		if err := p.file.put(c.buf, piece.Offset); err != nil {
			return nil, err
		}
	}
	return rest, nil
}

// keepBase remembers what the local folder has where a piece differs, if anything.
func (c *comparison) keepBase(id chunk.ID, out *outFile, piece repo.Piece) {
	if !id.IsZero() {
		c.st.reuser.keepBase(id, localBytes{out.entry.name, piece.Offset, int(piece.Span)})
	}
}

// same reads a piece from a local file into the buffer and compares it. If it differs it
// returns the ID of what is there.
func (c *comparison) same(ctx context.Context, f *os.File, size int64, piece repo.Piece) (bool, chunk.ID, error) {
	if err := context.Cause(ctx); err != nil {
		return false, chunk.ID{}, err
	}
	if piece.Offset+piece.Span > size || piece.Span > chunk.MaxSize {
		return false, chunk.ID{}, nil
	}
	if int64(cap(c.buf)) < piece.Span {
		c.buf = make([]byte, max(piece.Span, 1<<20))
	}
	c.buf = c.buf[:piece.Span]
	if _, err := f.ReadAt(c.buf, piece.Offset); err != nil {
		return false, chunk.ID{}, nil
	}
	id := c.ident.Identify(c.buf)
	return id == piece.ID, id, nil
}

// linkable says whether a local file can stand for a whole file of the snapshot: its
// content is sealed, and what a link shares beside that is as the restore would set it.
// To set it would change the file that stands there.
func (c *comparison) linkable(p part, info fs.FileInfo) bool {
	e := &p.file.entry
	mode := e.Mode.Perm()
	if mode == 0 {
		mode = defaultFileMode
	}
	return c.st.reuser.linkFrom != "" && p.file.sealed() &&
		p.start == 0 && p.end == e.Size && info.Size() == e.Size &&
		info.Mode() == mode && storableTime(e.ModTime) && info.ModTime().Equal(e.ModTime) &&
		c.st.stands.owner.has(info)
}

// link makes a hard link to a local file, if all of it is as it should be, and says
// whether it did.
func (c *comparison) link(ctx context.Context, out *outFile, f *os.File, info fs.FileInfo, pieces []repo.Piece) (bool, error) {
	var covered int64
	for _, piece := range pieces {
		same, _, err := c.same(ctx, f, info.Size(), piece)
		if !same || err != nil {
			return false, err
		}
		covered += piece.Span
	}
	if covered != out.entry.Size {
		return false, nil
	}
	if ok, err := c.st.makeLink(out.entry.name, info); !ok || err != nil {
		return false, err
	}
	c.st.reuser.bytes.Add(out.entry.Size)
	c.st.reuser.linked.Add(1)
	out.mu.Lock()
	out.linked = true
	out.mu.Unlock()
	out.arrived(out.entry.Size)
	return true, nil
}

// makeLink links a file of the standing folder into the staging folder, if it is the one
// that info is of. Where the system refuses that, the file is copied instead.
func (st *stager) makeLink(name string, info fs.FileInfo) (bool, error) {
	from, to := filepath.Join(st.reuser.linkFrom, name), filepath.Join(st.staging, name)
	if err := st.ops.link(st.parent, from, to); err != nil {
		return false, nil
	}
	there, err := st.root.Lstat(name)
	if err == nil && os.SameFile(there, info) {
		return true, nil
	}
	// Somebody put another file in its place since it was compared.
	return false, errors.Join(err, st.ops.remove(st.root, name))
}

// finishLink makes a linked file durable. Nothing else is done to it: it is still the
// file of the standing folder, too.
func (f *outFile) finishLink() error {
	file, err := f.st.root.Open(f.entry.name)
	if err != nil {
		return f.st.explain(&f.entry, err)
	}
	if err := errors.Join(f.st.ops.sync(file), file.Close()); err != nil {
		return fmt.Errorf("%q: %w", f.entry.Path, err)
	}
	f.st.track.add(1, 0)
	return nil
}
