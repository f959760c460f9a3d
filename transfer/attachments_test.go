package transfer_test

import (
	"testing"
	"testing/fstest"

	"github.com/holdstill/holdstill/transfer"
)

// Two copies of one snapshot are under way, and the one that has sent its attachments first gives
// up: the other's snapshot has them all the same.
func TestAttachmentsOfACopyThatIsGivenUp(t *testing.T) {
	ctx := t.Context()
	src, _ := open(t, fstest.MapFS{"a": {Data: rows(1, 10_000)}})
	dst, _ := open(t, nil)
	snap := create(t, src, "nightly")
	if err := src.Repository().PutAttachment(ctx, snap.ID, "log", []byte("all went well")); err != nil {
		t.Fatal(err)
	}
	other, err := dst.Repository().NewSession(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := other.PutAttachment(ctx, snap.ID, "log", []byte("all went well")); err != nil {
		t.Fatal(err)
	}
	if _, err := transfer.Copy(ctx, dst.Repository(), src.Repository(), snap.ID, transfer.Options{}); err != nil {
		t.Fatal(err)
	}
	if err := other.Abort(ctx); err != nil {
		t.Fatal(err)
	}
	if data, err := dst.Repository().ReadAttachment(ctx, snap.ID, "log"); err != nil || string(data) != "all went well" {
		t.Errorf("%q, %v", data, err)
	}
}
