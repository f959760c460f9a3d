package repo

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

// Indexes are asked for several at a time: a repository that was uploaded with many checkpoints has
// many, and a distant store takes its time for each. One that is damaged does not stop the others.
func TestIndexesAreReadAtOnce(t *testing.T) {
	d := newTestDriver()
	writer := newTestRepo(t, d, Options{})
	cut := fixedCutter(t, 1024)
	const count = 2 * DefaultFetches
	for i := range uint64(count - 1) {
		mustSnapshot(t, writer, fmt.Sprintf("s%02d", i), map[string][]byte{"f": noiseData(i, 3000)}, cut)
	}
	if n := len(d.keys(indexPrefix)); n < DefaultFetches {
		t.Fatalf("there are %d indexes", n)
	}
	broken := d.keys(indexPrefix)[1]
	damaged := bytes.Clone(d.get(broken))
	damaged[len(damaged)/2] ^= 1
	d.put(broken, damaged)

	r := openTestRepo(t, d.bucket(t), Options{})
	// Nobody gets an answer before as many have asked as may at once.
	var mu sync.Mutex
	asked, most := 0, 0
	all := make(chan struct{})
	d.before.set(func(ctx context.Context, o op) error {
		if o.kind != "read" || !strings.HasPrefix(o.key, indexPrefix) {
			return nil
		}
		mu.Lock()
		if asked++; asked == DefaultFetches {
			close(all)
		}
		most = max(most, asked)
		mu.Unlock()
		select {
		case <-all:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	set, err := r.currentIndex(ctx)
	if err != nil {
		t.Fatalf("%d indexes were asked for at once: %v", most, err)
	}
	if len(set.indexes) != len(d.keys(indexPrefix))-1 || len(set.broken) != 1 {
		t.Errorf("%d indexes can be used and %d cannot, of %d", len(set.indexes), len(set.broken), len(d.keys(indexPrefix)))
	}
}
