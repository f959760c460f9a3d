package sqlitesource

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/holdstill/holdstill/snapshot"
)

// covers says whether the ranges hold every byte in which two versions differ, up to
// the end of the shorter one.
func covers(old, now []byte, ranges []snapshot.Range) error {
	now = bytes.Clone(now)
	for _, r := range ranges {
		for at := r.Offset; at < r.Offset+r.Length && at < int64(min(len(old), len(now))); at++ {
			now[at] = old[at]
		}
	}
	n := min(len(old), len(now))
	for at := 0; at < n; at += 512 {
		end := min(at+512, n)
		if !bytes.Equal(old[at:end], now[at:end]) {
			return fmt.Errorf("a difference at %d of %d is in none of %d ranges", at, n, len(ranges))
		}
	}
	return nil
}

// What Changed tells of any two commits holds every byte in which they differ.
func TestChangedHoldsEveryDifference(t *testing.T) {
	for name, pragmas := range map[string][]string{
		"4096":        nil,
		"512":         {"PRAGMA page_size=512"},
		"auto vacuum": {"PRAGMA page_size=1024", "PRAGMA auto_vacuum=FULL"},
	} {
		t.Run(name, func(t *testing.T) {
			type pinned struct {
				position string
				data     []byte
			}
			db, path := openServer(t, append(pragmas, "PRAGMA wal_autocheckpoint=0")...)
			src := newSource(t, path, Options{})
			r := rand.New(rand.NewPCG(5, uint64(len(name))))
			var before []pinned
			told, saved, anew := 0, 0, 0
			for round := range int64(60) {
				exec := func(query string, args ...any) {
					if _, err := db.Exec(query, args...); err != nil {
						t.Fatal(err)
					}
				}
				switch n := r.IntN(14); {
				case n < 8:
					if err := write(t.Context(), db, r, round, 1+r.IntN(60)); err != nil {
						t.Fatal(err)
					}
				case n < 10:
					exec("DELETE FROM rows WHERE id > ?", r.Int64N(3000))
				case n == 10:
					exec("VACUUM")
				case n == 11:
					checkpoint(t, db, "PASSIVE")
				case n == 12:
					checkpoint(t, db, "FULL")
				case r.IntN(3) == 0:
					checkpoint(t, db, "TRUNCATE")
				}
				v := pin(t, src)
				if _, ok := v.Changed("app.db", "before it is settled"); ok {
					t.Error("an answer before the view is settled")
				}
				settle(t, v)
				data := readView(t, v)
				file := src.name
				for _, old := range before {
					ranges, ok := v.Changed(file, old.position)
					if !ok {
						anew++
						continue
					}
					told++
					if err := covers(old.data, data, ranges); err != nil {
						t.Fatalf("round %d, from %s to %s: %v", round, old.position, v.Position, err)
					}
					var sum int64
					for _, r := range ranges {
						sum += r.Length
					}
					if sum < int64(len(data))/2 {
						saved++
					}
				}
				for _, odd := range []string{"", "log-empty", v.Position + "0", "x"} {
					if _, ok := v.Changed(file, odd); ok {
						t.Errorf("an answer for the position %q", odd)
					}
				}
				if _, ok := v.Changed("other", v.Position); ok {
					t.Error("an answer for a file that is not there")
				}
				before = append(before, pinned{v.Position, data})
				if err := v.Close(); err != nil {
					t.Fatal(err)
				}
			}
			t.Logf("%d pairs of one log, %d of them with less than half changed; %d of two", told, saved, anew)
			if told < 50 || saved < 10 || anew < 10 {
				t.Error("this test tests too little")
			}
		})
	}
}
