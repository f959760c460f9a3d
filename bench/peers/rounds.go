package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// A record is what is known of one peer.
type record struct {
	description
	version string
	// reason says why there are no figures: missing, not applicable, or failed.
	reason string
	failed error
	// figures are those of each run, in order.
	figures map[step][]figure
	// inProcess are seconds for a snapshot of nothing changed.
	inProcess []float64
}

// typical returns the medians of a step, and false if it has no figures.
func (r *record) typical(s step) (figure, bool) {
	all := r.figures[s]
	if r.reason != "" || len(all) == 0 {
		return figure{}, false
	}
	var typical figure
	pick := func(value func(figure) float64) float64 {
		var values []float64
		for _, f := range all {
			values = append(values, value(f))
		}
		return median(values)
	}
	typical.seconds = pick(func(f figure) float64 { return f.seconds })
	typical.added = int64(pick(func(f figure) float64 { return float64(f.added) }))
	typical.peak = int64(pick(func(f figure) float64 { return float64(f.peak) }))
	for _, f := range all {
		typical.atMost = typical.atMost || f.atMost
	}
	return typical, true
}

// A report is the result of all runs.
type report struct {
	settings settings
	host     string
	old, new corpusSize
	records  []*record
}

// failure joins the errors of peers that failed.
func (r *report) failure() error {
	var all error
	for _, rec := range r.records {
		if rec.failed != nil {
			all = errors.Join(all, fmt.Errorf("%s: %w", rec.name, rec.failed))
		}
	}
	return all
}

// contest is a comparison under way.
type contest struct {
	dir      string
	self     string
	corpus   *corpus
	runner   *runner
	peers    []peer
	records  []*record
	progress io.Writer
}

// measureAll makes the corpus and runs all peers on it, in dir.
func measureAll(ctx context.Context, dir string, peers []peer, set settings, progress io.Writer) (*report, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &contest{dir: dir, self: self, corpus: &corpus{dir: filepath.Join(dir, "corpus")}, runner: &runner{flush: set.flush}, peers: peers, progress: progress}
	if err := os.Mkdir(c.corpus.dir, 0o755); err != nil {
		return nil, err
	}
	fmt.Fprintf(progress, "making databases of %s\n", size(set.size))
	// In a process of its own: this one must stay small, see watch.
	maker := exec.CommandContext(ctx, self, childVerb, "corpus", c.corpus.dir, strconv.FormatInt(set.size, 10), strconv.FormatUint(set.seed, 10))
	maker.Stderr = progress
	if err := maker.Run(); err != nil {
		return nil, fmt.Errorf("make the databases: %w", errors.Join(context.Cause(ctx), err))
	}
	report := &report{settings: set, host: host()}
	if report.old, err = c.corpus.describe(1); err != nil {
		return nil, err
	}
	if report.new, err = c.corpus.describe(2); err != nil {
		return nil, err
	}
	if err := c.look(ctx); err != nil {
		return nil, err
	}
	for n := range set.runs {
		if err := c.round(ctx, n+1); err != nil {
			return nil, err
		}
	}
	report.records = c.records
	return report, nil
}

func host() string {
	return fmt.Sprintf("%s/%s, %d processors, %s", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version())
}

