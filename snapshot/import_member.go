package snapshot

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/holdstill/holdstill/chunk"
	"github.com/holdstill/holdstill/repo"
)

// file reads a directory or file of the snapshot.
func (m *importer) file(ctx context.Context, h *tar.Header, record string) error {
	f := repo.File{Path: h.Name, Size: h.Size}
	if h.Typeflag == tar.TypeDir {
		f.Path = strings.TrimSuffix(h.Name, "/")
		f.Mode = fs.ModeDir
	}
	if err := m.checkFile(&f, h); err != nil {
		return err
	}
	if err := parseRecord(record, &f); err != nil {
		return err
	}
	sum := sha256.New()
	if f.IsDir() {
		m.folders[f.Path] = true
		m.stats.Directories++
	} else {
		if err := m.content(ctx, &f, sum); err != nil {
			return err
		}
		m.stats.Files++
		m.stats.Bytes += f.Size
		m.track.add(1, 0)
	}
	m.ledger.member(f.Path, f.IsDir(), f.Size, record, sum.Sum(nil))
	m.files = append(m.files, f)
	m.before = f.Path
	return nil
}

func (m *importer) checkFile(f *repo.File, h *tar.Header) error {
	bad := func(format string, args ...any) error {
		return &ArchiveError{h.Name, fmt.Sprintf(format, args...), nil}
	}
	if err := repo.CheckPath(f.Path); err != nil {
		return &ArchiveError{h.Name, "it is no path that a snapshot can have", err}
	}
	switch {
	case h.Typeflag == tar.TypeDir && h.Name != f.Path+"/":
		return bad("it is no path that a snapshot can have")
	case f.Path <= m.before:
		return bad("it comes after %.200q, out of order or a second time", m.before)
	}
	if dir := path.Dir(f.Path); dir == "." {
		known := slices.ContainsFunc(m.manifest.Sources, func(s repo.SourceInfo) bool { return s.Name == f.Path })
		if !known || !f.IsDir() {
			return bad("it is not the folder of a source that the manifest names")
		}
	} else if !m.folders[dir] {
		return bad("its folder is not there")
	}
	want := m.manifest.Stats
	switch {
	case f.IsDir() && m.stats.Directories >= want.Directories, !f.IsDir() && m.stats.Files >= want.Files:
		return bad("there is more than the %d files and %d directories that the manifest tells", want.Files, want.Directories)
	case f.Size > want.Bytes-m.stats.Bytes:
		return bad("the files have more than the %d bytes that the manifest tells", want.Bytes)
	}
	return nil
}

// content reads, cuts and stores a file as Create does, so that it has the same chunks.
func (m *importer) content(ctx context.Context, f *repo.File, sum hash.Hash) error {
	if Class(f.Class) == Paged && pageSize(f.PageSize) != f.PageSize {
		return &ArchiveError{f.Path, fmt.Sprintf("its pages cannot have %d bytes", f.PageSize), nil}
	}
	cut, err := m.engine.cutter(Class(f.Class), f.PageSize)
	if err != nil {
		return err
	}
	in := io.TeeReader(m.tar, sum)
	content := m.session.NewContentWriter()
	for left := f.Size; left > 0; {
		n := min(left, segmentSize)
		if err := m.segment(ctx, f.Path, in, cut, n, content); err != nil {
			return err
		}
		left -= n
		m.notes.note(ctx, m.engine, m.session)
	}
	f.Content, err = content.Finish(ctx)
	return err
}

// segment stores the next n bytes.
func (m *importer) segment(ctx context.Context, name string, in io.Reader, cut chunk.Cutter, n int64, content *repo.ContentWriter) error {
	if need := cut.Max() + readAhead; len(m.buf) < need {
		m.buf = make([]byte, need)
	}
	have := m.buf[:0]
	for n > 0 || len(have) > 0 {
		if n > 0 && len(have) < cut.Max() {
			from := copy(m.buf, have)
			to := int(min(int64(len(m.buf)), int64(from)+n))
			have = m.buf[:to]
			if _, err := io.ReadFull(in, have[from:]); err != nil {
				return broken(name, err)
			}
			n -= int64(to - from)
		}
		size := cut.Next(have, n == 0)
		id, _, err := m.writer.Add(ctx, have[:size])
		if err == nil {
			err = content.Add(ctx, repo.Ref{ID: id, Span: int64(size)})
		}
		if err != nil {
			return err
		}
		have = have[size:]
		m.track.add(0, int64(size))
	}
	return nil
}

