package snapshot_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"gocloud.dev/blob/memblob"

	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/transfer"
)

// openLocal opens an engine on a folder.
func openLocal(t testing.TB, dir string, files fstest.MapFS) *snapshot.Engine {
	t.Helper()
	e, err := snapshot.Open(t.Context(), snapshot.Config{
		Repository: "local:" + filepath.ToSlash(dir), Sources: map[string]snapshot.Source{"kv": jobSource(files)},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil && !errors.Is(err, snapshot.ErrClosed) {
			t.Error(err)
		}
	})
	return e
}

func jobSource(files fstest.MapFS) snapshot.Source {
	return viewSource{func() *snapshot.View { return &snapshot.View{FS: files} }}
}

func finished(t testing.TB, job *transfer.Job, err error) transfer.Status {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if err := job.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := job.Status()
	if s.State != transfer.StateCompleted || s.Servers[transfer.SingleServer].State != transfer.StateCompleted {
		t.Fatalf("status %+v", s)
	}
	return s
}

// A snapshot is made, uploaded, downloaded elsewhere and restored, all by jobs.
func TestJobsOfAnEngine(t *testing.T) {
	top := writableDir(t)
	here := openLocal(t, filepath.Join(top, "here"), fstest.MapFS{"a": {Data: []byte("some rows")}, "b/c": {Data: []byte("more")}})
	job, err := here.StartCreate(t.Context(), snapshot.CreateOptions{Label: "x"})
	if err == nil && job.Status().Details["label"] != "x" {
		t.Errorf("a job that has just begun: %+v", job.Status())
	}
	made := finished(t, job, err)
	remote := "local:" + filepath.ToSlash(filepath.Join(top, "remote"))
	job, err = here.Upload(t.Context(), made.Snapshot, remote, snapshot.TransferOptions{})
	sent := finished(t, job, err)
	if p := sent.Progress; p.BytesDone != 13 || p.BytesTotal != 13 || p.FilesDone != 2 || p.FilesTotal != 2 || p.BytesSent == 0 || sent.Location != remote {
		t.Errorf("upload: %+v", sent)
	}
	job, err = here.Upload(t.Context(), made.Snapshot, remote, snapshot.TransferOptions{})
	if again := finished(t, job, err); again.Progress.BytesSent != 0 || again.Progress.FilesDone != 2 {
		t.Errorf("a second upload: %+v", again)
	}

	there := openLocal(t, filepath.Join(top, "there"), nil)
	job, err = there.Download(t.Context(), made.Snapshot, remote, snapshot.TransferOptions{})
	finished(t, job, err)
	to := filepath.Join(top, "restored")
	job, err = there.StartRestore(t.Context(), made.Snapshot, snapshot.RestoreOptions{To: to, Source: "kv"})
	if s := finished(t, job, err); s.Details["to"] == "" || s.Snapshot != made.Snapshot {
		t.Errorf("restore: %+v", s)
	}
	if data, err := os.ReadFile(filepath.Join(to, "b", "c")); err != nil || string(data) != "more" {
		t.Errorf("restored %q, error %v", data, err)
	}

	// The records outlive the engine, and are no part of the repository.
	if err := here.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := here.Job(t.Context(), made.ID); err != nil && !errors.Is(err, snapshot.ErrClosed) {
		t.Error(err)
	}
	here = openLocal(t, filepath.Join(top, "here"), nil)
	var kinds []string
	for s, err := range here.Jobs(t.Context(), transfer.JobFilter{}) {
		if err != nil {
			t.Fatal(err)
		}
		kinds = append(kinds, string(s.Kind))
	}
	if got := strings.Join(kinds, " "); got != "create upload upload" {
		t.Errorf("jobs after a restart: %s", got)
	}
	if report, err := here.Repository().Check(t.Context(), repo.CheckOptions{ReadData: true}); err != nil || !report.OK() {
		t.Errorf("check: %+v, error %v", report, err)
	}
}

