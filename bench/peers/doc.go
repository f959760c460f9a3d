// Command peers puts holdstill beside the tools that one would otherwise take
// backups of an embedded database with: restic, borg, casync, tar and zstd, cp,
// rsync, rclone, and RocksDB's own backup command.
//
//	go run ./peers                             # 256 MiB; a Markdown table on stdout
//	go run ./peers -size 3072 -runs 3 -svg peers/chart.svg
//	go run ./peers -install                    # apt-get install what is missing, then run
//
// It makes a Pebble directory, a bbolt file and a SQLite file, and a second
// generation of them with 5 % of the rows updated. Every tool gets a new repository
// and takes a first snapshot, one of nothing changed, and one of the second
// generation; restores the last; checks all data; and deletes all snapshots but the
// last, with whatever it calls collection.
//
// How it is measured:
//
//   - Every tool runs as a process of its own, holdstill too: start-up is part of
//     the time. What a server that links it pays is printed below the table.
//   - The time ends when the data is on disk: a flush of the file system is part of
//     it, for tools that sync every file and for those that sync none (-flush=false
//     leaves it out). Before each step everything is flushed, and what the step will
//     read is read, so that it comes from the page cache for all.
//   - The tools take turns in each run, and the table has the medians.
//   - Memory is the kernel's figure for the largest process of each member of a
//     pipeline, added up. A process that stays smaller than this program is sampled
//     every 2 ms instead; one that was not seen even so has a bound, marked "≤".
//   - Bytes are the sizes of the files in the repository, each inode counted once.
//     Caches in the user's home are not part of them.
//   - Every restore is compared with the original byte by byte, once more after the
//     deletion. A tool that fails anywhere has no figures, only its error.
//
// A tool that is not installed has a row that says so. It exits with 0 if no tool
// failed, with 1 if one did, and with 2 if it was called wrongly.
package main
