package lock

// NewWithoutBarrier returns a gate as New does where there is no barrier.
func NewWithoutBarrier(opts Options) *Gate { return newGate(opts, false) }
