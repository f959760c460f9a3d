package repo

import (
	"os"
	"runtime"
	"runtime/debug"
	"unsafe"
)

// mapping is a file as memory. The file can change or shrink under it, when
// somebody else writes to the folder or the disk fails. Reading what is no longer
// there is a fault, which ends a process by default: every access stands between
// enter and leave, which make an error of it. The memory is freed by the garbage
// collector, when nobody can be reading it any more.
type mapping struct {
	name string
	data []byte
}

// openMapping maps all of a file.
func openMapping(f *os.File) (*mapping, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	data, unmap, err := mapFile(f, info.Size())
	if err != nil {
		return nil, err
	}
	m := &mapping{name: f.Name(), data: data}
	runtime.AddCleanup(m, func(unmap func()) { unmap() }, unmap)
	return m, nil
}

// mappingDamage is what a reader of a mapping panics with, as a fault does, to
// be caught by leave.
type mappingDamage struct{ reason string }

// enterMapping begins accesses to mappings in this goroutine: defer m.leave(enterMapping(), &err).
func enterMapping() (before bool) { return debug.SetPanicOnFault(true) }

// leave is to be deferred. It turns a fault within the mapping, and
// mappingDamage, into an error; other panics go on.
func (m *mapping) leave(before bool, err *error) {
	p := recover()
	debug.SetPanicOnFault(before)
	if p != nil {
		*err = m.explain(p)
	}
	runtime.KeepAlive(m)
}

// explain says what a panic between enter and leave means. What is not the mapping's
// it throws again.
func (m *mapping) explain(p any) error {
	switch p := p.(type) {
	case mappingDamage:
		return corrupt(m.name, "%s", p.reason)
	case interface{ Addr() uintptr }:
		start := uintptr(unsafe.Pointer(unsafe.SliceData(m.data)))
		if at := p.Addr(); at >= start && at-start < uintptr(len(m.data)) {
			return corrupt(m.name, "its byte %d cannot be read: it was cut off, or the disk fails", at-start)
		}
	}
	panic(p)
}

// mappedIndex is an index whose records are in a mapping.
type mappedIndex struct {
	*index
	from *mapping
}

func (x mappedIndex) read(i int, dst []indexRecord) (err error) {
	defer x.from.leave(enterMapping(), &err)
	return x.index.read(i, dst)
}

// toHeap makes it an index that needs no mapping.
func (x mappedIndex) toHeap() (out *index, err error) {
	defer x.from.leave(enterMapping(), &err)
	copied := *x.index
	copied.records = append([]byte(nil), x.records...)
	copied.filter = newFilter(copied.records)
	return &copied, nil
}

// parseMappedIndex is parseIndex for a mapping.
func parseMappedIndex(object string, want indexID, m *mapping) (x mappedIndex, err error) {
	defer m.leave(enterMapping(), &err)
	parsed, err := parseIndex(object, want, m.data)
	if err != nil {
		return x, err
	}
	return mappedIndex{parsed, m}, nil
}
