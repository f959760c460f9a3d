package main

import (
	"errors"
	"time"
)

// The values of -arrivals.
const (
	byPoller = "poller"
	byTimer  = "timer"
)

// A timetable says when the commits of one writer are due.
type timetable struct {
	first    time.Time
	interval time.Duration
	trips    int64 // how many there are
}

// newTimetable makes the timetable of writer w of a round that begins now. The
// writers take turns. The number of trips depends on nothing but the settings.
func newTimetable(set settings, w int, span time.Duration) timetable {
	interval := time.Duration(float64(time.Second) / set.rate)
	offset := interval * time.Duration(w) / time.Duration(set.writers)
	return timetable{
		first:    time.Now().Add(offset),
		interval: interval,
		trips:    max(int64((span-offset+interval-1)/interval), 0),
	}
}

// due is when trip i is due.
func (t timetable) due(i int64) time.Time { return t.first.Add(time.Duration(i) * t.interval) }

// errEnd says that a timetable is over.
var errEnd = errors.New("no more arrivals")

// arrivals are the wake-up calls of one writer.
type arrivals interface {
	// next waits until the next commit is due, not at all if it is already, and
	// returns when that was. It returns errEnd when none is left.
	next() (time.Time, error)
	close() error
}

// newArrivals returns those that the settings ask for.
func newArrivals(set settings, w int, span time.Duration) (arrivals, error) {
	if set.rate == 0 {
		return backToBack{end: time.Now().Add(span)}, nil
	}
	if set.arrivals == byPoller {
		return newPolled(newTimetable(set, w, span))
	}
	return &timed{timetable: newTimetable(set, w, span)}, nil
}

// backToBack arrivals have no timetable: each is due when the one before is done.
type backToBack struct{ end time.Time }

func (b backToBack) next() (time.Time, error) {
	now := time.Now()
	if !now.Before(b.end) {
		return time.Time{}, errEnd
	}
	return now, nil
}

func (b backToBack) close() error { return nil }

// timed arrivals come from the timers of the Go runtime.
type timed struct {
	timetable
	taken int64
}

func (t *timed) next() (time.Time, error) {
	if t.taken == t.trips {
		return time.Time{}, errEnd
	}
	due := t.due(t.taken)
	t.taken++
	time.Sleep(time.Until(due))
	return due, nil
}

func (t *timed) close() error { return nil }
