//go:build unix

package transfer_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/fstest"

	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/repo/localblob"
	"github.com/holdstill/holdstill/repo/repotest"
	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/transfer"
)

const (
	killEnv   = "HOLDSTILL_TEST_KILLED_COPY"
	killPacks = 48
)

func openFolder(t testing.TB, dir string, opts repo.Options) *repo.Repository {
	t.Helper()
	b, err := localblob.OpenBucket(dir, &localblob.Options{CreateDir: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return openBucket(t, b, opts)
}

// A copy that is killed when half of it has arrived, and run again, sends the other half.
func TestKilledCopyContinues(t *testing.T) {
	if top := os.Getenv(killEnv); top != "" {
		killedCopy(t, top)
		return
	}
	top := t.TempDir()
	e, err := snapshot.Open(t.Context(), snapshot.Config{
		Repository: "local:" + filepath.ToSlash(filepath.Join(top, "src")),
		Sources:    map[string]snapshot.Source{"kv": mapSource{fstest.MapFS{"a": {Data: noisy(1, killPacks<<20)}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	s := create(t, e, "x")
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledCopyContinues$")
	cmd.Env = append(os.Environ(), killEnv+"="+top)
	out, err := cmd.CombinedOutput()
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); err == nil || !ok || status.Signal() != syscall.SIGKILL {
		t.Fatalf("the child was not killed: %v\n%s", err, out)
	}
	dst := openFolder(t, filepath.Join(top, "dst"), repo.Options{})
	wantWhole(t, dst)
	result, err := transfer.Copy(t.Context(), dst, e.Repository(), s.ID, transfer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if share := float64(result.BytesSent) / float64(s.Stats.BytesStored); share > 0.55 {
		t.Errorf("%.0f %% were sent again", 100*share)
	}
	wantWhole(t, dst, s.ID)
}

// killedCopy copies, and kills its own process on the way.
func killedCopy(t *testing.T, top string) {
	src := openFolder(t, filepath.Join(top, "src"), repo.Options{})
	b, err := localblob.OpenBucket(filepath.Join(top, "dst"), &localblob.Options{CreateDir: true})
	if err != nil {
		t.Fatal(err)
	}
	hooked := repotest.NewHooked(b)
	var mu sync.Mutex
	noted := sync.NewCond(&mu)
	// packs were begun so far, counted of them when the last index was.
	packs, counted := 0, 0
	hooked.Hook(func(_ context.Context, r repotest.Request) error {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case r.Verb == repotest.VerbCreate && isPack(r):
			packs++
			// However slow the checkpoints are, the packs do not run away from them.
			for packs > counted+4 {
				noted.Wait()
			}
		case r.Verb == repotest.VerbCreate && strings.HasPrefix(r.Key, "index/"):
			counted = packs
			noted.Broadcast()
		case r.Verb == repotest.VerbList && counted > killPacks*54/100:
			// The look at what others have sent, after a checkpoint.
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
		return nil
	})
	dst := openBucket(t, hooked.Bucket, repo.Options{PackSize: 1 << 20, Uploads: 1})
	for id, err := range src.IDs(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		_, err := transfer.Copy(t.Context(), dst, src, id, transfer.Options{CheckpointBytes: 1})
		t.Errorf("the copy ended with %v", err)
	}
}
