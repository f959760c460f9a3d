package pieces_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"

	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/snapshot/rest/internal/resttest"
	"github.com/holdstill/holdstill/snapshot/rest/pieces"
	"github.com/holdstill/holdstill/transfer"
)

func quick(_ *snapshot.Config, o *pieces.Options) { o.KeepAlive = 5 * time.Millisecond }

// A generated client reads all of the body and parses one object.
func TestStreamOfOne(t *testing.T) {
	s := newServer(t, quick)
	release := s.source.block()
	for _, accept := range []string{"", "*/*", "application/json", "application/json, text/event-stream;q=0.5", "text/html"} {
		stream := s.open("POST", "/backups/create/streamed", accept)
		b := s.running()
		// The first byte comes while the creation is held up: it keeps the connection alive.
		head := stream.read(1)
		release()
		r := s.want(stream.rest(), 200)
		if head != " " || r.header.Get("Content-Type") != "application/json" {
			t.Errorf("Accept %q: %v %q", accept, r.header, r.body)
		}
		p := decode[progressBody](t, r.body)
		if p.Status != "COMPLETED" || p.Percentage == nil || *p.Percentage != 100 || p.Backup == nil || p.Backup.ID != b.ID || p.Backup.Bytes == 0 {
			t.Errorf("%s", r.body)
		}
		release = s.source.block()
	}
	release()
	b := s.list().Iterable[0]
	p := decode[progressBody](t, s.want(s.send("POST", "/backup/"+b.ID+"/restore/streamed", ""), 200).body)
	if p.Status != "COMPLETED" || p.Backup == nil || *p.Backup != b {
		t.Errorf("%+v", p)
	}
	if s.restored("present") != "none" {
		t.Error("nothing was restored")
	}
}

func TestStreamOfMany(t *testing.T) {
	s := newServer(t, quick)
	for accept, split := range map[string]func(string) []string{
		"application/x-ndjson": func(body string) []string { return strings.Split(strings.TrimSpace(body), "\n") },
		"text/event-stream": func(body string) (out []string) {
			for _, event := range strings.Split(body, "\n\n") {
				if data, ok := strings.CutPrefix(event, "data: "); ok {
					out = append(out, data)
				} else if event != "" && event != ":" {
					t.Errorf("event %q", event)
				}
			}
			return out
		},
	} {
		release := s.source.block()
		stream := s.open("POST", "/backups/create/streamed", "application/json;q=0.1, "+accept)
		s.running()
		head := stream.read(20)
		release()
		r := s.want(stream.rest(), 200)
		r.body = head + r.body
		if r.header.Get("Content-Type") != accept {
			t.Errorf("Content-Type %q", r.header.Get("Content-Type"))
		}
		messages := split(r.body)
		if len(messages) < 2 {
			t.Fatalf("%s: %q", accept, r.body)
		}
		checkMessages(t, messages)
	}
}

// checkMessages checks the progress of one job that completes: nothing goes back, and the
// last message, and no other, tells of the end.
func checkMessages(t *testing.T, messages []string) {
	t.Helper()
	before := -1
	for i, message := range messages {
		p := decode[progressBody](t, message)
		last := i == len(messages)-1
		if (p.Status == "COMPLETED") != last || p.Percentage == nil || *p.Percentage < before || (*p.Percentage == 100) != last || p.Backup == nil {
			t.Errorf("message %d of %d: %s", i+1, len(messages), message)
		}
		before = *p.Percentage
	}
}

