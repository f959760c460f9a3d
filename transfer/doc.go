// Package transfer copies snapshots between repositories.
//
// Start with [Copy]. What the destination has already is not sent again, chunks
// travel as they are stored, and each is checked on the way. The snapshot appears
// in the destination when all that it needs is durable there, and not before.
package transfer
