//go:build !unix

package repo

import (
	"fmt"
	"io"
	"math"
	"os"
)

// mapFile reads a file into memory: on this system nothing is mapped. What is saved
// here is only that indexes are fetched again.
func mapFile(f *os.File, size int64) (data []byte, unmap func(), err error) {
	if size <= 0 || size > math.MaxInt {
		return nil, nil, fmt.Errorf("read %s: %d bytes are too many, or none", f.Name(), size)
	}
	data = make([]byte, size)
	if _, err := io.ReadFull(io.NewSectionReader(f, 0, size), data); err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	return data, func() {}, nil
}
