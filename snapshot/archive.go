package snapshot

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/holdstill/holdstill/repo"
)

// An archive is a snapshot as one stream: a tar file in the PAX format (POSIX.1-2001), that
// plain tar can list and extract, and that may be compressed with Zstandard or gzip as a
// whole. Its members are, in this order:
//
//	.holdstill/manifest.json            {"format":1,"snapshot":...}, the fields of repo.Manifest but for the file table
//	kv/, kv/CURRENT, ...                directories and files in the byte order of their paths, each folder before
//	                                    what it holds; the slash at the end of a folder is not part of the path
//	.holdstill/attachment/<name>        attachments in the byte order of their names
//	.holdstill/sha256sums/<n>           lists that sha256sum -c reads, with n from 00000001 on
//	.holdstill/end.json                 {"members":<n>,"sha256":"<64 digits>"}, without which an archive is cut off
//
// A list has a line for each regular member since the list before, manifest and
// attachments included. One stands behind the last attachment, and others
// wherever the lines since the last have reached a mebibyte: neither writer nor reader has
// to hold more.
//
// Directories and files have a PAX record HOLDSTILL.file, which holds exactly what the file
// table does: permissions in octal, seconds and nanoseconds of the modification, class, page
// size, and the identity in hexadecimal or "-", with single spaces between. Where the header says
// something else, for the sake of other tools, the record counts.
//
// The digest in the end covers all members before it. It is the SHA-256 of one line for each:
//
//	<SHA-256 of the data> <type> <size> <record or "-"> <length of the name> <name>
//
// with "d" for a directory and "f" for a file as types, and a line feed at the end of each.

const (
	archiveFolder      = ".holdstill"
	archiveManifest    = archiveFolder + "/manifest.json"
	archiveAttachments = archiveFolder + "/attachment/"
	archiveSums        = archiveFolder + "/sha256sums/"
	archiveEnd         = archiveFolder + "/end.json"
	archiveFormat      = 1
	archiveRecord      = "HOLDSTILL.file"
	// sumsBlock is when a list of checksums is written, and twice that the most that a
	// reader takes; in bytes.
	sumsBlock = 1 << 20
)

// Compression is how an archive is compressed.
type Compression string

// The compressions of archives.
const (
	CompressZstd Compression = "zstd"
	CompressGzip Compression = "gzip"
	CompressNone Compression = "none"
)

// ErrArchive means that a stream is not an archive of a snapshot, is damaged or cut off, or has
// something in it that Export never writes; see ArchiveError.
var ErrArchive = errors.New("snapshot: not a whole archive")

// An ArchiveError reports what is wrong with an archive. It matches ErrArchive.
type ArchiveError struct {
	// Member is the member of the archive concerned, empty where that is not known.
	Member string
	Reason string
	// Err is what was found first, nil if that is the reason itself.
	Err error
}

