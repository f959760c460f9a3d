package arangodb

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/transfer"
)

func TestCleanLabel(t *testing.T) {
	for in, want := range map[string]string{
		"":                       "",
		"nightly":                "nightly",
		`1"2#3,14159`:            "1.2.3.14159",
		"Today's Hot Backup":     "Today.s_Hot_Backup",
		"a\tb\nc\x00d\x7fe":      "a_b_cde",
		"Sicherung für Köln":     "Sicherung_fr_Kln",
		"../../etc/passwd":       "......etc.passwd",
		"日本":                     "",
		"-_.":                    "-_.",
		strings.Repeat("x", 254): strings.Repeat("x", maxLabel),
	} {
		if got := cleanLabel(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
	if snapshot.CheckLabel(strings.Repeat("x", maxLabel)) != nil || snapshot.CheckLabel(strings.Repeat("x", maxLabel+1)) == nil {
		t.Errorf("%d bytes are not the most that a label may have", maxLabel)
	}
}

func FuzzCleanLabel(f *testing.F) {
	f.Add("Today's Hot Backup")
	f.Add("\xff\xfe 日本 ../")
	f.Fuzz(func(t *testing.T, text string) {
		clean := cleanLabel(text)
		if clean != "" {
			if err := snapshot.CheckLabel(clean); err != nil {
				t.Error(err)
			}
		}
		if again := cleanLabel(clean); again != clean {
			t.Errorf("%q becomes %q the second time", clean, again)
		}
	})
}

func TestRestorable(t *testing.T) {
	for _, c := range []struct {
		backup, server string
		want           bool
	}{
		{"3.12.5", "3.12.5", true},
		{"3.12.9", "3.12.5", true},
		{"3.11.9", "3.12.0", true},
		{"3.12.0", "3.11.9", false},
		{"4.0.0", "3.12.5", false},
		{"3.12.5", "4.0.0", true},
		{"3.12.5-devel", "3.12.5", true},
		{"3.9.1", "3.10.0", true},
		{"", "3.12.5", true},
		{"unknown", "3.12.5", true},
		{"3.12", "3.11", false},
		{"3.x.1", "3.11.1", true},
		{"-3.1.1", "3.11.1", true},
	} {
		if got := restorable(c.backup, c.server); got != c.want {
			t.Errorf("%q in %q: %t", c.backup, c.server, got)
		}
	}
}

// TestToken begins with a token that Python's standard library made, with fractions of seconds.
func TestToken(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	secrets := [][]byte{[]byte("old"), []byte("secret")}
	const foreign = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpYXQiOjE3MDAwMDAwMDAuMjUsImV4cCI6MTcwMDAwMzYwMC4yNSwiaXNzIjoiYXJhbmdvZGIiLCJzZXJ2ZXJfaWQiOiJjbGllbnQifQ.XjCYcxnEZ4AxA6-q0UV-1P04LO4r96RUjTnlguO8prU"
	parts := strings.Split(foreign, ".")
	if got, err := verifyToken(foreign, secrets, now); err != nil || got.ServerID != "client" || got.User != "" {
		t.Fatal(got, err)
	}
	own := signToken(claims{Issuer: issuer, User: "root", IssuedAt: now.Unix(), Expires: now.Unix() + 60}, secrets[1])
	got, err := verifyToken(own, secrets, now)
	if err != nil {
		t.Fatal(err)
	}
	if got.User != "root" || got.Issuer != issuer {
		t.Errorf("%+v", got)
	}
	none := "eyJhbGciOiJub25lIn0." + parts[1] + "."
	for name, c := range map[string]struct {
		token string
		at    time.Time
	}{
		"empty":            {"", now},
		"no parts":         {"abc", now},
		"no algorithm":     {none, now},
		"wrong signature":  {parts[0] + "." + parts[1] + "." + strings.Split(own, ".")[2], now},
		"expired":          {own, now.Add(time.Minute)},
		"from the future":  {own, now.Add(-2 * time.Minute)},
		"other issuer":     {signToken(claims{Issuer: "me", User: "root"}, secrets[0]), now},
		"names nobody":     {signToken(claims{Issuer: issuer}, secrets[0]), now},
		"other secret":     {signToken(claims{Issuer: issuer, User: "root"}, []byte("guess")), now},
		"not base64":       {"!.!.!", now},
		"too long":         {own + strings.Repeat("A", maxToken), now},
		"without payload":  {parts[0] + "..", now},
		"payload not JSON": {parts[0] + ".AAAA.AAAA", now},
	} {
		if got, err := verifyToken(c.token, secrets, c.at); err == nil {
			t.Errorf("%s: accepted as %+v", name, got)
		} else if strings.Contains(err.Error(), "secret\"") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzVerifyToken(f *testing.F) {
	secret := []byte("secret")
	now := time.Unix(1_700_000_000, 0)
	f.Add(signToken(claims{Issuer: issuer, User: "root"}, secret))
	f.Add("a.b.c")
	f.Fuzz(func(t *testing.T, token string) {
		c, err := verifyToken(token, [][]byte{secret}, now)
		if err == nil && c.Issuer != issuer {
			t.Errorf("accepted %+v", c)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"id": ["a"], "timeout": 1e9, "abort": null, "uploadId": 12}`))
	f.Add([]byte(`[`))
	f.Fuzz(func(t *testing.T, body []byte) {
		fields, refused := parse(body)
		if refused != nil {
			if refused.code != 400 || refused.num == 0 {
				t.Errorf("%+v", refused)
			}
			return
		}
		fields.text("id")
		fields.texts("id")
		fields.flag("abort")
		fields.number("timeout")
		fields.jobNumber("uploadId")
		fields.required("id")
		transferAction(body, ActionUpload)
	})
}

// TestDocumentHasTheRoutes compares the document with what is served, method by method.
func TestDocumentHasTheRoutes(t *testing.T) {
	var doc struct {
		Paths map[string]map[string]any `json:"paths"`
	}
	if err := json.Unmarshal(openAPI, &doc); err != nil {
		t.Fatal(err)
	}
	var documented, served []string
	for path, item := range doc.Paths {
		// What follows an asynchronous request's path is one route of the handler.
		if rest, ok := strings.CutPrefix(path, jobPath+"/{id}"); ok {
			if rest != "" {
				continue
			}
			path = jobPath
		}
		for method := range item {
			if method != "parameters" {
				documented = append(documented, strings.ToUpper(method)+" "+path)
			}
		}
	}
	for path, methods := range new(Handler).table() {
		for method := range methods {
			served = append(served, method+" "+path)
		}
	}
	slices.Sort(documented)
	slices.Sort(served)
	if diff := cmp.Diff(documented, served); diff != "" {
		t.Error(diff)
	}
}

func TestReport(t *testing.T) {
	at := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		kind   transfer.Kind
		server transfer.ServerStatus
		want   serverProgress
	}{
		{transfer.KindUpload, transfer.ServerStatus{State: transfer.StateAck}, serverProgress{Status: "ACK"}},
		{transfer.KindUpload, transfer.ServerStatus{State: transfer.StateStarted, Progress: transfer.Progress{FilesTotal: 5, FilesDone: 2}},
			serverProgress{Status: "STARTED", Progress: fileProgress{Total: 5, Done: 2}}},
		{transfer.KindUpload, transfer.ServerStatus{State: transfer.StateCompleted, Progress: transfer.Progress{FilesTotal: 5, FilesDone: 5}},
			serverProgress{Status: "COMPLETED", Progress: fileProgress{Total: 5, Done: 5}}},
		{transfer.KindUpload, transfer.ServerStatus{State: transfer.StateCompleted}, serverProgress{Status: "COMPLETED", Progress: fileProgress{Total: 1, Done: 1}}},
		{transfer.KindUpload, transfer.ServerStatus{State: transfer.StateFailed, Error: "gone", Kind: transfer.ErrorNotFound},
			serverProgress{Status: "FAILED", Error: 7007, ErrorMessage: "no such hot backup set can be found: gone"}},
		{transfer.KindDownload, transfer.ServerStatus{State: transfer.StateFailed, Error: "x", Kind: transfer.ErrorCorrupt},
			serverProgress{Status: "FAILED", Error: 7006, ErrorMessage: "failed to download hot backup set from remote source: x"}},
		{transfer.KindUpload, transfer.ServerStatus{State: transfer.StateFailed, Error: "x", Kind: transfer.ErrorNoSpace},
			serverProgress{Status: "FAILED", Error: 7004, ErrorMessage: "no space left on device: x"}},
		{transfer.KindUpload, transfer.ServerStatus{State: transfer.StateFailed, Error: "x", Kind: transfer.ErrorAuthentication},
			serverProgress{Status: "FAILED", Error: 7005, ErrorMessage: "failed to upload hot backup set to remote target: x"}},
		{transfer.KindUpload, transfer.ServerStatus{State: transfer.StateCancelled}, serverProgress{Status: "CANCELLED"}},
	} {
		c.server.Updated = at
		c.want.Progress.Time, c.want.Progress.Timestamp = "2025-01-01T00:00:00Z", "2025-01-01T00:00:00Z"
		got := report(&transfer.Status{Kind: c.kind, State: c.server.State, Snapshot: "a", Created: at.Add(-time.Hour), Servers: map[string]transfer.ServerStatus{"SNGL": c.server}})
		want := progress{Timestamp: "2025-01-01T00:00:00Z", BackupID: "a", Cancelled: c.want.Status == "CANCELLED", Servers: map[string]serverProgress{"SNGL": c.want}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
}

// TestMessages makes sure that every number that is used has a text, and none is used twice.
func TestMessages(t *testing.T) {
	for _, class := range classes {
		if class.num != 0 && messages[class.num] == "" {
			t.Errorf("%d has no message", class.num)
		}
	}
	seen := map[string]int{}
	for _, num := range slices.Sorted(maps.Keys(messages)) {
		if other, twice := seen[messages[num]]; twice {
			t.Error(fmt.Sprint(num, " says what ", other, " says"))
		}
		seen[messages[num]] = num
	}
}
