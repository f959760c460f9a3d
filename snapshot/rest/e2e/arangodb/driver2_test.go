package arangodb_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	driver2 "github.com/arangodb/go-driver/v2/arangodb"
	"github.com/arangodb/go-driver/v2/arangodb/shared"
	"github.com/arangodb/go-driver/v2/connection"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/time/rate"

	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/snapshot"
	"github.com/holdstill/holdstill/snapshot/rest/arangodb"
)

var secret = []byte("a secret that both sides know")

// login lets the administrator in.
func login(_ context.Context, user, password string) error {
	if user != "root" || password != "open sesame" {
		return errors.New("wrong name or password")
	}
	return nil
}

// client2 returns the second driver's client, over HTTP/2 without TLS, with a user's token.
func client2(t *testing.T, s *server) driver2.Client {
	t.Helper()
	conn := connection.NewHttp2Connection(connection.DefaultHTTP2ConfigurationWrapper(
		connection.NewRoundRobinEndpoints([]string{s.url}), false))
	return driver2.NewClient(connection.NewJWTAuthWrapper("root", "open sesame")(conn))
}

func progress2(t *testing.T, m driver2.TransferMonitor, want driver2.BackupTransferStatus) driver2.BackupTransferProgressResponse {
	t.Helper()
	var p driver2.BackupTransferProgressResponse
	until(t, "the transfer to be "+string(want), func() bool {
		var err error
		p, err = m.Progress(t.Context())
		must(t, err)
		if len(p.DBServers) != 1 {
			t.Fatalf("%d servers in %+v", len(p.DBServers), p)
		}
		one := p.DBServers["SNGL"]
		if one.Status != want && one.Status != driver2.TransferAcknowledged && one.Status != driver2.TransferStarted {
			t.Fatalf("the transfer is %+v, want %s", one, want)
		}
		return one.Status == want
	})
	return p
}

// TestDriver2 runs every backup call of github.com/arangodb/go-driver/v2 in the order of the manual.
func TestDriver2(t *testing.T) {
	s := start(t, arangodb.Options{JWTSecrets: [][]byte{secret}, Login: login}, nil)
	before := s.fill(1)
	c := client2(t, s)
	ctx := t.Context()
	if v, err := c.Version(ctx); err != nil || string(v.Version) != "3.12.5" || v.Server != "arango" {
		t.Fatal(v, err)
	}
	timeout, yes := uint(90), true
	made, err := c.BackupCreate(ctx, &driver2.BackupCreateOptions{Label: "Today's Hot Backup", Timeout: &timeout, Force: &yes, AllowInconsistent: &yes})
	must(t, err)
	if !strings.HasSuffix(made.ID, "Z_Today.s_Hot_Backup") || made.NumberOfFiles == 0 || made.SizeInBytes == 0 || made.NumberOfDBServers != 1 ||
		made.PotentiallyInconsistent || time.Since(made.CreationTime) > time.Hour {
		t.Errorf("%+v", made)
	}
	plain, err := c.BackupCreate(ctx, nil)
	must(t, err)
	all, err := c.BackupList(ctx, nil)
	must(t, err)
	if len(all.Backups) != 2 || !strings.HasPrefix(all.Server, "SNGL-") {
		t.Errorf("%+v", all)
	}
	one, err := c.BackupList(ctx, &driver2.BackupListOptions{ID: made.ID})
	must(t, err)
	if diff := cmp.Diff(map[string]driver2.BackupMeta{made.ID: all.Backups[made.ID]}, one.Backups); diff != "" {
		t.Error(diff)
	}
	if meta := one.Backups[made.ID]; meta.Version != "3.12.5" || !meta.Available || meta.NumberOfPiecesPresent != 1 || meta.ID != made.ID {
		t.Errorf("%+v", meta)
	}
	must(t, c.BackupDelete(ctx, plain.ID))
	if err := c.BackupDelete(ctx, plain.ID); !shared.IsNotFound(err) {
		t.Errorf("deleted twice: %v", err)
	}

	where := "my-local:/" + s.Root() + "/remote//"
	config := map[string]any{"my-local": map[string]string{"type": "local"}}
	up, err := c.BackupUpload(ctx, made.ID, where, config)
	must(t, err)
	p := progress2(t, up, driver2.TransferCompleted)
	if total := p.DBServers["SNGL"].Progress; p.BackupID != made.ID || p.Cancelled || total.Total == 0 || total.Done != total.Total {
		t.Errorf("%+v", p)
	}
	lost, err := c.BackupUpload(ctx, "not_there", where, config)
	must(t, err)
	if p := progress2(t, lost, driver2.TransferFailed); p.DBServers["SNGL"].Error != 7007 || p.DBServers["SNGL"].ErrorMessage == "" {
		t.Errorf("%+v", p)
	}

	must(t, c.BackupDelete(ctx, made.ID))
	must(t, s.Put(ctx, "row00001", "changed", "new", "row"))
	must(t, s.Delete(ctx, "row00002"))
	down, err := c.BackupDownload(ctx, made.ID, where, config)
	must(t, err)
	progress2(t, down, driver2.TransferCompleted)
	restored, err := c.BackupRestore(ctx, made.ID)
	must(t, err)
	if restored.Previous == "" {
		t.Error("nothing is told of what stood there")
	}
	s.available()
	if diff := cmp.Diff(before, s.rows()); diff != "" {
		t.Error(diff)
	}
	must(t, c.BackupDelete(ctx, made.ID))
	if m, err := c.TransferMonitor(down.GetID(), driver2.TransferTypeDownload); err != nil {
		t.Error(err)
	} else {
		progress2(t, m, driver2.TransferCompleted)
	}
}

