// Package snapshot takes consistent snapshots of live databases, keeps them in a
// repository, and restores them.
//
// Start with [Open], which returns an [Engine]. Then:
//
//	engine.Create    take a snapshot of all sources while the server runs
//	engine.List      what there is; Get and Delete by ID
//	engine.OpenFS    read a snapshot as a file system, without restoring it
//	engine.Restore   write one to a directory, new or in place of a live one
//	Recover          before the database opens: finish or undo what a crash left
//
// and, for the life of a snapshot after that:
//
//	engine.StartCreate, StartRestore, Upload, Download   the same as jobs of package transfer
//	engine.Prune, Collect, DeleteTree                    keep what a policy says, free the rest
//	engine.Attach                                        add a named blob, also while it is made
//	engine.Export, Import                                one snapshot as a tar stream
//	engine.Register                                      list what another repository holds
//
// # What to give it
//
// A [Source] for each database: packages below snapshot/adapter have them for
// Pebble, bbolt and SQLite, [Dir] is one for any plain directory, and a Source of
// your own is one method, which returns a [View]: an fs.FS that stands still.
//
// A gate of package lock that every transaction of the server passes, if the
// snapshot must be of one moment in several databases, or of a database that
// cannot stand still by itself. The gate is closed while the sources are pinned,
// and open again before anything is read.
//
// # What holds at every moment
//
// A snapshot that is listed can be restored: everything it needs was durable
// before its manifest was written, and deleting another snapshot takes nothing
// from it. A Create that fails, is cancelled, or dies with its process lists
// nothing. A Restore that does so leaves the target as it was.
//
// What is read from a repository is compared with the hash it was stored under.
// A damaged chunk is an error that names it, never wrong bytes.
//
// # Hints
//
// A source may tell how its files change; see [Hint]. Most hints only choose how a
// file is cut. Two are promises: what has the same Hint.Identity as in the parent
// snapshot is not read at all, nor is what View.Changed leaves out of the ranges that
// changed since then. A random share of it is read all the same, and a broken promise
// is an error; see Config.VerifyShare.
//
// # Differences
//
// A chunk that is new is stored as the difference to the one that stood in its place
// in the same file of the parent snapshot, if that is much smaller. Restoring it reads
// both. repo.Options.NoDeltas, in Config.Options, turns this off.
package snapshot
