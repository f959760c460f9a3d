// Package resttest has what the tests of several handlers need.
package resttest

import (
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"time"
)

// Limited is a response whose time limits can be set, and that begins with those of a server: they have passed.
type Limited struct {
	*httptest.ResponseRecorder
	mu          sync.Mutex
	read, write time.Time
}

// NewLimited returns a response of which nobody has written anything.
func NewLimited() *Limited {
	past := time.Now().Add(-time.Second)
	return &Limited{ResponseRecorder: httptest.NewRecorder(), read: past, write: past}
}

// SetReadDeadline is for http.ResponseController.
func (l *Limited) SetReadDeadline(at time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.read = at
	return nil
}

// SetWriteDeadline is for http.ResponseController.
func (l *Limited) SetWriteDeadline(at time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.write = at
	return nil
}

// Passed says whether one of the limits has.
func (l *Limited) Passed() (read, write bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	return !l.read.IsZero() && l.read.Before(now), !l.write.IsZero() && l.write.Before(now)
}

// Write fails if the limit has passed.
func (l *Limited) Write(data []byte) (int, error) {
	if _, write := l.Passed(); write {
		return 0, os.ErrDeadlineExceeded
	}
	return l.ResponseRecorder.Write(data)
}

// Log is what several goroutines log to.
type Log struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *Log) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *Log) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
