package bench

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdstill/holdstill/chunk"
	"github.com/holdstill/holdstill/snapshot"
)

// corpusMiB is the size of the files that the benchmarks of the engine work on.
var corpusMiB = flag.Int64("corpus", 256, "size of the corpus in `MiB`")

// peakMiB is the size of the snapshot whose memory is measured.
var peakMiB = flag.Int64("peak", 1024, "size of the snapshot for BenchmarkPeakMemory in `MiB`")

// openEngine opens an engine on a new repository on disk.
func openEngine(tb testing.TB, dir string, source snapshot.Source) *snapshot.Engine {
	tb.Helper()
	config := snapshot.Config{Repository: "local:" + dir, VerifyShare: -1}
	if source != nil {
		config.Sources = map[string]snapshot.Source{"db": source}
	}
	e, err := snapshot.Open(tb.Context(), config)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { e.Close() })
	return e
}

func create(tb testing.TB, e *snapshot.Engine, opts snapshot.CreateOptions) *snapshot.Snapshot {
	tb.Helper()
	s, err := e.Create(tb.Context(), opts)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// repository makes a new repository outside the timer, and removes the last one.
func repository(b *testing.B, last *string) string {
	b.StopTimer()
	defer b.StartTimer()
	if *last != "" {
		if err := os.RemoveAll(*last); err != nil {
			b.Fatal(err)
		}
	}
	dir, err := os.MkdirTemp(b.TempDir(), "repo")
	if err != nil {
		b.Fatal(err)
	}
	*last = dir
	// What the last round left to be written must not slow this one down.
	syscall.Sync()
	return dir
}

// BenchmarkCreate takes snapshots of a corpus on disk into a repository on disk,
// every write synced: the first, one of nothing changed, and one of the second
// generation. "%limit" is the first one's share of what cutting, identifying and
// encoding alone take on this data, measured in the same run, on all cores. "%work" is
// the same of processor time instead of time: what others do on the machine hardly
// matters to it, nor does it see waiting. For other numbers of cores set GOMAXPROCS:
// the first of -cpu has no effect on benchmarks with b.Loop.
func BenchmarkCreate(b *testing.B) {
	c := newCorpus(b, b.TempDir(), *corpusMiB<<20)
	b.Run("first", func(b *testing.B) {
		limit := stageLimit(b, c)
		b.SetBytes(c.size)
		b.ReportAllocs()
		var last string
		var s *snapshot.Snapshot
		var used time.Duration
		for b.Loop() {
			e := openEngine(b, repository(b, &last), c)
			begun := processorTime(b)
			s = create(b, e, snapshot.CreateOptions{})
			if err := e.Close(); err != nil {
				b.Fatal(err)
			}
			used += processorTime(b) - begun
		}
		rate := float64(c.size) * float64(b.N) / b.Elapsed().Seconds()
		b.ReportMetric(100*rate/limit, "%limit")
		least := float64(c.size) / limit * float64(runtime.GOMAXPROCS(0))
		b.ReportMetric(100*least*float64(b.N)/used.Seconds(), "%work")
		b.ReportMetric(float64(s.Stats.BytesStored)/float64(s.Stats.Bytes), "stored/raw")
	})
	dir := b.TempDir()
	e := openEngine(b, dir, c)
	first := create(b, e, snapshot.CreateOptions{Label: "first"})
	b.Run("unchanged", func(b *testing.B) {
		b.SetBytes(c.size)
		b.ReportAllocs()
		for b.Loop() {
			s := create(b, e, snapshot.CreateOptions{Parent: first.ID})
			if s.Stats.BytesNew != 0 {
				b.Fatalf("an unchanged corpus added %d bytes", s.Stats.BytesNew)
			}
			b.ReportMetric(float64(s.Stats.BytesRead)/(1<<20), "MiB-read")
		}
	})
	c.change(b)
	b.Run("changed-5%", func(b *testing.B) {
		b.SetBytes(c.size)
		b.ReportAllocs()
		var last string
		for b.Loop() {
			// A repository with nothing but the first snapshot, in which the second
			// generation is new each time.
			fork := openEngine(b, forkRepository(b, dir, &last), c)
			s := create(b, fork, snapshot.CreateOptions{Parent: first.ID})
			if err := fork.Close(); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(s.Stats.BytesStored)/(1<<20), "MiB-stored")
			b.ReportMetric(float64(s.Stats.BytesRead)/(1<<20), "MiB-read")
		}
	})
}

