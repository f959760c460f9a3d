package localblob

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"

	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"
)

// The tests of this file replay the steps that real operations took against a model of a disk, stop at each, and look
// at every state that a power failure may leave: any subset of the entries not synced yet, and of a file's unsynced
// bytes none, a half or all. Nothing acknowledged may be lost and nothing torn may be visible in any of them.

// diskFile is a file of the model. safe is what was in it at its last fsync.
type diskFile struct {
	now, safe []byte
	synced    bool
}

// change is a change of one entry of a folder that waits for the folder's sync.
type change struct {
	folder, name string
	file         *diskFile // nil with isDir false is a removal
	isDir        bool
}

// disk is the model: what is durable, and what waits.
type disk struct {
	durable map[string]change    // by path; entries only
	live    map[string]*diskFile // by path; what a running process sees
	waiting []change
}

func newDisk() *disk {
	return &disk{durable: map[string]change{}, live: map[string]*diskFile{}}
}

// apply replays one step. Entries of the hidden folder are left out: no key is looked up through them.
func (d *disk) apply(s step) {
	if s.failed {
		return
	}
	pend := func(name string, file *diskFile, isDir bool) {
		if name == tempDir || strings.HasPrefix(name, tempDir+"/") {
			return
		}
		d.waiting = append(d.waiting, change{folder: path.Dir(name), name: name, file: file, isDir: isDir})
	}
	switch s.op {
	case "create":
		d.live[s.name] = &diskFile{}
	case "write":
		d.live[s.name].now = append(d.live[s.name].now, s.data...)
		d.live[s.name].synced = false
	case "fsync":
		f := d.live[s.name]
		f.safe, f.synced = slices.Clone(f.now), true
	case "mkdir":
		pend(s.name, nil, true)
	case "link", "rename":
		d.live[s.next] = d.live[s.name]
		pend(s.next, d.live[s.name], false)
		if s.op == "rename" {
			delete(d.live, s.name)
		}
	case "remove":
		delete(d.live, s.name)
		pend(s.name, nil, false)
	case "syncdir":
		var rest []change
		for _, c := range d.waiting {
			if c.folder == s.name {
				d.durable[c.name] = c
			} else {
				rest = append(rest, c)
			}
		}
		d.waiting = rest
	}
}

// states calls see with the lookup of every state a crash at this point may leave.
func (d *disk) states(see func(read func(name string) (string, bool))) {
	for mask := range 1 << len(d.waiting) {
		entries := make(map[string]change, len(d.durable)+len(d.waiting))
		for name, c := range d.durable {
			entries[name] = c
		}
		for i, c := range d.waiting {
			if mask&(1<<i) != 0 {
				entries[c.name] = c
			}
		}
		for kept := range 3 { // halves of the unsynced bytes that reached the disk
			see(func(name string) (string, bool) {
				for up := path.Dir(name); up != "."; up = path.Dir(up) {
					if !entries[up].isDir {
						return "", false
					}
				}
				c, ok := entries[name]
				if !ok || c.file == nil {
					return "", false
				}
				if c.file.synced || kept == 2 {
					return string(c.file.now), true
				}
				fresh := c.file.now[len(c.file.safe):]
				return string(c.file.safe) + string(fresh[:len(fresh)*kept/2]), true
			})
		}
	}
}

// acknowledged is one operation of a history: the keys before and after it, and how many steps were taken at its end.
type acknowledged struct {
	before, after map[string]string
	end           int
}

// checkCrashes stops the steps everywhere and returns the first state that breaks a promise.
func checkCrashes(steps []step, history []acknowledged, keys []string) (points int, err error) {
	d := newDisk()
	op := 0
	for i := 0; i <= len(steps); i++ {
		for op < len(history)-1 && i >= history[op].end {
			op++
		}
		before, after := history[op].before, history[op].after
		switch {
		case i >= history[op].end:
			before = after // acknowledged
		case op > 0 && i == history[op-1].end:
			after = before // not begun
		}
		d.states(func(read func(string) (string, bool)) {
			points++
			for _, key := range keys {
				got, ok := read(key)
				isOld, isNew := same(before, key, got, ok), same(after, key, got, ok)
				if !isOld && !isNew && err == nil {
					err = fmt.Errorf("crash after step %d of %v: %q holds %q (there: %v), allowed %q or %q", i, steps, key, got, ok, before[key], after[key])
				}
			}
		})
		if i < len(steps) {
			d.apply(steps[i])
		}
	}
	return points, err
}

func same(state map[string]string, key, got string, ok bool) bool {
	want, there := state[key]
	return ok == there && got == want
}

