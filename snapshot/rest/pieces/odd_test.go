package pieces_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"github.com/coder/websocket"

	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/snapshot/rest/pieces"
)

// Once the restored data is in place it is too late to cancel, and the client is told so.
func TestCancelTooLate(t *testing.T) {
	s := newServer(t, quick)
	b := s.create()
	starting, open := make(chan struct{}), make(chan struct{})
	s.start = func(context.Context) error {
		close(starting)
		<-open
		return nil
	}
	restored := s.later("POST", "/backup/"+b.ID+"/restore", "")
	<-starting
	cancelled := s.later("POST", "/backup/"+b.ID+"/restoration/cancel", "")
	close(open)
	if r := s.want(<-cancelled, 500); !strings.Contains(r.body, "too late") && !strings.Contains(r.body, "under way") {
		t.Errorf("%q", r.body)
	}
	s.want(<-restored, 200)
	if s.restored("present") != "none" {
		t.Error("the backup is not in place")
	}
}

// The restored database does not start: the one from before is back, and the restore has failed.
func TestDatabaseDoesNotStart(t *testing.T) {
	s := newServer(t, quick)
	b := s.create()
	tries := 0
	s.start = func(context.Context) error {
		if tries++; tries == 1 {
			return errors.New("bad format")
		}
		return nil
	}
	if r := s.want(s.send("POST", "/backup/"+b.ID+"/restore", ""), 500); !strings.Contains(r.body, "bad format") {
		t.Errorf("%q", r.body)
	}
	if tries != 2 || s.restored("present") != "as it is" {
		t.Errorf("started %d times, %q", tries, s.restored("present"))
	}
	if got := decode[statusBody](t, s.want(s.send("GET", "/backup/"+b.ID+"/restoration/status", ""), 200).body); got.Value != "FAILED" {
		t.Errorf("%+v", got)
	}
}

