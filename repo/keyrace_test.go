package repo

import (
	"context"
	"errors"
	"strings"
	"testing"
)

// Two processes remove one slot each, so that none is left, and the one that would put its own back
// cannot. It must not say that the slot stays, but how to save what can be saved: it still has
// the keys.
func TestLastSlotCannotBePutBack(t *testing.T) {
	ctx := t.Context()
	d := newTestDriver()
	b := d.bucket(t)
	if err := Init(ctx, b, InitOptions{Encryption: &Encryption{Key: keeper(1)}}); err != nil {
		t.Fatal(err)
	}
	r := openTestRepo(t, b, Options{Key: keeper(1), Retry: Retry{Attempts: 1}})
	second, err := r.AddKey(ctx, keeper(2), AddKeyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	down := errors.New("the store went down")
	d.before.set(func(_ context.Context, o op) error {
		switch {
		case o.kind == "delete" && o.key == slotKey(second.ID):
			for _, key := range d.keys(slotPrefix) {
				if key != o.key {
					d.mu.Lock()
					delete(d.objects, key)
					d.mu.Unlock()
				}
			}
		case o.kind == "create":
			return down
		}
		return nil
	})
	err = r.RemoveKey(ctx, second.ID)
	d.before.set(nil)
	if !errors.Is(err, ErrKey) || !errors.Is(err, down) || strings.Contains(err.Error(), "stays") || !strings.Contains(err.Error(), "AddKey") {
		t.Errorf("RemoveKey: %v", err)
	}
	if left := keyIDs(t, r); len(left) != 0 {
		t.Fatalf("left %q", left)
	}
	if _, err := Open(ctx, b, Options{Key: keeper(2)}); !errors.Is(err, ErrKey) {
		t.Errorf("Open without slots: %v", err)
	}
	if _, err := r.AddKey(ctx, keeper(3), AddKeyOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(ctx, b, Options{Key: keeper(3)}); err != nil {
		t.Error(err)
	}
}
