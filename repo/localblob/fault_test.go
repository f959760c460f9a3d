package localblob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"

	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"
)

const (
	oldContent = "page 1 of the old table"
	newContent = "page 1 of the new table, longer"
)

type faultCase struct {
	name    string
	prepare func(ctx context.Context, b *blob.Bucket) error
	run     func(ctx context.Context, b *blob.Bucket) error
	before  string // content of "d/e/key"; "" is absent
	after   string
}

func faultCases() []faultCase {
	put := func(content string, opts func() *blob.WriterOptions) func(context.Context, *blob.Bucket) error {
		return func(ctx context.Context, b *blob.Bucket) error {
			return b.Upload(ctx, "d/e/key", strings.NewReader(content), opts())
		}
	}
	attributed := func() *blob.WriterOptions {
		return &blob.WriterOptions{ContentType: "text/sql", Metadata: map[string]string{"lsn": "0/16B3748"}}
	}
	nothing := func(context.Context, *blob.Bucket) error { return nil }
	return []faultCase{
		{name: "create", prepare: nothing, run: put(newContent, plainFile), after: newContent},
		{name: "create exclusively", prepare: nothing, run: put(newContent, plainIfNew), after: newContent},
		{name: "create with attributes", prepare: nothing, run: put(newContent, attributed), after: newContent},
		{name: "overwrite", prepare: put(oldContent, attributed), run: put(newContent, plainFile), before: oldContent, after: newContent},
		{name: "delete", prepare: put(oldContent, plainFile), before: oldContent,
			run: func(ctx context.Context, b *blob.Bucket) error { return b.Delete(ctx, "d/e/key") }},
		{name: "copy", after: oldContent,
			prepare: func(ctx context.Context, b *blob.Bucket) error {
				return b.Upload(ctx, "source", strings.NewReader(oldContent), attributed())
			},
			run: func(ctx context.Context, b *blob.Bucket) error { return b.Copy(ctx, "d/e/key", "source", nil) }},
	}
}

func contentOf(t *testing.T, b *blob.Bucket, key string) string {
	t.Helper()
	got, err := b.ReadAll(t.Context(), key)
	if gcerrors.Code(err) == gcerrors.NotFound {
		return ""
	}
	if err != nil {
		t.Fatalf("read %q: %v", key, err)
	}
	return string(got)
}

// TestEveryStepFails makes each step of each operation fail, once and for good, without and with effect. The operation
// must say so with the error of the system, leave the old state or admit that it is uncertain, leave nothing temporary,
// and must not be hurt for later.
func TestEveryStepFails(t *testing.T) {
	for _, fc := range faultCases() {
		for _, errno := range []syscall.Errno{syscall.EIO, syscall.ENOSPC} {
			for _, effect := range []bool{false, true} {
				for _, forGood := range []bool{false, true} {
					name := fmt.Sprintf("%s/%v/effect=%v/forGood=%v", fc.name, errno, effect, forGood)
					t.Run(name, func(t *testing.T) {
						fails := 0
						for i := 0; faultAt(t, fc, i, errno, effect, forGood); i++ {
							fails++
						}
						if fails < 2 {
							t.Fatalf("only %d steps were made to fail", fails)
						}
					})
				}
			}
		}
	}
}

