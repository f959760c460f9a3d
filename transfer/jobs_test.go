package transfer_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/holdstill/holdstill/transfer"
)

func openJobs(t testing.TB, opts transfer.JobsOptions) *transfer.Jobs {
	t.Helper()
	jobs, err := transfer.OpenJobs(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := jobs.Close(); err != nil && !errors.Is(err, transfer.ErrJobsClosed) {
			t.Error(err)
		}
	})
	return jobs
}

func start(t testing.TB, jobs *transfer.Jobs, task transfer.Task, run func(context.Context, *transfer.Reporter) error) *transfer.Job {
	t.Helper()
	job, err := jobs.Start(t.Context(), task, run)
	if err != nil {
		t.Fatal(err)
	}
	return job
}

// untilEnd is work that ends with its context.
func untilEnd(ctx context.Context, _ *transfer.Reporter) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestJobLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var finished []transfer.Status
		jobs := openJobs(t, transfer.JobsOptions{OnFinish: []func(transfer.Status){
			func(transfer.Status) { panic("hook") },
			func(s transfer.Status) { finished = append(finished, s) },
		}})
		begun := time.Now().UTC()
		job := start(t, jobs, transfer.Task{Kind: transfer.KindUpload, Snapshot: "s", Location: "there:x"}, func(_ context.Context, r *transfer.Reporter) error {
			time.Sleep(time.Second)
			r.Progress(transfer.Progress{Phase: "send", BytesDone: 100, BytesTotal: 400})
			time.Sleep(time.Second)
			r.Progress(transfer.Progress{Phase: "send", BytesDone: 200, BytesTotal: 400, Retries: 2})
			time.Sleep(time.Second)
			r.Detail("previous", "p")
			r.Snapshot("made")
			r.Reencoded()
			return nil
		})
		var seen []transfer.Status
		for s := range job.Progress() {
			seen = append(seen, s)
		}
		if err := job.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		first, last := seen[0], seen[len(seen)-1]
		if first.State != transfer.StateAck && first.State != transfer.StateStarted {
			t.Errorf("first state %s", first.State)
		}
		end := begun.Add(3 * time.Second)
		progress := transfer.Progress{Phase: "send", BytesDone: 200, BytesTotal: 400, Retries: 2, Elapsed: 2 * time.Second}
		want := transfer.Status{
			ID: job.ID(), Kind: transfer.KindUpload, State: transfer.StateCompleted, Snapshot: "made", Location: "there:x",
			Progress: progress, Reencoded: true, Details: map[string]string{"previous": "p"},
			Servers: map[string]transfer.ServerStatus{transfer.SingleServer: {State: transfer.StateCompleted, Progress: progress, Updated: end}},
			Created: begun, Started: begun, Finished: end,
		}
		if diff := cmp.Diff(want, last); diff != "" {
			t.Error(diff)
		}
		i := slices.IndexFunc(seen, func(s transfer.Status) bool { return s.Progress.BytesDone == 200 })
		if p := seen[i].Progress; p.Rate != 100 || p.Left != 2*time.Second {
			t.Errorf("rate %v, left %v", p.Rate, p.Left)
		}
		if diff := cmp.Diff([]transfer.Status{last}, finished); diff != "" {
			t.Error(diff)
		}
	})
}

