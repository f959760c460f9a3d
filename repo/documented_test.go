package repo

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// A repository from before there were leases serves, and cannot be collected.
func TestCollectWithoutLeases(t *testing.T) {
	d := newTestDriver()
	b := d.bucket(t)
	options, err := Options{}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	params := newTestRepo(t, newTestDriver(), Options{}).Gear().Params()
	c := config{ID: newRepositoryID(), Hash: hashBLAKE3, Cut: cutConfig{params.Min, params.Avg, params.Max}}
	if err := newStore(b, options).createConfig(t.Context(), c, variantInit().Encryption); err != nil {
		t.Fatal(err)
	}
	r := openTestRepo(t, b, Options{})
	mustSnapshot(t, r, "s", smallFiles(1), fixedCutter(t, 512))
	mustSnapshot(t, r, "gone", smallFiles(2), fixedCutter(t, 512))
	wantErr(t, "delete", r.DeleteManifest(t.Context(), "gone"), nil)
	before := d.keys("")
	for _, opts := range []CollectOptions{{}, {DryRun: true}} {
		_, err = r.Collect(t.Context(), opts)
		wantErr(t, "collect", err, ErrNoLeases)
	}
	if !slices.Equal(before, d.keys("")) {
		t.Error("something has changed")
	}
	wantSnapshot(t, r, "s", smallFiles(1))
}

// A snapshot that an older session has made of what is condemned is none to build on, until the plan is
// done; it stays whole.
func TestUseOfACondemnedSnapshot(t *testing.T) {
	ctx := t.Context()
	d := newTestDriver()
	r := newTestRepo(t, d, Options{})
	files, cut := map[string][]byte{"f": noiseData(1, 100<<10)}, fixedCutter(t, 8192)
	mustSnapshot(t, r, "gone", files, cut)
	wantErr(t, "delete", r.DeleteManifest(ctx, "gone"), nil)
	old := mustSession(t, r)
	result, err := r.Collect(ctx, CollectOptions{LeaseTimeout: time.Hour, MaxWait: 1})
	if err != nil || result.PacksPending == 0 {
		t.Fatalf("%+v, %v", result, err)
	}
	m, err := stageFiles(ctx, old, "rescued", files, cut)
	if err != nil {
		t.Fatal(err)
	}
	if old.BytesNew() != 0 {
		t.Fatalf("%d bytes were stored anew", old.BytesNew())
	}
	young := mustSession(t, r)
	wantErr(t, "commit", old.Commit(ctx, m), nil)
	wantErr(t, "use", young.UseSnapshot(ctx, m), ErrCondemned)
	if err := young.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	wantErr(t, "use after a refresh", young.UseSnapshot(ctx, m), ErrCondemned)
	wantErr(t, "use what is not there", young.UseSnapshot(ctx, &Manifest{ID: "gone"}), ErrNotFound)
	wantErr(t, "abort", young.Abort(ctx), nil)
	wantErr(t, "use after the end", young.UseSnapshot(ctx, m), ErrClosed)
	mustCollect(t, r, CollectOptions{})
	next := mustSession(t, r)
	wantErr(t, "use when the plan is done", next.UseSnapshot(ctx, m), nil)
	wantErr(t, "abort", next.Abort(ctx), nil)
	wantSnapshot(t, r, "rescued", files)
	wantCompact(t, d, r)
}

func TestTooManyAttachments(t *testing.T) {
	d := newTestDriver()
	r := newTestRepo(t, d, Options{})
	mustSnapshot(t, r, "s", smallFiles(1), fixedCutter(t, 512))
	for n := range MaxAttachments {
		d.put(newAttachmentKey("s", fmt.Sprint("n", n), 1), []byte("whatever"))
	}
	before := len(attachmentObjects(d))
	wantErr(t, "one too many", r.PutAttachment(t.Context(), "s", "more", nil), ErrAttachmentSize)
	wantErr(t, "one that is replaced", r.PutAttachment(t.Context(), "s", "n7", []byte("new")), nil)
	if n := len(attachmentObjects(d)); n != before {
		t.Errorf("%d objects, were %d", n, before)
	}
	wantErr(t, "take away", r.DeleteAttachment(t.Context(), "s", "n8"), nil)
	wantErr(t, "one that fits", r.PutAttachment(t.Context(), "s", "more", nil), nil)
	wantErr(t, "one that is not there", r.DeleteAttachment(t.Context(), "s", "n8"), ErrNoAttachment)
}
