// Package transfer copies snapshots between repositories, and knows the jobs that do this
// and other long work.
//
// Start with [Copy]. What the destination has already is not sent again, chunks
// travel as they are stored, and each is checked on the way, as [Verify] says. The snapshot appears
// in the destination when all that it needs is durable there, and not before.
//
// [OpenJobs] makes a registry of jobs: work that goes on behind the call that asked for it,
// with an ID, a state, progress, a way to abort it, and a record that survives a restart.
package transfer
