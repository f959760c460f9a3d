package s3_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/repo/cloud/internal/teststore"
	"github.com/holdstill/holdstill/snapshot"
)

var (
	benchSize  = flag.Int("size", 256, "how many MiB BenchmarkTransfer copies")
	installAll = flag.Bool("rclone", false, "install rclone for BenchmarkTransfer, which takes some minutes")
)

const rcloneVersion = "v1.75.1"

// site is a server's data, the repository of it, and the two programs that copy them.
type site struct {
	top, plain, packs string
	server            *teststore.Server
	holdstill, rclone string
	ids               []string
	table             []byte
}

// BenchmarkTransfer sends a snapshot to an S3 server on this machine and fetches it again, each time by a process of its own,
// beside rclone with the same repository and with the plain files. B/op of the Go benchmark means nothing here; peak-MiB is the
// most memory that the process held, and MB/s counts the bytes that travelled.
func BenchmarkTransfer(b *testing.B) {
	s := newSite(b)
	stored := sizeOf(b, s.packs)
	plain := sizeOf(b, s.plain)
	n := 0
	fresh := func() string { n++; return fmt.Sprintf("bench/%d", n) }
	upload := func(b *testing.B, id, to string) {
		s.run(b, s.holdstill, "upload", "-repo", s.packs, "-config", filepath.Join(s.top, "config.json"), "-to", "S3:"+to, id)
	}
	first := fresh()
	b.Run("upload", func(b *testing.B) {
		b.SetBytes(stored)
		for b.Loop() {
			first = fresh()
			upload(b, s.ids[0], first)
		}
	})
	for _, verify := range []string{"content", "stored"} {
		b.Run("download, verify "+verify, func(b *testing.B) {
			b.SetBytes(stored)
			for b.Loop() {
				dir := b.TempDir()
				s.mustInit(b, dir)
				s.run(b, s.holdstill, "download", "-repo", dir, "-config", filepath.Join(s.top, "config.json"), "-from", "S3:"+first, "-verify", verify, s.ids[0])
			}
		})
	}
	s.change(b)
	b.Run("upload after 5 %", func(b *testing.B) {
		for b.Loop() {
			upload(b, s.ids[1], first)
		}
		b.ReportMetric(float64(sizeOf(b, s.packs)-stored), "new-B")
	})
	if s.rclone == "" {
		b.Log("rclone is not installed: give -rclone")
		return
	}
	for _, of := range []struct {
		name, dir string
		size      int64
	}{{"of the repository", s.packs, sizeOf(b, s.packs)}, {"of the plain files", s.plain, plain}} {
		var there string
		b.Run("rclone up "+of.name, func(b *testing.B) {
			b.SetBytes(of.size)
			for b.Loop() {
				there = fresh()
				s.run(b, s.rclone, "copy", of.dir, "S3:"+there)
			}
		})
		b.Run("rclone down "+of.name, func(b *testing.B) {
			b.SetBytes(of.size)
			for b.Loop() {
				s.run(b, s.rclone, "copy", "S3:"+there, b.TempDir())
			}
		})
	}
}

func newSite(b *testing.B) *site {
	s := &site{top: b.TempDir()}
	s.plain, s.packs = filepath.Join(s.top, "plain"), filepath.Join(s.top, "repo")
	var buckets string
	s.server, buckets = teststore.S3(b)
	teststore.MakeS3Bucket(b, buckets, "bench")
	s.holdstill = filepath.Join(s.top, "holdstill")
	s.command(b, "go", "build", "-o", s.holdstill, "github.com/holdstill/holdstill/repo/cloud/cmd/holdstill")
	s.rclone = findRclone(b)
	text, err := json.Marshal(repo.LocationConfig{"S3": section(s.server.URL)})
	if err == nil {
		err = os.WriteFile(filepath.Join(s.top, "config.json"), text, 0o600)
	}
	if err == nil {
		err = os.Mkdir(s.plain, 0o755)
	}
	if err != nil {
		b.Fatal(err)
	}
	r := rand.New(rand.NewPCG(7, 9))
	for len(s.table) < *benchSize<<20 {
		s.table = fmt.Appendf(s.table, "row %08d balance=%016x owner=%08x state=active since=2026-03-%02d;", len(s.table), r.Uint64(), r.Uint32(), r.IntN(28))
	}
	s.take(b)
	return s
}