func TestCancelCreation(t *testing.T) {
	s := newServer(t, quick)
	kept := s.create()
	release := s.source.block()
	defer release()
	for _, path := range []string{"/backups/create", "/backups/create/streamed"} {
		made := s.later("POST", path, "{}")
		b := s.running()
		status := decode[statusBody](t, s.want(s.send("GET", "/backup/"+b.name()+"/creation/status", ""), 200).body)
		if status.Value != "IN-PROGRESS" || status.Percentage == 100 || status.Backup.ID != b.ID {
			t.Errorf("%+v", status)
		}
		s.want(s.send("GET", "/backup/"+b.ID, ""), 500)
		s.want(s.send("POST", "/backup/"+b.ID+"/restore", ""), 500)
		s.want(s.send("POST", "/backups/"+b.ID+"/delete", ""), 500)
		s.want(s.send("POST", "/backup/"+b.ID+"/creation/cancel", ""), 204)
		if path == "/backups/create" {
			s.want(<-made, 500)
		} else if p := decode[progressBody](t, s.want(<-made, 200).body); p.Status != "CANCELED" || p.Backup != nil {
			t.Errorf("%+v", p)
		}
		if got := decode[statusBody](t, s.want(s.send("GET", "/backup/"+b.ID+"/creation/status", ""), 200).body); got.Value != "CANCELED" {
			t.Errorf("%+v", got)
		}
		s.want(s.send("POST", "/backup/"+b.ID+"/creation/cancel", ""), 500)
		if list := s.list(); len(list.Iterable) != 1 || list.Iterable[0] != kept {
			t.Errorf("%+v", list)
		}
	}
}

// A restore is cancelled while it waits for the database to stop: what was there stays.
func TestCancelRestoration(t *testing.T) {
	s := newServer(t, quick)
	b := s.create()
	stopping := make(chan struct{}, 1)
	s.stop = func(ctx context.Context) error {
		stopping <- struct{}{}
		<-ctx.Done()
		return context.Cause(ctx)
	}
	restored := s.later("POST", "/backup/"+b.ID+"/restore/streamed", "")
	<-stopping
	all := decode[allBody](t, s.want(s.send("GET", "/backups/streamed/progress", ""), 200).body)
	if len(all.Backups) != 0 || len(all.Restorations) != 1 || all.Restorations[0].Backup.ID != b.ID || all.Restorations[0].Status != "IN-PROGRESS" {
		t.Errorf("%+v", all)
	}
	// There is one place to restore to.
	s.want(s.send("POST", "/backup/"+b.ID+"/restore", ""), 500)
	// What is under way is no creation.
	s.want(s.send("POST", "/backup/"+b.ID+"/creation/cancel", ""), 500)
	s.want(s.send("POST", "/backup/"+b.ID+"/restoration/cancel", `{"id":"`+b.ID+`"}`), 204)
	if p := decode[progressBody](t, s.want(<-restored, 200).body); p.Status != "CANCELED" {
		t.Errorf("%+v", p)
	}
	if s.restored("present") != "as it is" || s.restored("a0/rows.json") != "none" {
		t.Error("the original is not back")
	}
	if got := decode[statusBody](t, s.want(s.send("GET", "/backup/"+b.ID+"/restoration/status", ""), 200).body); got.Value != "CANCELED" {
		t.Errorf("%+v", got)
	}
	s.want(s.send("POST", "/backup/"+b.ID+"/restoration/cancel", ""), 500)
	s.stop = func(context.Context) error { return errors.New("it will not stop") }
	s.want(s.send("POST", "/backup/"+b.ID+"/restore", ""), 500)
	if p := decode[progressBody](t, s.want(s.send("POST", "/backup/"+b.ID+"/restore/streamed", ""), 200).body); p.Status != "FAILED" {
		t.Errorf("%+v", p)
	}
	if s.restored("present") != "as it is" {
		t.Error("a failed restore changed the data")
	}
}

// dial opens a WebSocket.
func (s *server) dial(path, origin string) (*websocket.Conn, *http.Response, error) {
	opts := &websocket.DialOptions{HTTPHeader: http.Header{}}
	if origin != "" {
		opts.HTTPHeader.Set("Origin", origin)
	}
	return websocket.Dial(s.t.Context(), s.url+path, opts)
}

// receive reads all messages until the server closes.
func receive(t *testing.T, conn *websocket.Conn) (messages []string) {
	t.Helper()
	for {
		kind, data, err := conn.Read(t.Context())
		if websocket.CloseStatus(err) == websocket.StatusNormalClosure {
			return messages
		}
		if err != nil || kind != websocket.MessageText {
			t.Fatalf("a message of kind %v, error %v, after %q", kind, err, messages)
		}
		messages = append(messages, string(data))
	}
}

