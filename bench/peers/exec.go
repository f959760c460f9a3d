package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// A figure is what one step took.
type figure struct {
	seconds float64
	added   int64 // bytes in the repository, less than 0 if some were freed
	peak    int64 // bytes of memory, 0 if unknown
	atMost  bool  // peak is a bound: the tool may have had less
}

// A runner runs scripts and measures them.
type runner struct {
	flush bool // count the time until the data is on disk
}

// warmAndSync makes every step begin alike: what it will read is in the page cache,
// and no write of those before it is left.
func (r *runner) warmAndSync(ctx context.Context, dirs ...string) error {
	room := make([]byte, 256<<10)
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			// Hide that a file can be copied without being read.
			_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{f}, room)
			return errors.Join(err, f.Close())
		})
		if err != nil {
			return err
		}
	}
	return exec.CommandContext(ctx, "sync").Run()
}

// measure runs a script. What counts as added is what the folder repo gains.
func (r *runner) measure(ctx context.Context, s *script, at site) (f figure, stdout string, err error) {
	before, err := diskUsage(at.repo())
	if err != nil {
		return f, "", err
	}
	start := time.Now()
	for _, p := range s.pipelines {
		peak, atMost, out, err := r.pipeline(ctx, p, s.dir, append(environment(at), s.env...))
		if err != nil {
			return f, "", err
		}
		stdout += out
		f.peak, f.atMost = max(f.peak, peak), f.atMost || atMost
	}
	if r.flush {
		if err := exec.CommandContext(ctx, "sync", "-f", at.state).Run(); err != nil {
			return f, "", fmt.Errorf("sync: %w", err)
		}
	}
	f.seconds = time.Since(start).Seconds()
	after, err := diskUsage(at.repo())
	f.added = after - before
	return f, stdout, err
}

// environment is what every tool runs with: nothing of the user's but the path.
func environment(at site) []string {
	return []string{
		"PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8", "HOME=" + at.home(),
		"XDG_CACHE_HOME=" + filepath.Join(at.home(), "cache"), "XDG_CONFIG_HOME=" + filepath.Join(at.home(), "config"),
	}
}

// maxOutput bounds what is kept of a tool's output, in bytes.
const maxOutput = 64 << 10

// pipeline runs commands, each reading what the one before it writes, and returns
// the sum of their peak memory, whether that is a bound, and what the last printed.
func (r *runner) pipeline(ctx context.Context, p pipeline, dir string, env []string) (peak int64, atMost bool, stdout string, err error) {
	var last, complaints tail
	cmds := make([]*exec.Cmd, len(p))
	var ends []io.Closer // of pipes, ours
	defer func() {
		for _, end := range ends {
			end.Close()
		}
	}()
	for i, args := range p {
		cmds[i] = exec.CommandContext(ctx, args[0], args[1:]...)
		cmds[i].Dir, cmds[i].Env, cmds[i].Stderr = dir, env, &complaints
		cmds[i].WaitDelay = 10 * time.Second
	}
	for i := range cmds[1:] {
		read, write, err := os.Pipe()
		if err != nil {
			return 0, false, "", err
		}
		ends = append(ends, read, write)
		cmds[i].Stdout, cmds[i+1].Stdin = write, read
	}
	cmds[len(cmds)-1].Stdout = &last
	var failed error
	var watches []*watch
	for _, cmd := range cmds {
		if failed = cmd.Start(); failed != nil {
			break
		}
		watches = append(watches, watchPeak(cmd.Process.Pid))
	}
	// The children have them now. While ours are open no reader sees an end.
	for _, end := range ends {
		end.Close()
	}
	ends = nil
	for i, w := range watches {
		err := cmds[i].Wait()
		bytes, bound := w.end(cmds[i].ProcessState)
		peak, atMost = peak+bytes, atMost || bound
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", filepath.Base(p[i][0]), err))
		}
	}
	if ctx.Err() != nil {
		return 0, false, "", context.Cause(ctx)
	}
	if failed != nil {
		return 0, false, "", &toolError{command: strings.Join(p[0], " "), complaint: lastLine(complaints.String() + "\n" + last.String()), err: failed}
	}
	return peak, atMost, last.String(), nil
}

// A toolError says that a tool failed, and what it said.
type toolError struct {
	command   string
	complaint string // the last line that it printed
	err       error
}

func (e *toolError) Error() string {
	return fmt.Sprintf("%s: %v: %s", e.command, e.err, e.complaint)
}

func (e *toolError) Unwrap() error { return e.err }

func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return strings.TrimSpace(text[strings.LastIndexByte(text, '\n')+1:])
}

// tail is a writer that keeps the last of what it is given. The commands of a
// pipeline share one, so it has a lock.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if extra := len(t.buf) - maxOutput; extra > 0 {
		t.buf = t.buf[extra:]
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}

// diskUsage returns the sizes of all files below a folder, each inode counted once.
// It is 0 for a folder that does not exist.
func diskUsage(dir string) (total int64, err error) {
	seen := make(map[[2]uint64]bool)
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if id, ok := inode(info); ok {
			if seen[id] {
				return nil
			}
			seen[id] = true
		}
		total += info.Size()
		return nil
	})
	return total, err
}