// faultAt lets step i fail and reports whether the operation had that many steps.
func faultAt(t *testing.T, fc faultCase, at int, errno syscall.Errno, effect, forGood bool) bool {
	t.Helper()
	ctx := t.Context()
	bkt, rec, dir := openRecorded(t)
	if err := fc.prepare(ctx, bkt); err != nil {
		t.Fatal(err)
	}
	rec.reset()
	var hit, removeHit bool
	var hitStep step
	rec.fault = func(i int, s step) (error, bool) {
		if i < at || (i > at && !forGood) {
			return nil, false
		}
		if !hit {
			hitStep = s
		}
		hit = true
		removeHit = removeHit || (s.op == "remove" && strings.HasPrefix(s.name, tempDir))
		return errno, effect
	}
	err := fc.run(ctx, bkt)
	trace := rec.trace()
	rec.reset()
	if !hit {
		if err != nil {
			t.Fatalf("no fault, but: %v", err)
		}
		return false
	}
	where := fmt.Sprintf("step %d (%s) of %v", at, hitStep, trace)
	got := contentOf(t, bkt, "d/e/key")
	switch {
	case err == nil:
		// The lock is optional, and a second name left in the hidden folder is removed later.
		if hitStep.op != "lock" && !removeHit {
			t.Errorf("%s failed, the operation did not", where)
		}
		if got != fc.after {
			t.Errorf("%s: acknowledged, but the key holds %q", where, got)
		}
	case !errors.Is(err, errno):
		t.Errorf("%s: error %v does not wrap %v", where, err, errno)
	case got != fc.before && got != fc.after:
		t.Errorf("%s: the key holds %q", where, got)
	case got != fc.before && !errors.Is(err, ErrUncertain) && errno == syscall.EIO:
		t.Errorf("%s: changed, but the error does not say so: %v", where, err)
	case errno == syscall.ENOSPC && !errors.Is(err, ErrUncertain) && gcerrors.Code(err) != gcerrors.ResourceExhausted:
		t.Errorf("%s: code %v for %v", where, gcerrors.Code(err), err)
	}
	if left := temporaries(t, dir); len(left) > 0 && !removeHit && !(hitStep.op == "create" && effect) {
		t.Errorf("%s: left %v", where, left)
	}
	// A restart sees the same, and the operation can be done again on the same bucket.
	if again := contentOf(t, openWith(t, dir, nil, osFileOps()), "d/e/key"); again != got {
		t.Errorf("%s: another bucket sees %q, this one %q", where, again, got)
	}
	if got == fc.before {
		if err := fc.run(ctx, bkt); err != nil {
			t.Errorf("%s: a second try fails: %v", where, err)
		} else if got := contentOf(t, bkt, "d/e/key"); got != fc.after {
			t.Errorf("%s: after a second try the key holds %q", where, got)
		}
	}
	return true
}

// TestFailedSyncIsNotRetried: after a failed fsync the kernel may report success for pages it has dropped.
func TestFailedSyncIsNotRetried(t *testing.T) {
	bkt, rec, _ := openRecorded(t)
	rec.fault = func(_ int, s step) (error, bool) {
		if s.op == "fsync" {
			return syscall.EIO, false
		}
		return nil, false
	}
	err := bkt.WriteAll(t.Context(), "key", []byte(newContent), plainFile())
	if !errors.Is(err, syscall.EIO) {
		t.Fatalf("got %v", err)
	}
	syncs := 0
	for _, s := range rec.trace() {
		switch {
		case strings.HasPrefix(s, "fsync"):
			syncs++
		case strings.HasPrefix(s, "rename"), strings.HasPrefix(s, "link"):
			t.Errorf("published after a failed sync: %v", rec.trace())
		}
	}
	if syncs != 1 {
		t.Errorf("%d syncs of the file, want 1", syncs)
	}
}

// TestFailedFolderSync: a folder whose entry could not be synced is made anew by the next write, not synced again.
func TestFailedFolderSync(t *testing.T) {
	bkt, rec, dir := openRecorded(t)
	rec.fault = func(_ int, s step) (error, bool) {
		if s.op == "syncdir" && s.name == "." {
			return syscall.EIO, false
		}
		return nil, false
	}
	if err := bkt.WriteAll(t.Context(), "d/key", []byte(newContent), plainFile()); !errors.Is(err, syscall.EIO) {
		t.Fatalf("got %v", err)
	}
	if _, err := os.Stat(dir + "/d"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder is still there: %v", err)
	}
}

// TestShortWrite: a system that takes less than it was given without saying why must not yield a short object.
func TestShortWrite(t *testing.T) {
	rec := newRecorder()
	ops := rec.ops()
	ops.write = func(f *os.File, p []byte) (int, error) { return f.Write(p[:len(p)/2]) }
	dir := t.TempDir()
	bkt := openWith(t, dir, nil, ops)
	err := bkt.WriteAll(t.Context(), "key", []byte(newContent), plainFile())
	if !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("got %v", err)
	}
	if got := contentOf(t, bkt, "key"); got != "" {
		t.Errorf("the key holds %q", got)
	}
	if left := temporaries(t, dir); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

// TestLostAnswerOfLink: over NFS a link may be made and its answer lost; the repeated request then finds a file there.
func TestLostAnswerOfLink(t *testing.T) {
	ops := osFileOps()
	ops.link = func(root *os.Root, oldName, newName string) error {
		if err := root.Link(oldName, newName); err != nil {
			return err
		}
		return root.Link(oldName, newName)
	}
	bkt := openWith(t, t.TempDir(), nil, ops)
	if err := bkt.WriteAll(t.Context(), "lease/1", []byte("holder 7"), plainIfNew()); err != nil {
		t.Errorf("the winner was told: %v", err)
	}
	if err := bkt.WriteAll(t.Context(), "lease/1", []byte("holder 8"), plainIfNew()); !errors.Is(err, ErrExists) {
		t.Errorf("the loser was told: %v", err)
	}
}
