package snapshot

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/holdstill/holdstill/chunk"
	"github.com/holdstill/holdstill/repo"
)

// known is what a source promises about a file: that it still has what the parent has
// of it, but for the changed ranges.
type known struct {
	// size is that of the parent's content.
	size int64
	// changed is sorted and without overlaps. What lies beyond size is new anyway.
	changed []Range
	// all says that the whole promise is verified, not a share of it.
	all bool
	// ends says that the first and the last chunk are verified whatever the share is.
	ends bool
}

// keep gives a file its content from the parent, or makes known how much of it
// the file still has. The source was at the position since when the parent was taken.
func (c *creation) keep(f *sourceFile, old *repo.File, since string) error {
	named := f.Identity != "" && f.Identity == old.Identity
	log := named && Class(f.Class) == AppendOnly && f.Size > old.Size
	switch {
	case named && f.Size == old.Size:
		c.take(f, old.Content)
	case log && old.Size > 0:
		f.known = &known{size: old.Size, all: c.opts.Verify, ends: true}
	case since != "" && f.view.Changed != nil:
		ranges, ok := f.view.Changed(f.name, since)
		if !ok {
			return nil
		}
		changed, err := arrange(ranges, f.Size)
		if err != nil {
			return &SourceError{Source: f.source, Op: "read", Path: f.name, Err: err}
		}
		if len(changed) == 0 && f.Size == old.Size {
			c.take(f, old.Content)
			return nil
		}
		f.known = &known{size: old.Size, changed: changed, all: c.opts.Verify}
	}
	return nil
}

// take gives a file all of the parent's content, to be verified or as it is.
func (c *creation) take(f *sourceFile, content repo.Content) {
	switch {
	case !c.present(content):
	case c.opts.Verify || rand.Float64() < c.engine.config.VerifyShare:
		f.known = &known{size: f.Size, all: true}
	default:
		f.Content = content
		f.cut = nil
	}
}

var errRange = errors.New("a changed range with a negative number")

// arrange sorts ranges, joins those that touch, and cuts them off at the end of the
// file.
func arrange(ranges []Range, size int64) ([]Range, error) {
	var out []Range
	for _, r := range ranges {
		if r.Offset < 0 || r.Length < 0 {
			return nil, fmt.Errorf("%w: %d bytes at %d", errRange, r.Length, r.Offset)
		}
		if r.Length = min(r.Length, size-r.Offset); r.Length > 0 {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b Range) int { return cmp.Compare(a.Offset, b.Offset) })
	n := 0
	for _, r := range out {
		if n > 0 && r.Offset <= out[n-1].Offset+out[n-1].Length {
			last := &out[n-1]
			last.Length = max(last.Length, r.Offset+r.Length-last.Offset)
			continue
		}
		out[n] = r
		n++
	}
	return out[:n], nil
}

// keptChunk is a chunk of the parent that the file still has.
type keptChunk struct {
	repo.Ref
	offset int64
	// verify says that it is read all the same.
	verify bool
}

// keptChunks are those of one segment.
type keptChunks struct {
	chunks []keptChunk
	end    int64 // of the segment
}

// at returns the chunk that begins at an offset, nil if none is kept there. The
// offset never goes down from one call to the next.
func (k *keptChunks) at(offset int64) *keptChunk {
	for len(k.chunks) > 0 && k.chunks[0].offset < offset {
		k.chunks = k.chunks[1:]
	}
	if len(k.chunks) > 0 && k.chunks[0].offset == offset {
		return &k.chunks[0]
	}
	return nil
}

// skip returns where after an offset the next chunk begins that need not be read, or the
// end of the segment.
func (k *keptChunks) skip(offset int64) int64 {
	for i := range k.chunks {
		if c := &k.chunks[i]; !c.verify && c.offset >= offset {
			return c.offset
		}
	}
	return k.end
}

// kept finds the chunks of the parent that need not be cut in a segment. They are cut
// as they would be again, so that it makes no difference to the chunks that there are.
func (c *creation) kept(s segment, b *bases, all bool) *keptChunks {
	f := s.file
	out := &keptChunks{end: s.offset + s.length}
	if f.known == nil {
		return out
	}
	most := int64(f.cut.Max())
	_, fixed := f.cut.(chunk.Fixed)
	oldEnd := min(s.offset+segmentSize, f.known.size)
	changed := f.known.changed
	next := b.first
	for _, ref := range b.refs {
		k := keptChunk{Ref: ref, offset: next}
		next += ref.Span
		for len(changed) > 0 && changed[0].Offset+changed[0].Length <= k.offset {
			changed = changed[1:]
		}
		switch {
		case k.offset < s.offset || next > out.end:
		case len(changed) > 0 && changed[0].Offset < next:
		// A chunk that ended where its segment did may be longer now.
		case next == oldEnd && next < out.end && ref.Span < most:
		case fixed && (k.offset%most != 0 || ref.Span != most && next < out.end):
		case !c.session.Has(ref.ID):
		default:
			ends := f.known.ends && (k.offset == 0 || next+most > f.known.size)
			k.verify = all || f.known.all || ends || rand.Float64() < c.engine.config.VerifyShare
			out.chunks = append(out.chunks, k)
		}
	}
	return out
}
