package localblob

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"
)

// TestIfNotExistAmongGoroutines: of many writers of one key, each with a bucket of its own, one wins, and the object is
// the winner's.
func TestIfNotExistAmongGoroutines(t *testing.T) {
	const rounds, writers = 100, 8
	dir := t.TempDir()
	var buckets []*blob.Bucket
	for range writers {
		buckets = append(buckets, openWith(t, dir, nil, osFileOps()))
	}
	for round := range rounds {
		key := fmt.Sprintf("lease/%04d", round)
		errs := make([]error, writers)
		var wg sync.WaitGroup
		for i, b := range buckets {
			wg.Go(func() { errs[i] = b.WriteAll(t.Context(), key, fmt.Appendf(nil, "holder %d", i), plainIfNew()) })
		}
		wg.Wait()
		winner := -1
		for i, err := range errs {
			switch {
			case err == nil && winner >= 0:
				t.Fatalf("round %d: %d and %d both won", round, winner, i)
			case err == nil:
				winner = i
			case gcerrors.Code(err) != gcerrors.FailedPrecondition || !errors.Is(err, ErrExists):
				t.Fatalf("round %d: loser got %v", round, err)
			}
		}
		if winner < 0 {
			t.Fatalf("round %d: nobody won", round)
		}
		if got, want := contentOf(t, buckets[0], key), fmt.Sprintf("holder %d", winner); got != want {
			t.Fatalf("round %d: key holds %q, want %q", round, got, want)
		}
	}
	if left := temporaries(t, dir); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

// childEnv makes this test binary a writer process: see TestChildProcess.
const childEnv = "LOCALBLOB_TEST_CHILD"

// TestIfNotExistAmongProcesses lets processes race for the same keys; each prints those it won.
func TestIfNotExistAmongProcesses(t *testing.T) {
	const processes, keys = 4, 50
	dir := t.TempDir()
	outputs := make([]string, processes)
	var wg sync.WaitGroup
	for i := range processes {
		wg.Go(func() { outputs[i] = runChild(t, fmt.Sprintf("race %d %d in %s", i, keys, dir)) })
	}
	wg.Wait()
	winners := map[string]string{}
	for i, out := range outputs {
		for _, line := range strings.Split(out, "\n") {
			key, ok := strings.CutPrefix(line, "won ")
			if !ok {
				continue
			}
			if other, twice := winners[key]; twice {
				t.Errorf("%s was won by process %s and by %d", key, other, i)
			}
			winners[key] = fmt.Sprint(i)
		}
	}
	if len(winners) != keys {
		t.Errorf("%d keys were won, want %d", len(winners), keys)
	}
	bkt := openWith(t, dir, nil, osFileOps())
	for key, i := range winners {
		if got := contentOf(t, bkt, key); got != "process "+i {
			t.Errorf("%s holds %q, was won by %s", key, got, i)
		}
	}
}

func runChild(t *testing.T, task string) string {
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestChildProcess$", "-test.v")
	cmd.Env = append(os.Environ(), childEnv+"="+task)
	out, err := cmd.CombinedOutput()
	if err != nil && !strings.HasPrefix(task, "die") {
		t.Errorf("child %q: %v\n%s", task, err, out)
	}
	return string(out)
}

// TestChildProcess is the body of the processes that other tests start; by itself it has nothing to do.
func TestChildProcess(t *testing.T) {
	task := strings.SplitN(os.Getenv(childEnv), " ", 2)
	switch task[0] {
	case "race":
		numbers, dir, _ := strings.Cut(task[1], " in ") // the name of a folder may hold blanks
		var id, keys int
		if _, err := fmt.Sscan(numbers, &id, &keys); err != nil {
			t.Fatal(err)
		}
		bkt := openWith(t, dir, nil, osFileOps())
		for k := range keys {
			key := fmt.Sprintf("lease/%03d", k)
			err := bkt.WriteAll(t.Context(), key, fmt.Appendf(nil, "process %d", id), plainIfNew())
			if err == nil {
				fmt.Println("won " + key)
			} else if !errors.Is(err, ErrExists) {
				t.Fatal(err)
			}
		}
	case "die":
		bkt := openWith(t, task[1], nil, osFileOps())
		w, err := bkt.NewWriter(t.Context(), "unfinished", plainFile())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte("half of a pack")); err != nil {
			t.Fatal(err)
		}
		os.Exit(3) // as a kill would: nothing is closed
	}
}

// TestConflictingKeys: a file system has one name for "a" and for what holds "a/b". Whoever comes second is told so,
// and is not told that the object exists.
func TestConflictingKeys(t *testing.T) {
	ctx := t.Context()
	for _, opts := range []*blob.WriterOptions{plainFile(), plainIfNew()} {
		bkt, _, dir := openRecorded(t)
		putAll(t, bkt, []string{"a", "b/c/d"})
		for _, key := range []string{"a/b", "a/b/c", "b", "b/c"} {
			err := bkt.WriteAll(ctx, key, []byte("x"), opts)
			var kerr *KeyError
			if !errors.Is(err, ErrKeyConflict) || !errors.As(err, &kerr) || kerr.Key != key {
				t.Errorf("%q: got %v", key, err)
			}
			if code := gcerrors.Code(err); code != gcerrors.InvalidArgument {
				t.Errorf("%q: code %v", key, code)
			}
			if ok, err := bkt.Exists(ctx, key); ok || err != nil {
				t.Errorf("%q exists: %v, %v", key, ok, err)
			}
			if err := bkt.Delete(ctx, key); gcerrors.Code(err) != gcerrors.NotFound {
				t.Errorf("delete %q: %v", key, err)
			}
		}
		if contentOf(t, bkt, "a") != "object a" || contentOf(t, bkt, "b/c/d") != "object b/c/d" {
			t.Error("the first objects were harmed")
		}
		if left := temporaries(t, dir); len(left) > 0 {
			t.Errorf("left %v", left)
		}
	}
}

// TestVanishedFolder: somebody removes a folder that the bucket knows; the next write makes it again.
func TestVanishedFolder(t *testing.T) {
	bkt, _, dir := openRecorded(t)
	putAll(t, bkt, []string{"a/b/1"})
	if err := os.RemoveAll(filepath.Join(dir, "a")); err != nil {
		t.Fatal(err)
	}
	putAll(t, bkt, []string{"a/b/2"})
	if got := contentOf(t, bkt, "a/b/2"); got != "object a/b/2" {
		t.Errorf("holds %q", got)
	}
}
