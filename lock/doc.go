// Package lock is the gate between the transactions of a server and the
// freeze that a consistent snapshot needs.
//
// Start with [New]. Put [Gate.Begin] and [Tx.End] around every transaction,
// and call [Gate.Freeze] with a short function, the pin, that is to run while
// no transaction is inside:
//
//	gate := lock.New(lock.Options{})
//
//	tx, err := gate.Begin(ctx) // in the server, around each transaction
//	if err != nil {
//		return err
//	}
//	defer tx.End()
//
//	result, err := gate.Freeze(ctx, lock.FreezeOptions{}, pin) // in the snapshot
//
// A freeze shuts the gate, waits until the transactions inside have ended,
// runs the pin and opens the gate again. Transactions that arrive in between
// are held, and go on in the order in which they came.
//
// # Which form of transaction
//
// A gate takes transactions of all forms at once:
//
//   - [Session] for connections and workers that last: make one for each with
//     [Gate.NewSession], and put [Session.Enter] and [Session.Exit] around
//     each transaction. About a nanosecond for both on amd64 under Linux.
//   - [Gate.Begin] for everybody else: no state to keep, and the transaction
//     may end on another goroutine. Less than what RLock and RUnlock of a
//     sync.RWMutex cost, on one processor already.
//   - [Gate.BeginContext] for long transactions: it costs more, but the freeze
//     knows name and age, and can abort the transaction.
//
// None of the first two allocates memory or writes what another processor
// writes too, so their cost does not grow with the number of processors.
//
// Their speed comes from ordinary stores in place of atomic ones; a freeze
// makes up for it with membarrier(2), once for each attempt. Under other
// operating systems, and where a sandbox refuses that call, the stores that
// enter are atomic, and both forms cost about what a sync.RWMutex does. On
// other processors, and under the race detector, all of them are.
//
// # What a freeze may cost the server
//
// A transaction that runs for minutes must not hold up everybody behind it.
// One attempt therefore shuts the gate for at most [FreezeOptions.MaxStall]
// while it waits. When that has passed the gate opens at once, everything
// that was held goes in, and the freeze tries again after a growing pause,
// until its timeout. A long transaction delays the snapshot, not the server.
// A transaction that was held by one attempt is always admitted before the
// next attempt begins, so no transaction is held twice.
//
// # Transactions within transactions
//
// A transaction that is inside may have to start another one before it can
// end. Holding that one back would be a deadlock, so it is let through even
// while the gate is shut: begin it with [Tx.Child] or [Session.Child], with
// Enter of the session that is inside, or with [Gate.Begin] or [Session.Enter]
// and the context that [Gate.BeginContext] returned for the outer one.
//
// # Aborting what blocks
//
// [Gate.BeginContext] costs more than Begin and gives more: the freeze knows
// the age of the transaction and its name (see [WithName]), and
// [FreezeOptions.Force] can abort it. The context it returns is then
// cancelled with a [*ForcedError] as its cause.
//
// # Several databases as one
//
// What has to stand still together with the transactions of a gate, such as a
// second database, is registered with [Gate.Register]. A freeze then freezes
// all participants or none, within the same bounds.
//
// # What a consistent result means
//
// [FreezeResult.Consistent] is true only when the gate was shut, with nothing
// inside, from before the pin was called until after it returned. The gate
// counts every time it opens or shuts; the count taken when it was shut for
// the pin and the one taken after the pin are both in the result, and are
// equal exactly when it did not open in between.
//
// # Figures
//
// [Gate.Stats] returns counts, and histograms of what transactions felt.
// [Options.Meter] hands the same to OpenTelemetry.
//
// The package starts no goroutine that outlives a call, and writes no log.
package lock
