package optools

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/holdstill/holdstill/transfer/webhook"
)

// listener is a server that is called back.
type listener struct {
	*httptest.Server
	mu     sync.Mutex
	codes  []int
	bodies chan string
}

// newListener returns one that answers with these codes in turn, then with 200.
func newListener(t *testing.T, codes ...int) *listener {
	l := &listener{codes: codes, bodies: make(chan string, 10)}
	l.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		l.mu.Lock()
		code := 200
		if len(l.codes) > 0 {
			code, l.codes = l.codes[0], l.codes[1:]
		}
		l.mu.Unlock()
		if code == 302 {
			w.Header().Set("Location", "/elsewhere")
		}
		w.WriteHeader(code)
		l.bodies <- r.Method + " " + r.URL.String() + " " + r.Header.Get("Content-Type") + " " + string(body)
	}))
	t.Cleanup(l.Close)
	return l
}

func TestCallback(t *testing.T) {
	for name, test := range map[string]struct {
		codes []int
		calls int
	}{
		"taken":         {nil, 1},
		"tried again":   {[]int{408, 503}, 3},
		"given up":      {[]int{429, 500, 502, 200}, 3},
		"refused":       {[]int{404}, 1},
		"not redirects": {[]int{302}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			l := newListener(t, test.codes...)
			f := newFixture(t, func(o *Options) { o.Callbacks = []string{l.URL + "/done"} })
			id := f.backup()
			link := f.call("PUT", "/ak/api/v2/backups/"+id, `{"client_webhook_url":"`+l.URL+`/done/x?key=1"}`, 202)["url"].(string)
			tx := f.transaction(link)
			for range test.calls {
				got := <-l.bodies
				const head = "POST /done/x?key=1 application/json "
				if len(got) < len(head) || got[:len(head)] != head {
					t.Fatal(got)
				}
				if diff := cmp.Diff(tx, decode(t, got[len(head):])); diff != "" {
					t.Error(diff)
				}
			}
			f.handler.work.Wait() // Close would end it
			if err := f.handler.Close(); err != nil {
				t.Fatal(err)
			}
			if len(l.bodies) > 0 {
				t.Error("called too often", <-l.bodies)
			}
		})
	}
}

// TestCallbackOnce sends a callback at the first end of a transaction, and at a time-out.
func TestCallbackOnce(t *testing.T) {
	l := newListener(t)
	f := newFixture(t, func(o *Options) { o.Callbacks = []string{l.URL} })
	for range 2 {
		f.call("POST", "/api/v2/webhooks/txs", `{"client_webhook_url":"`+l.URL+`","timeout_ms":1000}`, 200)
	}
	f.call("POST", "/api/v2/webhooks/txs", `{"tx_id":"x","client_webhook_url":"`+l.URL+`/x"}`, 200)
	f.call("PUT", "/api/v2/webhooks/txs/x", `{"status":"success"}`, 200)
	f.call("PUT", "/api/v2/webhooks/txs/x", `{"status":"error"}`, 200)
	<-l.bodies
	f.clock.add(time.Minute)
	f.call("GET", "/api/v2/webhooks", "", 200)
	<-l.bodies
	<-l.bodies
	f.call("GET", "/api/v2/webhooks", "", 200)
	f.handler.work.Wait() // Close would end it
	if err := f.handler.Close(); err != nil {
		t.Fatal(err)
	}
	if len(l.bodies) > 0 {
		t.Error("called too often", <-l.bodies)
	}
}

// TestSignedCallback checks the signature of a callback with the secret, and with another one.
func TestSignedCallback(t *testing.T) {
	secret := []byte("a secret of at least 24 bytes")
	type call struct {
		header http.Header
		body   []byte
	}
	calls := make(chan call, 1)
	l := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		calls <- call{r.Header, body}
	}))
	t.Cleanup(l.Close)
	f := newFixture(t, func(o *Options) { o.Callbacks, o.CallbackSecret = []string{l.URL}, secret })
	f.call("POST", "/api/v2/webhooks/txs", `{"tx_id":"x","client_webhook_url":"`+l.URL+`/x"}`, 200)
	f.call("PUT", "/api/v2/webhooks/txs/x", `{"status":"success"}`, 200)
	got := <-calls
	if err := webhook.Verify(secret, got.header, got.body, time.Now(), time.Hour); err != nil {
		t.Error(err)
	}
	if err := webhook.Verify([]byte("another secret of that length"), got.header, got.body, time.Now(), time.Hour); !errors.Is(err, webhook.ErrSignature) {
		t.Errorf("with another secret: %v", err)
	}
	if tx := decode(t, string(got.body)); tx["tx_id"] != "x" || tx["status"] != "success" {
		t.Error(tx)
	}
	if _, err := New(f.engine, Options{Source: "documents", Store: f.store, CallbackSecret: []byte("too short")}); !errors.Is(err, ErrOptions) || strings.Contains(err.Error(), "too short") {
		t.Error(err)
	}
}

