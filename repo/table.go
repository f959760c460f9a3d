package repo

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io/fs"
	"iter"
	"math"
	"strings"
	"time"
)

// The file table of a snapshot is its entries in the order of their paths'
// bytes, in blocks. Each block is one chunk:
//
//	block   count uvarint | count entries
//	entry   path length uvarint | path | kind uint8 | permissions uint16 |
//	        seconds varint | nanoseconds uvarint | size uvarint | class uint8 |
//	        page size uvarint | identity length uvarint | identity |
//	        depth uint8 | refs uvarint | refs: chunk ID [32]byte | span uint64
//
// A block ends after an entry whose path's 32-bit FNV-1a hash ends in six zero
// bits, so that two snapshots share the blocks in which no file changed, and in
// any case after 256 entries or 256 KiB.

const (
	blockEndMask  = 0x3f
	maxBlockCount = 256
	maxBlockBytes = 256 << 10
	maxPathLength = 4096
	maxIdentity   = 255
	kindFile      = 0
	kindDir       = 1
)

// A File is one entry of a snapshot's file table: a regular file or a directory.
type File struct {
	// Path is slash-separated and valid in the sense of fs.ValidPath, at most
	// 4096 bytes. It is never ".".
	Path string
	// Mode holds the permission bits, and fs.ModeDir for a directory. Nothing
	// else is kept.
	Mode fs.FileMode
	// ModTime is kept to the nanosecond, in UTC.
	ModTime time.Time
	// Size is in bytes, 0 for a directory.
	Size int64
	// Class, PageSize and Identity are kept for the next snapshot; see
	// snapshot.Hint. Identity has at most 255 bytes.
	Class    uint8
	PageSize int
	Identity string
	// Content is the file's bytes. It is empty for a directory.
	Content Content
}

// IsDir reports whether the entry is a directory.
func (f *File) IsDir() bool { return f.Mode.IsDir() }

// CheckPath reports whether a string can be the path of a File; any other fails with
// ErrInvalid.
func CheckPath(path string) error {
	if err := checkPath(path); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return nil
}

func checkPath(path string) error {
	switch {
	case !fs.ValidPath(path) || path == "." || strings.ContainsRune(path, 0):
		return fmt.Errorf("path %.100q is not a slash-separated relative path of UTF-8 text", path)
	case len(path) > maxPathLength:
		return fmt.Errorf("path %.100q of %d bytes is longer than %d", path, len(path), maxPathLength)
	}
	return nil
}

// check says whether an entry can stand in a table after the path before.
func (f *File) check(before string) error {
	if err := checkPath(f.Path); err != nil {
		return err
	}
	switch {
	case f.Path <= before:
		return fmt.Errorf("path %.100q does not come after %.100q", f.Path, before)
	case f.Mode&^(fs.ModeDir|fs.ModePerm) != 0:
		return fmt.Errorf("mode %v of %.100q is more than permissions and fs.ModeDir", f.Mode, f.Path)
	case f.Size < 0 || f.IsDir() && f.Size != 0:
		return fmt.Errorf("size %d of %.100q", f.Size, f.Path)
	case len(f.Identity) > maxIdentity:
		return fmt.Errorf("identity of %d bytes of %.100q is longer than %d", len(f.Identity), f.Path, maxIdentity)
	case f.PageSize < 0 || f.PageSize > math.MaxInt32:
		return fmt.Errorf("page size %d of %.100q", f.PageSize, f.Path)
	case len(f.Content.Refs) > inlineRefs:
		return fmt.Errorf("content of %.100q has %d refs, PutContent leaves at most %d", f.Path, len(f.Content.Refs), inlineRefs)
	}
	if err := f.Content.check(f.Size); err != nil {
		return fmt.Errorf("%.100q: %w", f.Path, err)
	}
	return nil
}

func appendFile(b []byte, f *File) []byte {
	kind := byte(kindFile)
	if f.IsDir() {
		kind = kindDir
	}
	b = binary.AppendUvarint(b, uint64(len(f.Path)))
	b = append(b, f.Path...)
	b = append(b, kind)
	b = binary.LittleEndian.AppendUint16(b, uint16(f.Mode.Perm()))
	b = binary.AppendVarint(b, f.ModTime.Unix())
	b = binary.AppendUvarint(b, uint64(f.ModTime.Nanosecond()))
	b = binary.AppendUvarint(b, uint64(f.Size))
	b = append(b, f.Class)
	b = binary.AppendUvarint(b, uint64(f.PageSize))
	b = binary.AppendUvarint(b, uint64(len(f.Identity)))
	b = append(b, f.Identity...)
	b = append(b, byte(f.Content.Depth))
	b = binary.AppendUvarint(b, uint64(len(f.Content.Refs)))
	for _, r := range f.Content.Refs {
		b = appendRef(b, r)
	}
	return b
}

// parseBlock reads a block whose entries come after the path before.
func parseBlock(data []byte, before string) ([]File, error) {
	d := blockDecoder{b: data}
	count := d.uvarint(maxBlockCount)
	files := make([]File, 0, count)
	for range count {
		f := d.file()
		if d.bad {
			break
		}
		if err := f.check(before); err != nil {
			return nil, fmt.Errorf("%w: block of the file table: %w", ErrCorrupt, err)
		}
		before = f.Path
		files = append(files, f)
	}
	if d.bad || len(d.b) != 0 || count == 0 {
		return nil, fmt.Errorf("%w: a block of the file table cannot be decoded", ErrCorrupt)
	}
	return files, nil
}

// blockDecoder takes a block apart. After the first thing that cannot be, bad is
// set and everything it returns is zero.
type blockDecoder struct {
	b   []byte
	bad bool
}

