package gcs_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/holdstill/holdstill/repo"
	_ "github.com/holdstill/holdstill/repo/cloud/gcs"
	"github.com/holdstill/holdstill/repo/cloud/internal/drivertest"
	"github.com/holdstill/holdstill/repo/cloud/internal/teststore"
)

// refuse answers every request with one status, as Google does for credentials that are wrong or not allowed. The test
// server asks nobody for any.
func refuse(t *testing.T, status int, body string) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func section(url string, change ...string) map[string]string {
	s := map[string]string{"type": "google cloud storage", "anonymous": "true", "endpoint": url, "bucket_policy_only": "true"}
	for i := 0; i < len(change); i += 2 {
		if s[change[i]] = change[i+1]; change[i+1] == "" {
			delete(s, change[i])
		}
	}
	return s
}

func TestDriver(t *testing.T) {
	server := teststore.GCS(t)
	resp, err := http.Post(server.URL+"/storage/v1/b?project=p", "application/json", strings.NewReader(`{"name":"backups"}`))
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(resp, err)
	}
	_ = resp.Body.Close()
	token := func(url string) map[string]string {
		return section(url, "anonymous", "", "access_token", drivertest.Secret)
	}
	unauthorized := refuse(t, 401, `{"error":{"code":401,"message":"Invalid Credentials","errors":[{"reason":"authError"}]}}`)
	forbidden := refuse(t, 403, `{"error":{"code":403,"message":"caller does not have storage.objects.get access, or it may not exist","errors":[{"reason":"forbidden"}]}}`)
	throttled := refuse(t, 403, `{"error":{"code":403,"message":"slower","errors":[{"reason":"rateLimitExceeded"}]}}`)
	drivertest.Run(t, drivertest.Store{
		Section: section(server.URL), Bucket: "backups", NoBucket: "nowhere",
		Refused: []drivertest.Refusal{
			{Name: "401", Section: token(unauthorized), Want: repo.ErrAuthentication},
			{Name: "403", Section: token(forbidden), Want: repo.ErrPermission},
			{Name: "throttled", Section: token(throttled), Want: repo.ErrUnavailable},
			{Name: "503", Section: token(refuse(t, 503, "")), Want: repo.ErrUnavailable},
			{Name: "nobody listens", Section: token("http://127.0.0.1:1"), Want: repo.ErrUnavailable},
		},
		Invalid: []drivertest.Invalid{
			{Change: map[string]string{"anonymous": ""}, Says: "exactly one of"},
			{Change: map[string]string{"access_token": drivertest.Secret}, Says: "exactly one of"},
			{Change: map[string]string{"anonymous": "", "service_account_credentials": drivertest.Secret}, Says: "service_account_credentials"},
			{Change: map[string]string{"anonymous": "", "service_account_credentials": `{"type":"authorized_user","client_secret":"` + drivertest.Secret + `"}`}, Says: "service account"},
			{Change: map[string]string{"endpoint": drivertest.Secret}, Says: "endpoint"},
			{Change: map[string]string{"storage_class": "NEARLINE"}, Says: "no such key"},
		},
	})
}
