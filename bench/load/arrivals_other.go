//go:build !linux

package main

import "errors"

const defaultArrivals = byTimer

func newPolled(timetable) (arrivals, error) {
	return nil, errors.New("arrivals by the poller work on Linux only")
}
