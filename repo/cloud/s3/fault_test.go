package s3_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"regexp"
	"slices"
	"sync"
	"testing"
	"time"

	"gocloud.dev/blob/memblob"

	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/repo/cloud/internal/drivertest"
	"github.com/holdstill/holdstill/repo/cloud/internal/faultproxy"
	"github.com/holdstill/holdstill/repo/cloud/internal/teststore"
	"github.com/holdstill/holdstill/repo/repotest"
	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/transfer"
)

const (
	faultSeed  = 20260314
	faultRate  = 0.15
	operations = 200
)

// rowsOf returns data like a database's, another for each operation.
func rowsOf(n int) []byte {
	r := rand.New(rand.NewPCG(faultSeed, uint64(n)))
	var out []byte
	for size := 200_000 + r.IntN(1_000_000); len(out) < size; {
		out = fmt.Appendf(out, "row %08d balance=%016x owner=%08x;", len(out), r.Uint64(), r.Uint32())
	}
	return out
}

// faults is the harness: a server, a proxy in front of it, and both ways there.
type faults struct {
	proxy            *faultproxy.Proxy
	direct, perilous map[string]string // sections
}

var operationName = regexp.MustCompile(`op\d+`)

func startFaults(t *testing.T) *faults {
	server, buckets := teststore.S3(t)
	teststore.MakeS3Bucket(t, buckets, "faulty")
	proxy := faultproxy.Start(t, server.URL, faultproxy.Options{Seed: faultSeed, Rate: faultRate, Operation: func(u *url.URL) string {
		return operationName.FindString(u.Path + "?" + u.Query().Get("prefix"))
	}})
	return &faults{proxy: proxy, direct: section(server.URL), perilous: section(proxy.URL)}
}

// impatient tries again soon. Every fifth operation tries once only, so that there are failures to look at. Each
// answer that is stalled costs a Stall or, if it is no read, an AttemptTimeout; what a busy machine takes is far below.
func impatient(n int) repo.Retry {
	r := repo.Retry{Attempts: 12, Base: 2 * time.Millisecond, Max: 40 * time.Millisecond, Stall: 2 * time.Second, AttemptTimeout: 4 * time.Second}
	if n%5 == 4 {
		r.Attempts = 1
	}
	return r
}

// engine returns an engine with a repository in memory, which reaches the server by a section.
func engine(t *testing.T, section map[string]string) *snapshot.Engine {
	b := memblob.OpenBucket(nil)
	e, err := snapshot.Open(t.Context(), snapshot.Config{
		Bucket: b, Locations: repo.LocationConfig{"S3": section}, Options: repo.Options{PackSize: 1 << 20},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(e.Close(), b.Close()); err != nil {
			t.Error(err)
		}
	})
	return e
}

func place(n int) string { return fmt.Sprintf("faulty/op%d", n) }

// settings are those of a job through the bad network.
func settings(n int) snapshot.TransferOptions {
	return snapshot.TransferOptions{Options: repo.Options{PackSize: 1 << 20, Retry: impatient(n)}}
}

// ended waits for a job, and looks whether its status agrees with its error.
func ended(t *testing.T, job *transfer.Job, err error) error {
	if err != nil {
		t.Fatal(err)
	}
	err = job.Wait(t.Context())
	want, kind := transfer.StateCompleted, transfer.ErrorKind("")
	if err != nil {
		want, kind = transfer.StateFailed, transfer.ErrorUnavailable
	}
	if s := job.Status(); s.State != want || s.ErrorKind != kind {
		t.Errorf("the job's status is %+v, its error %v", s, err)
	}
	return err
}

