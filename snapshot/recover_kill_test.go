package snapshot

import (
	"bufio"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// killTarget names the target in the environment of the process to be killed.
const killTarget = "HOLDSTILL_TEST_KILL_TARGET"

// TestKills kills a process that restores in place and takes that back all the
// time, and recovers after it. What was written stays in the system's cache, so
// this finds what the order of changes gets wrong, not what is not synced.
func TestKills(t *testing.T) {
	r := newRepository(t)
	m := storeFiles(t, r, "s", newFiles())
	if to := os.Getenv(killTarget); to != "" {
		swapUntilKilled(t, to, func() (string, error) {
			result, err := restoreWith(t.Context(), r, m, RestoreOptions{To: to, Source: "kv", InPlace: true}, nil)
			if err != nil {
				return "", err
			}
			return result.Previous, nil
		})
		return
	}
	const seed, rounds = 20240229, 20
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	oldWant, newWant := oldTreeRead(t), newTreeRead(t, r, m)
	outcomes := map[string]int{}
	// Where the machine is so slow that no kill met anything, more are needed.
	for round := 0; round < rounds || outcomes[string(RecoverNone)] == round && round < 50*rounds; round++ {
		parent := tempDir(t)
		to := filepath.Join(parent, "db")
		writeTree(t, to, oldTree)
		killAfter(t, to, time.Duration(random.IntN(40_000))*time.Microsecond)
		result, err := Recover(t.Context(), to)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if again, err := Recover(t.Context(), to); err != nil || again.Action != RecoverNone {
			t.Fatalf("round %d: Recover again: %+v, %v", round, again, err)
		}
		got := readTree(t, to)
		isNew := cmp.Equal(got, newWant)
		if !isNew && !cmp.Equal(got, oldWant) {
			t.Fatalf("round %d: the target is neither old nor new: %v", round, got)
		}
		other := newWant
		if isNew {
			other = oldWant
		}
		failsafes := 0
		for _, name := range listFolder(t, parent) {
			path := filepath.Join(parent, name)
			switch {
			case name == "db":
			case strings.HasPrefix(name, "db.previous-"):
				failsafes++
				if d := cmp.Diff(other, readTree(t, path)); d != "" {
					t.Fatalf("round %d: the failsafe:\n%s", round, d)
				}
			case name == "trash":
			default:
				t.Fatalf("round %d: left behind: %s", round, name)
			}
		}
		if failsafes > 1 || isNew && failsafes == 0 {
			t.Fatalf("round %d: %d failsafes", round, failsafes)
		}
		outcomes[string(result.Action)]++
	}
	t.Logf("outcomes: %v", outcomes)
	if len(outcomes) == 1 && outcomes[string(RecoverNone)] > 0 {
		t.Error("no kill met a restore under way")
	}
}

// swapUntilKilled restores, and takes that back, until the process is killed or
// something fails.
func swapUntilKilled(t *testing.T, to string, restore func() (string, error)) {
	parent, err := os.OpenRoot(filepath.Dir(to))
	if err != nil {
		t.Fatal(err)
	}
	defer parent.Close()
	if _, err := os.Stdout.WriteString("begin\n"); err != nil {
		t.Fatal(err)
	}
	// If the parent dies first, its end of the pipe is closed.
	var orphaned atomic.Bool
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		orphaned.Store(true)
	}()
	for !orphaned.Load() {
		previous, err := restore()
		if err != nil {
			t.Fatal(err)
		}
		failsafe, err := Undo(t.Context(), to, previous)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(failsafe, filepath.Join(filepath.Dir(to), "trash")); err != nil {
			t.Fatal(err)
		}
		if err := (&fileOps{}).removeAll(parent, "trash"); err != nil {
			t.Fatal(err)
		}
	}
}

// killAfter runs this test in a process of its own and kills it some time after it
// has begun to restore.
func killAfter(t *testing.T, to string, wait time.Duration) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, "-test.run=^TestKills$")
	cmd.Env = append(os.Environ(), killTarget+"="+to)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := cmd.StdinPipe() // open for as long as this process lives
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "begin\n" {
		t.Errorf("the process said %q, %v", line, err)
	}
	time.Sleep(wait)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil || cmd.ProcessState.Exited() {
		t.Fatalf("the process ended by itself: %v", err)
	}
}