// forkRepository copies a repository with hard links, outside the timer. That is
// safe since objects are never written in place.
func forkRepository(b *testing.B, src string, last *string) string {
	dir := repository(b, last)
	b.StopTimer()
	defer b.StartTimer()
	if out, err := exec.Command("cp", "-al", src+"/.", dir).CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	return dir
}

// BenchmarkRestore restores the corpus to a new directory, every file synced.
// "%limit" is its share of what decoding, identifying and writing alone take, on all
// cores, measured in the same run.
func BenchmarkRestore(b *testing.B) {
	c := newCorpus(b, b.TempDir(), *corpusMiB<<20)
	e := openEngine(b, b.TempDir(), c)
	s := create(b, e, snapshot.CreateOptions{})
	limit := restoreLimit(b, c)
	b.SetBytes(c.size)
	b.ReportAllocs()
	parent, last := b.TempDir(), ""
	for b.Loop() {
		b.StopTimer()
		if err := os.RemoveAll(last); err != nil {
			b.Fatal(err)
		}
		last = filepath.Join(parent, fmt.Sprint(time.Now().UnixNano()))
		syscall.Sync()
		b.StartTimer()
		if _, err := e.Restore(b.Context(), s.ID, snapshot.RestoreOptions{To: last}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(100*float64(c.size)*float64(b.N)/b.Elapsed().Seconds()/limit, "%limit")
}

// stages is the time that each step takes on a corpus, one core, in seconds.
type stages struct{ cut, identify, encode, decode, write float64 }

// measureStages takes the files of a corpus apart as the engine does, one step at a
// time, each but writing in processor time of one core.
func measureStages(b *testing.B, c *corpus) (t stages) {
	gear, err := chunk.NewGear(chunk.GearParams{}, nil)
	if err != nil {
		b.Fatal(err)
	}
	encoder, err := chunk.NewEncoder(chunk.EncoderOptions{})
	if err != nil {
		b.Fatal(err)
	}
	defer encoder.Close()
	decoder, err := chunk.NewDecoder()
	if err != nil {
		b.Fatal(err)
	}
	defer decoder.Close()
	names, err := filepath.Glob(filepath.Join(c.dir, "*"))
	if err != nil {
		b.Fatal(err)
	}
	out, err := os.Create(filepath.Join(b.TempDir(), "out"))
	if err != nil {
		b.Fatal(err)
	}
	defer out.Close()
	// Writing waits for the disk, all else is the processor's.
	clock := func(total *float64, f func()) { *total += threadTime(f).Seconds() }
	wait := func(total *float64, f func()) {
		start := time.Now()
		f()
		*total += time.Since(start).Seconds()
	}
	stored, plain := make([]byte, 0, 4<<20), make([]byte, 0, 4<<20)
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			b.Fatal(err)
		}
		var cutter chunk.Cutter = gear
		switch filepath.Ext(name) {
		case ".sst":
			cutter, err = chunk.NewFixed(1 << 20)
		case ".db":
			cutter, err = chunk.NewFixed(64 << 10)
		}
		if err != nil {
			b.Fatal(err)
		}
		var chunks [][]byte
		clock(&t.cut, func() {
			for p := data; len(p) > 0; {
				n := cutter.Next(p, true)
				chunks = append(chunks, p[:n])
				p = p[n:]
			}
		})
		clock(&t.identify, func() {
			for _, p := range chunks {
				chunk.Identify(p)
			}
		})
		for _, p := range chunks {
			var codec chunk.Codec
			clock(&t.encode, func() { stored, codec, err = encoder.Encode(stored[:0], p) })
			if err == nil {
				clock(&t.decode, func() { plain, err = decoder.Decode(plain[:0], codec, stored, len(p)) })
			}
			if err == nil {
				wait(&t.write, func() { _, err = out.Write(plain) })
			}
			if err != nil {
				b.Fatal(err)
			}
		}
	}
	wait(&t.write, func() { err = out.Sync() })
	if err != nil {
		b.Fatal(err)
	}
	return t
}