// uvarint returns the next number, which must be at most limit and in its
// shortest form.
func (d *blockDecoder) uvarint(limit uint64) uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || v > limit || n > 1 && d.b[n-1] == 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *blockDecoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 || n > 1 && d.b[n-1] == 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *blockDecoder) bytes(n uint64) []byte {
	if uint64(len(d.b)) < n {
		d.bad, d.b = true, nil
		return nil
	}
	out := d.b[:n]
	d.b = d.b[n:]
	return out
}

func (d *blockDecoder) byte() byte {
	if b := d.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *blockDecoder) file() (f File) {
	f.Path = string(d.bytes(d.uvarint(maxPathLength)))
	kind := d.byte()
	var perm uint16
	if b := d.bytes(2); b != nil {
		perm = binary.LittleEndian.Uint16(b)
	}
	f.Mode = fs.FileMode(perm)
	switch {
	case kind > kindDir || perm > 0o777:
		d.bad = true
	case kind == kindDir:
		f.Mode |= fs.ModeDir
	}
	seconds := d.varint()
	f.ModTime = time.Unix(seconds, int64(d.uvarint(999_999_999))).UTC()
	f.Size = int64(d.uvarint(math.MaxInt64))
	f.Class = d.byte()
	f.PageSize = int(d.uvarint(math.MaxInt32))
	f.Identity = string(d.bytes(d.uvarint(maxIdentity)))
	f.Content.Depth = int(d.byte())
	count := d.uvarint(inlineRefs)
	if count > 0 && !d.bad {
		f.Content.Refs = make([]Ref, 0, count)
		for range count {
			if b := d.bytes(refSize); b != nil {
				f.Content.Refs = append(f.Content.Refs, parseRef(b))
			}
		}
	}
	return f
}

// PutTable stores a file table and returns where it is. The files must be in the
// order of their paths' bytes, each path once, and every Content must come from
// PutContent of this session or from a snapshot of this repository. An entry that
// breaks a rule fails with ErrInvalid, which names it; otherwise PutTable fails as
// Writer.Add does.
func (s *Session) PutTable(ctx context.Context, files iter.Seq[File]) (Content, error) {
	var refs []Ref
	var body, block []byte
	var count uint64
	before := ""
	flush := func() error {
		if count == 0 {
			return nil
		}
		block = append(binary.AppendUvarint(block[:0], count), body...)
		id, err := s.putMeta(ctx, block)
		refs = append(refs, Ref{ID: id, Span: int64(len(block))})
		body, count = body[:0], 0
		return err
	}
	for f := range files {
		if err := f.check(before); err != nil {
			return Content{}, fmt.Errorf("%w: file table: %w", ErrInvalid, err)
		}
		before = f.Path
		body = appendFile(body, &f)
		count++
		if blockEnd(f.Path) || count == maxBlockCount || len(body) >= maxBlockBytes {
			if err := flush(); err != nil {
				return Content{}, err
			}
		}
	}
	if err := flush(); err != nil {
		return Content{}, err
	}
	return s.PutContent(ctx, refs)
}

func blockEnd(path string) bool {
	h := fnv.New32a()
	_, _ = h.Write([]byte(path))
	return h.Sum32()&blockEndMask == 0
}

// Files returns the entries of a snapshot's file table, in the order of their
// paths' bytes. It stops after the first error, which is a *ChunkError, one that
// matches ErrCorrupt, or the context's.
func (r *Repository) Files(ctx context.Context, m *Manifest) iter.Seq2[File, error] {
	return func(yield func(File, error) bool) {
		before := ""
		ahead := tableAhead{repo: r, table: m.Table}
		err := r.walkContent(ctx, m.Table, func(ref Ref, depth int) (bool, error) {
			ahead.reach(ctx)
			if depth > 0 {
				return true, nil
			}
			ahead.at += ref.Span
			files, err := r.readBlock(ctx, ref, before)
			if err != nil {
				return false, err
			}
			for i := range files {
				if !yield(files[i], nil) {
					return false, errStopWalk
				}
			}
			before = files[len(files)-1].Path
			return true, nil
		})
		if err != nil && err != errStopWalk {
			yield(File{}, fmt.Errorf("repo: file table of snapshot %s: %w", m.ID, err))
		}
	}
}

// tableAhead has the blocks of a file table read some time before they are needed, many
// with one request, into the cache.
type tableAhead struct {
	repo  *Repository
	table Content
	// at is where the walk is, end how far was read, step how much was read at last, in
	// bytes.
	at, end, step int64
}

const (
	minTableAhead = 128 << 10
	maxTableAhead = 4 << 20
)

// reach is called when the walk comes to a block or a node. What cannot be read shows
// when it is needed.
func (a *tableAhead) reach(ctx context.Context) {
	if a.at < a.end || ctx.Err() != nil {
		return
	}
	a.step = min(max(2*a.step, minTableAhead), maxTableAhead, a.repo.cache.limit/4)
	a.end = a.at + max(a.step, 1)
	if a.step < minTableAhead {
		return
	}
	pieces, err := a.repo.Expand(ctx, []Extent{{a.table, a.at, a.end}}, 0)
	if err != nil || len(pieces) < 2 {
		return
	}
	refs := make([]Ref, len(pieces))
	for i := range pieces {
		refs[i] = pieces[i].Ref
	}
	_, _ = a.repo.readMeta(ctx, refs)
}

func (r *Repository) readBlock(ctx context.Context, ref Ref, before string) ([]File, error) {
	data, err := r.cachedChunk(ctx, ref.ID)
	if err != nil {
		return nil, err
	}
	if int64(len(data)) != ref.Span {
		return nil, fmt.Errorf("%w: block %s has %d bytes, not %d", ErrCorrupt, ref.ID, len(data), ref.Span)
	}
	return parseBlock(data, before)
}