// findRclone returns the path of rclone, "" if it is not there.
func findRclone(b *testing.B) string {
	_, file, _, _ := runtime.Caller(0)
	tools := filepath.Join(filepath.Dir(file), "../../../.tools")
	path := filepath.Join(tools, "rclone")
	if _, err := os.Stat(path); err == nil {
		return path
	}
	if !*installAll {
		return ""
	}
	cmd := exec.Command("nice", "-n", "10", "go", "install", "github.com/rclone/rclone@"+rcloneVersion)
	cmd.Env = append(os.Environ(), "GOBIN="+tools)
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	return path
}

// take writes the table as files, and makes a snapshot of them.
func (s *site) take(b *testing.B) {
	const files = 16
	for n := range files {
		part := s.table[len(s.table)/files*n : len(s.table)/files*(n+1)]
		if err := os.WriteFile(filepath.Join(s.plain, fmt.Sprintf("table%02d", n)), part, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	source, err := snapshot.Dir(s.plain, snapshot.DirOptions{})
	if err != nil {
		b.Fatal(err)
	}
	e, err := snapshot.Open(b.Context(), snapshot.Config{Repository: "local:" + s.packs, Sources: map[string]snapshot.Source{"db": source}})
	if err != nil {
		b.Fatal(err)
	}
	defer e.Close()
	snap, err := e.Create(b.Context(), snapshot.CreateOptions{Label: fmt.Sprint("n", len(s.ids))})
	if err != nil {
		b.Fatal(err)
	}
	s.ids = append(s.ids, snap.ID)
}

// change rewrites one row in twenty, and takes a second snapshot.
func (s *site) change(b *testing.B) {
	r := rand.New(rand.NewPCG(7, 10))
	for at := 0; at < len(s.table)-100; at += 80 {
		if r.IntN(20) == 0 {
			copy(s.table[at:], fmt.Sprintf("%08x", r.Uint32()))
		}
	}
	s.take(b)
}

func (s *site) mustInit(b *testing.B, dir string) {
	e, err := snapshot.Open(b.Context(), snapshot.Config{Repository: "local:" + dir})
	if err == nil {
		err = e.Close()
	}
	if err != nil {
		b.Fatal(err)
	}
}

// run runs a copy and reports its memory.
func (s *site) run(b *testing.B, name string, args ...string) {
	if kib := s.command(b, name, args...); kib > 0 {
		b.ReportMetric(float64(kib)/1024, "peak-MiB")
	}
}

func (s *site) command(b *testing.B, name string, args ...string) (peakKiB int64) {
	cmd := exec.CommandContext(b.Context(), name, args...)
	cmd.Env = append(os.Environ(), "RCLONE_CONFIG="+os.DevNull, "RCLONE_CONFIG_S3_TYPE=s3", "RCLONE_CONFIG_S3_PROVIDER=Other",
		"RCLONE_CONFIG_S3_REGION=us-east-1", "RCLONE_CONFIG_S3_NO_CHECK_BUCKET=true")
	if s.server != nil {
		cmd.Env = append(cmd.Env, "RCLONE_CONFIG_S3_ENDPOINT="+s.server.URL,
			"RCLONE_CONFIG_S3_ACCESS_KEY_ID="+teststore.S3Key, "RCLONE_CONFIG_S3_SECRET_ACCESS_KEY="+teststore.S3Secret)
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Start()
	if err == nil {
		done := make(chan error, 1)
		go func() { done <- cmd.Wait() }()
		peakKiB, err = watch(cmd.Process.Pid, done)
	}
	if err != nil {
		b.Fatalf("%s %v: %v\n%s", name, args, err, &out)
	}
	return peakKiB
}

// watch waits for a process, and returns the most memory that it was seen to hold. What the system says of it at the end
// would count the process that started it as well.
func watch(pid int, done <-chan error) (peakKiB int64, err error) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			return peakKiB, err
		case <-tick.C:
			text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			if _, line, ok := strings.Cut(string(text), "VmHWM:"); ok {
				var kib int64
				if _, err := fmt.Sscan(line, &kib); err == nil {
					peakKiB = max(peakKiB, kib)
				}
			}
		}
	}
}

func sizeOf(b *testing.B, dir string) (n int64) {
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			n += info.Size()
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return n
}