// processorTime is what this process has used so far.
func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// stageLimit is how many bytes of a corpus a second can at best be stored.
func stageLimit(b *testing.B, c *corpus) float64 {
	t := measureStages(b, c)
	return float64(c.size) / (t.cut + t.identify + t.encode) * float64(runtime.GOMAXPROCS(0))
}

// restoreLimit is how many bytes of a corpus a second can at best be restored: all
// cores decode, one disk is written to.
func restoreLimit(b *testing.B, c *corpus) float64 {
	t := measureStages(b, c)
	return float64(c.size) / ((t.decode+t.identify)/float64(runtime.GOMAXPROCS(0)) + t.write)
}

// peakEnv asks a child of the benchmark to take one snapshot, of a stream, in a folder.
const peakEnv = "HOLDSTILL_BENCH_PEAK"

// BenchmarkPeakMemory takes the first snapshot of a stream in a process of its own,
// and reports the most memory that the kernel saw it use. The data is nowhere on disk; a
// third of it is in the end, in the repository: -peak 8192 needs 3 GiB. The index is in
// memory, or in a cache.
func BenchmarkPeakMemory(b *testing.B) {
	if dir := os.Getenv(peakEnv); dir != "" {
		size, err := strconv.ParseInt(os.Getenv(peakEnv+"_SIZE"), 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		config := snapshot.Config{
			Repository: "local:" + dir + "/repo", VerifyShare: -1, CacheDir: os.Getenv(peakEnv + "_CACHE"),
			Sources: map[string]snapshot.Source{"db": newStream(size)},
		}
		e, err := snapshot.Open(b.Context(), config)
		if err != nil {
			b.Fatal(err)
		}
		defer e.Close()
		create(b, e, snapshot.CreateOptions{})
		// Not from the parent's getrusage: that counts what the parent had mapped
		// when it forked.
		status, err := os.ReadFile("/proc/self/status")
		if err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(dir+"/status", status, 0o600); err != nil {
			b.Fatal(err)
		}
		return
	}
	for _, cached := range []bool{false, true} {
		b.Run(fmt.Sprintf("cached=%v", cached), func(b *testing.B) { peakMemory(b, cached) })
	}
}

func peakMemory(b *testing.B, cached bool) {
	dir := b.TempDir()
	cache := ""
	if cached {
		cache = dir + "/cache"
	}
	b.SetBytes(*peakMiB << 20)
	for b.Loop() {
		if err := errors.Join(os.RemoveAll(dir+"/repo"), os.RemoveAll(dir+"/cache")); err != nil {
			b.Fatal(err)
		}
		cmd := exec.CommandContext(b.Context(), os.Args[0], "-test.run", "^$", "-test.bench", "^BenchmarkPeakMemory$", "-test.benchtime", "1x")
		cmd.Env = append(os.Environ(), peakEnv+"="+dir, peakEnv+"_SIZE="+fmt.Sprint(*peakMiB<<20), peakEnv+"_CACHE="+cache)
		cmd.Stdout, cmd.Stderr = io.Discard, os.Stderr
		if err := cmd.Run(); err != nil {
			b.Fatal(err)
		}
		status, err := os.ReadFile(dir + "/status")
		if err != nil {
			b.Fatal(err)
		}
		var kib float64
		_, peak, _ := strings.Cut(string(status), "VmHWM:")
		if _, err := fmt.Sscanf(peak, "%f kB", &kib); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(kib/1024, "peak-MiB")
	}
}
