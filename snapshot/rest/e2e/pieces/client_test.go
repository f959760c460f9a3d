package pieces_test

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A client is the npm client of Pieces OS in a process of Node. See client.js.
type client struct {
	t     testing.TB
	stdin io.Writer
	// mu guards what follows.
	mu      sync.Mutex
	last    int
	waiting map[int]chan result
	made    map[string]bool
	calls   []string
}

type call struct {
	ID     int            `json:"id"`
	API    string         `json:"api"`
	Method string         `json:"method"`
	Params map[string]any `json:"params"`
}

type result struct {
	ID     int
	OK     bool
	Value  json.RawMessage
	Status int
	Error  string
}

func startClient(t testing.TB, url string) *client {
	t.Helper()
	modules, err := filepath.Abs("../../../../.tools/node_modules")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(modules, "@pieces.app", "pieces-os-client")); err != nil {
		t.Fatalf("the client is missing, run .ci/install-clients: %v", err)
	}
	node, err := exec.LookPath("node")
	if err != nil {
		t.Fatalf("Node is missing, run .ci/install-clients: %v", err)
	}
	cmd := exec.Command(node, "client.js", url)
	cmd.Env = append(os.Environ(), "NODE_PATH="+modules)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &client{t: t, stdin: stdin, waiting: map[int]chan result{}, made: map[string]bool{}}
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, 16<<20)
	var first struct{ Calls []string }
	if !lines.Scan() || json.Unmarshal(lines.Bytes(), &first) != nil {
		t.Fatalf("the client says %q, error %v", lines.Bytes(), lines.Err())
	}
	c.calls = first.Calls
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines.Scan() {
			c.take(lines.Bytes())
		}
	}()
	t.Cleanup(func() {
		stdin.Close()
		<-read
		if err := cmd.Wait(); err != nil {
			t.Errorf("the client: %v", err)
		}
	})
	return c
}

// take hands a line of output to who waits for it.
func (c *client) take(line []byte) {
	var r result
	if err := json.Unmarshal(line, &r); err != nil {
		c.t.Errorf("the client says %q: %v", line, err)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if out := c.waiting[r.ID]; out != nil {
		out <- r
	}
}

// begin makes a call and does not wait for it. params are names and values in turn.
func (c *client) begin(api, method string, params ...any) <-chan result {
	c.t.Helper()
	given := map[string]any{}
	for i := 0; i < len(params); i += 2 {
		given[params[i].(string)] = params[i+1]
	}
	out := make(chan result, 1)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last++
	line, err := json.Marshal(call{c.last, api, method, given})
	if err != nil {
		c.t.Fatal(err)
	}
	c.waiting[c.last] = out
	c.made[api+"."+method] = true
	if _, err := c.stdin.Write(append(line, '\n')); err != nil {
		c.t.Fatal(err)
	}
	return out
}

// end waits for a call that has to succeed.
func (c *client) end(out <-chan result) json.RawMessage {
	c.t.Helper()
	select {
	case r := <-out:
		if !r.OK {
			c.t.Fatalf("the call failed with status %d: %s", r.Status, r.Error)
		}
		return r.Value
	case <-c.t.Context().Done():
		c.t.Fatal("the test has ended")
	}
	return nil
}

// do makes a call that has to succeed, and reads what it returns.
func do[T any](c *client, api, method string, params ...any) T {
	c.t.Helper()
	data := c.end(c.begin(api, method, params...))
	var v T
	if err := json.Unmarshal(data, &v); err != nil {
		c.t.Fatalf("%s.%s: %v in %s", api, method, err, data)
	}
	return v
}

// refused makes a call that has to fail.
func (c *client) refused(code int, api, method string, params ...any) {
	c.t.Helper()
	if r := <-c.begin(api, method, params...); r.OK || r.Status != code {
		c.t.Errorf("%s.%s: status %d, want %d: %s %s", api, method, r.Status, code, r.Error, r.Value)
	}
}

// checkAll makes sure that every call of the client was made.
func (c *client) checkAll() {
	c.t.Helper()
	var made []string
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range c.calls {
		if c.made[name] {
			made = append(made, name)
		}
	}
	if diff := cmp.Diff(c.calls, made); diff != "" || len(c.calls) != 16 {
		c.t.Errorf("%d calls, of which were not made: %s", len(c.calls), diff)
	}
}