// testAbort has a backup in a remote repository, and another one only here, and calls abort with a server
// whose transfers last until they are aborted.
func testAbort(t *testing.T, abort func(t *testing.T, s *server, here, there, where string, config any)) {
	s := start(t, arangodb.Options{}, nil)
	s.fill(1)
	where, config := "disk:"+s.Root()+"/remote", map[string]any{"disk": map[string]string{"type": "local"}}
	there, err := s.Engine().Create(t.Context(), snapshot.CreateOptions{Label: "there"})
	must(t, err)
	job, err := s.Engine().Upload(t.Context(), there.ID, where, snapshot.TransferOptions{Locations: repo.LocationConfig{"disk": {"type": "local"}}})
	must(t, err)
	must(t, job.Wait(t.Context()))
	must(t, s.Engine().Delete(t.Context(), there.ID))
	s.fill(2)
	here, err := s.Engine().Create(t.Context(), snapshot.CreateOptions{Label: "here"})
	must(t, err)
	// One object passes, and the next waits for a day.
	limit := func() *rate.Limiter { return rate.NewLimiter(rate.Every(24*time.Hour), 1) }
	slow := serve(t, s.DB, arangodb.Options{
		JWTSecrets: [][]byte{secret}, Login: login,
		Transfer: snapshot.TransferOptions{Options: repo.Options{ReadLimiter: limit(), WriteLimiter: limit()}},
	})
	abort(t, slow, here.ID, there.ID, where, config)
	if _, err := s.Engine().Get(t.Context(), there.ID); !errors.Is(err, snapshot.ErrNotFound) {
		t.Errorf("what was aborted is listed: %v", err)
	}
}

// TestDriver2Abort aborts an upload and a download, which the driver does on the path of uploads.
func TestDriver2Abort(t *testing.T) {
	testAbort(t, func(t *testing.T, s *server, here, there, where string, config any) {
		c := client2(t, s)
		up, err := c.BackupUpload(t.Context(), here, where, config)
		must(t, err)
		down, err := c.BackupDownload(t.Context(), there, where, config)
		must(t, err)
		for _, m := range []driver2.TransferMonitor{up, down} {
			must(t, m.Abort(t.Context()))
			if p := progress2(t, m, driver2.TransferCancelled); !p.Cancelled {
				t.Errorf("%+v", p)
			}
		}
	})
}
