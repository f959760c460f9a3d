package transfer_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"gocloud.dev/blob"
	"gocloud.dev/blob/memblob"

	"github.com/holdstill/holdstill/repo/repotest"
)

func newMemory(t testing.TB) *blob.Bucket {
	b := memblob.OpenBucket(nil)
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// newHooked returns a bucket in memory whose requests a test can count, hold up and
// refuse, and the same without hooks.
func newHooked(t testing.TB) (hooked *repotest.HookedBucket, inner *blob.Bucket) {
	inner = newMemory(t)
	hooked = repotest.NewHooked(inner)
	t.Cleanup(func() { _ = hooked.Close() })
	return hooked, inner
}

// nth refuses the n-th request of a kind, counted from 0, and all after it if onward is
// set.
func nth(n int64, onward bool, err error, picks func(repotest.Request) bool) (hook func(context.Context, repotest.Request) error, hit *atomic.Bool) {
	var seen atomic.Int64
	hit = new(atomic.Bool)
	return func(_ context.Context, r repotest.Request) error {
		if !picks(r) {
			return nil
		}
		at := seen.Add(1) - 1
		if at == n || onward && at > n {
			hit.Store(true)
			return fmt.Errorf("%s %s: %w", r.Verb, r.Key, err)
		}
		return nil
	}, hit
}

func isPack(r repotest.Request) bool { return strings.HasPrefix(r.Key, "pack/") }