func TestWebSocket(t *testing.T) {
	s := newServer(t, quick)
	const create = "/backups/create/streamed/websocket"
	if p := decode[progressBody](t, s.want(s.send("GET", create, ""), 200).body); p.Status != "UNKNOWN" {
		t.Errorf("%+v", p)
	}
	release := s.source.block()
	conn, _, err := s.dial(create, "")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	// Clients may send what they would post.
	if err := conn.Write(t.Context(), websocket.MessageText, []byte(`{"schema":null}`)); err != nil {
		t.Fatal(err)
	}
	b := s.running()
	watch, _, err := s.dial("/backups/streamed/progress", s.url)
	if err != nil {
		t.Fatal(err)
	}
	defer watch.CloseNow()
	if _, data, err := watch.Read(t.Context()); err != nil || decode[allBody](t, string(data)).Backups[0].Backup.ID != b.ID {
		t.Errorf("%q, error %v", data, err)
	}
	release()
	checkMessages(t, receive(t, conn))
	all := receive(t, watch)
	if last := decode[allBody](t, all[len(all)-1]); len(last.Backups) != 1 || last.Backups[0].Status != "COMPLETED" {
		t.Errorf("%q", all)
	}
	if p := decode[progressBody](t, s.want(s.send("GET", create, ""), 200).body); p.Status != "COMPLETED" || p.Backup.ID != b.ID {
		t.Errorf("%+v", p)
	}

	restore := "/backup/" + b.ID + "/restore/streamed/websocket"
	if p := decode[progressBody](t, s.want(s.send("GET", restore, ""), 200).body); p.Status != "UNKNOWN" || p.Backup == nil {
		t.Errorf("%+v", p)
	}
	if conn, _, err = s.dial(restore, ""); err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	checkMessages(t, receive(t, conn))
	if s.restored("present") != "none" {
		t.Error("nothing was restored")
	}
	if p := decode[progressBody](t, s.want(s.send("GET", restore, ""), 200).body); p.Status != "COMPLETED" || *p.Backup != b && p.Backup.ID != b.ID {
		t.Errorf("%+v", p)
	}
	if _, r, err := s.dial("/backup/unknown/restore/streamed/websocket", ""); err == nil || r.StatusCode != 500 {
		t.Errorf("an unknown backup: %v, error %v", r, err)
	}
}

// A script of another site opens a WebSocket to a server on its visitor's machine. Browsers
// let it, so the server must not.
func TestWebSocketOfAnotherOrigin(t *testing.T) {
	s := newServer(t, func(_ *snapshot.Config, o *pieces.Options) { o.Origins = []string{"https://app.example.com"} })
	if conn, r, err := s.dial("/backups/create/streamed/websocket", "https://evil.example.com"); err == nil || r.StatusCode != 403 {
		t.Errorf("%v, %v, error %v", conn, r, err)
	}
	for job, err := range s.engine.Jobs(t.Context(), transfer.JobFilter{}) {
		t.Errorf("a job was begun: %+v, error %v", job, err)
	}
	conn, _, err := s.dial("/backups/create/streamed/websocket", "https://app.example.com")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	checkMessages(t, receive(t, conn))
}

