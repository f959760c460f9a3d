package s3_test

import (
	"testing"

	"github.com/holdstill/holdstill/repo"
	"github.com/holdstill/holdstill/repo/cloud/internal/drivertest"
	"github.com/holdstill/holdstill/repo/cloud/internal/teststore"
	_ "github.com/holdstill/holdstill/repo/cloud/s3"
)

func section(url string, change ...string) map[string]string {
	s := map[string]string{
		"type": "s3", "provider": "Other", "endpoint": url, "access_key_id": teststore.S3Key, "secret_access_key": teststore.S3Secret,
		"region": "us-east-1", "upload_cutoff": "200Mi", "chunk_size": "5Mi", "no_check_bucket": "true",
	}
	for i := 0; i < len(change); i += 2 {
		s[change[i]] = change[i+1]
	}
	return s
}

func TestDriver(t *testing.T) {
	server, buckets := teststore.S3(t)
	teststore.MakeS3Bucket(t, buckets, "backups")
	drivertest.Run(t, drivertest.Store{
		Section: section(server.URL), Bucket: "backups", NoBucket: "nowhere",
		Refused: []drivertest.Refusal{
			{Name: "wrong secret", Section: section(server.URL, "secret_access_key", drivertest.Secret), Want: repo.ErrAuthentication},
			{Name: "unknown key", Section: section(server.URL, "access_key_id", "nobody", "secret_access_key", drivertest.Secret), Want: repo.ErrAuthentication},
			{Name: "no credentials", Section: map[string]string{"type": "s3", "endpoint": server.URL}, Want: repo.ErrPermission},
			{Name: "nobody listens", Section: section("http://127.0.0.1:1", "secret_access_key", drivertest.Secret), Want: repo.ErrUnavailable},
		},
		Invalid: []drivertest.Invalid{
			{Change: map[string]string{"secret_access_key": ""}, Says: "secret_access_key"},
			{Change: map[string]string{"force_path_style": drivertest.Secret}, Says: "force_path_style"},
			{Change: map[string]string{"acl": drivertest.Secret}, Says: "bucket-owner-full-control"},
			{Change: map[string]string{"server_side_encryption": drivertest.Secret}, Says: "aws:kms"},
			{Change: map[string]string{"chunk_size": "1Mi"}, Says: "chunk_size"},
			{Change: map[string]string{"access_key_id": "", "secret_access_key": "", "session_token": drivertest.Secret}, Says: "session_token"},
			{Change: map[string]string{"access_key_id": "", "secret_access_key": "", "profile": drivertest.Secret}, Says: "env_auth"},
		},
	})
}

// With the provider Minio, requests carry the newer checksums.
func TestChecksums(t *testing.T) {
	server, buckets := teststore.S3(t)
	teststore.MakeS3Bucket(t, buckets, "sums")
	b := drivertest.Open(t, section(server.URL, "provider", "Minio", "storage_class", "STANDARD"), "sums/a b")
	if err := repo.Validate(t.Context(), b, repo.ValidateOptions{Writers: 4, Rounds: 1, LargeSize: 6 << 20}); err != nil {
		t.Error(err)
	}
}
