package pebblesource

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/holdstill/holdstill/snapshot"
)

// BenchmarkPin measures the stall of one freeze on a database with about 130 tables
// and a log of some MiB, while writers run: what a transaction waits for.
func BenchmarkPin(b *testing.B) {
	for _, early := range []bool{true, false} {
		for _, prepare := range []bool{true, false} {
			method := MethodUnderGate
			if early {
				method = MethodEarlyRelease
			}
			b.Run(fmt.Sprintf("%s/prepare=%v", method, prepare), func(b *testing.B) {
				benchmarkPin(b, early, prepare)
			})
		}
	}
}

func benchmarkPin(b *testing.B, early, prepare bool) {
	o := &pebble.Options{
		MemTableSize:                4 << 20,
		DisableAutomaticCompactions: true,
		L0StopWritesThreshold:       1 << 20,
		Logger:                      quiet{},
	}
	dir := b.TempDir()
	db, src := openPair(b, dir, o, Options{})
	writeTables(b, db, 0, 130)
	if !early {
		src.why = ErrNotCaptured
	}
	w := startWorkload(b, 3, 2, db)
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err != nil {
		b.Fatal(err)
	}
	var stalls []time.Duration
	for b.Loop() {
		if prepare {
			if err := src.Prepare(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
		var v *snapshot.View
		w.underGate(b, func(ctx context.Context) (err error) {
			start := time.Now()
			v, err = src.Pin(ctx)
			stalls = append(stalls, time.Since(start))
			return err
		})
		settle(b, v)
		if err := v.Close(); err != nil {
			b.Fatal(err)
		}
	}
	w.end()
	slices.Sort(stalls)
	b.ReportMetric(float64(stalls[len(stalls)/2].Microseconds()), "stall-p50-us")
	b.ReportMetric(float64(stalls[len(stalls)*99/100].Microseconds()), "stall-p99-us")
	b.ReportMetric(float64(stalls[len(stalls)-1].Microseconds()), "stall-max-us")
	b.ReportMetric(float64(len(tables)), "tables-at-start")
}

// BenchmarkTryOrder measures what New costs on top of opening the database: the trial of
// the order of calls.
func BenchmarkTryOrder(b *testing.B) {
	for b.Loop() {
		if err := tryOrder(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkLogWrite measures what the FS adds to a write to the log.
func BenchmarkLogWrite(b *testing.B) {
	for _, watched := range []bool{false, true} {
		b.Run(fmt.Sprintf("watched=%v", watched), func(b *testing.B) {
			var fs vfs.FS = nowhere{vfs.NewMem()}
			if watched {
				fs = NewFS(fs)
			}
			f, err := fs.Create("000001.log", "pebble-wal")
			if err != nil {
				b.Fatal(err)
			}
			record := rowValue(0, 1)
			for b.Loop() {
				if _, err := f.Write(record); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// nowhere keeps nothing of what is written.
type nowhere struct{ vfs.FS }

func (n nowhere) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := n.FS.Create(name, c)
	return sink{f}, err
}

type sink struct{ vfs.File }

func (sink) Write(p []byte) (int, error) { return len(p), nil }