// crashOp is one operation on the bucket and what it does to the keys.
type crashOp struct {
	name  string
	run   func(ctx context.Context, b *blob.Bucket, n int) error
	model func(state map[string]string, n int)
}

func crashOps() []crashOp {
	put := func(key string, ifNew bool) crashOp {
		content := func(n int) string { return fmt.Sprintf("manifest %d of %s", n, key) }
		return crashOp{
			name: fmt.Sprintf("put %s ifNew=%v", key, ifNew),
			run: func(ctx context.Context, b *blob.Bucket, n int) error {
				opts := plainFile()
				opts.IfNotExist = ifNew
				return b.WriteAll(ctx, key, []byte(content(n)), opts)
			},
			model: func(state map[string]string, n int) {
				if _, there := state[key]; !there || !ifNew {
					state[key] = content(n)
				}
			},
		}
	}
	del := func(key string) crashOp {
		return crashOp{
			name:  "delete " + key,
			run:   func(ctx context.Context, b *blob.Bucket, _ int) error { return b.Delete(ctx, key) },
			model: func(state map[string]string, _ int) { delete(state, key) },
		}
	}
	return []crashOp{
		put("pack/ab/x", true), put("pack/ab/x", false), put("pack/cd/y", false), put("z", true),
		del("pack/ab/x"), del("pack/cd/y"),
		{
			name: "copy",
			run: func(ctx context.Context, b *blob.Bucket, _ int) error {
				return b.Copy(ctx, "pack/cd/y", "pack/ab/x", nil)
			},
			model: func(state map[string]string, _ int) {
				if v, ok := state["pack/ab/x"]; ok {
					state["pack/cd/y"] = v
				}
			},
		},
	}
}

// record runs the operations on a real folder and returns their steps and what they acknowledged.
func record(t *testing.T, seq []crashOp) ([]step, []acknowledged) {
	t.Helper()
	rec := newRecorder()
	bkt := openWith(t, t.TempDir(), nil, rec.ops())
	state := map[string]string{}
	var history []acknowledged
	for n, op := range seq {
		before := cloneMap(state)
		err := op.run(t.Context(), bkt, n)
		op.model(state, n)
		if err != nil && !errors.Is(err, ErrExists) && gcerrors.Code(err) != gcerrors.NotFound {
			t.Fatal(err) // a lost race and a missing object are answers; the model knows them
		}
		history = append(history, acknowledged{before: before, after: cloneMap(state), end: len(rec.steps)})
	}
	return rec.steps, history
}

func cloneMap(m map[string]string) map[string]string {
	out := make(map[string]string, len(m))
	for k, v := range m {
		out[k] = v
	}
	return out
}

var crashKeys = []string{"pack/ab/x", "pack/cd/y", "z"}

// TestCrashAnywhere takes all sequences of up to three operations: papers on crash bugs found that most need no more.
func TestCrashAnywhere(t *testing.T) {
	points := 0
	var extend func(seq []crashOp)
	extend = func(seq []crashOp) {
		if len(seq) > 0 {
			steps, history := record(t, seq)
			n, err := checkCrashes(steps, history, crashKeys)
			points += n
			if err != nil {
				t.Fatal(err)
			}
		}
		if len(seq) == 3 {
			return
		}
		for _, op := range crashOps() {
			extend(append(slices.Clone(seq), op))
		}
	}
	extend(nil)
	t.Logf("%d crash states", points)
}

// TestCrashModelHasTeeth leaves out one sync after the other: each time the model must find a state that breaks a
// promise. So it sees missing syncs, and no sync is there in vain.
func TestCrashModelHasTeeth(t *testing.T) {
	ops := crashOps()
	sequences := map[string][]crashOp{
		"first write":     {ops[0]},
		"overwrite":       {ops[0], ops[1]},
		"write, delete":   {ops[0], ops[4]},
		"write, copy":     {ops[0], ops[6]},
		"at the top":      {ops[3]},
		"second in place": {ops[0], ops[2]},
	}
	for name, seq := range sequences {
		t.Run(name, func(t *testing.T) {
			steps, history := record(t, seq)
			if _, err := checkCrashes(steps, history, crashKeys); err != nil {
				t.Fatal(err)
			}
			syncs := 0
			for i, s := range steps {
				if s.op != "fsync" && s.op != "syncdir" {
					continue
				}
				syncs++
				// The step stays, without its effect, so that the history's counts still fit.
				mutant := slices.Clone(steps)
				mutant[i].failed = true
				if _, err := checkCrashes(mutant, history, crashKeys); err == nil {
					t.Errorf("nothing is lost without step %d, %v, of %v", i, s, steps)
				}
			}
			if syncs < 2 {
				t.Errorf("only %d syncs in %v", syncs, steps)
			}
		})
	}
}