// A client that leaves takes nothing with it.
func TestClientLeaves(t *testing.T) {
	s := newServer(t, quick)
	release := s.source.block()
	defer release()
	var ids []string
	ctx, cancel := context.WithCancel(t.Context())
	for _, path := range []string{"/backups/create", "/backups/create/streamed"} {
		go func() { _, _ = s.try(ctx, "POST", path, "") }()
		<-s.source.entered
	}
	conn, _, err := s.dial("/backups/create/streamed/websocket", "")
	if err != nil {
		t.Fatal(err)
	}
	ids = append(ids, s.running().ID)
	cancel()
	conn.CloseNow()
	release()
	for job, err := range s.engine.Jobs(t.Context(), transfer.JobFilter{}) {
		if err != nil {
			t.Fatal(err)
		}
		j, err := s.engine.Job(t.Context(), job.ID)
		if err != nil {
			t.Fatal(err)
		}
		if err := j.Wait(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if list := s.list(); len(list.Iterable) != 3 {
		t.Errorf("%+v, of them %v", list, ids)
	}
}

// A client that reads nothing for a while, and so answers no ping, hears of all that happened.
func TestEndDuringPing(t *testing.T) {
	s := newServer(t, quick)
	release := s.source.block()
	defer release()
	conn, _, err := s.dial("/backups/create/streamed/websocket", "")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	b := s.running()
	time.Sleep(50 * time.Millisecond)
	release()
	for {
		status := decode[statusBody](t, s.want(s.send("GET", "/backup/"+b.ID+"/creation/status", ""), 200).body)
		if status.Value == "COMPLETED" {
			break
		}
	}
	checkMessages(t, receive(t, conn))
}

// Close ends a stream well whose client has not answered a ping yet.
func TestCloseDuringPing(t *testing.T) {
	s := newServer(t, quick)
	release := s.source.block()
	defer release()
	conn, _, err := s.dial("/backups/create/streamed/websocket", "")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	<-s.source.entered
	// Pings are answered while the client reads.
	time.Sleep(50 * time.Millisecond)
	closed := make(chan error, 1)
	go func() { closed <- s.handler.Close() }()
	messages := receive(t, conn)
	if p := decode[progressBody](t, messages[len(messages)-1]); p.Status != "IN-PROGRESS" || p.Backup == nil {
		t.Errorf("%+v", p)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

// Close ends streams with the state as it is.
func TestClose(t *testing.T) {
	s := newServer(t, quick)
	release := s.source.block()
	defer release()
	stream := s.later("POST", "/backups/create/streamed", "")
	plain := s.later("POST", "/backups/create", "")
	<-s.source.entered
	<-s.source.entered
	conn, _, err := s.dial("/backups/streamed/progress", "")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	if _, _, err := conn.Read(t.Context()); err != nil {
		t.Fatal(err)
	}
	closed := make(chan error, 1)
	go func() { closed <- s.handler.Close() }()
	var last allBody
	for _, message := range receive(t, conn) {
		if err := json.Unmarshal([]byte(message), &last); err != nil {
			t.Fatal(err)
		}
	}
	if len(last.Backups) != 2 {
		t.Errorf("%+v", last)
	}
	if p := decode[progressBody](t, s.want(<-stream, 200).body); p.Status != "IN-PROGRESS" {
		t.Errorf("%+v", p)
	}
	s.want(<-plain, 500)
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if err := s.handler.Close(); !errors.Is(err, pieces.ErrClosed) {
		t.Error(err)
	}
	s.want(s.send("GET", "/backups", ""), 503)
}

// The limits of the server on the time of a request do not end one that waits for a job.
func TestTimeLimits(t *testing.T) {
	s := newServer(t, quick)
	for _, path := range []string{"/backups/create/streamed", "/backups/create", "/backup"} {
		release := s.source.block()
		w := resttest.NewLimited()
		var request sync.WaitGroup
		request.Go(func() { s.handler.ServeHTTP(w, httptest.NewRequest("POST", path, nil)) })
		<-s.source.entered
		read, write := w.Passed()
		release()
		request.Wait()
		if read || write {
			t.Errorf("%s: the limits have passed: to read %t, to write %t", path, read, write)
		}
		if body := w.Body.String(); w.Code >= 300 || path != "/backup" && !strings.HasSuffix(body, "}\n") {
			t.Errorf("%s: %d %s", path, w.Code, body)
		}
	}
}

// Streams look often, and do not read the repository each time they do.
func TestStreamsReadLittle(t *testing.T) {
	s := newServer(t, quick)
	b := s.create()
	release := make(chan struct{})
	stopping := make(chan struct{}, 1)
	s.stop = func(context.Context) error {
		stopping <- struct{}{}
		<-release
		return nil
	}
	restored := s.later("POST", "/backup/"+b.ID+"/restore/streamed", "")
	<-stopping
	watch := s.open("GET", "/backups/streamed/progress", "application/x-ndjson")
	watch.read(20)
	before := s.engine.Repository().Traffic()
	time.Sleep(500 * time.Millisecond)
	after := s.engine.Repository().Traffic()
	if diff := cmp.Diff(before, after); diff != "" {
		t.Error(diff)
	}
	close(release)
	s.want(<-restored, 200)
	s.want(watch.rest(), 200)
}
