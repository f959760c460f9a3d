package repo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/holdstill/holdstill/chunk"
	"github.com/holdstill/holdstill/repo/localblob"
)

// The variables that make this test binary write into a repository and exit.
const (
	processDir  = "HOLDSTILL_REPO_TEST_DIR"
	processName = "HOLDSTILL_REPO_TEST_NAME"
	// processCache is the folder of its index cache; none if it is not set.
	processCache = "HOLDSTILL_REPO_TEST_CACHE"
	// processVictim, if set, makes it go on until it is killed, or its standard input ends.
	processVictim = "HOLDSTILL_REPO_TEST_VICTIM"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(processRole); role != "" {
		os.Exit(crewProcess(os.Getenv(processDir), role, os.Getenv(processName)))
	}
	if dir := os.Getenv(processDir); dir != "" {
		if os.Getenv(processVictim) != "" {
			go func() { // its parent holds the other end, and may die as well
				_, _ = io.Copy(io.Discard, os.Stdin)
				os.Exit(1)
			}()
		}
		os.Exit(writerProcess(dir, os.Getenv(processName)))
	}
	os.Exit(m.Run())
}

const (
	processSnapshots = 2*mergeCount + 4
	processRaces     = 12
)

// writerProcess is what each of the two processes does. It prints the IDs of the
// races it won.
func writerProcess(dir, name string) int {
	won, err := writeBeside(dir, name)
	for _, id := range won {
		fmt.Println(id)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// writeBeside makes snapshots of its own, some of data that the other process
// stores too, and tries to be the first with IDs that both want.
func writeBeside(dir, name string) (won []string, err error) {
	ctx := context.Background()
	b, err := localblob.OpenBucket(dir, nil)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	r, err := Open(ctx, b, variant(Options{CacheDir: os.Getenv(processCache)}))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if r.indexCache != nil {
		r.indexCache.foldRecords = 20
	}
	c, err := chunk.NewFixed(512)
	if err != nil {
		return nil, err
	}
	for n := 0; n < processSnapshots || os.Getenv(processVictim) != ""; n++ {
		if err := takeSnapshot(ctx, r, fmt.Sprintf("%s-%03d", name, n), processFiles(name, n), c); err != nil {
			return won, err
		}
		if n < processRaces {
			id := fmt.Sprintf("race-%03d", n)
			switch err := takeSnapshot(ctx, r, id, processFiles(name, 1000+n), c); {
			case err == nil:
				won = append(won, id)
			case !errors.Is(err, ErrExists):
				return won, err
			}
		}
	}
	return won, nil
}

// processFiles are the files of a process's n-th snapshot: one of its own, and one
// that is the same in both processes.
func processFiles(name string, n int) map[string][]byte {
	return map[string][]byte{
		"own":    rowData(uint64(n)+uint64(name[0])<<16, 5000),
		"shared": rowData(uint64(n), 4000),
	}
}

// openTestRepoIn makes a repository in a folder.
func openTestRepoIn(t *testing.T, dir string) *Repository {
	t.Helper()
	b := openLocal(t, dir)
	if err := Init(t.Context(), b, variantInit()); err != nil {
		t.Fatal(err)
	}
	return openTestRepo(t, b, Options{})
}

func TestTwoProcesses(t *testing.T) {
	dir := t.TempDir()
	r := openTestRepoIn(t, dir)
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), processDir+"="+dir, processName+"=child")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	winners := make(map[string]string)
	var mu sync.Mutex
	win := func(id, name string) {
		mu.Lock()
		defer mu.Unlock()
		if winners[id] != "" {
			t.Errorf("%s was won twice", id)
		}
		winners[id] = name
	}
	var group sync.WaitGroup
	group.Go(func() {
		won, err := writeBeside(dir, "parent")
		if err != nil {
			t.Error(err)
		}
		for _, id := range won {
			win(id, "parent")
		}
	})
	for lines := bufio.NewScanner(out); lines.Scan(); {
		win(lines.Text(), "child")
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("child: %v", err)
	}
	group.Wait()
	if len(winners) != processRaces {
		t.Errorf("%d races were won, of %d", len(winners), processRaces)
	}
	for id, name := range winners {
		var n int
		if _, err := fmt.Sscanf(id, "race-%d", &n); err != nil {
			t.Fatal(err)
		}
		wantSnapshot(t, r, id, processFiles(name, 1000+n))
	}
	for _, name := range []string{"child", "parent"} {
		for n := range processSnapshots {
			wantSnapshot(t, r, fmt.Sprintf("%s-%03d", name, n), processFiles(name, n))
		}
	}
	report := wantSound(t, r)
	if want := 2*processSnapshots + processRaces; report.Snapshots != want {
		t.Errorf("%d snapshots, want %d", report.Snapshots, want)
	}
	if report.Indexes > 3*mergeCount {
		t.Errorf("%d indexes are left", report.Indexes)
	}
}

// A process that is killed leaves nothing that the listing shows, and the next one
// goes on.
func TestKilledProcess(t *testing.T) {
	dir := t.TempDir()
	r := openTestRepoIn(t, dir)
	for n := range 3 {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		name := fmt.Sprint("victim", n)
		cmd.Env = append(os.Environ(), processDir+"="+dir, processName+"="+name, processVictim+"=1")
		cmd.Stderr = os.Stderr
		if _, err := cmd.StdinPipe(); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var exited atomic.Bool
		waited := make(chan error, 1)
		go func() {
			err := cmd.Wait()
			exited.Store(true)
			waited <- err
		}()
		// Killed in the middle of it: when some of its snapshots are there.
		for made := 0; made < 2+n; {
			if exited.Load() {
				t.Fatalf("the process ended by itself after %d snapshots: %v", made, <-waited)
			}
			made = 0
			for _, id := range listIDs(t, r) {
				if strings.HasPrefix(id, name) {
					made++
				}
			}
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := <-waited; err == nil || cmd.ProcessState.Exited() && runtime.GOOS != "windows" {
			t.Fatalf("the process ended by itself: %v", err)
		}
		wantSound(t, r)
		for _, id := range listIDs(t, r) {
			if _, err := readSnapshot(t.Context(), r, id); err != nil {
				t.Fatal(err)
			}
		}
		mustSnapshot(t, r, fmt.Sprint("after", n), smallFiles(uint64(n)), r.Gear())
	}
	wantSound(t, r)
}
