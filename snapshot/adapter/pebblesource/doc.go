// Package pebblesource makes a Pebble database a source of holdstill snapshots.
//
// Open the database with [Open], and hand the Source it returns to the
// snapshot engine:
//
//	db, src, err := pebblesource.Open(dir, &pebble.Options{}, pebblesource.Options{})
//	...
//	defer db.Close()
//	defer src.Close() // before the database
//
// A server that opens Pebble by itself sets pebble.Options.FS to a [NewFS] and
// passes the same FS to [New]. Without it everything works as well, only with
// a longer stall.
//
// A server that closes the database and opens it again while the engine lives, as for a
// restore in place, gives the engine [snapshot.Current], and makes a new Source each time.
//
// # How a pin works
//
// Pebble's own DB.Checkpoint makes an exact copy of the database in a folder:
// hard links of the tables, and copies of the manifest and of the write-ahead
// logs. Made while transactions wait, they wait for all of it. But only its
// first step, which notes the current version, the length of the manifest
// and the list of the logs, has to happen at the moment of the cut. The next
// step is to make the destination folder. So a pin does this, inside the freeze:
//
//	commit a mark         a log-only record with a random token; no row changes
//	start a checkpoint    in a goroutine of its own
//	wait for both         the FS sees the mark being written to the log: all that
//	                      was committed before it has been written too. The FS sees
//	                      the folder being made: the version has been noted
//	note the log lengths  the bytes written to each log so far
//	return                the freeze ends, the checkpoint goes on
//
// What the checkpoint copies of a log is cut at the noted length, so that rows
// committed after the freeze are not in it. The pin waits for no sync and for no
// link, and its time does not depend on the number of bytes or of tables. What
// it may wait for is a log write or a manifest write that Pebble has under way.
// Pebble also copies the list of virtual tables' backings and of blob files
// there, in memory, some nanoseconds for each.
//
// The View's Method is then [MethodEarlyRelease]. Whether the linked version of
// Pebble works in this order is tried out by New, on a small database in memory.
// Where it does not, and where logs may move to a second folder (WAL failover),
// the whole checkpoint is made inside the freeze, which is always right:
// [MethodUnderGate]. [Source.EarlyRelease] tells the reason.
//
// Without a freeze, for a server that has no transactions of its own, a View is
// still exact for the one database: a point in the order of commits, not before
// the call of Pin.
//
// Other checkpoints of the same database, made by the application, are not
// touched.
//
// # What is read of it
//
// Tables and blob files that the parent snapshot has are not read at all. A log is
// known again by what an FS remembers of it, so with an early release only what
// was appended to it since is read. The manifest and the small files are read.
//
// # Scratch
//
// Checkpoints are made in a scratch folder inside the database's folder, unless
// Options.ScratchDir says otherwise. That is the one place which certainly lies
// on the same file system, as hard links need: a database's folder is often a
// mount point itself. Pebble ignores the folder. A checkpoint is removed when its
// View is closed. One that a crash left behind is removed by New. Nothing of it
// needs to survive a crash, so in an early release its syncs are left out.
//
// While a View is open the tables it links take up space even when the database
// has compacted them away.
package pebblesource