// upload sends a snapshot to the server, through the proxy, and looks at the server itself for what is there then. It
// returns the error of the job.
func (f *faults) upload(t *testing.T, n int) error {
	data := rowsOf(n)
	here := engine(t, f.perilous)
	if err := repotest.Store(t.Context(), here.Repository(), "snap", data); err != nil {
		t.Fatal(err)
	}
	job, err := here.Upload(t.Context(), "snap", "S3:"+place(n), settings(n))
	err = ended(t, job, err)
	there, openErr := repo.Open(t.Context(), drivertest.Open(t, f.direct, place(n)), repo.Options{})
	if err != nil && errors.Is(openErr, repo.ErrNotRepository) {
		return err // it did not come to that
	}
	if openErr != nil {
		t.Fatal(openErr)
	}
	listed := slices.Contains(repotest.IDs(t, there), "snap")
	switch {
	case err == nil && !listed:
		t.Errorf("upload %d says it is complete, and there is no snapshot", n)
	case listed:
		repotest.Want(t, there, "snap", data)
	}
	repotest.Sound(t, there)
	return err
}

// download fetches one that is on the server, through the proxy.
func (f *faults) download(t *testing.T, n int) error {
	data := rowsOf(n)
	bucket := drivertest.Open(t, f.direct, place(n))
	if err := repo.Init(t.Context(), bucket, repo.InitOptions{}); err != nil {
		t.Fatal(err)
	}
	there, err := repo.Open(t.Context(), bucket, repo.Options{PackSize: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if err := repotest.Store(t.Context(), there, "snap", data); err != nil {
		t.Fatal(err)
	}
	here := engine(t, f.perilous)
	job, err := here.Download(t.Context(), "snap", "S3:"+place(n), settings(n))
	err = ended(t, job, err)
	switch listed := slices.Contains(repotest.IDs(t, here.Repository()), "snap"); {
	case listed:
		repotest.Want(t, here.Repository(), "snap", data)
	case err == nil:
		t.Errorf("download %d says it is complete, and there is no snapshot", n)
	}
	repotest.Sound(t, here.Repository())
	if err != nil {
		return err
	}
	// And as a restore reads it.
	far, err := repo.Open(t.Context(), drivertest.Open(t, f.perilous, place(n)), repo.Options{Retry: impatient(n)})
	if err != nil {
		return err
	}
	got, err := repotest.Read(t.Context(), far, "snap")
	if err == nil && !bytes.Equal(got, data) {
		t.Errorf("download %d read other bytes", n)
	}
	return err
}

// Every job that uploads or downloads through a bad network ends complete and verified, or failed with nothing named that
// is not there.
func TestFaults(t *testing.T) {
	t.Logf("seed %d", faultSeed)
	f := startFaults(t)
	errs := make([]error, operations)
	var wg sync.WaitGroup
	slots := make(chan struct{}, 6)
	for n := range operations {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			t.Run(fmt.Sprintf("op%d", n), func(t *testing.T) {
				if n%2 == 0 {
					errs[n] = f.upload(t, n)
				} else {
					errs[n] = f.download(t, n)
				}
			})
		})
	}
	wg.Wait()
	complete, patient := 0, 0
	for n, err := range errs {
		switch {
		case err == nil:
			complete++
		case !errors.Is(err, repo.ErrUnavailable) || errors.Is(err, context.Canceled):
			t.Errorf("operation %d failed with %v, want ErrUnavailable", n, err)
		case impatient(n).Attempts > 1:
			patient++
			t.Logf("operation %d failed in spite of its retries: %v", n, err)
		}
	}
	counts := f.proxy.Counts(func(operation string) bool {
		var n int
		_, err := fmt.Sscanf(operation, "op%d", &n)
		return err == nil && errs[n] != nil
	})
	t.Logf("%d of %d operations complete, %d of the patient ones not\n%s", complete, operations, patient, faultproxy.Table(counts))
	for _, c := range counts {
		if c.Injected == 0 || c.Completed == 0 {
			t.Errorf("%s: injected %d times, survived by %d operations", c.Kind, c.Injected, c.Completed)
		}
	}
	// Twelve faults in a row are one in some thousand millions.
	if patient > 0 || complete == operations {
		t.Errorf("%d patient operations failed, and %d of %d were complete", patient, complete, operations)
	}
}
