// Package gcs is the driver for repositories in Google Cloud Storage. Import it for its effect:
//
//	import _ "github.com/holdstill/holdstill/repo/cloud/gcs"
//
// Then [repo.OpenLocation] opens locations of type "google cloud storage": the first part of the path is the bucket, the
// rest a prefix of all keys. The section's keys are rclone's:
//
//   - service_account_credentials: the JSON of a service account's key. service_account_file: the file that has it.
//   - env_auth: "true" takes the credentials that the environment and the machine have.
//   - access_token: a token, for as long as it lasts.
//   - anonymous: "true" signs nothing.
//   - endpoint: where the store is if it is not Google's, as a URL; without a path, /storage/v1/ is added.
//   - project_number, user_project, location, bucket_acl, bucket_policy_only, no_check_bucket, directory_markers,
//     description: taken, and without effect: buckets are not made here, and permissions are the bucket's.
//
// The storage class of objects is that of the bucket.
package gcs

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"os"
	"strings"

	"cloud.google.com/go/storage"
	"gocloud.dev/blob"
	"gocloud.dev/blob/gcsblob"
	"gocloud.dev/gcp"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/option"

	"github.com/holdstill/holdstill/repo"
)

func init() {
	repo.RegisterDriver(repo.Driver{Type: "google cloud storage", Open: open, Classify: classify})
}

// section is what a section says, read and checked.
type section struct {
	credentials, file, token string
	env, anonymous           bool
	endpoint                 string
}

func read(s *repo.Settings) (section, error) {
	c := section{
		credentials: s.Text("service_account_credentials"), file: s.Text("service_account_file"), token: s.Text("access_token"),
		env: s.Bool("env_auth", false), anonymous: s.Bool("anonymous", false), endpoint: s.Text("endpoint"),
	}
	s.Ignore("project_number", "user_project", "location", "bucket_acl", "bucket_policy_only", "no_check_bucket", "directory_markers", "description")
	if err := s.Err(); err != nil {
		return c, err
	}
	ways := 0
	for _, set := range []bool{c.credentials != "", c.file != "", c.token != "", c.env, c.anonymous} {
		if set {
			ways++
		}
	}
	if ways != 1 {
		return c, s.Refuse(repo.RuleKeyValue, "service_account_file", "set exactly one of service_account_credentials, service_account_file, access_token, env_auth and anonymous; set are %d", ways)
	}
	if c.endpoint != "" {
		u, err := url.Parse(c.endpoint)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return c, s.Refuse(repo.RuleKeyValue, "endpoint", "write a URL, as in https://storage.example.com")
		}
		if strings.Trim(u.Path, "/") == "" {
			u.Path = "/storage/v1/"
		}
		c.endpoint = u.String()
	}
	return c, nil
}

func open(ctx context.Context, s *repo.Settings) (*blob.Bucket, error) {
	c, err := read(s)
	if err != nil {
		return nil, err
	}
	client, err := c.httpClient(ctx, s)
	if err != nil {
		return nil, err
	}
	opts := []option.ClientOption{storage.WithJSONReads()}
	if c.endpoint != "" {
		opts = append(opts, option.WithEndpoint(c.endpoint))
	}
	bucket, err := gcsblob.OpenBucket(ctx, client, s.Bucket(), &gcsblob.Options{ClientOptions: opts})
	if err != nil {
		return nil, err
	}
	var under *storage.Client
	if bucket.As(&under) {
		// The repository tries again, and counts.
		under.SetRetry(storage.WithPolicy(storage.RetryNever))
	}
	return bucket, nil
}

func (c section) httpClient(ctx context.Context, s *repo.Settings) (*gcp.HTTPClient, error) {
	// Tokens are fetched as long as the bucket is open.
	ctx = context.WithoutCancel(ctx)
	transport := gcp.DefaultTransport()
	switch {
	case c.anonymous:
		return gcp.NewAnonymousHTTPClient(transport), nil
	case c.token != "":
		return gcp.NewHTTPClient(transport, oauth2.StaticTokenSource(&oauth2.Token{AccessToken: c.token}))
	case c.env:
		found, err := google.FindDefaultCredentials(ctx, storage.ScopeReadWrite)
		if err != nil {
			return nil, err
		}
		return gcp.NewHTTPClient(transport, found.TokenSource)
	}
	key, data := "service_account_credentials", []byte(c.credentials)
	if c.file != "" {
		var err error
		if data, err = os.ReadFile(c.file); err != nil {
			return nil, err
		}
		key = "service_account_file"
	}
	account, err := google.JWTConfigFromJSON(data, storage.ScopeReadWrite)
	if err != nil {
		// The reason might quote what was read.
		return nil, s.Refuse(repo.RuleKeyValue, key, "it is not the JSON of a service account's key")
	}
	return gcp.NewHTTPClient(transport, account.TokenSource(ctx))
}

// classify knows that gcsblob calls a refusal "not found".
func classify(err error) repo.ErrorClass {
	var token *oauth2.RetrieveError
	if errors.As(err, &token) {
		if token.Response != nil && token.Response.StatusCode >= http.StatusInternalServerError {
			return repo.ClassUnavailable
		}
		return repo.ClassAuthentication
	}
	var api *googleapi.Error
	if !errors.As(err, &api) {
		switch {
		case errors.Is(err, storage.ErrBucketNotExist):
			return repo.ClassNoBucket
		case errors.Is(err, storage.ErrObjectNotExist):
			return repo.ClassNotFound
		}
		return repo.ClassUnknown
	}
	if class := classOfReason(api); class != repo.ClassUnknown {
		return class
	}
	if errors.Is(err, storage.ErrBucketNotExist) || api.Code == http.StatusNotFound && strings.Contains(api.Message, "bucket does not exist") {
		return repo.ClassNoBucket
	}
	return repo.ClassOfStatus(api.Code)
}

// reasons are those that change what a status means.
var reasons = map[string]repo.ErrorClass{
	"rateLimitExceeded":     repo.ClassUnavailable,
	"userRateLimitExceeded": repo.ClassUnavailable,
	"backendError":          repo.ClassUnavailable,
	"quotaExceeded":         repo.ClassNoSpace,
}

// classOfReason looks at the reason that an answer gives. Of answers to reads the library keeps only the text.
func classOfReason(api *googleapi.Error) repo.ErrorClass {
	for _, item := range api.Errors {
		if class := reasons[item.Reason]; class != repo.ClassUnknown {
			return class
		}
	}
	var body struct {
		Error struct {
			Errors []struct{ Reason string }
		}
	}
	if json.Unmarshal([]byte(api.Body), &body) != nil {
		return repo.ClassUnknown
	}
	for _, item := range body.Error.Errors {
		if class := reasons[item.Reason]; class != repo.ClassUnknown {
			return class
		}
	}
	return repo.ClassUnknown
}