// TestCloseEndsCallbacks closes the handler while a callback waits to be tried again.
func TestCloseEndsCallbacks(t *testing.T) {
	l := newListener(t, 503, 503)
	f := newFixture(t, func(o *Options) {
		o.Callbacks = []string{l.URL}
		o.backoff = time.Hour
	})
	f.call("POST", "/api/v2/webhooks/txs", `{"tx_id":"x","client_webhook_url":"`+l.URL+`/x"}`, 200)
	f.call("PUT", "/api/v2/webhooks/txs/x", `{"status":"success"}`, 200)
	<-l.bodies
	if err := f.handler.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestNames calls a name that stands for an address of a private network, if that is among
// the networks, and tells nobody the rest of the URL if not.
func TestNames(t *testing.T) {
	for name, networks := range map[string][]string{"refused": nil, "called": {"127.0.0.1", "::1"}} {
		t.Run(name, func(t *testing.T) {
			l := newListener(t)
			u := "http://localhost" + l.URL[strings.LastIndex(l.URL, ":"):]
			var log strings.Builder
			f := newFixture(t, func(o *Options) {
				o.Callbacks, o.CallbackNetworks = []string{u}, networks
				o.Logger = slog.New(slog.NewTextHandler(&log, nil))
			})
			f.call("POST", "/api/v2/webhooks/txs", `{"tx_id":"x","client_webhook_url":"`+u+`/hidden?key=hunter2"}`, 200)
			f.call("PUT", "/api/v2/webhooks/txs/x", `{"status":"success"}`, 200)
			f.handler.work.Wait() // Close would end it
			if networks != nil {
				<-l.bodies
			}
			if err := f.handler.Close(); err != nil {
				t.Fatal(err)
			}
			if len(l.bodies) > 0 {
				t.Error("called", <-l.bodies)
			}
			failed := strings.Contains(log.String(), "callback failed")
			if failed != (networks == nil) || strings.Contains(log.String(), "hidden") || strings.Contains(log.String(), "hunter2") {
				t.Errorf("logged %s", log.String())
			}
		})
	}
}

func TestAllowList(t *testing.T) {
	h := newFixture(t, func(o *Options) {
		o.Callbacks = []string{"https://hooks.example.com/a/b", "http://LOCALHOST:3000", "http://[::1]/c/"}
		o.CallbackNetworks = []string{"127.0.0.0/8"}
	}).handler
	for text, want := range map[string]bool{
		"":                              true,
		"https://hooks.example.com/a/b": true,
		"https://HOOKS.example.com:443/a/b/c?x=1":  true,
		"http://localhost:3000":                    true,
		"http://localhost:3000/ak/api/v1/x":        true,
		"http://[::1]:80/c/d":                      true,
		"https://hooks.example.com/a/bc":           false,
		"https://hooks.example.com/a":              false,
		"https://hooks.example.com/a/b/../c":       false,
		"https://hooks.example.com/a/b/%2e%2e/c":   false,
		"https://hooks.example.com/a/b%2fc":        false,
		"http://hooks.example.com/a/b":             false,
		"https://hooks.example.com:444/a/b":        false,
		"https://hooks.example.com.evil.com/a/b":   false,
		"https://hooks.example.com@evil.com/a/b":   false,
		"https://u@hooks.example.com/a/b":          false,
		"http://localhost:3001/":                   false,
		"http://169.254.169.254/latest/meta-data/": false,
		"//localhost:3000/":                        false,
		"localhost:3000":                           false,
		"file:///etc/passwd":                       false,
		"http://localhost:3000/#x":                 false,
		"http://%zz/":                              false,
		"http://[::1]/C/":                          false,
		"http://127.0.0.1/":                        false,
		"https://127.0.0.1/a/b":                    false,
	} {
		if got := h.mayCall(text); got != want {
			t.Errorf("%s: %t", text, got)
		}
	}
}
