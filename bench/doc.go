// Package bench holds the benchmarks of holdstill. It has no API: run it with
//
//	go test -run '^$' -bench . ./...
//
// from this folder, on a machine that does nothing else. Every stage stands beside
// the plain library that bounds it, on the same bytes, because machines differ and
// drift: compare lines of one run, not of two. The data comes from package
// [github.com/holdstill/holdstill/bench/rows].
//
//   - BenchmarkCut, BenchmarkIdentify, BenchmarkEncode, BenchmarkDecode: the work
//     on a chunk, one core, in MB/s of plain bytes, for each kind of file
//   - BenchmarkPolicy: the policies beside plain zstd, in turn, for each kind of file
//   - BenchmarkSharedFrames: several chunks of pages in one frame, and what reading one
//     of them would cost then
//   - BenchmarkCreate, BenchmarkRestore: whole snapshots of files on disk, and their
//     share of what the stages take by themselves; -corpus sets the size
//   - BenchmarkWake: how late goroutines run that the network wakes while a first
//     snapshot is read; Linux only
//   - BenchmarkPeakMemory: the most memory a first snapshot takes; -peak sets the size
//   - BenchmarkSession, BenchmarkBegin, BenchmarkRWMutex, BenchmarkRBMutex: what a
//     transaction pays for passing the gate
//   - BenchmarkFreezeStall: what a transaction waits when the gate is frozen
//
// Commands below it do more than a benchmark can: demo shows a snapshot of a database
// under load, from the first write to the comparison of the restored rows; load
// measures what commits feel of snapshots; peers runs other backup tools over the same
// databases; deltas measures with some of them what a share of changed rows costs.
package bench
