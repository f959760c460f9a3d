package transfer_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/transfer"
)

func TestJobsAfterRestart(t *testing.T) {
	dir := t.TempDir()
	jobs, err := transfer.OpenJobs(t.Context(), transfer.JobsOptions{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := transfer.OpenJobs(t.Context(), transfer.JobsOptions{Dir: dir}); !errors.Is(err, transfer.ErrJobsInUse) {
		t.Errorf("a second use: %v", err)
	}
	good := start(t, jobs, transfer.Task{Kind: transfer.KindCreate}, func(_ context.Context, r *transfer.Reporter) error {
		r.Snapshot("made")
		return nil
	})
	bad := start(t, jobs, transfer.Task{Kind: transfer.KindDownload, Snapshot: "s"}, func(context.Context, *transfer.Reporter) error {
		return fmt.Errorf("download: %w: s", repo.ErrNotFound)
	})
	for _, job := range []*transfer.Job{good, bad} {
		_ = job.Wait(t.Context())
	}
	cut := start(t, jobs, transfer.Task{Kind: transfer.KindUpload, Snapshot: "s"}, untilEnd)
	// The record as it is while the job is under way, as a crash leaves it.
	record := filepath.Join(dir, cut.ID()+".json")
	underWay, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}
	if err := jobs.Close(); err != nil {
		t.Fatal(err)
	}
	if s := cut.Status(); s.State != transfer.StateFailed || !errors.Is(cut.Err(), transfer.ErrInterrupted) {
		t.Errorf("closed under a job: %+v", s)
	}
	if _, err := jobs.Start(t.Context(), transfer.Task{Kind: transfer.KindCreate}, untilEnd); !errors.Is(err, transfer.ErrJobsClosed) {
		t.Errorf("start after close: %v", err)
	}
	if err := os.WriteFile(record, underWay, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "9.json.tmp"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := []transfer.Status{good.Status(), bad.Status()}

	var told []string
	again := openJobs(t, transfer.JobsOptions{Dir: dir, OnFinish: []func(transfer.Status){func(s transfer.Status) { told = append(told, s.ID) }}})
	list := slices.Collect(again.List(transfer.JobFilter{}))
	if diff := cmp.Diff(before, list[:2]); diff != "" {
		t.Error(diff)
	}
	s := list[2]
	if len(list) != 3 || s.State != transfer.StateFailed || s.ErrorKind != transfer.ErrorInterrupted || !s.Resumable() || s.Finished.IsZero() {
		t.Errorf("interrupted: %+v", s)
	}
	if job, err := again.Get(cut.ID()); err != nil || !errors.Is(job.Wait(t.Context()), transfer.ErrInterrupted) {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{cut.ID()}, told); diff != "" {
		t.Error(diff)
	}
	for id, want := range map[string]error{bad.ID(): repo.ErrNotFound, cut.ID(): transfer.ErrInterrupted} {
		job, err := again.Get(id)
		if err != nil {
			t.Fatal(err)
		}
		var je *transfer.JobError
		if err := job.Wait(t.Context()); !errors.Is(err, want) || !errors.As(err, &je) || je.ID != id {
			t.Errorf("job %s: %v", id, err)
		}
	}
	next := start(t, again, transfer.Task{Kind: transfer.KindCreate}, untilEnd)
	if next.ID() != "10" {
		t.Errorf("the next ID is %s, behind a stray 9", next.ID())
	}
}

func TestDamagedRecords(t *testing.T) {
	dir := t.TempDir()
	jobs, err := transfer.OpenJobs(t.Context(), transfer.JobsOptions{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	for range 4 {
		job := start(t, jobs, transfer.Task{Kind: transfer.KindDelete}, func(context.Context, *transfer.Reporter) error { return nil })
		if err := job.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := jobs.Close(); err != nil {
		t.Fatal(err)
	}
	change := func(name string, f func([]byte) []byte) {
		path := filepath.Join(dir, name)
		data, _ := os.ReadFile(path)
		if err := os.WriteFile(path, f(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	change("1.json", func(b []byte) []byte { return b[:len(b)/2] })
	change("2.json", func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
	three, err := os.ReadFile(filepath.Join(dir, "3.json"))
	if err != nil {
		t.Fatal(err)
	}
	change("7.json", func([]byte) []byte { return three })
	change("sequence", func([]byte) []byte { return []byte("many") })
	change("notes.txt", func([]byte) []byte { return []byte("left alone") })

	again := openJobs(t, transfer.JobsOptions{Dir: dir})
	var ids []string
	for s := range again.List(transfer.JobFilter{}) {
		ids = append(ids, s.ID)
	}
	if diff := cmp.Diff([]string{"3", "4"}, ids); diff != "" {
		t.Error(diff)
	}
	var bad []string
	for _, err := range again.Damaged() {
		var re *transfer.RecordError
		if !errors.As(err, &re) {
			t.Fatal(err)
		}
		bad = append(bad, filepath.Base(re.Path))
		if _, err := os.Stat(re.Path + ".damaged"); err != nil {
			t.Error(err)
		}
	}
	if diff := cmp.Diff([]string{"1.json", "2.json", "7.json", "sequence"}, bad); diff != "" {
		t.Error(diff)
	}
	if job := start(t, again, transfer.Task{Kind: transfer.KindDelete}, untilEnd); job.ID() != "8" {
		t.Errorf("the next ID is %s", job.ID())
	}
}

// What a job's error was is known after a restart too.
func TestErrorsOutliveTheProcess(t *testing.T) {
	timeout := errors.New("the lock timed out")
	dir := t.TempDir()
	opts := transfer.JobsOptions{Dir: dir, Errors: map[transfer.ErrorKind]error{"lockTimeout": timeout}}
	jobs, err := transfer.OpenJobs(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[transfer.ErrorKind]error{
		"lockTimeout":                timeout,
		transfer.ErrorNotFound:       repo.ErrNotFound,
		transfer.ErrorNotRepository:  repo.ErrNotRepository,
		transfer.ErrorExists:         repo.ErrExists,
		transfer.ErrorBadID:          repo.ErrBadID,
		transfer.ErrorLocation:       &repo.LocationError{Rule: repo.RuleOneColon},
		transfer.ErrorFormat:         &repo.FormatError{Object: "x", Version: 9},
		transfer.ErrorCorrupt:        &repo.CorruptError{Object: "x"},
		transfer.ErrorMissing:        &repo.ChunkError{Err: repo.ErrMissing},
		transfer.ErrorNoSpace:        &os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC},
		transfer.ErrorNoBucket:       repo.ErrNoBucket,
		transfer.ErrorAuthentication: repo.ErrAuthentication,
		transfer.ErrorPermission:     repo.ErrPermission,
		transfer.ErrorUnavailable:    repo.ErrUnavailable,
		transfer.ErrorBusy:           &transfer.JobBusyError{},
		transfer.ErrorDeadline:       context.DeadlineExceeded,
		transfer.ErrorCancelled:      context.Canceled,
	}
	ids := make(map[transfer.ErrorKind]string)
	messages := make(map[transfer.ErrorKind]string)
	for kind, err := range kinds {
		job := start(t, jobs, transfer.Task{Kind: transfer.KindUpload}, func(context.Context, *transfer.Reporter) error {
			return fmt.Errorf("upload: %w", err)
		})
		if got := job.Wait(t.Context()); !errors.Is(got, err) {
			t.Errorf("%s: %v", kind, got)
		}
		if s := job.Status(); s.ErrorKind != kind {
			t.Errorf("%v has kind %s, want %s", err, s.ErrorKind, kind)
		}
		ids[kind], messages[kind] = job.ID(), job.Status().Error
	}
	if err := jobs.Close(); err != nil {
		t.Fatal(err)
	}
	sentinels := map[transfer.ErrorKind]error{
		transfer.ErrorLocation: repo.ErrLocation, transfer.ErrorFormat: repo.ErrFormat, transfer.ErrorCorrupt: repo.ErrCorrupt,
		transfer.ErrorMissing: repo.ErrMissing, transfer.ErrorNoSpace: syscall.ENOSPC, transfer.ErrorBusy: transfer.ErrJobBusy,
	}
	again := openJobs(t, opts)
	for kind, want := range kinds {
		if s := sentinels[kind]; s != nil {
			want = s
		}
		job, err := again.Get(ids[kind])
		if err != nil {
			t.Fatal(err)
		}
		if err := job.Err(); !errors.Is(err, want) || err.Error() != messages[kind] {
			t.Errorf("%s after a restart: %v", kind, err)
		}
	}
}

// cutShort returns a folder with the record of a job that was under way when its process was
// killed.
func cutShort(t testing.TB) (dir, id string) {
	dir = t.TempDir()
	jobs, err := transfer.OpenJobs(t.Context(), transfer.JobsOptions{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	job := start(t, jobs, transfer.Task{Kind: transfer.KindUpload, Snapshot: "s"}, untilEnd)
	record := filepath.Join(dir, job.ID()+".json")
	underWay, err := os.ReadFile(record)
	if err == nil {
		err = jobs.Close()
	}
	if err == nil {
		err = os.WriteFile(record, underWay, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir, job.ID()
}

// A hook may be slow when it tells of jobs that a killed process has left: who opens the records
// does not wait for it, Close does.
func TestSlowHookAtTheStart(t *testing.T) {
	dir, id := cutShort(t)
	slow, told := make(chan struct{}), ""
	jobs, err := transfer.OpenJobs(t.Context(), transfer.JobsOptions{Dir: dir, OnFinish: []func(transfer.Status){func(s transfer.Status) { <-slow; told = s.ID }}})
	if err != nil {
		t.Fatal(err)
	}
	job, err := jobs.Get(id)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-job.Done():
		t.Error("it has ended before its hook")
	default:
	}
	close(slow)
	if err := jobs.Close(); err != nil {
		t.Error(err)
	}
	if told != id {
		t.Errorf("told of %q", told)
	}
}

// full makes a disk that is full for the record of one job: where its next form would be written
// there is a folder.
func full(t testing.TB, dir, id string) (freed func()) {
	blocked := filepath.Join(dir, id+".json.tmp")
	if err := os.Mkdir(blocked, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(blocked, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.RemoveAll(blocked); err != nil {
			t.Fatal(err)
		}
	}
}

// The end of a job that the disk had no room for is recorded when it has: after a restart a
// restore that went well must not look as if it had been cut short.
func TestEndIsRecordedLater(t *testing.T) {
	for _, when := range []string{"with the next job", "at the end"} {
		t.Run(when, func(t *testing.T) {
			dir := t.TempDir()
			jobs, err := transfer.OpenJobs(t.Context(), transfer.JobsOptions{Dir: dir})
			if err != nil {
				t.Fatal(err)
			}
			finish := make(chan struct{})
			job := start(t, jobs, transfer.Task{Kind: transfer.KindRestore}, func(context.Context, *transfer.Reporter) error { <-finish; return nil })
			freed := full(t, dir, job.ID())
			close(finish)
			if err := job.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			freed()
			if when == "with the next job" {
				next := start(t, jobs, transfer.Task{Kind: transfer.KindDelete}, func(context.Context, *transfer.Reporter) error { return nil })
				if err := next.Wait(t.Context()); err != nil {
					t.Fatal(err)
				}
				data, err := os.ReadFile(filepath.Join(dir, job.ID()+".json"))
				if err != nil || !strings.Contains(string(data), string(transfer.StateCompleted)) {
					t.Errorf("%s, %v", data, err)
				}
			}
			if err := jobs.Close(); err != nil {
				t.Fatal(err)
			}
			again := openJobs(t, transfer.JobsOptions{Dir: dir})
			if same, err := again.Get(job.ID()); err != nil || same.Status().State != transfer.StateCompleted {
				t.Errorf("after a restart: %+v, %v", same, err)
			}
		})
	}
}

// Without room for its record a job does not start, unless it may do without.
func TestStartOnAFullDisk(t *testing.T) {
	dir := t.TempDir()
	jobs := openJobs(t, transfer.JobsOptions{Dir: dir})
	free := full(t, dir, "1")
	if _, err := jobs.Start(t.Context(), transfer.Task{Kind: transfer.KindDelete, Exclusive: "x"}, untilEnd); err == nil {
		t.Error("a job without a record")
	}
	free()
	if err := jobs.Close(); err != nil {
		t.Fatal(err)
	}
	loose := openJobs(t, transfer.JobsOptions{Dir: dir, Unrecorded: true})
	free = full(t, dir, "1")
	job := start(t, loose, transfer.Task{Kind: transfer.KindDelete, Exclusive: "x"}, func(context.Context, *transfer.Reporter) error { return nil })
	if err := job.Wait(t.Context()); err != nil || job.ID() != "1" {
		t.Errorf("job %s: %v", job.ID(), err)
	}
	free()
	if err := loose.Close(); err != nil {
		t.Fatal(err)
	}
	// There was room at the end.
	again := openJobs(t, transfer.JobsOptions{Dir: dir})
	if same, err := again.Get("1"); err != nil || same.Status().State != transfer.StateCompleted {
		t.Errorf("after a restart: %+v, %v", same, err)
	}
}
