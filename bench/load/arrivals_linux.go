package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const defaultArrivals = byPoller

// polled arrivals come from a timer of the kernel that is read as a file: the
// goroutine waits in the network poller, like one that waits for a request.
type polled struct {
	timetable
	file        *os.File
	told, taken int64
	expired     [8]byte
}

func newPolled(t timetable) (arrivals, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("timerfd_create: %w", err)
	}
	p := &polled{timetable: t, file: os.NewFile(uintptr(fd), "timerfd")}
	spec := unix.ItimerSpec{
		Interval: unix.NsecToTimespec(int64(t.interval)),
		// 0 would disarm the timer.
		Value: unix.NsecToTimespec(int64(max(time.Until(t.first), 1))),
	}
	if err := unix.TimerfdSettime(fd, 0, &spec, nil); err != nil {
		_ = p.file.Close() // the error above says more
		return nil, fmt.Errorf("timerfd_settime: %w", err)
	}
	return p, nil
}

func (p *polled) next() (time.Time, error) {
	if p.taken == p.trips {
		return time.Time{}, errEnd
	}
	if p.taken == p.told {
		if _, err := p.file.Read(p.expired[:]); err != nil {
			return time.Time{}, fmt.Errorf("wait for the next commit to be due: %w", err)
		}
		p.told += int64(binary.NativeEndian.Uint64(p.expired[:]))
	}
	due := p.due(p.taken)
	p.taken++
	return due, nil
}

func (p *polled) close() error { return p.file.Close() }
