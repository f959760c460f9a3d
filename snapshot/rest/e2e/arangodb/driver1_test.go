package arangodb_test

import (
	"strings"
	"testing"
	"time"

	driver1 "github.com/arangodb/go-driver"
	http1 "github.com/arangodb/go-driver/http"
	jwt1 "github.com/arangodb/go-driver/jwt"
	"github.com/google/go-cmp/cmp"

	"github.com/holdstill/holdstill/snapshot/rest/arangodb"
)

// client1 returns the first driver's client.
func client1(t *testing.T, s *server, auth driver1.Authentication) driver1.Client {
	t.Helper()
	conn, err := http1.NewConnection(http1.ConnectionConfig{Endpoints: []string{s.url}})
	must(t, err)
	c, err := driver1.NewClient(driver1.ClientConfig{Connection: conn, Authentication: auth})
	must(t, err)
	return c
}

func progress1(t *testing.T, b driver1.ClientBackup, job driver1.BackupTransferJobID, want driver1.BackupTransferStatus) driver1.BackupTransferProgressReport {
	t.Helper()
	var p driver1.BackupTransferProgressReport
	until(t, "the transfer to be "+string(want), func() bool {
		var err error
		p, err = b.Progress(t.Context(), job)
		must(t, err)
		one := p.DBServers["SNGL"]
		if one.Status != want && one.Status != driver1.TransferAcknowledged && one.Status != driver1.TransferStarted {
			t.Fatalf("the transfer is %+v, want %s", one, want)
		}
		return one.Status == want
	})
	return p
}

// TestDriver1 runs every backup call of github.com/arangodb/go-driver in the order of the manual, with each
// of its ways to authenticate.
func TestDriver1(t *testing.T) {
	token, err := jwt1.CreateArangodJwtAuthorizationHeader(string(secret), "test")
	must(t, err)
	for name, auth := range map[string]driver1.Authentication{
		"user's token": driver1.JWTAuthentication("root", "open sesame"),
		"basic":        driver1.BasicAuthentication("root", "open sesame"),
		"superuser":    driver1.RawAuthentication(token),
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, arangodb.Options{JWTSecrets: [][]byte{[]byte("another"), secret}, Login: login}, nil)
			before := s.fill(1)
			ctx := t.Context()
			c := client1(t, s, auth)
			if v, err := c.Version(ctx); err != nil || v.Version != "3.12.5" {
				t.Fatal(v, err)
			}
			b := c.Backup()
			//lint:ignore SA1019 clients still send it
			id, made, err := b.Create(ctx, &driver1.BackupCreateOptions{Label: "nightly", AllowInconsistent: true, Timeout: 90500 * time.Millisecond})
			must(t, err)
			if !strings.HasSuffix(string(id), "Z_nightly") || made.NumberOfFiles == 0 || made.SizeInBytes == 0 || made.PotentiallyInconsistent {
				t.Errorf("%s %+v", id, made)
			}
			other, _, err := b.Create(ctx, nil)
			must(t, err)
			all, err := b.List(ctx, nil)
			must(t, err)
			if len(all) != 2 {
				t.Errorf("%+v", all)
			}
			one, err := b.List(ctx, &driver1.BackupListOptions{ID: id})
			must(t, err)
			if diff := cmp.Diff(map[driver1.BackupID]driver1.BackupMeta{id: all[id]}, one); diff != "" {
				t.Error(diff)
			}
			must(t, b.Delete(ctx, other))
			if err := b.Delete(ctx, other); !driver1.IsNotFoundGeneral(err) {
				t.Errorf("deleted twice: %v", err)
			}
			where, config := "local:"+s.Root()+"/remote", map[string]any{"local": map[string]any{"type": "local", "copy_links": "false"}}
			up, err := b.Upload(ctx, id, where, config)
			must(t, err)
			if p := progress1(t, b, up, driver1.TransferCompleted); p.BackupID != id || p.DBServers["SNGL"].Progress.Total == 0 {
				t.Errorf("%+v", p)
			}
			lost, err := b.Upload(ctx, "not_there", where, config)
			must(t, err)
			progress1(t, b, lost, driver1.TransferFailed)
			must(t, b.Delete(ctx, id))
			if err := b.Restore(ctx, id, nil); !driver1.IsNotFoundGeneral(err) {
				t.Errorf("restored what is deleted: %v", err)
			}
			s.fill(2)
			down, err := b.Download(ctx, id, where, config)
			must(t, err)
			progress1(t, b, down, driver1.TransferCompleted)
			must(t, b.Restore(ctx, id, &driver1.BackupRestoreOptions{IgnoreVersion: true}))
			s.available()
			if diff := cmp.Diff(before, s.rows()); diff != "" {
				t.Error(diff)
			}
			must(t, b.Delete(ctx, id))
		})
	}
}

// TestDriver1Abort aborts an upload and a download, both by the key of uploads.
func TestDriver1Abort(t *testing.T) {
	testAbort(t, func(t *testing.T, s *server, here, there, where string, config any) {
		b := client1(t, s, driver1.BasicAuthentication("root", "open sesame")).Backup()
		up, err := b.Upload(t.Context(), driver1.BackupID(here), where, config)
		must(t, err)
		down, err := b.Download(t.Context(), driver1.BackupID(there), where, config)
		must(t, err)
		for _, job := range []driver1.BackupTransferJobID{up, down} {
			must(t, b.Abort(t.Context(), job))
			if p := progress1(t, b, job, driver1.TransferCancelled); !p.Cancelled {
				t.Errorf("%+v", p)
			}
		}
	})
}
