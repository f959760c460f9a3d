package lock

import _ "unsafe" // for go:linkname

// procPin keeps the calling goroutine on its processor, in the sense of the Go
// scheduler, until procUnpin, and returns the number of that processor. In
// between the caller must not block. The runtime keeps both for the use of
// other packages, see go.dev/issue/67401.
//
//go:linkname procPin runtime.procPin
func procPin() int

//go:linkname procUnpin runtime.procUnpin
func procUnpin()
