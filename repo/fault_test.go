package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// faults makes the n-th request to a testDriver, counted from 0, fail.
type faults struct {
	mu     sync.Mutex
	at     int
	seen   int
	err    error
	after  bool // the request has its effect all the same
	onward bool // so do all after it
	hit    []op
}

func (f *faults) arm(d *testDriver) {
	check := func(_ context.Context, o op) error {
		f.mu.Lock()
		defer f.mu.Unlock()
		n := f.seen
		f.seen++
		if n == f.at || f.onward && n > f.at {
			f.hit = append(f.hit, o)
			return pathError(o, f.err)
		}
		return nil
	}
	if f.after {
		d.after.set(check)
	} else {
		d.before.set(check)
	}
}

func disarm(d *testDriver) {
	d.before.set(nil)
	d.after.set(nil)
}

// Every request of a snapshot's life fails in turn, before or after its effect,
// once or from then on. The caller learns why, older snapshots stay whole, and the
// new one is whole or not there.
func TestEveryRequestFails(t *testing.T) {
	base := newTestDriver()
	old := smallFiles(1)
	r := newTestRepo(t, base, Options{})
	mustSnapshot(t, r, "old", old, fixedCutter(t, 512))
	// One index short of a merge, so that the merge's requests fail too.
	for n := range mergeCount - 2 {
		mustSnapshot(t, r, fmt.Sprintf("more%02d", n), map[string][]byte{"f": noiseData(uint64(50+n), 600)}, fixedCutter(t, 512))
	}
	files := smallFiles(2)
	files["big"] = noiseData(2, 1200<<10)
	for _, f := range []*faults{
		{err: syscall.ENOSPC},
		{err: syscall.EIO, after: true},
		{err: syscall.ENOSPC, onward: true},
		{err: syscall.EIO, after: true, onward: true},
	} {
		t.Run(fmt.Sprintf("%v,after=%v,onward=%v", f.err, f.after, f.onward), func(t *testing.T) {
			kinds := make(map[string]int)
			for at := 0; ; at++ {
				if at > 200 {
					t.Fatal("the faults never ran out")
				}
				f := faults{at: at, err: f.err, after: f.after, onward: f.onward}
				if !tryWithFault(t, base.copy(), &f, old, files, kinds) {
					break
				}
			}
			for _, want := range []string{"read holdstill.json", "list index", "create pack", "create index", "create snapshot", "delete index"} {
				if kinds[want] == 0 {
					t.Errorf("no fault hit %q: %v", want, kinds)
				}
			}
		})
	}
}

// tryWithFault makes a snapshot under a fault and looks at what is left. It reports
// whether the fault was hit.
func tryWithFault(t *testing.T, d *testDriver, f *faults, old, files map[string][]byte, kinds map[string]int) bool {
	t.Helper()
	packsBefore := d.keys(packPrefix)
	b := d.bucket(t)
	f.arm(d)
	err := func() error {
		r, err := Open(t.Context(), b, variant(Options{PackSize: 1 << 20}))
		if err != nil {
			return err
		}
		return takeSnapshot(t.Context(), r, "new", files, fixedCutter(t, 65536))
	}()
	disarm(d)
	if len(f.hit) == 0 {
		if err != nil {
			t.Fatalf("without a fault: %v", err)
		}
		return false
	}
	prefix, _, _ := strings.Cut(f.hit[0].key, "/")
	kinds[f.hit[0].kind+" "+prefix]++
	what := fmt.Sprintf("request %d (%v)", f.at, f.hit[0])
	if err != nil && !errors.Is(err, f.err) {
		t.Fatalf("%s: the error does not say why: %v", what, err)
	}

	r := openTestRepo(t, b, Options{})
	wantSound(t, r)
	wantSnapshot(t, r, "old", old)
	listed := slices.Contains(listIDs(t, r), "new")
	if err == nil && !listed {
		t.Fatalf("%s: Commit returned nil and made no snapshot", what)
	}
	if listed {
		wantSnapshot(t, r, "new", files)
	}
	// One failure that is not repeated leaves no pack behind, unless an index may
	// name it.
	if err != nil && !f.onward && f.hit[0].kind == "create" && prefix == "pack" {
		if after := d.keys(packPrefix); !slices.Equal(after, packsBefore) {
			t.Fatalf("%s: %d packs, %d before", what, len(after), len(packsBefore))
		}
	}
	// And the next try works.
	if !listed {
		mustSnapshot(t, r, "new", files, fixedCutter(t, 65536))
		wantSnapshot(t, r, "new", files)
	}
	return true
}