// Restores do not fill the disk: what the last one replaced is kept, and no more, unless that is asked for.
func TestFailsafes(t *testing.T) {
	for keep, want := range map[int]int{0: 1, 2: 2, -1: 3} {
		s := newServer(t, func(_ *snapshot.Config, o *pieces.Options) { o.Restore.KeepFailsafes = keep })
		b := s.create()
		for i := range 3 {
			s.want(s.send("POST", "/backup/"+b.ID+"/restore", ""), 200)
			if err := os.WriteFile(filepath.Join(s.dir, "present"), []byte{byte('a' + i)}, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		kept, err := filepath.Glob(s.dir + ".previous-*")
		if err != nil || len(kept) != want {
			t.Errorf("KeepFailsafes %d: %s, error %v", keep, kept, err)
		}
		newest := 0
		for _, path := range kept {
			if data, err := os.ReadFile(filepath.Join(path, "present")); err == nil && string(data) == "b" {
				newest++
			}
		}
		if newest != 1 {
			t.Errorf("KeepFailsafes %d: what the last restore replaced is there %d times", keep, newest)
		}
	}
}

// A version and timestamp that two backups share stand for neither.
func TestAmbiguousName(t *testing.T) {
	s := newServer(t, nil)
	b := s.create()
	twin := b.ID[:14] + "7abc-8abc-" + "0123456789ab"
	if _, err := s.engine.Create(t.Context(), snapshot.CreateOptions{Label: twin}); err != nil {
		t.Fatal(err)
	}
	name := url.PathEscape(b.name())
	s.want(s.send("POST", "/backups/"+name+"/delete", ""), 409)
	s.want(s.send("GET", "/backup/"+name, ""), 409)
	if got := decode[backupBody](t, s.want(s.send("GET", "/backup/"+twin, ""), 200).body); got.ID != twin || got.Timestamp != b.Timestamp {
		t.Errorf("%+v", got)
	}
	s.want(s.send("POST", "/backups/"+twin+"/delete", ""), 204)
	s.want(s.send("POST", "/backups/"+name+"/delete", ""), 204)
}

// A damaged snapshot does not keep the others from being listed and found.
func TestDamagedSnapshot(t *testing.T) {
	s := newServer(t, nil)
	b := s.create()
	m, err := s.engine.Create(t.Context(), snapshot.CreateOptions{Label: "damaged"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.bucket.WriteAll(t.Context(), "snapshot/"+m.ID, []byte("what a broken disk returns"), nil); err != nil {
		t.Fatal(err)
	}
	if list := s.list(); len(list.Iterable) != 1 || list.Iterable[0] != b {
		t.Errorf("%+v", list)
	}
	if got := decode[backupBody](t, s.want(s.send("GET", "/backup/"+url.PathEscape(b.name()), ""), 200).body); got != b {
		t.Errorf("%+v", got)
	}
	r := s.send("GET", "/backup/"+m.ID, "")
	if r.code != 500 && r.code != 505 || !strings.Contains(r.body, m.ID) {
		t.Errorf("status %d: %q", r.code, r.body)
	}
}

// A creation that somebody else began has no name before it ends, and is shown all the same.
func TestForeignCreation(t *testing.T) {
	s := newServer(t, nil)
	release := s.source.block()
	defer release()
	job, err := s.engine.StartCreate(t.Context(), snapshot.CreateOptions{Label: "nightly"})
	if err != nil {
		t.Fatal(err)
	}
	<-s.source.entered
	all := decode[allBody](t, s.want(s.send("GET", "/backups/streamed/progress", ""), 200).body)
	if len(all.Backups) != 1 || all.Backups[0].Status != "IN-PROGRESS" {
		t.Errorf("%+v", all)
	}
	s.want(s.send("GET", "/backup/nightly/creation/status", ""), 404)
	release()
	if err := job.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	id := job.Status().Snapshot
	if got := decode[statusBody](t, s.want(s.send("GET", "/backup/"+id+"/creation/status", ""), 200).body); got.Value != "COMPLETED" || got.Backup.ID != id {
		t.Errorf("%+v", got)
	}
}

// An engine that only restores makes no backups, and has no version.
func TestNoSources(t *testing.T) {
	s := newServer(t, nil)
	b := s.create()
	other := newServer(t, func(c *snapshot.Config, _ *pieces.Options) {
		c.Bucket, c.Sources, c.DatabaseVersion = s.bucket, nil, ""
	})
	if r := other.want(other.send("POST", "/backups/create", ""), 500); !strings.Contains(r.body, "no sources") {
		t.Errorf("%q", r.body)
	}
	if p := decode[progressBody](t, other.want(other.send("POST", "/backups/create/streamed", ""), 200).body); p.Status != "FAILED" || p.Backup != nil {
		t.Errorf("%+v", p)
	}
	if list := other.list(); len(list.Iterable) != 1 || list.Iterable[0] != b {
		t.Errorf("%+v", list)
	}
	if err := other.engine.Close(); err != nil {
		t.Fatal(err)
	}
	// The handler outlives its engine, and says so.
	other.want(other.send("GET", "/backups", ""), 500)
	other.want(other.send("POST", "/backups/create/streamed", ""), 500)
	conn, _, err := other.dial("/backups/create/streamed/websocket", "")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	if _, _, err := conn.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusInternalError || !strings.Contains(err.Error(), "closed") {
		t.Error(err)
	}
}

// Something is sent on a stream of events while nothing changes.
func TestEventsKeepAlive(t *testing.T) {
	s := newServer(t, quick)
	release := s.source.block()
	defer release()
	stream := s.open("POST", "/backups/create/streamed", "text/event-stream")
	s.running()
	head := stream.read(700)
	release()
	if !strings.Contains(head, "\n\n:\n\n") || !strings.HasPrefix(head, "data: {") {
		t.Errorf("%q", head)
	}
	s.want(stream.rest(), 200)
}

// Clients restore one backup at the same time, and then delete it: each is told the truth, and the data is that of the
// backup.
func TestAtOnce(t *testing.T) {
	s := newServer(t, quick)
	b := s.create()
	entered, release := make(chan struct{}), make(chan struct{})
	s.stop = func(context.Context) error {
		close(entered)
		<-release
		return nil
	}
	first := s.later("POST", "/backup/"+b.ID+"/restore", "")
	<-entered
	var others []<-chan reply
	for range 4 {
		others = append(others, s.later("POST", "/backup/"+b.ID+"/restore", ""))
	}
	for _, other := range others {
		s.want(<-other, 500)
	}
	close(release)
	s.want(<-first, 200)
	if s.restored("present") != "none" || !strings.Contains(s.restored("a0/rows.json"), "customer") {
		t.Error("the backup is not in place")
	}
	others = nil
	for range 8 {
		others = append(others, s.later("POST", "/backups/"+b.ID+"/delete", ""))
	}
	deleted := 0
	for _, other := range others {
		if r := <-other; r.code == 204 {
			deleted++
		} else {
			s.want(r, 500)
		}
	}
	if list := s.list(); deleted == 0 || len(list.Iterable) != 0 {
		t.Errorf("deleted %d times, left is %+v", deleted, list)
	}
}

// A hook that panics costs its request, and no more than that: requests are counted, and one is allowed at a time.
func TestHooksThatPanic(t *testing.T) {
	var where atomic.Value
	where.Store("")
	s := newServer(t, func(_ *snapshot.Config, o *pieces.Options) {
		o.MaxRequests = 1
		o.Authorize = func(*http.Request, pieces.Action) error {
			if where.Load() == "authorize" {
				panic(http.ErrAbortHandler)
			}
			return nil
		}
		o.Assets = func(context.Context, []pieces.Asset) ([]string, error) {
			if where.Load() == "assets" {
				panic(http.ErrAbortHandler)
			}
			return []string{"kv/a0/**"}, nil
		}
	})
	for _, hook := range []string{"authorize", "assets"} {
		where.Store(hook)
		if r, err := s.try(t.Context(), "POST", "/backup/asset", `{"id":"a0"}`); err == nil {
			t.Errorf("%s: %+v", hook, r)
		}
	}
	where.Store("")
	s.want(s.send("POST", "/backup/asset", `{"id":"a0"}`), 204)
	if err := s.handler.Close(); err != nil {
		t.Error(err)
	}
}

// A client that goes away while it sends is not waited for, and nothing comes of it.
func TestCutBody(t *testing.T) {
	s := newServer(t, nil)
	for _, path := range []string{"/backups/create", "/backup", "/connect"} {
		w := httptest.NewRecorder()
		s.handler.ServeHTTP(w, httptest.NewRequest("POST", path, io.MultiReader(strings.NewReader(`{"a":`), iotest.ErrReader(io.ErrUnexpectedEOF))))
		if w.Code != http.StatusBadRequest {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	deep := `{"a":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + "}"
	s.want(s.send("POST", "/backups/create", deep), 400)
	if list := s.list(); len(list.Iterable) != 0 {
		t.Errorf("%+v", list)
	}
}