func TestJobEnds(t *testing.T) {
	broken := errors.New("broken")
	for name, test := range map[string]struct {
		run   func(context.Context, *transfer.Reporter) error
		abort bool
		state transfer.State
		kind  transfer.ErrorKind
		is    error
	}{
		"well":             {func(context.Context, *transfer.Reporter) error { return nil }, false, transfer.StateCompleted, "", nil},
		"badly":            {func(context.Context, *transfer.Reporter) error { return broken }, false, transfer.StateFailed, transfer.ErrorOther, broken},
		"panic":            {func(context.Context, *transfer.Reporter) error { panic("no") }, false, transfer.StateFailed, transfer.ErrorPanic, transfer.ErrPanic},
		"abort":            {untilEnd, true, transfer.StateCancelled, transfer.ErrorAborted, transfer.ErrAborted},
		"aborted too late": {func(ctx context.Context, _ *transfer.Reporter) error { <-ctx.Done(); return nil }, true, transfer.StateCompleted, "", nil},
		"abort with reason": {func(ctx context.Context, _ *transfer.Reporter) error {
			<-ctx.Done()
			return fmt.Errorf("x: %w", context.Cause(ctx))
		}, true, transfer.StateCancelled, transfer.ErrorAborted, transfer.ErrAborted},
	} {
		t.Run(name, func(t *testing.T) {
			jobs := openJobs(t, transfer.JobsOptions{Dir: t.TempDir()})
			job := start(t, jobs, transfer.Task{Kind: transfer.KindCheck}, test.run)
			if test.abort {
				for s := range job.Progress() {
					if s.State == transfer.StateStarted {
						break
					}
				}
				if err := jobs.Abort(job.ID()); err != nil {
					t.Fatal(err)
				}
			}
			err := job.Wait(t.Context())
			if (test.is == nil) != (err == nil) || !errors.Is(err, test.is) {
				t.Errorf("error %v", err)
			}
			s := job.Status()
			if s.State != test.state || s.ErrorKind != test.kind || s.Servers[transfer.SingleServer].State != test.state {
				t.Errorf("status %+v", s)
			}
			job.Abort()
			if s := job.Status(); s.State != test.state {
				t.Errorf("after a late abort: %s", s.State)
			}
		})
	}
}

func TestJobsWaitTheirTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		jobs := openJobs(t, transfer.JobsOptions{Concurrent: 2, MaxWaiting: 4})
		var running, most atomic.Int32
		work := func(ctx context.Context, _ *transfer.Reporter) error {
			n := running.Add(1)
			defer running.Add(-1)
			for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
			}
			select {
			case <-time.After(time.Minute):
			case <-ctx.Done():
			}
			return context.Cause(ctx)
		}
		var all []*transfer.Job
		for range 3 {
			all = append(all, start(t, jobs, transfer.Task{Kind: transfer.KindUpload}, work))
		}
		// Another kind has slots of its own.
		other := start(t, jobs, transfer.Task{Kind: transfer.KindCreate}, untilEnd)
		if _, err := jobs.Start(t.Context(), transfer.Task{Kind: transfer.KindCreate}, untilEnd); !errors.Is(err, transfer.ErrJobBusy) {
			t.Errorf("a job too many: %v", err)
		}
		synctest.Wait()
		var waiting []*transfer.Job
		for _, job := range all {
			if job.Status().State == transfer.StateAck {
				waiting = append(waiting, job)
			}
		}
		if len(waiting) != 1 || other.Status().State != transfer.StateStarted {
			t.Fatalf("%d jobs wait", len(waiting))
		}
		waiting[0].Abort()
		if err := waiting[0].Wait(t.Context()); !errors.Is(err, transfer.ErrAborted) || !waiting[0].Status().Started.IsZero() {
			t.Errorf("aborted while waiting: %v", err)
		}
		other.Abort()
		for _, job := range all {
			if err := job.Wait(t.Context()); err != nil && job != waiting[0] {
				t.Error(err)
			}
		}
		if most.Load() != 2 {
			t.Errorf("%d ran at once", most.Load())
		}
	})
}

