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

// impatient tries again soon. Every fifth operation tries once only, so that there are failures to look at.
func impatient(n int) repo.Retry {
	r := repo.Retry{Attempts: 8, Base: 2 * time.Millisecond, Max: 40 * time.Millisecond, Stall: 250 * time.Millisecond, AttemptTimeout: 20 * time.Second}
	if n%5 == 4 {
		r.Attempts = 1
	}
	return r
}

func openRepo(t *testing.T, section map[string]string, n int, retry repo.Retry) (*repo.Repository, error) {
	bucket := drivertest.Open(t, section, fmt.Sprintf("faulty/op%d", n))
	return repo.Open(t.Context(), bucket, repo.Options{PackSize: 1 << 20, Retry: retry})
}

// local returns a repository in memory.
func local(t *testing.T) *repo.Repository {
	b := memblob.OpenBucket(nil)
	t.Cleanup(func() { _ = b.Close() })
	if err := repo.Init(t.Context(), b, repo.InitOptions{}); err != nil {
		t.Fatal(err)
	}
	r, err := repo.Open(t.Context(), b, repo.Options{PackSize: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// upload copies a snapshot to the server, through the proxy, and looks at the server itself for what is there then. It
// returns the error of the copy.
func (f *faults) upload(t *testing.T, n int) error {
	data := rowsOf(n)
	src := local(t)
	if err := repotest.Store(t.Context(), src, "snap", data); err != nil {
		t.Fatal(err)
	}
	if err := repo.Init(t.Context(), drivertest.Open(t, f.direct, fmt.Sprintf("faulty/op%d", n)), repo.InitOptions{}); err != nil {
		t.Fatal(err)
	}
	err := func() error {
		dst, err := openRepo(t, f.perilous, n, impatient(n))
		if err != nil {
			return err
		}
		_, err = transfer.Copy(t.Context(), dst, src, "snap", transfer.Options{})
		return err
	}()
	there, openErr := openRepo(t, f.direct, n, repo.Retry{})
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

// download copies one that is on the server, through the proxy.
func (f *faults) download(t *testing.T, n int) error {
	data := rowsOf(n)
	if err := repo.Init(t.Context(), drivertest.Open(t, f.direct, fmt.Sprintf("faulty/op%d", n)), repo.InitOptions{}); err != nil {
		t.Fatal(err)
	}
	there, err := openRepo(t, f.direct, n, repo.Retry{})
	if err != nil {
		t.Fatal(err)
	}
	if err := repotest.Store(t.Context(), there, "snap", data); err != nil {
		t.Fatal(err)
	}
	dst := local(t)
	err = func() error {
		src, err := openRepo(t, f.perilous, n, impatient(n))
		if err != nil {
			return err
		}
		if _, err = transfer.Copy(t.Context(), dst, src, "snap", transfer.Options{}); err != nil {
			return err
		}
		// And as a restore reads it.
		got, err := repotest.Read(t.Context(), src, "snap")
		if err == nil && !bytes.Equal(got, data) {
			t.Errorf("download %d read other bytes", n)
		}
		return err
	}()
	switch listed := slices.Contains(repotest.IDs(t, dst), "snap"); {
	case listed:
		repotest.Want(t, dst, "snap", data)
	case err == nil:
		t.Errorf("download %d says it is complete, and there is no snapshot", n)
	}
	repotest.Sound(t, dst)
	return err
}

// Every upload and download through a bad network ends complete and verified, or failed with nothing named that is not
// there.
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
	// Eight faults in a row are one in four million.
	if patient > 0 || complete == operations {
		t.Errorf("%d patient operations failed, and %d of %d were complete", patient, complete, operations)
	}
}
