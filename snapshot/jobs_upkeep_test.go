package snapshot_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"gocloud.dev/blob"
	"gocloud.dev/blob/memblob"

	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/transfer"
)

// A snapshot is deleted, its space freed, and the rest checked, all by jobs.
func TestUpkeepJobs(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "repo")
	files := fstest.MapFS{"a": {Data: []byte(strings.Repeat("a row;", 5000))}}
	e := openLocal(t, dir, files)
	first, err := e.Create(t.Context(), snapshot.CreateOptions{Label: "first"})
	if err != nil {
		t.Fatal(err)
	}
	files["a"] = &fstest.MapFile{Data: []byte(strings.Repeat("another one;", 5000))}
	second, err := e.Create(t.Context(), snapshot.CreateOptions{Label: "second"})
	if err != nil {
		t.Fatal(err)
	}
	job, err := e.StartDelete(t.Context(), first.ID)
	if s := finished(t, job, err); s.Snapshot != first.ID || s.Kind != transfer.KindDelete {
		t.Errorf("delete: %+v", s)
	}
	if job, err = e.StartDelete(t.Context(), first.ID); err != nil {
		t.Fatal(err)
	}
	if err := job.Wait(t.Context()); !errors.Is(err, snapshot.ErrNotFound) {
		t.Errorf("deleted twice: %v", err)
	}
	var phases []repo.CollectPhase
	job, err = e.StartCollect(t.Context(), repo.CollectOptions{Progress: func(p repo.CollectProgress) { phases = append(phases, p.Phase) }})
	if s := finished(t, job, err); s.Details["packsDeleted"] == "0" || s.Details["bytesFreed"] == "0" || s.Details["packsPending"] != "0" || len(phases) == 0 {
		t.Errorf("collect: %+v, phases %v", s, phases)
	}
	var report *repo.Report
	job, err = e.StartCheck(t.Context(), repo.CheckOptions{ReadData: true}, func(r *repo.Report) { report = r })
	s := finished(t, job, err)
	want := map[string]string{
		"snapshots": "1", "damage": "0", "packs": fmt.Sprint(report.Packs), "chunks": fmt.Sprint(report.Chunks), "unusedBytes": fmt.Sprint(report.UnusedBytes),
	}
	if diff := cmp.Diff(want, s.Details); diff != "" || s.Progress.BytesDone == 0 || s.Progress.BytesDone != s.Progress.BytesTotal {
		t.Errorf("check: %+v\n%s", s, diff)
	}

	packs, err := filepath.Glob(filepath.Join(dir, "pack", "*", "*"))
	if err != nil || len(packs) == 0 {
		t.Fatal(packs, err)
	}
	for _, path := range packs {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	if job, err = e.StartCheck(t.Context(), repo.CheckOptions{}, nil); err != nil {
		t.Fatal(err)
	}
	if err := job.Wait(t.Context()); !errors.Is(err, snapshot.ErrDamaged) || !strings.Contains(err.Error(), second.ID) {
		t.Errorf("check of what is damaged: %v", err)
	}
	id := job.ID()
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if job, err = openLocal(t, dir, nil).Job(t.Context(), id); err != nil || !errors.Is(job.Err(), snapshot.ErrDamaged) || job.Status().Details["damage"] == "0" {
		t.Errorf("after a restart: %v, %v", job.Err(), err)
	}
}

// An upload makes the other repository so that chunks travel as they are stored, whether
// either is encrypted or not, unless it is told otherwise.
func TestIdentityOfUploads(t *testing.T) {
	key := func(word string) repo.KeySource {
		return repo.Passphrase([]byte(word), repo.PassphraseOptions{Argon2: repo.Argon2{Time: 1, Memory: 8 << 20, Threads: 1}})
	}
	for _, test := range []struct {
		name      string
		here      repo.KeySource
		opts      snapshot.TransferOptions
		there     repo.KeySource
		reencoded bool
	}{
		{name: "neither"},
		{name: "there", opts: snapshot.TransferOptions{Key: key("there")}, there: key("there")},
		{name: "both, with one key", here: key("here"), there: key("here")},
		{name: "both, with two keys", here: key("here"), opts: snapshot.TransferOptions{Key: key("there")}, there: key("there")},
		{name: "here", here: key("here"), opts: snapshot.TransferOptions{Plain: true}, reencoded: true},
		{name: "there, with names of its own", opts: snapshot.TransferOptions{Key: key("there"), OwnIdentity: true}, there: key("there"), reencoded: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			here, there := memblob.OpenBucket(nil), memblob.OpenBucket(nil)
			defer here.Close()
			defer there.Close()
			e := openWithKey(t, here, test.here)
			s, err := e.Create(t.Context(), snapshot.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			test.opts.Bucket = there
			job, err := e.Upload(t.Context(), s.ID, "there", test.opts)
			if status := finished(t, job, err); status.Reencoded != test.reencoded {
				t.Errorf("reencoded: %v", status.Reencoded)
			}
			other := openWithKey(t, there, test.there)
			if same := other.Repository().SameIdentity(e.Repository()); same == test.reencoded {
				t.Errorf("the same identity: %v", same)
			}
			fsys, err := other.OpenFS(t.Context(), s.ID)
			if err != nil {
				t.Fatal(err)
			}
			if data, err := fsys.ReadFile("kv/a"); err != nil || string(data) != "some rows" {
				t.Errorf("%q, error %v", data, err)
			}
		})
	}
	e := openWithKey(t, memblob.OpenBucket(nil), key("here"))
	if _, err := e.Upload(t.Context(), "x", "local:/x", snapshot.TransferOptions{Plain: true, Key: key("there")}); !errors.Is(err, snapshot.ErrConfig) {
		t.Errorf("a key for what is not encrypted: %v", err)
	}
	twin, err := snapshot.Open(t.Context(), snapshot.Config{Bucket: memblob.OpenBucket(nil), Key: key("there"), SameIdentityAs: e.Repository()})
	if err != nil {
		t.Fatal(err)
	}
	defer twin.Close()
	if !twin.Repository().SameIdentity(e.Repository()) {
		t.Error("Config.SameIdentityAs has no effect")
	}
}

func openWithKey(t *testing.T, b *blob.Bucket, key repo.KeySource) *snapshot.Engine {
	t.Helper()
	e, err := snapshot.Open(t.Context(), snapshot.Config{
		Bucket: b, Key: key, Sources: map[string]snapshot.Source{"kv": jobSource(fstest.MapFS{"a": {Data: []byte("some rows")}})},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}