func (e *ArchiveError) Error() string {
	s := ErrArchive.Error()
	if e.Member != "" {
		s += fmt.Sprintf(": %.200q", e.Member)
	}
	s += ": " + e.Reason
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Is reports whether target is ErrArchive.
func (e *ArchiveError) Is(target error) bool { return target == ErrArchive }

// Unwrap returns what was found first.
func (e *ArchiveError) Unwrap() error { return e.Err }

// archivedManifest is the first member.
type archivedManifest struct {
	Format   int       `json:"format"`
	Snapshot *Snapshot `json:"snapshot"`
}

// archivedEnd is the last member.
type archivedEnd struct {
	Members int64  `json:"members"`
	SHA256  string `json:"sha256"`
}

// ledger counts and sums up the members of an archive, on both sides alike.
type ledger struct {
	members int64
	all     hash.Hash
	// lines are the checksums that are in no list yet, lists how many lists there were.
	lines []byte
	lists int
}

func newLedger() *ledger { return &ledger{all: sha256.New()} }

// member enters one member with the SHA-256 of its data.
func (l *ledger) member(name string, dir bool, size int64, record string, sum []byte) {
	kind := "f"
	if dir {
		kind = "d"
	}
	if record == "" {
		record = "-"
	}
	l.members++
	fmt.Fprintf(l.all, "%x %s %d %s %d %s\n", sum, kind, size, record, len(name), name)
	if !dir && !strings.HasPrefix(name, archiveSums) {
		l.lines = appendSumLine(l.lines, name, sum)
	}
}

func (l *ledger) end() archivedEnd {
	return archivedEnd{l.members, hex.EncodeToString(l.all.Sum(nil))}
}

// listName is the name of the next list of checksums.
func (l *ledger) listName() string { return fmt.Sprintf("%s%08d", archiveSums, l.lists+1) }

// appendSumLine appends a line as GNU sha256sum writes and reads it.
func appendSumLine(b []byte, name string, sum []byte) []byte {
	escaped := strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\r", `\r`).Replace(name)
	if escaped != name {
		b = append(b, '\\')
	}
	b = hex.AppendEncode(b, sum)
	b = append(b, "  "...)
	return append(append(b, escaped...), '\n')
}

// formatRecord is what HOLDSTILL.file has.
func formatRecord(f *repo.File) string {
	identity := "-"
	if f.Identity != "" {
		identity = hex.EncodeToString([]byte(f.Identity))
	}
	return fmt.Sprintf("%o %d %d %d %d %s", f.Mode.Perm(), f.ModTime.Unix(), f.ModTime.Nanosecond(), f.Class, f.PageSize, identity)
}

// parseRecord undoes formatRecord, and takes nothing that that does not write.
func parseRecord(record string, f *repo.File) error {
	bad := func(what string) error { return &ArchiveError{f.Path, archiveRecord + " has " + what, nil} }
	fields := strings.Split(record, " ")
	if len(fields) != 6 {
		return bad(fmt.Sprintf("%d fields, not 6", len(fields)))
	}
	perm, err1 := strconv.ParseUint(fields[0], 8, 9)
	seconds, err2 := strconv.ParseInt(fields[1], 10, 64)
	nanos, err3 := strconv.ParseUint(fields[2], 10, 32)
	class, err4 := strconv.ParseUint(fields[3], 10, 8)
	page, err5 := strconv.ParseUint(fields[4], 10, 31)
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil || nanos > 999_999_999 {
		return bad("a number that cannot be")
	}
	if fields[5] != "-" {
		identity, err := hex.DecodeString(fields[5])
		if err != nil || len(identity) > maxIdentityLength {
			return bad("an identity that cannot be")
		}
		f.Identity = string(identity)
	}
	f.Mode |= fs.FileMode(perm)
	f.ModTime = time.Unix(seconds, int64(nanos)).UTC()
	f.Class, f.PageSize = uint8(class), int(page)
	if formatRecord(f) != record {
		return bad("another form than Export writes")
	}
	return nil
}

// memberHeader is the tar header of a directory or file.
func memberHeader(f *repo.File) *tar.Header {
	h := &tar.Header{
		Typeflag: tar.TypeReg, Name: f.Path, Size: f.Size, Mode: int64(f.Mode.Perm()), ModTime: plainTime(f.ModTime),
		Format: tar.FormatPAX, PAXRecords: map[string]string{archiveRecord: formatRecord(f)},
	}
	if f.IsDir() {
		h.Typeflag, h.Name, h.Size = tar.TypeDir, f.Path+"/", 0
	}
	// As a restore does where nothing is known: others could not read what they extract.
	if h.Mode == 0 {
		h.Mode = 0o600
		if f.IsDir() {
			h.Mode = 0o700
		}
	}
	return h
}

// plainTime returns a time that every tar can take.
func plainTime(t time.Time) time.Time {
	if s := t.Unix(); s < 0 || s >= 1<<33 {
		return time.Unix(0, 0)
	}
	return t
}