// The context ends at every request in turn, before and after its effect. A commit
// that did not get through leaves nothing but the objects that were there.
func TestCancelAtEveryRequest(t *testing.T) {
	base := newTestDriver()
	old := smallFiles(1)
	r := newTestRepo(t, base, Options{})
	mustSnapshot(t, r, "old", old, fixedCutter(t, 512))
	files := smallFiles(2)
	files["big"] = noiseData(2, 1200<<10)
	for _, after := range []bool{false, true} {
		for at := 0; ; at++ {
			d := base.copy()
			before := d.keys("")
			b := d.bucket(t)
			ctx, cancel := context.WithCancel(t.Context())
			var mu sync.Mutex
			var hit *op
			seen := 0
			hook := func(_ context.Context, o op) error {
				mu.Lock()
				defer mu.Unlock()
				if seen == at {
					hit = &o
					cancel()
				}
				seen++
				return nil
			}
			if after {
				d.after.set(hook)
			} else {
				d.before.set(hook)
			}
			err := func() error {
				r, err := Open(ctx, b, variant(Options{PackSize: 1 << 20}))
				if err != nil {
					return err
				}
				return takeSnapshot(ctx, r, "new", files, fixedCutter(t, 65536))
			}()
			cancel()
			disarm(d)
			if hit == nil {
				if err != nil {
					t.Fatal(err)
				}
				break
			}
			what := fmt.Sprintf("cancelled at request %d (%v), after=%v", at, *hit, after)
			r := openTestRepo(t, b, Options{})
			wantSound(t, r)
			wantSnapshot(t, r, "old", old)
			switch {
			case err == nil:
				wantSnapshot(t, r, "new", files)
			case !errors.Is(err, context.Canceled):
				t.Fatalf("%s: %v", what, err)
			default:
				if left := d.keys(""); !slices.Equal(left, before) {
					t.Fatalf("%s: left behind %q", what, slices.DeleteFunc(left, func(k string) bool { return slices.Contains(before, k) }))
				}
			}
		}
	}
}

// A failed read is an error with its cause, never other bytes; the next one works.
func TestEveryReadFails(t *testing.T) {
	d := newTestDriver()
	files := smallFiles(1)
	files["big"] = rowData(8, 200_000)
	mustSnapshot(t, newTestRepo(t, d, Options{}), "s", files, fixedCutter(t, 512))
	for at := 0; ; at++ {
		f := faults{at: at, err: syscall.EIO}
		r, err := Open(t.Context(), d.bucket(t), variant(Options{}))
		if err != nil {
			t.Fatal(err)
		}
		f.arm(d)
		got, err := readSnapshot(t.Context(), r, "s")
		disarm(d)
		if len(f.hit) == 0 {
			break
		}
		if err == nil || !errors.Is(err, syscall.EIO) || errors.Is(err, ErrCorrupt) {
			t.Fatalf("request %d (%v): %v", at, f.hit[0], err)
		}
		for path := range got {
			if !bytes.Equal(got[path], files[path]) {
				t.Fatalf("request %d: wrong bytes of %s", at, path)
			}
		}
		wantSnapshot(t, r, "s", files)
	}
}

// Crash rule: whatever prefix of a commit's writes a crash leaves, all that the
// listing shows can be read to the last byte, and the next snapshot works.
func TestCrashAfterEveryWrite(t *testing.T) {
	d := newTestDriver()
	r := newTestRepo(t, d, Options{PackSize: 1 << 20, Uploads: 1})
	for n := range mergeCount + 1 {
		mustSnapshot(t, r, fmt.Sprintf("old%02d", n), map[string][]byte{"f": rowData(uint64(n), 2000)}, fixedCutter(t, 512))
	}
	start := d.copy()

	// What the rest does, write by write.
	type write struct {
		op   op
		data []byte
	}
	var mu sync.Mutex
	var writes []write
	d.after.set(func(_ context.Context, o op) error {
		mu.Lock()
		defer mu.Unlock()
		if o.kind == "create" || o.kind == "delete" {
			writes = append(writes, write{o, d.get(o.key)})
		}
		return nil
	})
	r = openTestRepo(t, d.bucket(t), Options{PackSize: 1 << 20, Uploads: 1})
	for n := range mergeCount + 2 {
		files := smallFiles(uint64(n + 1000))
		files["big"] = noiseData(uint64(n), 1100<<10)
		mustSnapshot(t, r, fmt.Sprintf("new%02d", n), files, fixedCutter(t, 65536))
	}
	if _, err := r.RebuildIndex(t.Context(), RebuildOptions{}); err != nil {
		t.Fatal(err)
	}
	disarm(d)
	deletes := 0
	for n, w := range writes {
		if w.op.kind == "create" {
			start.put(w.op.key, w.data)
		} else {
			deletes++
			start.mu.Lock()
			delete(start.objects, w.op.key)
			start.mu.Unlock()
		}
		crashed := start.copy()
		cr := openTestRepo(t, crashed.bucket(t), Options{})
		report, err := cr.Check(t.Context(), CheckOptions{ReadData: n%8 == 0 || n == len(writes)-1})
		if err != nil || !report.OK() {
			t.Fatalf("after write %d (%v): %v %v", n, w.op, err, report.Damage)
		}
		if n%16 == 0 {
			mustSnapshot(t, cr, "next", map[string][]byte{"f": rowData(uint64(n), 900)}, fixedCutter(t, 512))
			wantSound(t, cr)
		}
	}
	if deletes < mergeCount {
		t.Errorf("only %d deletes were replayed: the merge was not part of it", deletes)
	}
	if !maps.EqualFunc(start.objects, d.objects, bytes.Equal) {
		t.Error("the replay ended elsewhere")
	}
}
