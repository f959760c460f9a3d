package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/holdstill/holdstill/bench/rows"
	"github.com/holdstill/holdstill/lock"
	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/snapshot/adapter/pebblesource"
)

// TestOracleUnderLoad freezes a database with writers at work, as the engine does,
// and verifies what was pinned; then the same with a state that is off by one.
func TestOracleUnderLoad(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	db, kv, err := pebblesource.Open(filepath.Join(dir, "db"), &pebble.Options{Logger: silent{}}, pebblesource.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := errors.Join(kv.Close(), db.Close()); err != nil {
			t.Error(err)
		}
	}()
	g := rows.New(5)
	filled, err := fill(ctx, db, g, 2<<20, func(int64) {})
	if err != nil {
		t.Fatal(err)
	}
	gate := lock.New(lock.Options{})
	o := newOracle(5, filled, 3, 5)
	l := startLoad(ctx, db, gate, g, o)
	updated := make(chan error, 1)
	go func() { updated <- o.update(ctx, db, gate, g, func(int64) {}) }()

	for round := range 4 {
		time.Sleep(20 * time.Millisecond)
		copied := filepath.Join(dir, fmt.Sprint("copy", round))
		pinAll(t, gate, map[string]snapshot.Source{sourceKV: kv, sourceOracle: o}, copied)
		s, err := readState(filepath.Join(copied, sourceOracle))
		if err != nil {
			t.Fatal(err)
		}
		pinned, _ := o.lastPinned()
		if diff := cmp.Diff(pinned, s); diff != "" {
			t.Fatalf("stored state differs from the pinned one:\n%s", diff)
		}
		if err := verify(ctx, filepath.Join(copied, sourceKV), s, func(int64) {}); err != nil {
			t.Fatalf("round %d, %+v: %v", round, s, err)
		}
		for name, change := range map[string]func(*state){
			"one write too many": func(s *state) { s.Writers[1]++ },
			"one write missing":  func(s *state) { s.Writers[2]-- },
			"one update missing": func(s *state) { s.Updated-- },
			"one row missing":    func(s *state) { s.Filled++ },
		} {
			wrong := s
			wrong.Writers = slices.Clone(s.Writers)
			change(&wrong)
			if wrong.Writers[2] < 0 || wrong.Updated < 0 {
				continue // nothing was written yet in this round
			}
			if err := verify(ctx, filepath.Join(copied, sourceKV), wrong, func(int64) {}); !errors.Is(err, errNotVerified) {
				t.Errorf("%s: %v, want errNotVerified", name, err)
			}
		}
	}
	if err := errors.Join(<-updated, l.stop()); err != nil {
		t.Fatal(err)
	}
	quiet := merge(l.quiet)
	if total := o.writers[0].Load() + o.writers[1].Load() + o.writers[2].Load(); quiet.Count() != total || total == 0 {
		t.Errorf("%d latencies of %d writes", quiet.Count(), total)
	}
}