// look finds out which peers can take part.
func (c *contest) look(ctx context.Context) error {
	if err := c.corpus.show(1); err != nil {
		return err
	}
	for _, p := range c.peers {
		rec := &record{description: p.describe(), figures: make(map[step][]figure)}
		c.records = append(c.records, rec)
		if programs := missing(rec.description); len(programs) > 0 {
			rec.reason = fmt.Sprintf("missing: there is no %s; install %s", strings.Join(programs, ", "), strings.Join(rec.packages, " "))
			continue
		}
		var err error
		if rec.version, err = version(ctx, rec.description); err != nil {
			c.fail(rec, err)
			continue
		}
		if p, ok := p.(prober); ok {
			if err := c.probe(ctx, p, rec); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *contest) probe(ctx context.Context, p prober, rec *record) error {
	at := c.site(rec)
	if err := os.Mkdir(at.state, 0o755); err != nil {
		return err
	}
	var err error
	rec.reason, err = p.probe(ctx, c.runner, at)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		c.fail(rec, err)
	}
	return os.RemoveAll(at.state)
}

// fail takes a peer out of the comparison.
func (c *contest) fail(rec *record, err error) {
	rec.failed, rec.reason = err, "failed: "+err.Error()
	fmt.Fprintf(c.progress, "  %-16s %s\n", rec.name, rec.reason)
}

// site says where a peer works.
func (c *contest) site(rec *record) site {
	return site{
		self: c.self, corpus: c.corpus.live(),
		state:  filepath.Join(c.dir, "state-"+strings.ReplaceAll(rec.name, "|", "-")),
		target: filepath.Join(c.dir, "restored"),
	}
}

// round runs every step of every peer once. The peers take turns twice: with the
// first generation, and with the second.
func (c *contest) round(ctx context.Context, number int) error {
	for half, do := range []func(context.Context, peer, *record, site) error{c.beginning, c.end} {
		if err := c.corpus.show(half + 1); err != nil {
			return err
		}
		for i, p := range c.peers {
			rec := c.records[i]
			if rec.reason != "" {
				continue
			}
			fmt.Fprintf(c.progress, "run %d, generation %d: %s\n", number, half+1, rec.name)
			at := c.site(rec)
			err := do(ctx, p, rec, at)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err != nil {
				c.fail(rec, err)
			}
			if half == 1 || err != nil {
				if err := os.RemoveAll(at.state); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// beginning is what is done with the first generation.
func (c *contest) beginning(ctx context.Context, p peer, rec *record, at site) error {
	if err := os.Mkdir(at.state, 0o755); err != nil {
		return err
	}
	if _, _, err := c.runner.measure(ctx, p.script(prepare, at), at); err != nil {
		return err
	}
	for _, s := range []step{first, unchanged} {
		if err := c.step(ctx, p, rec, s, at); err != nil {
			return err
		}
	}
	e, ok := p.(embedded)
	if !ok {
		return nil
	}
	_, out, err := c.runner.measure(ctx, e.inProcess(at), at)
	if err != nil {
		return err
	}
	seconds, err := strconv.ParseFloat(strings.TrimSpace(out), 64)
	if err != nil {
		return fmt.Errorf("the time of a snapshot in process: %w", err)
	}
	rec.inProcess = append(rec.inProcess, seconds)
	return nil
}

// end is what is done with the second generation.
func (c *contest) end(ctx context.Context, p peer, rec *record, at site) error {
	for _, s := range []step{changed, restore, check, remove} {
		if p.script(s, at) == nil {
			continue
		}
		if err := c.step(ctx, p, rec, s, at); err != nil {
			return err
		}
	}
	if len(rec.figures[remove]) == 0 {
		return nil
	}
	// What was collected must not be missed.
	if err := c.restored(ctx, p, at, func(s *script) error {
		_, _, err := c.runner.measure(ctx, s, at)
		return err
	}); err != nil {
		return fmt.Errorf("after the deletion: %w", err)
	}
	return nil
}

// step runs and measures one step, and keeps its figure if the result is right.
func (c *contest) step(ctx context.Context, p peer, rec *record, s step, at site) error {
	if err := c.runner.warmAndSync(ctx, at.corpus, at.state); err != nil {
		return err
	}
	var f figure
	do := func(script *script) (err error) {
		f, _, err = c.runner.measure(ctx, script, at)
		return err
	}
	var err error
	if s == restore {
		err = c.restored(ctx, p, at, do)
	} else {
		err = do(p.script(s, at))
	}
	if err != nil {
		return fmt.Errorf("%v: %w", s, err)
	}
	rec.figures[s] = append(rec.figures[s], f)
	fmt.Fprintf(c.progress, "  %-18v %9s  %+10.1f MiB  %6.1f MiB of memory\n", s, time.Duration(f.seconds*float64(time.Second)).Round(time.Millisecond), float64(f.added)/(1<<20), float64(f.peak)/(1<<20))
	return nil
}

// restored runs a restore to an empty folder and compares all bytes.
func (c *contest) restored(ctx context.Context, p peer, at site, do func(*script) error) (err error) {
	if err := os.Mkdir(at.target, 0o755); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(at.target)) }()
	if err := do(p.script(restore, at)); err != nil {
		return err
	}
	return compareTrees(at.corpus, at.target)
}
