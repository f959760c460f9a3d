package pebblesource

import "errors"

// Errors of New and Open.
var (
	// ErrNotDatabase: the folder given to New holds no Pebble database.
	ErrNotDatabase = errors.New("pebblesource: not a Pebble database")
	// ErrNoWAL: the database runs with DisableWAL. A checkpoint would lack every
	// row that is not flushed yet.
	ErrNoWAL = errors.New("pebblesource: the database has no write-ahead log")
	// ErrScratchInUse: another Source, of this process or of another, uses the
	// scratch folder. Close it first, or set Options.ScratchDir.
	ErrScratchInUse = errors.New("pebblesource: scratch folder in use")
)

// Errors of Prepare, Pin and Settle.
var (
	// ErrClosed: the Source was closed.
	ErrClosed = errors.New("pebblesource: source is closed")
	// ErrRemoteObjects: tables of the database lie in remote storage. A
	// checkpoint holds only references to them, so it is not a backup.
	ErrRemoteObjects = errors.New("pebblesource: tables in remote storage cannot be snapshotted")
)

// Reasons for which Source.EarlyRelease says no.
var (
	// ErrNotCaptured: the log of the database is not written through the FS that
	// was passed to New.
	ErrNotCaptured = errors.New("pebblesource: the database was not opened through this FS")
	// ErrFailover: the database may move its log to a second folder.
	ErrFailover = errors.New("pebblesource: WAL failover is configured")
	// ErrCallOrder: the linked version of Pebble makes checkpoints in an order
	// that an early release cannot be built on.
	ErrCallOrder = errors.New("pebblesource: unexpected order of calls in Pebble's checkpoint")
)

// errAborted ends a checkpoint whose view is no longer wanted.
var errAborted = errors.New("pebblesource: checkpoint given up")
