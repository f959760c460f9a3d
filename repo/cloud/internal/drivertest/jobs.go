package drivertest

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/time/rate"

	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/repo/repotest"
	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/transfer"
)

// noise returns bytes that do not compress.
func noise(seed byte, n int) []byte {
	data := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(data)
	return data
}

// engine opens an engine on a folder, which can reach the store.
func engine(t *testing.T, dir string, section map[string]string) *snapshot.Engine {
	t.Helper()
	e, err := snapshot.Open(t.Context(), snapshot.Config{
		Repository: "local:" + filepath.ToSlash(dir), Locations: repo.LocationConfig{"store": section}, Options: repo.Options{PackSize: 1 << 20},
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

func completed(t *testing.T, job *transfer.Job, err error) transfer.Status {
	t.Helper()
	if err == nil {
		err = job.Wait(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return job.Status()
}

// resumed: a snapshot is uploaded by a job that is aborted, and by one that a restart interrupts, and by one that goes on from
// there; then it is downloaded elsewhere in the same way. Nothing is sent twice but for what was on its way.
func resumed(t *testing.T, s Store) {
	const size = 24 << 20
	dir := filepath.Join(t.TempDir(), "here")
	data := noise(3, size)
	here := engine(t, dir, s.Section)
	if err := repotest.Store(t.Context(), here.Repository(), "snap", data); err != nil {
		t.Fatal(err)
	}
	where := "store:" + s.Bucket + "/resumed"
	fast := snapshot.TransferOptions{
		Options:  repo.Options{PackSize: 1 << 20, Uploads: 1, Retry: quick},
		Transfer: transfer.Options{CheckpointBytes: 1 << 20},
	}
	// held is for a job that is stopped on its way: it gets so far soon, and needs half a minute for the rest, so that it is
	// not at its end when the test comes late to stop it.
	held := func(share int) *rate.Limiter { return rate.NewLimiter(size/48, size*share/100) }
	slow := fast
	// until waits for a part of the job's work.
	until := func(job *transfer.Job, share int64) {
		for status := range job.Progress() {
			if status.Progress.BytesSent >= size*share/100 {
				return
			}
		}
		t.Fatalf("the job has ended: %+v", job.Status())
	}
	var sent int64
	slow.Options.WriteLimiter = held(25)
	job, err := here.Upload(t.Context(), "snap", where, slow)
	if err != nil {
		t.Fatal(err)
	}
	until(job, 30)
	job.Abort()
	if err := job.Wait(t.Context()); !errors.Is(err, transfer.ErrAborted) || job.Status().State != transfer.StateCancelled {
		t.Fatalf("aborted: %v", err)
	}
	sent += job.Status().Progress.BytesSent
	there := openRepo(t, s, where)
	if ids := repotest.IDs(t, there); len(ids) > 0 {
		t.Errorf("after an abort there is %q", ids)
	}
	slow.Options.WriteLimiter = held(15)
	if job, err = here.Upload(t.Context(), "snap", where, slow); err != nil {
		t.Fatal(err)
	}
	until(job, 20)
	if err := here.Close(); err != nil {
		t.Fatal(err)
	}
	sent += job.Status().Progress.BytesSent
	here = engine(t, dir, s.Section)
	interrupted, err := here.Job(t.Context(), job.ID())
	if err != nil || !errors.Is(interrupted.Err(), transfer.ErrInterrupted) {
		t.Fatalf("after a restart: %v, %v", interrupted.Err(), err)
	}
	job, err = here.Upload(t.Context(), "snap", where, fast)
	sent += completed(t, job, err).Progress.BytesSent
	t.Logf("three tries sent %.2f times the snapshot", float64(sent)/size)
	if share := float64(sent) / size; share > 1.45 {
		t.Errorf("three tries sent %.2f times the snapshot", share)
	}
	repotest.Want(t, openRepo(t, s, where), "snap", data)
	repotest.Sound(t, openRepo(t, s, where))

	away := engine(t, filepath.Join(t.TempDir(), "away"), s.Section)
	reading := fast
	reading.Options.ReadLimiter = held(25)
	if job, err = away.Download(t.Context(), "snap", where, reading); err != nil {
		t.Fatal(err)
	}
	until(job, 30)
	job.Abort()
	if err := job.Wait(t.Context()); !errors.Is(err, transfer.ErrAborted) {
		t.Fatal(err)
	}
	first := job.Status().Progress.BytesSent
	job, err = away.Download(t.Context(), "snap", where, fast)
	if again := completed(t, job, err).Progress.BytesSent; float64(first+again) > 1.3*size {
		t.Errorf("two tries of a download took %d and %d bytes", first, again)
	}
	repotest.Want(t, away.Repository(), "snap", data)
	repotest.Sound(t, away.Repository())
}

func openRepo(t *testing.T, s Store, where string) *repo.Repository {
	t.Helper()
	r, err := repo.Open(t.Context(), Open(t, s.Section, strings.TrimPrefix(where, "store:")), repo.Options{Retry: quick})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// fullStore is a store in front of which packs are refused for want of space.
func fullStore(t *testing.T, backend string) string {
	u, err := url.Parse(backend)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme, r.Out.URL.Host = u.Scheme, u.Host
		r.Out.Host = r.In.Host // it is part of what is signed
	}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key, _ := url.PathUnescape(r.URL.Path + r.URL.Query().Get("name"))
		if r.Method != http.MethodGet && r.Method != http.MethodHead && strings.Contains(key, "/pack/") {
			_, _ = io.Copy(io.Discard, r.Body)
			w.WriteHeader(http.StatusInsufficientStorage)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// through returns the store's section with another URL in the place of its own.
func through(s Store, to string) map[string]string {
	section := maps.Clone(s.Section)
	from, _ := url.Parse(s.Section["endpoint"])
	section["endpoint"] = to + from.Path
	return section
}

// refusal is one way for a transfer to fail.
type refusal struct {
	name    string
	section map[string]string
	where   string
	id      string
	want    []error
	// up and down say which directions it concerns.
	up, down bool
}

// jobErrors: whatever goes wrong reaches the job's error, under its own name, and its record. Nothing that failed is listed.
func jobErrors(t *testing.T, s Store) {
	dir := filepath.Join(t.TempDir(), "here")
	data := noise(4, 3<<20)
	here := engine(t, dir, s.Section)
	if err := repotest.Store(t.Context(), here.Repository(), "snap", data); err != nil {
		t.Fatal(err)
	}
	base := s.Bucket + "/joberrors"
	if err := repo.Init(t.Context(), Open(t, s.Section, base), repo.InitOptions{}); err != nil {
		t.Fatal(err)
	}
	future := Open(t, s.Section, base+"-future")
	if err := future.WriteAll(t.Context(), "holdstill.json", []byte(`{"format":99,"blake3":"`+strings.Repeat("0", 64)+`","document":{}}`+"\n"), nil); err != nil {
		t.Fatal(err)
	}
	tests := []refusal{
		{"no bucket", s.Section, s.NoBucket + "/x", "snap", []error{repo.ErrNoBucket}, true, true},
		{"unknown snapshot", s.Section, base, "nobody", []error{snapshot.ErrNotFound}, true, true},
		{"no repository", s.Section, base + "-none", "snap", []error{repo.ErrNotRepository}, false, true},
		{"another format", s.Section, base + "-future", "snap", []error{repo.ErrFormat, repo.ErrCorrupt}, true, true},
		{"full", through(s, fullStore(t, s.Section["endpoint"])), base, "snap", []error{repo.ErrNoSpace}, true, false},
	}
	for _, r := range s.Refused {
		tests = append(tests, refusal{r.Name, r.Section, base, "snap", []error{r.Want}, true, true})
	}
	type ended struct {
		id, what string
		want     error
		kind     transfer.ErrorKind
	}
	var all []ended
	for _, test := range tests {
		for _, up := range []bool{true, false} {
			if up && !test.up || !up && !test.down {
				continue
			}
			what := fmt.Sprintf("%s, up %v", test.name, up)
			opts := snapshot.TransferOptions{
				Locations: repo.LocationConfig{"store": test.section},
				Options:   repo.Options{PackSize: 1 << 20, Retry: quick},
			}
			start := here.Download
			if up {
				start = here.Upload
			}
			id := test.id
			if !up && id == "snap" && (test.name != "no repository") {
				id = "elsewhere" // what is here already need not be looked for there
			}
			job, err := start(t.Context(), id, "store:"+test.where, opts)
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			err = job.Wait(t.Context())
			n := slices.IndexFunc(test.want, func(want error) bool { return errors.Is(err, want) })
			status := job.Status()
			if n < 0 || status.State != transfer.StateFailed {
				t.Errorf("%s: %v, want %v", what, err, test.want)
				continue
			}
			if text := fmt.Sprintf("%v %+v %+v", err, err, status); strings.Contains(text, Secret) {
				t.Errorf("%s shows a secret: %s", what, text)
			}
			all = append(all, ended{job.ID(), what, test.want[n], status.ErrorKind})
		}
	}
	if ids := repotest.IDs(t, openRepo(t, s, base)); len(ids) > 0 {
		t.Errorf("after failures there is %q", ids)
	}
	if err := here.Close(); err != nil {
		t.Fatal(err)
	}
	again := engine(t, dir, s.Section)
	for _, e := range all {
		job, err := again.Job(t.Context(), e.id)
		if err != nil {
			t.Fatal(err)
		}
		var recorded *transfer.JobError
		if err := job.Err(); !errors.Is(err, e.want) || !errors.As(err, &recorded) || recorded.Kind != e.kind {
			t.Errorf("%s, after a restart: %v, want %v", e.what, err, e.want)
		}
	}
	if err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		if text, err := os.ReadFile(path); err != nil || strings.Contains(string(text), Secret) {
			t.Errorf("%s holds a secret, or cannot be read: %v", path, err)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}
