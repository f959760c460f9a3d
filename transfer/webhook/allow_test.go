package webhook

import (
	"errors"
	"net/netip"
	"testing"
	"time"
)

func TestAllowList(t *testing.T) {
	a, err := parseAllow([]string{"hooks.example.org", "alt.example.org:8443", "*.example.com", "10.1.0.0/16", "192.168.7.9", "https://api.example.net/hooks/", "http://plain.example.net:8080"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for url, named := range map[string]bool{
		"https://hooks.example.org/x": true, "https://HOOKS.example.org:443/": true, "https://alt.example.org:8443/": true,
		"https://a.example.com/": true, "https://a.b.example.com/": true, "https://10.1.2.3/": false, "http://10.1.2.3:99/x": false, "https://192.168.7.9/": false,
		"https://api.example.net/hooks/1": true, "https://api.example.net/hooks": true, "http://plain.example.net:8080/": true,
		"https://somewhere.example/": false, // perhaps a name of 10.1.2.3
	} {
		target, err := a.check(url)
		if err != nil || target.named != named {
			t.Errorf("%s: %v, %v", url, target.named, err)
			continue
		}
		for _, ip := range []string{"127.0.0.1", "192.168.7.10", "169.254.169.254", "::1", "fd00::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "100.64.1.1", "0.0.0.0"} {
			if err := a.dial(target, netip.MustParseAddr(ip)); !errors.Is(err, ErrNotAllowed) {
				t.Errorf("%s at %s: %v", url, ip, err)
			}
		}
		if err := a.dial(target, netip.MustParseAddr("10.1.255.1")); err != nil {
			t.Error(err)
		}
		if err := a.dial(target, netip.MustParseAddr("::ffff:192.168.7.9")); err != nil {
			t.Error(err)
		}
		if err := a.dial(target, netip.MustParseAddr("93.184.215.14")); (err == nil) != named {
			t.Errorf("%s at a public address: %v", url, err)
		}
	}
	for _, url := range []string{
		"", "x", "ftp://hooks.example.org/", "//hooks.example.org/", "https:hooks.example.org", "http://hooks.example.org/", "https://user@hooks.example.org/",
		"https://10.2.0.1/", "https://[::1]/", "https://127.0.0.1/", "http://plain.example.net/", "http://somewhere.example/", "http://10.1.0.1.evil.example/",
		"http://api.example.net/hooks/1", "https://hooks.example.org\\@evil.example/", "https://\x7f/",
	} {
		if _, err := a.check(url); !errors.Is(err, ErrNotAllowed) {
			t.Errorf("%q: %v", url, err)
		}
	}
	few, err := parseAllow([]string{"hooks.example.org", "https://api.example.net/hooks/", "*.example.com"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, url := range []string{
		"https://hooks.example.org:8443/", "https://evilhooks.example.org/", "https://hooks.example.org.evil.example/", "https://example.com/", "https://badexample.com/",
		"https://api.example.net/", "https://api.example.net/hooksx", "https://api.example.net/hooks/../admin", "https://api.example.net/hooks/%2e%2e/admin", "https://api.example.net/hooks\\..\\admin",
	} {
		if _, err := few.check(url); !errors.Is(err, ErrNotAllowed) {
			t.Errorf("%q: %v", url, err)
		}
	}
	for _, url := range []string{
		"https://api.example.net/hooks/a%2fb", "https://api.example.net/hooks/%252e%252e/admin", "https://api.example.net/hooks/x#y",
	} {
		if _, err := few.check(url); !errors.Is(err, ErrNotAllowed) {
			t.Errorf("%q: %v", url, err)
		}
	}
	none, err := parseAllow(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := none.check("https://example.org/"); !errors.Is(err, ErrNotAllowed) {
		t.Errorf("an empty list: %v", err)
	}
}

// An address in the beginning of a URL, and networks beside the list, let requests to no more
// than was meant.
func TestNetworks(t *testing.T) {
	a, err := parseAllow([]string{"http://127.0.0.1:8080/hooks/", "http://[::1]/", "http://inside.example/hooks", "10.0.0.5:8443", "*.0.0.6"}, []string{"10.2.0.0/16", "192.168.7.9"})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		url   string
		yes   []string
		check bool
	}{
		{"http://127.0.0.1:8080/hooks/a%20b?q", []string{"127.0.0.1", "::ffff:127.0.0.1", "10.2.0.1"}, true},
		{"http://[::1]/a%2Fb", []string{"::1", "10.2.0.1"}, true},
		{"http://inside.example/hooks/x", []string{"10.2.3.4", "192.168.7.9", "93.184.215.14"}, true},
		{"https://10.0.0.5:8443/", []string{"10.0.0.5"}, true},
		{"http://127.0.0.1:8080/", nil, false},
		{"http://127.0.0.1:8081/hooks/", nil, false},
		{"http://10.2.0.1/", nil, false},
		{"https://192.168.7.9/", nil, false},
		{"https://elsewhere.example/", nil, false},
		{"https://10.0.0.6/", nil, false},
	} {
		target, err := a.check(test.url)
		if test.check != (err == nil) || err != nil && !errors.Is(err, ErrNotAllowed) {
			t.Errorf("%s: %v", test.url, err)
		}
		if err != nil {
			continue
		}
		for _, ip := range test.yes {
			if err := a.dial(target, netip.MustParseAddr(ip)); err != nil {
				t.Error(err)
			}
		}
		for _, ip := range []string{"127.0.0.2", "::2", "10.3.0.1", "192.168.7.8", "169.254.169.254"} {
			if err := a.dial(target, netip.MustParseAddr(ip)); !errors.Is(err, ErrNotAllowed) {
				t.Errorf("%s at %s: %v", test.url, ip, err)
			}
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for header, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "-1": 0, "x": 0, "99999999999999": 0, "Fri, 02 Jan 2026 03:04:35 GMT": 30 * time.Second, "Fri, 02 Jan 2026 03:00:00 GMT": 0,
	} {
		if got := retryAfter(header, now); got != want {
			t.Errorf("%q: %v, want %v", header, got, want)
		}
	}
}

func FuzzAllow(f *testing.F) {
	f.Add("hooks.example.org", "https://hooks.example.org/x")
	f.Add("https://x/y", "https://x/y/../z")
	f.Add("10.0.0.0/8", "http://10.1.1.1")
	f.Add("http://127.0.0.1:80/a", "http://127.0.0.1/a/%2e")
	f.Add("http://localhost:3000/a", "http://[::1]:/")
	f.Fuzz(func(t *testing.T, entry, url string) {
		a, err := parseAllow([]string{entry}, nil)
		if err != nil {
			return
		}
		target, err := a.check(url)
		if err != nil {
			if !errors.Is(err, ErrNotAllowed) {
				t.Error(err)
			}
			return
		}
		written, err := netip.ParseAddr(target.url.Hostname())
		meant := err == nil && written.Unmap().IsLoopback() // then the entry has it as well
		if len(a.nets) == 0 && !meant && a.dial(target, netip.MustParseAddr("127.0.0.1")) == nil {
			t.Errorf("%q lets %q to this machine", entry, url)
		}
	})
}
