// Package sqlitesource snapshots a SQLite database in WAL mode while the server
// writes to it.
//
// Call [New] with the path of the database, and hand the Source to the snapshot
// engine under a name of your choice. Close it before the server closes its own
// last connection:
//
//	src, err := sqlitesource.New(ctx, "/var/lib/app/app.db", sqlitesource.Options{})
//	...
//	Sources: map[string]snapshot.Source{"app": src}
//	defer src.Close()
//
// # What a pin is
//
// The Source has read-only connections of its own. Pin begins a read transaction
// on one of them, which marks a commit in the write-ahead log; it takes some
// microseconds, whatever the size of the database. The View holds one file: the
// database as of that commit, whole, so that it opens without a log. Nothing is
// ever written to the database, and no checkpoint is run.
//
// # How it is read
//
// By the method "wal-overlay" the database file is read directly and the log's
// pages up to the marked commit are laid over it. The mark comes from SQLite
// itself (sqlite3_snapshot_get), so it is that of the transaction and no other,
// with or without a lock around Pin. While the transaction is open, a checkpoint
// writes only such pages to the file as the View takes from the log, and nobody
// resets the log.
//
// When anything about the file or the log is not as it should be, the View falls
// back to the method "dbpage": it asks SQLite for every page, through the
// sqlite_dbpage table. That is exact too, and several times slower. View.Method
// tells which it was, once Settle has run.
//
// # What is read of it
//
// Everything, unless the log has not begun anew since the parent snapshot: then the
// frames behind the parent's commit name the pages that changed, View.Changed tells
// them, and only those are read. A log begins anew when all of it was copied to the
// database file and nobody reads it, by default after about 4 MiB of changes. A higher
// PRAGMA wal_autocheckpoint makes that rarer.
//
// # Locks
//
// SQLite's locks are POSIX locks. A process loses all of those it holds on a file
// when it closes any descriptor of it. This package opens no descriptor of the
// database or its -shm file outside SQLite: it borrows the one its connection
// has. For the same reason the server must use the same copy of SQLite in this
// process, which is modernc.org/sqlite, or be another process. With a second
// copy, such as a cgo driver, in one process the locks of either are lost, as
// described in section 2.2.1 of https://www.sqlite.org/howtocorrupt.html.
//
// The connections need write access to the -shm file, and to the folder if there
// is none, as every reader of a WAL database does.
//
// # What a long snapshot costs the server
//
// While a View is open, the log cannot be reset, and grows by what is written
// meanwhile. It is used again from its start after the View is closed, but
// keeps its size until a checkpoint truncates it; see PRAGMA journal_size_limit.
// A checkpoint that waits for readers (RESTART, TRUNCATE) waits for the View.
// Options.MaxLogGrowth bounds it.
//
// Other journal modes are refused with [ErrNotWAL]: there, a reader would hold
// up every writer until the snapshot ends.
package sqlitesource
