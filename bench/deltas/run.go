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
	"time"

	"github.com/holdstill/holdstill/bench/database"
	"github.com/holdstill/holdstill/bench/rows"
)

// cell is one measurement: a kind of database, a share of changed rows, a system.
type cell struct {
	kind    string
	percent float64
	system  string
}

// figure is what a snapshot took.
type figure struct {
	seconds float64 // 0 if it was calculated and not measured
	added   int64   // bytes in the repository
}

type bench struct {
	dir      string
	set      settings
	systems  []system
	progress io.Writer
}

// run makes the databases and measures every system on them.
func (b *bench) run(ctx context.Context) (map[cell]figure, error) {
	figures := make(map[cell]figure)
	for _, kind := range b.set.kinds {
		old := join(b.dir, kind+"-old")
		fmt.Fprintf(b.progress, "%s: making %d MiB\n", kind, b.set.size>>20)
		update, err := b.fill(ctx, kind, old)
		if err != nil {
			return nil, err
		}
		for _, percent := range b.set.percents {
			next := join(b.dir, kind+"-new")
			if err := errors.Join(os.CopyFS(next, os.DirFS(old)), update(next, percent)); err != nil {
				return nil, err
			}
			for _, s := range b.systems {
				f, err := b.measure(ctx, s, old, next)
				if err != nil {
					return nil, fmt.Errorf("%s, %s, %v %%: %w", s.name, kind, percent, err)
				}
				fmt.Fprintf(b.progress, "  %v %% %-22s %8.2f MiB  %6.2f s\n", percent, s.name, mebibytes(f.added), f.seconds)
				figures[cell{kind, percent, s.name}] = f
			}
			if err := os.RemoveAll(next); err != nil {
				return nil, err
			}
		}
	}
	return figures, nil
}

// jsonKind is an export: a line for each row, of which the changed ones have other
// lengths.
const jsonKind = "json"

// fill makes the files of a kind in a folder, and returns what changes a share of the
// rows in a copy of it.
func (b *bench) fill(ctx context.Context, kind, dir string) (update func(dir string, percent float64) error, err error) {
	seed := b.set.seed
	if kind != jsonKind {
		g := rows.New(seed)
		n, err := database.Fill(ctx, kind, dir, g, b.set.size)
		return func(dir string, percent float64) error {
			return database.Update(ctx, kind, dir, g, seed, n, percent)
		}, err
	}
	write := func(dir string, versions rows.Versions) error {
		data := make([]byte, b.set.size)
		rows.JSONAt(data, seed, versions)
		return os.WriteFile(join(dir, "export.json"), data, 0o644)
	}
	return func(dir string, percent float64) error {
		return write(dir, rows.Updated(seed, percent))
	}, errors.Join(os.Mkdir(dir, 0o755), write(dir, nil))
}

// measure takes a snapshot of the old files and measures the one of the new ones.
// Both stand under the same path in their turn.
func (b *bench) measure(ctx context.Context, s system, old, next string) (f figure, err error) {
	if s.calculate != nil {
		f.added, err = s.calculate(ctx, old, next)
		return f, err
	}
	state, live := join(b.dir, "state"), join(b.dir, "live")
	if err := os.Mkdir(state, 0o755); err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(state)) }()
	at := site{repo: join(state, "repo"), home: join(state, "home"), live: live}
	if err := b.runAll(ctx, s.prepare(at), at); err != nil {
		return f, err
	}
	for i, files := range []string{old, next} {
		if err := os.Rename(files, live); err != nil {
			return f, err
		}
		f, err = b.snapshot(ctx, s, at, fmt.Sprint("s", i+1))
		if err := errors.Join(err, os.Rename(live, files)); err != nil {
			return f, err
		}
	}
	return f, nil
}

// snapshot measures one snapshot, until its data is on disk.
func (b *bench) snapshot(ctx context.Context, s system, at site, label string) (f figure, err error) {
	if err := warm(at.live); err != nil {
		return f, err
	}
	if err := exec.CommandContext(ctx, "sync").Run(); err != nil {
		return f, err
	}
	before, err := usage(at.repo)
	if err != nil {
		return f, err
	}
	start := time.Now()
	if err := b.runAll(ctx, [][]string{s.snapshot(at, label)}, at); err != nil {
		return f, err
	}
	if err := exec.CommandContext(ctx, "sync", "-f", at.repo).Run(); err != nil {
		return f, err
	}
	f.seconds = time.Since(start).Seconds()
	after, err := usage(at.repo)
	f.added = after - before
	return f, err
}

func (b *bench) runAll(ctx context.Context, commands [][]string, at site) error {
	for _, args := range commands {
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.Dir = filepath.Dir(at.live)
		cmd.Env = []string{
			"PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8", "HOME=" + at.home, "XDG_CACHE_HOME=" + at.home,
			"RESTIC_PASSWORD=benchmark", "BORG_BASE_DIR=" + at.home, "BORG_PASSPHRASE=benchmark",
			"BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes",
		}
		cmd.WaitDelay = 10 * time.Second
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
		}
	}
	return nil
}

// warm reads all files, so that no system pays for the first reading.
func warm(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		_, err = io.Copy(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{f})
		return errors.Join(err, f.Close())
	})
}

// usage returns the sizes of all files below a folder together.
func usage(dir string) (total int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			total += info.Size()
		}
		return err
	})
	return total, err
}