// pinAll does what the engine does with its sources, and copies the views.
func pinAll(t *testing.T, gate *lock.Gate, sources map[string]snapshot.Source, to string) {
	t.Helper()
	views := make(map[string]*snapshot.View)
	_, err := gate.Freeze(t.Context(), lock.FreezeOptions{}, func(ctx context.Context) error {
		for name, source := range sources {
			view, err := source.Pin(ctx)
			if err != nil {
				return err
			}
			views[name] = view
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, view := range views {
		if view.Settle != nil {
			if err := view.Settle(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.CopyFS(filepath.Join(to, name), view.FS); err != nil {
			t.Fatal(err)
		}
		if err := view.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestVerifyFindsDamage(t *testing.T) {
	s := state{Seed: 3, Filled: 2_000, Percent: 5, Updated: 4, Writers: []int{7, 0, 5}}
	extra, _ := rows.New(4).Row(1<<30, 0)
	key, _ := rows.New(3).Row(1_234, 0)
	inserted, _ := rows.New(3).Row(s.inserted(2, 4), 0)
	for name, damage := range map[string]func(*pebble.DB) error{
		"":              func(*pebble.DB) error { return nil },
		"lost row":      func(db *pebble.DB) error { return db.Delete(key, nil) },
		"lost insert":   func(db *pebble.DB) error { return db.Delete(inserted, nil) },
		"changed row":   func(db *pebble.DB) error { return db.Set(key, []byte("{}"), nil) },
		"extra row":     func(db *pebble.DB) error { return db.Set(extra, nil, nil) },
		"lost counter":  func(db *pebble.DB) error { return db.Delete(counterKey(0), nil) },
		"wrong counter": func(db *pebble.DB) error { return db.Set(counterKey(2), []byte("6"), nil) },
		"early counter": func(db *pebble.DB) error { return db.Set(counterKey(1), []byte("0"), nil) },
	} {
		dir := t.TempDir()
		db, err := pebble.Open(dir, &pebble.Options{Logger: silent{}})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(build(db, s), damage(db), db.Close()); err != nil {
			t.Fatal(err)
		}
		err = verify(t.Context(), dir, s, func(int64) {})
		if name == "" && err != nil {
			t.Errorf("undamaged: %v", err)
		}
		if name != "" && !errors.Is(err, errNotVerified) {
			t.Errorf("%s: %v, want errNotVerified", name, err)
		}
	}
	if err := verify(t.Context(), t.TempDir(), s, func(int64) {}); !errors.Is(err, errNotVerified) {
		t.Errorf("no database: %v, want errNotVerified", err)
	}
}

// build makes the database of state s.
func build(db *pebble.DB, s state) error {
	g := rows.New(s.Seed)
	for n, version := range s.versions() {
		key, value := g.Row(n, int(version))
		if err := db.Set(key, value, pebble.NoSync); err != nil {
			return err
		}
	}
	for w, writes := range s.Writers {
		for i := range writes {
			key, value := g.Row(s.inserted(w, i), 0)
			if err := errors.Join(db.Set(key, value, pebble.NoSync),
				db.Set(counterKey(w), fmt.Append(nil, i+1), pebble.NoSync)); err != nil {
				return err
			}
		}
	}
	return nil
}

func TestVerifyIsCancelled(t *testing.T) {
	dir := t.TempDir()
	s := state{Seed: 3, Filled: 2_000, Percent: 5, Writers: []int{0}}
	db, err := pebble.Open(dir, &pebble.Options{Logger: silent{}})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(build(db, s), db.Close()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := verify(ctx, dir, s, func(int64) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("verify with a cancelled context: %v", err)
	}
}

// Rows that two could write would leave the result to chance.
func TestWritersShareNoRows(t *testing.T) {
	for _, s := range []state{
		{Seed: 1, Filled: 10_000, Percent: 5, Writers: make([]int, 4)},
		{Seed: 2, Filled: 501, Percent: 50, Writers: make([]int, 100)},
		{Seed: 3, Filled: 500, Percent: 0, Writers: make([]int, 1)},
	} {
		owner := make(map[int]int)
		for w := range s.Writers {
			for i := range 2_000 {
				touched, version := s.touched(nil, w, i)
				if version < 1 {
					t.Fatalf("write %d gives version %d", i, version)
				}
				for _, n := range touched {
					if n < 0 || n >= s.Filled || rows.IsChanged(s.Seed, n, s.Percent) {
						t.Fatalf("writer %d updates row %d of %d, which is not its own", w, n, s.Filled)
					}
					if other, ok := owner[n]; ok && other != w {
						t.Fatalf("writers %d and %d update row %d", w, other, n)
					}
					owner[n] = w
				}
			}
		}
		if len(owner) < s.Filled/5 {
			t.Errorf("only %d of %d rows are ever updated", len(owner), s.Filled)
		}
	}
}

func TestMerge(t *testing.T) {
	all := make([]latencies, 3)
	for i := range all {
		all[i].record(time.Duration(i+1)*time.Second, time.Duration(5-i))
	}
	if sum := merge(all); sum.Count() != 3 || sum.Max() != 3*time.Second || sum.stall != 5 {
		t.Errorf("%d, up to %v, %v at the gate", sum.Count(), sum.Max(), sum.stall)
	}
	if sum := merge(nil); sum.Count() != 0 || sum.stall != 0 {
		t.Errorf("nothing adds up to %d", sum.Count())
	}
}

func TestPlainLines(t *testing.T) {
	var out bytes.Buffer
	s := &show{out: &out}
	st := s.step("work", 0)
	for done := range int64(1_001) {
		st.progress(done, 1_000)
	}
	st.finish("%d rows", 1_000)
	s.table([]string{"Name", "first", "µs"}, [][]string{{"a", "1.0 MiB", "1"}, {"a longer one", "2", "123"}})
	got := out.String()
	for _, want := range []string{
		"  work                                25 %\n",
		"  work                                75 %\n",
		"   1000 rows\n",
		"  Name             first    µs\n",
		"  ------------   -------   ---\n",
		"  a              1.0 MiB     1\n",
		"  a longer one         2   123\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("missing %q in:\n%s", want, got)
		}
	}
	if n := strings.Count(got, "%"); n != 3 {
		t.Errorf("%d lines of progress, want 3:\n%s", n, got)
	}
}

func TestTerminalBarGoesAway(t *testing.T) {
	var out bytes.Buffer
	s := &show{out: &out, terminal: true}
	st := s.step("work", 0)
	st.progress(1, 3)
	st.progress(3, 3)
	st.progress(3, 3)
	st.finish("done")
	st.close() // harmless
	st.progress(3, 3)
	if got := out.String(); !strings.HasSuffix(got, "   done\n") {
		t.Errorf("the last line is not the result: %q", got)
	}
}

func TestParse(t *testing.T) {
	for _, c := range []struct {
		args string
		ok   bool
		want settings
	}{
		{"", true, settings{size: 256 << 20, writers: 4, percent: 5, seed: 1}},
		{"-size 1 -writers 100 -update 0 -seed 9 -keep -dir x", true, settings{parent: "x", keep: true, size: 1 << 20, writers: 100, seed: 9}},
		{"-size 0", false, settings{}},
		{"-size -1", false, settings{}},
		{"-size 9999999999", false, settings{}},
		{"-writers 0", false, settings{}},
		{"-update 51", false, settings{}},
		{"-update NaN", false, settings{}},
		{"stray", false, settings{}},
	} {
		got, err := parse(strings.Fields(c.args), io.Discard)
		if (err == nil) != c.ok {
			t.Errorf("%q: error %v", c.args, err)
		}
		if c.ok && got != c.want {
			t.Errorf("%q: %+v, want %+v", c.args, got, c.want)
		}
	}
	if _, err := parse([]string{"-help"}, io.Discard); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("-help: %v", err)
	}
}

func TestSizes(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1_023: "1023 B", 10_240: "10.0 KiB", 256 << 20: "256.0 MiB", 20 << 30: "20.0 GiB"} {
		if got := size(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
	if got := percent(1, 0); got != "-" {
		t.Errorf("a part of nothing is %s", got)
	}
}

// TestDemo is the whole demo, on a small database.
func TestDemo(t *testing.T) {
	parent := t.TempDir()
	var out bytes.Buffer
	set := settings{parent: parent, size: 4 << 20, writers: 2, percent: 5, seed: 7}
	if err := inFolder(t.Context(), set, &show{out: &out}); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	if !strings.Contains(out.String(), "\nResult: VERIFIED.") {
		t.Errorf("no result in:\n%s", out.String())
	}
	if left, err := os.ReadDir(parent); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

func TestDemoIsCancelled(t *testing.T) {
	parent := t.TempDir()
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("enough")
	cancel(cause)
	set := settings{parent: parent, size: 4 << 20, writers: 2, percent: 5, seed: 7}
	if err := inFolder(ctx, set, &show{out: io.Discard}); !errors.Is(err, cause) {
		t.Errorf("error %v, want %v", err, cause)
	}
	if left, err := os.ReadDir(parent); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}
