package snapshot

import (
	"context"
	"io/fs"
)

// A Source is one database, or one part of a server's state, that a snapshot
// holds. The engine calls Pin while its lock is frozen, so that all sources of
// one snapshot are cut at the same moment.
//
// A Source must be safe for concurrent use: two snapshots may pin it at once.
type Source interface {
	// Pin returns a View of the source as it stands at this moment. It runs
	// inside the freeze, so every transaction of the server waits for it: its
	// time must grow neither with the bytes nor with the number of files. Work
	// that can wait until the lock is open again belongs in View.Settle.
	//
	// When Pin fails it leaves nothing behind.
	Pin(ctx context.Context) (*View, error)
}

// A Preparer is a Source with slow work to do before the lock is closed, such
// as draining a log, flushing a memtable or linking what is already sealed.
//
// Prepare is called once before each Pin, outside the freeze. An error from it
// ends the snapshot. Pin must be right without Prepare too: what Prepare does
// can only make Pin faster.
type Preparer interface {
	Source
	Prepare(ctx context.Context) error
}

// A View is what a Source was at the moment of a Pin. It does not change while
// it is open, whatever the server writes meanwhile.
type View struct {
	// FS holds the files. Only regular files and directories are taken; any
	// other kind of file fails the snapshot with ErrFileKind. A file that
	// implements io.ReaderAt is read in parallel, in segments; any other is read
	// front to back by one worker. The engine reads exactly the size that the
	// directory entry's fs.FileInfo reports; a file that ends before it fails the
	// snapshot with ErrChanged.
	FS fs.FS

	// Hint tells what the source knows about the named file. A nil Hint means
	// that nothing is known: every file is Opaque. The engine may call it from
	// several goroutines at once.
	Hint func(name string) Hint

	// Changed says which bytes of the named file may differ from what the file held
	// when the source was at an earlier position: since is the Position that its view in
	// the parent snapshot had. Only those, and what lies beyond the old end, are read; the
	// rest is taken from the parent. ok is false where the source cannot tell: then the
	// file is read. The order of the ranges, overlaps, and parts beyond the end do not
	// matter; a negative number fails the snapshot.
	//
	// It is a promise, like Hint.Identity: a random share of what is called unchanged
	// is read nevertheless; see Config.VerifyShare. It is asked only if both views have
	// the same, non-empty epoch, the parent has the file under the same name, class and
	// page size, and Hint.Identity has not settled the matter; and only for files that
	// implement io.ReaderAt it saves reading. It is called after Settle, by one goroutine
	// at a time. A nil Changed means that nothing is known.
	Changed func(name, since string) (ranges []Range, ok bool)

	// Settle finishes the work that Pin began, after the freeze has ended and
	// before anything is read from FS. A nil Settle means that the View is
	// ready. It is called at most once.
	Settle func(ctx context.Context) error

	// Close lets go of what the View holds. The engine calls it exactly once,
	// whether or not the snapshot succeeded and whether or not Settle ran, after
	// the last read. A nil Close is allowed.
	Close func() error

	// Kind names the engine behind the source, such as "pebble", "bbolt",
	// "sqlite" or "dir".
	Kind string

	// Method says how the view was pinned, such as "read-transaction" or
	// "checkpoint-under-gate", so that an operator can tell a fast pin from its
	// fallback. It is kept in the manifest. Settle may still change it.
	Method string

	// Epoch binds Hint.Identity and Position to one life of the source. They are
	// compared with those of the parent snapshot only if both have the same,
	// non-empty epoch; otherwise everything is read. A source whose identities
	// cannot repeat between two of its lives may use a constant.
	Epoch string

	// Position is the source's own name for the moment of the pin: a log
	// sequence number, a transaction ID, a raft index. It is kept in the manifest.
	// Settle may still set it.
	Position string

	// Metadata is kept in the manifest beside Position.
	Metadata map[string]string
}

// Class says how a file changes between two snapshots, and so how it is best
// cut into chunks. A wrong class costs space, never correctness.
type Class uint8

const (
	// Opaque files are cut by their content, which finds shared parts wherever
	// they moved. A chunk in which little changed is stored as the difference to the
	// one that stood there in the same file in the parent snapshot. It is the default.
	Opaque Class = iota
	// Immutable files never change once they are written, such as the sorted
	// tables of an LSM tree. They are cut in large fixed pieces.
	Immutable
	// Paged files are rewritten in place, page by page, such as B-trees. They are
	// cut on multiples of the page size, and a chunk in which little changed is
	// stored as the difference to that at the same place of the same file in the
	// parent snapshot.
	Paged
	// AppendOnly files only grow, such as logs. They are cut in fixed pieces, so
	// that the head is shared; the piece that was the last one in the parent snapshot
	// is stored as the difference to that. Where Hint.Identity says that it is the same
	// log, only what was appended is read; else all of it is.
	AppendOnly
)

// A Hint is what a Source knows about one file. The zero Hint is always right.
type Hint struct {
	Class Class

	// PageSize is the page size of a Paged file in bytes. Zero means 4096; a
	// value that is not a power of two between 512 and 1 MiB is ignored.
	PageSize int

	// Identity, when not empty, is a promise: any file of this source and epoch
	// with the same identity has the same content and size. A file whose
	// identity stood in the parent snapshot too is not read at all. A random
	// share of such files is read nevertheless, and a broken promise fails the
	// snapshot with a *BrokenPromiseError; see Config.VerifyShare. At most 255
	// bytes.
	//
	// For an AppendOnly file the promise is a weaker one: two files of this source and
	// epoch with the same identity are one log at two times, so that the longer one
	// begins with all of the shorter one. Then what the parent has of it is not read,
	// but for its first and its last piece, which would tell a log that was emptied and
	// written anew. A log that is shorter than in the parent is read.
	Identity string
}

// A Range is a part of a file, in bytes.
type Range struct {
	Offset, Length int64
}
