package snapshot

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"gocloud.dev/blob/memblob"

	"github.com/holdstill/holdstill/chunk"
	"github.com/holdstill/holdstill/repo"
)

// newChainSession returns a session in memory, and the chunks of a number of segments: one
// chunk each, or none.
func newChainSession(t *testing.T, segments int) (*repo.Session, [][]repo.Ref) {
	bucket := memblob.OpenBucket(nil)
	if err := repo.Init(t.Context(), bucket, repo.InitOptions{}); err != nil {
		t.Fatal(err)
	}
	r, err := repo.Open(t.Context(), bucket, repo.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := r.NewSession(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(s.Abort(context.WithoutCancel(t.Context())), r.Close(), bucket.Close()); err != nil {
			t.Error(err)
		}
	})
	refs := make([][]repo.Ref, segments)
	for n := range refs {
		if n%7 != 3 {
			refs[n] = []repo.Ref{{ID: chunk.Identify(binary.LittleEndian.AppendUint64(nil, uint64(n))), Span: int64(n + 1)}}
		}
	}
	return s, refs
}

// However the segments of a file come, its content is the same, one caller is told that it is
// complete, and few segments wait for others.
func TestChainTakesAnyOrder(t *testing.T) {
	for _, segments := range []int{1, 2, 10, 3 * maxEarly} {
		for seed := range uint64(4) {
			session, refs := newChainSession(t, segments)
			var all []repo.Ref
			for _, r := range refs {
				all = append(all, r...)
			}
			want, err := session.PutContent(t.Context(), all)
			if err != nil {
				t.Fatal(err)
			}
			c := newChain(session, segments)
			var next, completed atomic.Int64
			var wg sync.WaitGroup
			for i := range uint64(5) {
				rng := rand.New(rand.NewPCG(seed, i))
				wg.Go(func() {
					var mine []int
					put := func() bool {
						k := rng.IntN(len(mine))
						n := mine[k]
						mine[k] = mine[len(mine)-1]
						mine = mine[:len(mine)-1]
						complete, err := c.put(t.Context(), n, refs[n])
						if err != nil {
							t.Error(err)
						}
						if complete {
							completed.Add(1)
						}
						return err == nil
					}
					for {
						n := int(next.Add(1)) - 1
						if n >= segments {
							break
						}
						mine = append(mine, n)
						// Not more of its own than may be ahead: it would wait for itself.
						if len(mine) > 20 || rng.IntN(3) == 0 {
							if !put() {
								return
							}
						}
					}
					for len(mine) > 0 && put() {
					}
				})
			}
			wg.Wait()
			if completed.Load() != 1 {
				t.Fatalf("%d callers were told that it is complete", completed.Load())
			}
			got, err := c.content.Finish(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%d segments, seed %d:\n%s", segments, seed, diff)
			}
		}
	}
}

func TestChainHoldsBackWhoIsFarAhead(t *testing.T) {
	session, refs := newChainSession(t, maxEarly+2)
	c := newChain(session, len(refs))
	if err := c.wait(t.Context(), maxEarly-1); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stop")
	cancel(stop)
	if err := c.wait(ctx, maxEarly); !errors.Is(err, stop) {
		t.Errorf("error %v", err)
	}
	waited := make(chan error)
	go func() { waited <- c.wait(t.Context(), maxEarly) }()
	select {
	case err := <-waited:
		t.Fatalf("did not wait: %v", err)
	default:
	}
	if _, err := c.put(t.Context(), 0, refs[0]); err != nil {
		t.Fatal(err)
	}
	if err := <-waited; err != nil {
		t.Error(err)
	}
}

// What the session refuses reaches the caller that met it, and nobody is told that the
// content is complete.
func TestChainPassesErrorsOn(t *testing.T) {
	session, _ := newChainSession(t, 0)
	c := newChain(session, 2)
	if complete, err := c.put(t.Context(), 0, []repo.Ref{{Span: -1}}); complete || !errors.Is(err, repo.ErrInvalid) {
		t.Errorf("complete %v, error %v", complete, err)
	}
	if complete, err := c.put(t.Context(), 1, nil); complete || err != nil {
		t.Errorf("complete %v, error %v", complete, err)
	}
}
