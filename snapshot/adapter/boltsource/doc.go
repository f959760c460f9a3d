// Package boltsource snapshots an open bbolt database while it serves.
//
// Call [New] with the *bbolt.DB the server already has open, and hand the
// Source to the snapshot engine under a name of your choice:
//
//	Sources: map[string]snapshot.Source{"meta": boltsource.New(db, boltsource.Options{})}
//
// A server that closes the database and opens it again while the engine lives, as for a
// restore in place, gives the engine [snapshot.Current], and makes a new Source each time.
//
// # What a pin is
//
// Pin begins one read transaction. It takes a few microseconds, whatever the
// size of the database. The file is then read beside the server while the
// transaction is open: bbolt never writes to a page that an open transaction
// can reach. The View holds one file, the database as of that transaction. Its
// two meta pages are the ones bbolt makes for a backup (see [bbolt.Tx.WriteTo]),
// and pages that were free in the transaction read as zeros, so that two
// snapshots of one transaction are equal byte for byte, and free pages cost
// nothing to keep. The list of free pages is the one the transaction itself
// committed. Databases opened with NoFreelistSync have no such list: their free
// pages are copied as they are, are not repeatable, and are harmless, because
// bbolt looks at none of them.
//
// # What a long snapshot costs the server
//
// Pages freed while the View is open cannot be reused until it is closed, so
// the file grows by what is rewritten meanwhile. It does not shrink again, but
// the space is used by later writes.
//
// bbolt keeps the whole file mapped, and must wait for every read transaction
// before it can enlarge the mapping. A server that outgrows its mapping during
// a snapshot would therefore stand still until the snapshot ends: first the
// writer, and then every new transaction behind it. There are two ways out, and
// both should be taken:
//
//   - Open the database with bbolt.Options.InitialMmapSize well above the size
//     it will reach. The mapping is address space, not memory or disk. No
//     remapping is then needed. View.Metadata["mmap_headroom_min"] is the
//     room, in bytes, the mapping is known to have at the pin; a larger
//     InitialMmapSize gives more, which cannot be seen from outside.
//   - Options.MaxStall bounds the stall. A View watches for it, and when it
//     lasts, gives up its transaction so that the server goes on. Reads then
//     fail with [ErrGaveWay] and so does the snapshot. The next attempt finds a
//     larger mapping: bbolt doubles it up to 1 GiB and then adds 1 GiB a time.
//
// # The file
//
// The View opens the database's file a second time, by its path. bbolt locks
// with flock on Linux, the BSDs and macOS, and with ranges far beyond the file on
// Windows, so this does not touch its lock. On AIX, Android and Solaris bbolt
// uses fcntl locks, which the close of any descriptor would drop: Pin refuses
// with [ErrPlatform] there.
package boltsource
