//go:build !noprocpin

package lock

import (
	"sync/atomic"
	_ "unsafe" // for go:linkname
)

// procPin keeps the calling goroutine on its processor, in the sense of the Go
// scheduler, until procUnpin, and returns the number of that processor. In
// between the caller must not block. The runtime keeps both for the use of
// other packages, see go.dev/issue/67401. Should a release of Go ever refuse
// to link them, the build tag noprocpin does without.
//
//go:linkname procPin runtime.procPin
func procPin() int

//go:linkname procUnpin runtime.procUnpin
func procUnpin()

// shardsPerProc is how many shards there are for each processor.
const shardsPerProc = 1

// takeCell makes the free cell c of the caller's processor, to which it is
// pinned, that of a transaction, and reports whether it has. Nobody else takes
// one of these.
func takeCell(c *uint32, mark uint32, fence bool) bool {
	if fence {
		atomic.StoreUint32(c, mark)
	} else {
		storeCell(c, mark)
	}
	return true
}
