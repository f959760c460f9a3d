//go:build !unix

package snapshot

// openNonblock is for pipes among the files, which are not here.
const openNonblock = 0
