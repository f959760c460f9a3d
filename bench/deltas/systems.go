package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/klauspost/compress/zstd"
)

// site says where a system works: only repo counts as added.
type site struct{ repo, home, live string }

// A system takes snapshots of a folder, or calculates what one would take.
type system struct {
	name string
	// program must be installed; empty if none is needed.
	program   string
	prepare   func(site) [][]string
	snapshot  func(at site, label string) []string
	calculate func(ctx context.Context, old, next string) (int64, error)
}

func (s system) installed() bool {
	if s.program == "" {
		return true
	}
	_, err := exec.LookPath(s.program)
	return err == nil
}

const (
	ours       = "holdstill"
	oursFull   = "holdstill NoDeltas"
	calculated = "changed pages of 4 KiB"
)

// systems are all there are. self is this program.
func systems(self string) []system {
	mkdir := func(at site) [][]string { return [][]string{{"mkdir", at.repo, at.home}} }
	own := func(mode string) func(site, string) []string {
		return func(at site, label string) []string {
			return []string{self, childVerb, at.repo, at.live, mode, label}
		}
	}
	return []system{
		{name: ours, prepare: mkdir, snapshot: own(modeDeltas)},
		{name: oursFull, prepare: mkdir, snapshot: own(modeFull)},
		{name: calculated, calculate: changedPages},
		{
			name: "restic", program: "restic",
			prepare: func(at site) [][]string { return [][]string{{"restic", "-q", "-r", at.repo, "init"}} },
			snapshot: func(at site, label string) []string {
				return []string{"restic", "-q", "-r", at.repo, "--compression", "auto", "backup", "--tag", label, filepath.Base(at.live)}
			},
		},
		borg("borg", "none"), borg("borg repokey", "repokey"),
		{
			name: "casync", program: "casync", prepare: mkdir,
			snapshot: func(at site, label string) []string {
				return []string{"casync", "make", "--without=all", "--store=" + join(at.repo, "chunks.castr"),
					"--compression=zstd", "--cache=" + at.home, join(at.repo, label+".caidx"), at.live}
			},
		},
	}
}

func borg(name, mode string) system {
	return system{
		name: name, program: "borg",
		prepare: func(at site) [][]string { return [][]string{{"borg", "init", "-e", mode, at.repo}} },
		snapshot: func(at site, label string) []string {
			return []string{"borg", "create", "-C", "lz4", at.repo + "::" + label, filepath.Base(at.live)}
		},
	}
}

const (
	pageBytes = 4096
	// recordBytes is what the mention of a chunk takes at least: its ID and its place.
	recordBytes = 40
)

// changedPages returns what the pages that differ from those at the same place take
// if each is compressed by itself.
func changedPages(ctx context.Context, old, next string) (total int64, err error) {
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return 0, err
	}
	defer encoder.Close()
	entries, err := os.ReadDir(next)
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		n, err := changedIn(ctx, encoder, join(old, e.Name()), join(next, e.Name()))
		if err != nil {
			return 0, err
		}
		total += n
	}
	return total, nil
}

func changedIn(ctx context.Context, encoder *zstd.Encoder, old, next string) (total int64, err error) {
	now, err := os.Open(next)
	if err != nil {
		return 0, err
	}
	defer now.Close()
	// A file that is new has no old pages.
	was, err := os.Open(old)
	if err == nil {
		defer was.Close()
	} else if !errors.Is(err, os.ErrNotExist) {
		return 0, err
	}
	var a, b [pageBytes]byte
	var room []byte
	for at := int64(0); ctx.Err() == nil; at += pageBytes {
		n, err := now.ReadAt(b[:], at)
		if n == 0 {
			return total, ignoreEnd(err)
		}
		m := 0
		if was != nil {
			if m, err = was.ReadAt(a[:], at); ignoreEnd(err) != nil {
				return 0, err
			}
		}
		if string(a[:m]) != string(b[:n]) {
			room = encoder.EncodeAll(b[:n], room[:0])
			total += int64(min(len(room), n)) + recordBytes
		}
	}
	return 0, context.Cause(ctx)
}

func ignoreEnd(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
