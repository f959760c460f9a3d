package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestParsePeak(t *testing.T) {
	for status, want := range map[string]int64{
		"Name:\tcp\nVmPeak:\t  9000 kB\nVmHWM:\t    2048 kB\nVmRSS:\t  1024 kB\n": 2 << 20,
		"Name:\tVmHWM: 7 kB\n":                0,
		"Name:\tzombie\nState:\tZ (zombie)\n": 0,
		"Name:\tx\nVmHWM:\tmuch\n":            0,
		"":                                    0,
	} {
		if got := parsePeak(status); got != want {
			t.Errorf("%q: got %d, want %d", status, got, want)
		}
	}
	if got := peakNow(os.Getpid()); got < 1<<20 {
		t.Errorf("this process has had %d bytes", got)
	}
}

// TestWatch tests both ways to the peak of a process: one larger than this
// program, and one far smaller that lives long enough to be seen.
func TestWatch(t *testing.T) {
	floor := peakNow(os.Getpid())
	// The process ends once it was seen so often.
	start := func(seen int64, args ...string) (int64, bool) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
		input, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		w := watchPeak(cmd.Process.Pid)
		for deadline := time.Now().Add(time.Minute); w.samples.Load() < seen && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
		if err := input.Close(); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
		return w.end(cmd.ProcessState)
	}
	// The shell keeps twice as much text as this program has memory.
	large, bound := start(0, "sh", "-c", `x=$(head -c "$1" /dev/zero | tr '\0' x); echo ${#x} >/dev/null`, "sh", strconv.FormatInt(2*floor, 10))
	if large < 2*floor || bound {
		t.Errorf("large: %d bytes, a bound: %v; this program has %d", large, bound, floor)
	}
	small, bound := start(minSamples, "cat")
	if small <= 0 || small >= floor || bound {
		t.Errorf("small: %d bytes, a bound: %v; this program has %d", small, bound, floor)
	}
}

// TestStatIdentity tests that what is written to has another identity, even with
// the same size and the old time put on.
func TestStatIdentity(t *testing.T) {
	path := filepath.Join(t.TempDir(), "meta.db")
	write := func(text string) string {
		t.Helper()
		info, statErr := os.Stat(path)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if statErr == nil {
			if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
				t.Fatal(err)
			}
		}
		return statIdentity(path)
	}
	before := write("one page")
	if before == "" || statIdentity(path) != before || !strings.Contains(before, "size=8") {
		t.Errorf("got %q, then %q", before, statIdentity(path))
	}
	// The clock of the file system may stand still for some milliseconds.
	for deadline := time.Now().Add(time.Minute); write("2nd page") == before && time.Now().Before(deadline); {
	}
	if statIdentity(path) == before {
		t.Error("it has the identity from before it was written to")
	}
	if got := statIdentity(path + "x"); got != "" {
		t.Errorf("a file that is not there: %q", got)
	}
}
