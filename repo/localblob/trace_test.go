package localblob

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"gocloud.dev/gcerrors"
)

// TestWriteTrace pins what the comment of writer draws. A step more is a cost, a step less a hole: either is to be
// looked at before this test is changed.
func TestWriteTrace(t *testing.T) {
	ctx := t.Context()
	bkt, rec, _ := openRecorded(t)
	check := func(what string, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, rec.trace()); diff != "" {
			t.Errorf("%s: steps (-want +got):\n%s", what, diff)
		}
		rec.reset()
	}

	if err := bkt.WriteAll(ctx, "pack/ab/first", []byte("SQLite format 3"), plainIfNew()); err != nil {
		t.Fatal(err)
	}
	check("first write, exclusive",
		"create .%tmp/tmp1 failed",
		"mkdir .%tmp",
		"create .%tmp/tmp1",
		"lock .%tmp/tmp1",
		"write .%tmp/tmp1",
		"fsync .%tmp/tmp1",
		"close .%tmp/tmp1",
		"mkdir pack", "syncdir .",
		"mkdir pack/ab", "syncdir pack",
		"link .%tmp/tmp1 pack/ab/first",
		"syncdir pack/ab",
		"remove .%tmp/tmp1")

	if err := bkt.WriteAll(ctx, "pack/ab/second", []byte("rows of a table"), plainFile()); err != nil {
		t.Fatal(err)
	}
	check("second write, into a folder known by now",
		"create .%tmp/tmp2",
		"lock .%tmp/tmp2",
		"write .%tmp/tmp2",
		"fsync .%tmp/tmp2",
		"close .%tmp/tmp2",
		"rename .%tmp/tmp2 pack/ab/second",
		"syncdir pack/ab")

	if err := bkt.WriteAll(ctx, "pack/ab/first", []byte("another"), plainIfNew()); gcerrors.Code(err) != gcerrors.FailedPrecondition {
		t.Fatalf("lost race: got %v", err)
	}
	check("lost race",
		"create .%tmp/tmp3",
		"lock .%tmp/tmp3",
		"write .%tmp/tmp3",
		"fsync .%tmp/tmp3",
		"close .%tmp/tmp3",
		"link .%tmp/tmp3 pack/ab/first failed",
		"remove .%tmp/tmp3")

	if err := bkt.Delete(ctx, "pack/ab/first"); err != nil {
		t.Fatal(err)
	}
	check("delete", "remove pack/ab/first", "syncdir pack/ab")

	if err := bkt.Copy(ctx, "top", "pack/ab/second", nil); err != nil {
		t.Fatal(err)
	}
	check("copy",
		"create .%tmp/tmp4",
		"lock .%tmp/tmp4",
		"write .%tmp/tmp4",
		"fsync .%tmp/tmp4",
		"close .%tmp/tmp4",
		"rename .%tmp/tmp4 top",
		"syncdir .")
}

// TestFolderOfAnotherProcess: a folder that stands already may have been made a moment ago by a process that has not
// come to its sync yet, so the first write through this bucket syncs the whole chain.
func TestFolderOfAnotherProcess(t *testing.T) {
	first, _, dir := openRecorded(t)
	if err := first.WriteAll(t.Context(), "a/b/1", []byte("x1"), plainFile()); err != nil {
		t.Fatal(err)
	}
	rec := newRecorder()
	second := openWith(t, dir, nil, rec.ops())
	if err := second.WriteAll(t.Context(), "a/b/2", []byte("x2"), plainFile()); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"create .%tmp/tmp1", "lock .%tmp/tmp1", "write .%tmp/tmp1", "fsync .%tmp/tmp1", "close .%tmp/tmp1",
		"mkdir a failed", "syncdir .",
		"mkdir a/b failed", "syncdir a",
		"rename .%tmp/tmp1 a/b/2", "syncdir a/b",
	}
	if diff := cmp.Diff(want, rec.trace()); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
}