// What goes wrong in a job is told apart by its error, also from its record.
func TestErrorsOfTransferJobs(t *testing.T) {
	top := t.TempDir()
	dir := filepath.Join(top, "here")
	e := openLocal(t, dir, fstest.MapFS{"a": {Data: []byte("some rows")}})
	s, err := e.Create(t.Context(), snapshot.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	remote := "local:" + filepath.ToSlash(filepath.Join(top, "remote"))
	if _, err := e.Upload(t.Context(), s.ID, "nowhere:x", snapshot.TransferOptions{}); !errors.Is(err, repo.ErrLocation) {
		t.Errorf("a bad location: %v", err)
	}
	future := memblob.OpenBucket(nil)
	defer future.Close()
	if err := repo.Init(t.Context(), future, repo.InitOptions{}); err != nil {
		t.Fatal(err)
	}
	wants := make(map[string]error)
	for _, test := range []struct {
		id, location string
		opts         snapshot.TransferOptions
		up           bool
		want         error
	}{
		{"none", remote, snapshot.TransferOptions{}, true, snapshot.ErrNotFound},
		{"../x", remote, snapshot.TransferOptions{}, true, snapshot.ErrBadID},
		{s.ID, remote, snapshot.TransferOptions{MustExist: true}, true, repo.ErrNotRepository},
		{s.ID, remote, snapshot.TransferOptions{}, false, repo.ErrNotRepository},
		{s.ID, "future", snapshot.TransferOptions{Bucket: future}, false, snapshot.ErrNotFound},
		{s.ID, "future", snapshot.TransferOptions{Bucket: future, Key: repo.Passphrase([]byte("k"), repo.PassphraseOptions{})}, true, repo.ErrKey},
		{s.ID, "b:x", snapshot.TransferOptions{Locations: repo.LocationConfig{"b": {"type": "gopher"}}}, true, repo.ErrLocation},
	} {
		start := e.Download
		if test.up {
			start = e.Upload
		}
		job, err := start(t.Context(), test.id, test.location, test.opts)
		if err != nil {
			t.Fatal(err)
		}
		if err := job.Wait(t.Context()); !errors.Is(err, test.want) || job.Status().State != transfer.StateFailed {
			t.Errorf("%s at %s: %v", test.id, test.location, err)
		}
		wants[job.ID()] = test.want
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(top, "remote")); err == nil {
		t.Error("an upload of what is not there has made a repository")
	}
	again := openLocal(t, dir, nil)
	for id, want := range wants {
		job, err := again.Job(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if err := job.Err(); !errors.Is(err, want) {
			t.Errorf("job %s after a restart: %v, want %v", id, err, want)
		}
	}
	if _, err := again.Job(t.Context(), "999"); !errors.Is(err, transfer.ErrJobNotFound) {
		t.Errorf("no such job: %v", err)
	}
}

// A hook may ask the engine, also about a job that an earlier process has left: the first call
// for jobs opens their records, and the hook must not wait for that call for ever.
func TestHookAsksTheEngine(t *testing.T) {
	dir := t.TempDir()
	src := &memory{files: fstest.MapFS{"f": {Data: []byte("1")}}}
	pinning, goOn := make(chan struct{}), make(chan struct{})
	src.pin = func() error { close(pinning); <-goOn; return nil }
	config := snapshot.Config{Repository: "local:" + filepath.ToSlash(dir), Sources: map[string]snapshot.Source{"a": src}}
	e := openEngine(t, config)
	job, err := e.StartCreate(t.Context(), snapshot.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	<-pinning
	record := filepath.Join(dir, ".%jobs", job.ID()+".json")
	underWay, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}
	close(goOn)
	if err := errors.Join(job.Wait(t.Context()), e.Close(), os.WriteFile(record, underWay, 0o600)); err != nil {
		t.Fatal(err)
	}

	var engine *snapshot.Engine
	told := make(chan error, 1)
	config.OnJobFinish = []func(transfer.Status){func(s transfer.Status) {
		job, err := engine.Job(context.Background(), s.ID)
		if err == nil && job.Status().State != transfer.StateFailed {
			err = fmt.Errorf("state %s", job.Status().State)
		}
		told <- err
	}}
	engine = openEngine(t, config)
	listed := 0
	for _, err := range engine.Jobs(t.Context(), transfer.JobFilter{}) {
		if err != nil {
			t.Fatal(err)
		}
		listed++
	}
	if err := <-told; err != nil || listed != 1 {
		t.Errorf("%d jobs, the hook got %v", listed, err)
	}
}

// A repository on a disk that is full or can only be read can be restored from by a job.
func TestJobsWithoutTheirFolder(t *testing.T) {
	dir := t.TempDir()
	e := openLocal(t, dir, fstest.MapFS{"f": {Data: text(1, 5000)}})
	s := create(t, e, snapshot.CreateOptions{})
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	blocked := filepath.Join(dir, ".%jobs")
	if err := os.WriteFile(blocked, []byte("no folder"), 0o600); err != nil {
		t.Fatal(err)
	}
	again := openLocal(t, dir, nil)
	job, err := again.StartRestore(t.Context(), s.ID, snapshot.RestoreOptions{To: filepath.Join(writableDir(t), "to")})
	finished(t, job, err)
	if err := errors.Join(again.Close(), os.Remove(blocked), os.MkdirAll(filepath.Join(blocked, "1.json.tmp"), 0o700)); err != nil {
		t.Fatal(err)
	}
	// The folder works, but there is no room for the record.
	third := openLocal(t, dir, nil)
	for range third.Jobs(t.Context(), transfer.JobFilter{}) {
	}
	if err := os.MkdirAll(filepath.Join(blocked, "1.json.tmp", "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	job, err = third.StartRestore(t.Context(), s.ID, snapshot.RestoreOptions{To: filepath.Join(writableDir(t), "to")})
	finished(t, job, err)
	if _, err := snapshot.Open(t.Context(), snapshot.Config{Repository: "local:" + filepath.ToSlash(dir), JobsDir: filepath.Join(dir, "holdstill.json")}); err == nil {
		t.Error("a folder for jobs that was asked for, and cannot be")
	}
}
