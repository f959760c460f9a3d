package arangodb_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/holdstill/holdstill/snapshot/rest/arangodb"
)

// python sends what the asynchronous Python driver, python-arango-async, sends: the same requests, headers
// and bodies as its backup calls and its connection with auth_method="superuser".
type python struct{ s *server }

// token makes a token as that driver does.
func (p python) token(secret []byte) string {
	now := time.Now().Unix()
	payload := fmt.Sprintf(`{"iat":%d,"exp":%d,"iss":"arangodb","server_id":"client"}`, now, now+3600)
	text := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + base64.RawURLEncoding.EncodeToString([]byte(payload))
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(text))
	return text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

func (p python) send(method, path, body string) *reply {
	p.s.t.Helper()
	return p.s.send(method, path, body, "Authorization", "bearer "+p.token(secret),
		"x-arango-driver", "arangoasync/1.0.0", "charset", "utf-8", "Content-Type", "application/json")
}

// call runs one backup call, which takes every answer below 300 for a success and returns its result.
func (p python) call(op, body string) (result map[string]any) {
	p.s.t.Helper()
	r := p.send(http.MethodPost, "/_admin/backup/"+op, body)
	if r.code >= 300 {
		p.s.t.Fatalf("%s %s: %d %s", op, body, r.code, r.raw)
	}
	r.result(p.s.t, &result)
	return result
}

// wait polls a job until it has one of the last three states.
func (p python) wait(op, key, id string) (status string) {
	p.s.t.Helper()
	until(p.s.t, "the end of a job", func() bool {
		result := p.call(op, fmt.Sprintf(`{"%s": "%s"}`, key, id))
		status = result["DBServers"].(map[string]any)["SNGL"].(map[string]any)["Status"].(string)
		return status != "ACK" && status != "STARTED"
	})
	return status
}

func quote(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// TestPython replays the calls of the Python driver's guide to backups, in its order, and with every
// argument that they have.
func TestPython(t *testing.T) {
	s := start(t, arangodb.Options{JWTSecrets: [][]byte{secret}, APIEnabled: arangodb.APIJWT}, nil)
	before := s.fill(1)
	p := python{s}
	if r := p.send(http.MethodGet, "/_db/_system/_api/collection", ""); r.code != http.StatusOK {
		t.Fatalf("%d %s", r.code, r.raw)
	}
	made := p.call("create", `{"label": "foo", "allowInconsistent": true, "force": false, "timeout": 1000}`)
	id := made["id"].(string)
	plain := p.call("create", `{}`)["id"].(string)
	p.call("create", `{"force": true, "timeout": 90.5}`)
	if all := p.call("list", "")["list"].(map[string]any); len(all) != 3 || all[id] == nil || all[plain] == nil {
		t.Errorf("%v", all)
	}
	if one := p.call("list", quote(map[string]string{"id": id}))["list"].(map[string]any); len(one) != 1 || one[id] == nil {
		t.Errorf("%v", one)
	}
	repository := "local:/" + s.Root() + "/tmp//backups"
	begin := quote(map[string]any{"id": id, "remoteRepository": repository, "config": map[string]any{"local": map[string]string{"type": "local"}}})
	upload := p.call("upload", begin)["uploadId"].(string)
	if status := p.wait("upload", "uploadId", upload); status != "COMPLETED" {
		t.Error(status)
	}
	// The job has ended, so that there is nothing left to abort.
	p.call("upload", quote(map[string]any{"uploadId": upload, "abort": true}))
	p.call("delete", quote(map[string]string{"id": id}))
	s.fill(2)
	download := p.call("download", begin)["downloadId"].(string)
	if status := p.wait("download", "downloadId", download); status != "COMPLETED" {
		t.Error(status)
	}
	p.call("download", quote(map[string]any{"downloadId": download, "abort": true}))
	if previous := p.call("restore", quote(map[string]string{"id": id}))["previous"]; previous != "FAILSAFE" {
		t.Error(previous)
	}
	s.available()
	if diff := cmp.Diff(before, s.rows()); diff != "" {
		t.Error(diff)
	}
	p.call("delete", quote(map[string]string{"id": id}))
	for _, op := range []string{"restore", "delete"} {
		if r := p.send(http.MethodPost, "/_admin/backup/"+op, `{"id": "foobar"}`); r.code != http.StatusNotFound || r.body.Num != 7007 {
			t.Errorf("%s of an unknown backup: %d %s", op, r.code, r.raw)
		}
	}
}

// TestPythonAtOnce does not wait between the calls, as that driver's own tests do.
func TestPythonAtOnce(t *testing.T) {
	s := start(t, arangodb.Options{JWTSecrets: [][]byte{secret}}, nil)
	before := s.fill(1)
	p := python{s}
	id := p.call("create", `{}`)["id"].(string)
	p.call("restore", quote(map[string]string{"id": id}))
	begin := quote(map[string]any{"id": id, "remoteRepository": "local:/" + s.Root() + "/far", "config": map[string]any{"local": map[string]string{"type": "local"}}})
	upload := p.call("upload", begin)["uploadId"].(string)
	p.call("download", begin)
	p.wait("upload", "uploadId", upload)
	s.available()
	p.call("delete", quote(map[string]string{"id": id}))
	if diff := cmp.Diff(before, s.rows()); diff != "" {
		t.Error(diff)
	}
}
