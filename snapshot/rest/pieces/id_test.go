package pieces

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/transfer"
)

func TestIDs(t *testing.T) {
	var ids idMaker
	now := time.Date(2025, 6, 1, 10, 0, 0, 999999, time.UTC)
	seen := map[string]bool{}
	var last string
	for i := range 1000 {
		id := ids.next(now)
		at, ok := idTime(id)
		if !ok || !at.Equal(now.Truncate(time.Millisecond).Add(time.Duration(i)*time.Millisecond)) || id <= last || seen[id[:13]] {
			t.Fatalf("ID %d: %s, %v, %v", i, id, at, ok)
		}
		if err := snapshot.CheckLabel(id); err != nil {
			t.Fatal(err)
		}
		last, seen[id[:13]] = id, true
	}
	for _, id := range []string{
		"", "nightly", strings.ToUpper(last), last[:35], last + "0", strings.ReplaceAll(last, "-", "0"),
		"01972b1a-0000-4000-8000-000000000000", "01972b1a-0000-7000-0000-000000000000", "01972b1a-0000-7000-8000-00000000000g",
	} {
		if at, ok := idTime(id); ok && id != last {
			t.Errorf("%q is taken for an ID of %v", id, at)
		}
	}
}

func TestName(t *testing.T) {
	b := backup{ID: "b1", Version: "11.0.1", Timestamp: "2025-06-01T10:00:00.123Z"}
	for _, text := range []string{
		"b1", "s1", "11.0.1_2025-06-01T10:00:00.123Z", "11.0.1_2025-06-01T10:00:00.123+00:00", "11.0.1_2025-06-01T12:00:00.123+02:00",
		"11.0.1_2025-06-01T10:00:00.123000", "11.0.1_2025-06-01 10:00:00.123", "11.0.1_2025-06-01T10:00:00.123Z",
	} {
		n, err := parseName(text)
		if err != nil || !n.means(&b, "s1") {
			t.Errorf("%q: error %v", text, err)
		}
	}
	for _, text := range []string{
		"b2", "11.0.1_2025-06-01T10:00:00Z", "11.0.2_2025-06-01T10:00:00.123Z", "_2025-06-01T10:00:00.123Z", "11.0.1_", "11.0.1", "2025-06-01T10:00:00.123Z",
	} {
		n, err := parseName(text)
		if err != nil || n.means(&b, "s1") {
			t.Errorf("%q: error %v", text, err)
		}
	}
	// A backup without a snapshot is not named by nothing.
	if n, err := parseName(""); err == nil || n.means(&b, "") && n.text == "" && b.ID == "" {
		t.Errorf("an empty name: error %v", err)
	}
}

func FuzzName(f *testing.F) {
	for _, text := range []string{"b1", "11.0.1_2025-06-01T10:00:00.123Z", "a/b", "..", "a_b_2025-06-01T10:00:00", "\x00", "\xff", "é_2025-06-01T10:00:00Z"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := parseName(text)
		if err != nil {
			if statusOf(err) != http.StatusBadRequest {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		if strings.ContainsAny(text, "/\\\x00\n") || strings.Contains(text, "..") || text == "" || text == "." {
			t.Errorf("%q was accepted", text)
		}
		b := backup{ID: text, Version: n.version, Timestamp: n.at.Format(timeLayout)}
		if !n.means(&b, "") {
			t.Errorf("%q does not mean itself", text)
		}
		if n.dated {
			// What is shown for a backup that it names names that too.
			if again, err := parseName(b.Version + "_" + b.Timestamp); err != nil || !again.dated || again.version != n.version {
				t.Errorf("%q: %+v, error %v", text, again, err)
			}
		}
	})
}

func TestStatusOf(t *testing.T) {
	for err, want := range map[error]int{
		errors.New("other"):                             500,
		&repo.FormatError{}:                             505,
		fmt.Errorf("store: %w", repo.ErrAuthentication): 511,
		fmt.Errorf("store: %w", repo.ErrPermission):     511,
		fmt.Errorf("store: %w", repo.ErrUnavailable):    511,
		fmt.Errorf("store: %w", repo.ErrNoBucket):       511,
		&repo.CorruptError{}:                            500,
		&http.MaxBytesError{Limit: 1}:                   413,
		fmt.Errorf("in: %w", badRequest("no")):          400,
		&missingError{"x"}:                              500,
	} {
		if got := statusOf(err); got != want {
			t.Errorf("%T %v: %d, want %d", err, err, got, want)
		}
	}
}

func TestFormatOf(t *testing.T) {
	for accept, want := range map[string]format{
		"": formatOne, "*/*": formatOne, "application/json": formatOne, "text/html": formatOne, ";;": formatOne,
		"application/x-ndjson": formatLines, "application/x-ndjson, application/json": formatLines,
		"application/json, application/x-ndjson": formatOne, "text/event-stream": formatEvents, "TEXT/Event-Stream; charset=utf-8": formatEvents,
		"text/event-stream;q=0": formatOne, "text/event-stream;q=x": formatOne, "text/event-stream;q=NaN": formatOne, "text/event-stream;q=9": formatOne,
		"application/x-ndjson;q=0.2, text/event-stream;q=0.3, */*;q=0.1": formatEvents,
	} {
		r, err := http.NewRequest("GET", "/", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Accept", accept)
		if got := formatOf(r); got != want {
			t.Errorf("%q: %v, want %v", accept, got, want)
		}
	}
}

func TestPercentage(t *testing.T) {
	for _, test := range []struct {
		state       transfer.State
		done, total int64
		want        int
	}{
		{transfer.StateAck, 0, 0, 0}, {transfer.StateStarted, 40, 100, 40}, {transfer.StateStarted, 100, 100, 99}, {transfer.StateStarted, 7, 0, 0},
		{transfer.StateCompleted, 0, 0, 100}, {transfer.StateCompleted, 5, 5, 100}, {transfer.StateFailed, 1 << 62, 1 << 62, 99},
		{transfer.StateStarted, 1 << 62, 1 << 61, 99}, {transfer.StateStarted, -1, 5, 0},
	} {
		got := percentageOf(transfer.Status{State: test.state, Progress: transfer.Progress{BytesDone: test.done, BytesTotal: test.total}})
		if got != test.want {
			t.Errorf("%+v: %d", test, got)
		}
	}
}

func TestShorten(t *testing.T) {
	for text, want := range map[string]string{"abc": "abc", "abcdef": "abcd", "abcé": "abc", "日本語": "日"} {
		if got := shorten(text, 4); got != want {
			t.Errorf("%q: %q", text, got)
		}
	}
}
