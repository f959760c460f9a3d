// Package teststore starts the servers that stand for the cloud in tests: each a process of its own, on the loopback
// interface, with its data gone when the test ends. The script .ci/install-servers installs them. A test whose server
// is missing fails, and says so.
package teststore

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"
)

// Server is a server under way.
type Server struct {
	// URL is where it listens, without a slash at the end.
	URL string
	log *tail
}

// The credentials of the S3 server, and the account and key of the Azure server.
const (
	S3Key    = "holdstill-access"
	S3Secret = "holdstill-secret-Qm7t"

	AzureAccount = "holdstilltest"
	AzureKey     = "c2VjcmV0LWtleS1vZi10aGUtdGVzdC1hY2NvdW50LW9mLWhvbGRzdGlsbA=="
)

// S3 starts an S3 server. A bucket is made by MakeS3Bucket, or by a folder in the one returned.
func S3(t testing.TB) (s *Server, buckets string) {
	t.Helper()
	buckets = t.TempDir()
	s = start(t, "versitygw", func(port int) *exec.Cmd {
		cmd := exec.Command(tool(t, "versitygw"), "--quiet", "--keep-alive", "--port", loopback(port), "posix", buckets)
		cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+S3Key, "ROOT_SECRET_KEY="+S3Secret)
		return cmd
	})
	return s, buckets
}

// MakeS3Bucket makes a bucket of the server whose folder of buckets is given.
func MakeS3Bucket(t testing.TB, buckets, name string) {
	t.Helper()
	if err := os.Mkdir(filepath.Join(buckets, name), 0o755); err != nil {
		t.Fatal(err)
	}
}

// Azure starts an Azure server. Its URL is that of the account.
func Azure(t testing.TB) *Server {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Fatal("the Azure server needs node: run .ci/install-servers")
	}
	s := start(t, "azurite", func(port int) *exec.Cmd {
		cmd := exec.Command(node, tool(t, "node_modules/azurite/dist/src/blob/main.js"), "--silent", "--inMemoryPersistence", "--disableTelemetry",
			"--skipApiVersionCheck", "--blobHost", "127.0.0.1", "--blobPort", strconv.Itoa(port))
		cmd.Dir = t.TempDir()
		cmd.Env = append(os.Environ(), "AZURITE_ACCOUNTS="+AzureAccount+":"+AzureKey)
		return cmd
	})
	s.URL += "/" + AzureAccount
	return s
}

// GCS starts a server for Google's storage. It asks nobody who he is.
func GCS(t testing.TB) *Server {
	t.Helper()
	return start(t, "fake-gcs-server", func(port int) *exec.Cmd {
		return exec.Command(tool(t, "fake-gcs-server"), "-backend", "memory", "-scheme", "http", "-host", "127.0.0.1", "-port", strconv.Itoa(port),
			"-external-url", "http://"+loopback(port), "-public-host", loopback(port), "-log-level", "error")
	})
}

// tool returns the path of what .ci/install-servers has installed.
func tool(t testing.TB, name string) string {
	t.Helper()
	_, file, _, _ := runtime.Caller(0)
	path := filepath.Join(filepath.Dir(file), "../../../../.tools", filepath.FromSlash(name))
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("the server for this test is not installed: run .ci/install-servers (%v)", err)
	}
	return path
}

func loopback(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }

// start starts a process on a free port and waits until it answers. Another process may take the port in between: then
// it is tried again with another one.
func start(t testing.TB, name string, command func(port int) *exec.Cmd) *Server {
	t.Helper()
	var last string
	for range 5 {
		port := freePort(t)
		s := &Server{URL: "http://" + loopback(port), log: &tail{}}
		cmd := command(port)
		cmd.Stdout, cmd.Stderr = s.log, s.log
		cmd.WaitDelay = 5 * time.Second
		if err := cmd.Start(); err != nil {
			t.Fatalf("start %s: %v", name, err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		if err := s.answer(t.Context(), ended); err != nil {
			last = fmt.Sprintf("%v; it printed:\n%s", err, s.log)
			_ = cmd.Process.Kill()
			continue
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			<-ended
			if t.Failed() {
				t.Logf("%s printed:\n%s", name, s.log)
			}
		})
		return s
	}
	t.Fatalf("%s does not start: %s", name, last)
	return nil
}

// answer waits until the server answers, whatever it says.
func (s *Server) answer(ctx context.Context, ended <-chan error) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/", nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
			return resp.Body.Close()
		}
		select {
		case err := <-ended:
			return fmt.Errorf("it ended at once: %v", err)
		case <-ctx.Done():
			return fmt.Errorf("it does not answer: %w", err)
		case <-time.After(30 * time.Millisecond):
		}
	}
}

// freePort returns a port below those that systems hand out by themselves: until the server has taken it, nobody gets it
// by chance, whose answer would pass for the server's.
func freePort(t testing.TB) int {
	t.Helper()
	var last error
	for range 100 {
		port := 20_000 + rand.IntN(12_000)
		l, err := net.Listen("tcp", loopback(port))
		if err != nil {
			last = err
			continue
		}
		_ = l.Close()
		return port
	}
	t.Fatalf("no port is free: %v", last)
	return 0
}

// tail keeps the end of what a process prints.
type tail struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf.Write(p)
	if t.buf.Len() > 64<<10 {
		t.buf.Next(t.buf.Len() - 32<<10)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.buf.String()
}