func TestExclusiveJobs(t *testing.T) {
	jobs := openJobs(t, transfer.JobsOptions{})
	task := transfer.Task{Kind: transfer.KindRestore, Exclusive: "restore to /x"}
	first := start(t, jobs, task, untilEnd)
	_, err := jobs.Start(t.Context(), task, untilEnd)
	var busy *transfer.JobBusyError
	if !errors.As(err, &busy) || !errors.Is(err, transfer.ErrJobBusy) || busy.Job != first.ID() {
		t.Errorf("the second: %v", err)
	}
	first.Abort()
	if err := first.Wait(t.Context()); !errors.Is(err, transfer.ErrAborted) {
		t.Error(err)
	}
	third := start(t, jobs, task, func(context.Context, *transfer.Reporter) error { return nil })
	if err := third.Wait(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestOldJobsAreForgotten(t *testing.T) {
	dir := t.TempDir()
	jobs, err := transfer.OpenJobs(t.Context(), transfer.JobsOptions{Dir: dir, Keep: -1})
	if err != nil {
		t.Fatal(err)
	}
	job := start(t, jobs, transfer.Task{Kind: transfer.KindDelete}, func(context.Context, *transfer.Reporter) error { return nil })
	if err := job.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := jobs.Get(job.ID()); !errors.Is(err, transfer.ErrJobNotFound) {
		t.Errorf("an old job: %v", err)
	}
	if files, _ := filepath.Glob(filepath.Join(dir, "*.json")); len(files) > 0 {
		t.Errorf("left: %v", files)
	}
	if err := jobs.Close(); err != nil {
		t.Fatal(err)
	}
	again := openJobs(t, transfer.JobsOptions{Dir: dir})
	if next := start(t, again, transfer.Task{Kind: transfer.KindDelete}, untilEnd); next.ID() != "2" {
		t.Errorf("the next ID is %s", next.ID())
	}
	for _, id := range []string{"", "x", "1", "02", "-2", "2 ", strings.Repeat("9", 100)} {
		if err := again.Abort(id); !errors.Is(err, transfer.ErrJobNotFound) {
			t.Errorf("%.10q: %v", id, err)
		}
	}
}

func TestJobPages(t *testing.T) {
	jobs := openJobs(t, transfer.JobsOptions{Dir: t.TempDir()})
	for i := range 10 {
		kind := transfer.KindUpload
		if i%2 == 1 {
			kind = transfer.KindCreate
		}
		job := start(t, jobs, transfer.Task{Kind: kind, Snapshot: strconv.Itoa(i / 5)}, func(context.Context, *transfer.Reporter) error { return nil })
		if err := job.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct {
		filter transfer.JobFilter
		want   string
	}{
		"all":        {transfer.JobFilter{}, "1 2 3 4 5 6 7 8 9 10"},
		"newest":     {transfer.JobFilter{NewestFirst: true, Limit: 3}, "10 9 8"},
		"next page":  {transfer.JobFilter{NewestFirst: true, Limit: 3, After: "8"}, "7 6 5"},
		"second":     {transfer.JobFilter{Limit: 4, After: "4"}, "5 6 7 8"},
		"kind":       {transfer.JobFilter{Kinds: []transfer.Kind{transfer.KindCreate}, Limit: 2}, "2 4"},
		"snapshot":   {transfer.JobFilter{Snapshot: "1", Kinds: []transfer.Kind{transfer.KindUpload}}, "7 9"},
		"no state":   {transfer.JobFilter{States: []transfer.State{transfer.StateFailed}}, ""},
		"past end":   {transfer.JobFilter{After: "10"}, ""},
		"both kinds": {transfer.JobFilter{Kinds: []transfer.Kind{transfer.KindCreate, transfer.KindUpload}, After: "9"}, "10"},
	} {
		var ids []string
		for s := range jobs.List(test.filter) {
			ids = append(ids, s.ID)
		}
		if got := strings.Join(ids, " "); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

// A watcher who never comes back holds up nobody.
func TestSlowWatcher(t *testing.T) {
	jobs := openJobs(t, transfer.JobsOptions{})
	goOn := make(chan struct{})
	job := start(t, jobs, transfer.Task{Kind: transfer.KindUpload}, func(_ context.Context, r *transfer.Reporter) error {
		<-goOn
		for i := range int64(10_000) {
			r.Progress(transfer.Progress{BytesDone: i})
		}
		return nil
	})
	seen := 0
	for s := range job.Progress() {
		if seen++; seen == 1 {
			close(goOn)
			if err := job.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
		} else if s.State != transfer.StateCompleted || s.Progress.BytesDone != 9999 {
			t.Errorf("after the end: %+v", s)
		}
	}
	if seen != 2 {
		t.Errorf("%d states were seen", seen)
	}
}
