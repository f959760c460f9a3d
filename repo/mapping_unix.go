//go:build unix

package repo

import (
	"fmt"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// mapFile makes the first size bytes of a file readable as memory, without reading
// them. The file may be closed; unmap frees the memory.
func mapFile(f *os.File, size int64) (data []byte, unmap func(), err error) {
	if size <= 0 || size > math.MaxInt {
		return nil, nil, fmt.Errorf("map %s: %d bytes cannot be mapped", f.Name(), size)
	}
	conn, err := f.SyscallConn()
	if err != nil {
		return nil, nil, err
	}
	var mapErr error
	err = conn.Control(func(fd uintptr) {
		data, mapErr = unix.Mmap(int(fd), 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
	})
	if err == nil {
		err = mapErr
	}
	if err != nil {
		return nil, nil, fmt.Errorf("map %s: %w", f.Name(), err)
	}
	return data, func() { _ = unix.Munmap(data) }, nil
}