// attachment reads an attachment.
func (m *importer) attachment(ctx context.Context, h *tar.Header) error {
	name := strings.TrimPrefix(h.Name, archiveAttachments)
	if err := repo.CheckAttachmentName(name); err != nil {
		return &ArchiveError{h.Name, "it cannot be an attachment", err}
	}
	if m.stage == stageFiles {
		m.stage, m.before = stageAttachments, ""
	}
	if name <= m.before {
		return &ArchiveError{h.Name, fmt.Sprintf("it comes after the attachment %q, out of order or a second time", m.before), nil}
	}
	m.before = name
	data, err := m.small(h, repo.MaxAttachmentSize)
	if err != nil {
		return err
	}
	m.enter(h, data)
	if m.opts.NoAttachments {
		return nil
	}
	return m.session.PutAttachment(ctx, m.manifest.ID, name, data)
}

// list compares a list of checksums with what was read.
func (m *importer) list(h *tar.Header) error {
	if h.Name != m.ledger.listName() {
		return &ArchiveError{h.Name, "it should be " + m.ledger.listName(), nil}
	}
	data, err := m.small(h, int64(len(m.ledger.lines)))
	if err != nil {
		return err
	}
	if !bytes.Equal(data, m.ledger.lines) {
		return &ArchiveError{h.Name, "the checksums differ from what is in the archive, or are not those since the list before", nil}
	}
	m.enter(h, data)
	m.ledger.lines = m.ledger.lines[:0]
	m.ledger.lists++
	return nil
}

// end compares the end with what was read.
func (m *importer) end(h *tar.Header) error {
	data, err := m.small(h, 1<<10)
	if err != nil {
		return err
	}
	var got archivedEnd
	if err := json.Unmarshal(data, &got); err != nil {
		return &ArchiveError{h.Name, "it cannot be decoded", err}
	}
	if want := m.ledger.end(); got != want {
		return &ArchiveError{h.Name, fmt.Sprintf("it tells of %d members with the checksum %.64q, and %d with %s were read", got.Members, got.SHA256, want.Members, want.SHA256), nil}
	}
	want := m.manifest.Stats
	if m.stats.Files != want.Files || m.stats.Directories != want.Directories || m.stats.Bytes != want.Bytes || len(m.ledger.lines) != 0 {
		return &ArchiveError{h.Name, fmt.Sprintf("there are %d files, %d directories and %d bytes, and the manifest tells of %d, %d and %d, or a list of checksums is missing",
			m.stats.Files, m.stats.Directories, m.stats.Bytes, want.Files, want.Directories, want.Bytes), nil}
	}
	m.stage = stageEnd
	return nil
}

// maxArchivePadding is how many zeros may follow an archive, in bytes: tapes want some.
const maxArchivePadding = 1 << 20

// rest makes sure that nothing follows, which also checks the compression's own checksum.
func (m *importer) rest() error {
	if h, err := m.tar.Next(); err == nil {
		return &ArchiveError{h.Name, "it comes after the end", nil}
	} else if err != io.EOF {
		return broken("", err)
	}
	buf := make([]byte, 4<<10)
	for total := 0; ; {
		n, err := m.stream.Read(buf)
		total += n
		if total > maxArchivePadding || len(bytes.Trim(buf[:n], "\x00")) > 0 {
			return &ArchiveError{Reason: "something follows its end"}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return broken("", err)
		}
	}
}

// commit makes the snapshot.
func (m *importer) commit(ctx context.Context) (err error) {
	if err := m.writer.Flush(ctx); err != nil {
		return err
	}
	s := m.manifest
	if s.Table, err = m.session.PutTable(ctx, slices.Values(m.files)); err != nil {
		return err
	}
	m.track.enter(PhaseCommit)
	if err := m.session.Sync(ctx); err != nil {
		return err
	}
	s.Stats.BytesRead, s.Stats.BytesVerified, s.Stats.BytesDelta = m.stats.Bytes, 0, 0
	s.Stats.BytesNew, s.Stats.BytesStored = m.session.BytesNew(), m.session.BytesStored()
	s.Stats.Duration = time.Since(m.track.start)
	return m.session.Commit(ctx, s)
}
