// Package azure is the driver for repositories in Azure Blob Storage. Import it for its effect:
//
//	import _ "github.com/holdstill/holdstill/repo/cloud/azure"
//
// Then [repo.OpenLocation] opens locations of type "azureblob": the first part of the path is the container, the rest a
// prefix of all keys. Import it also to keep a repository in a container that you open yourself: it tells how to write
// to one safely. The section's keys are rclone's:
//
//   - account, key: the storage account and its shared key, in base64.
//   - sas_url: instead, a URL with a shared access signature, of the account or of the container.
//   - connection_string: instead, what the portal shows.
//   - tenant, client_id, client_secret: instead, with account, a service principal. use_msi: "true" is the identity of
//     the machine, or of client_id. env_auth: "true" takes what the environment and the machine have.
//   - endpoint: the account's URL, where it is not https://ACCOUNT.blob.core.windows.net.
//   - use_emulator: "true" is the local emulator, at endpoint or http://127.0.0.1:10000/devstoreaccount1.
//   - access_tier: "hot", "cool" or "cold", for new objects. Objects in "archive" could not be read.
//   - chunk_size, upload_concurrency, no_check_container, description: taken, and without effect. Objects are stored
//     in one request each.
package azure

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"gocloud.dev/blob"
	"gocloud.dev/blob/azureblob"

	"github.com/holdstill/holdstill/repo"
)

func init() {
	repo.RegisterDriver(repo.Driver{Type: "azureblob", Open: open, Classify: classify, Writes: writes})
}

// section is what a section says, read and checked.
type section struct {
	account, key, sas, connection string
	tenant, clientID, secret      string
	msi, env                      bool
	endpoint, tier                string
}

// The account and the key of every emulator, as its manual has them.
const (
	emulatorAccount = "devstoreaccount1"
	emulatorKey     = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)

func read(s *repo.Settings) (section, error) {
	c := section{
		account: s.Text("account"), key: s.Text("key"), sas: s.Text("sas_url"), connection: s.Text("connection_string"),
		tenant: s.Text("tenant"), clientID: s.Text("client_id"), secret: s.Text("client_secret"),
		msi: s.Bool("use_msi", false), env: s.Bool("env_auth", false),
		endpoint: strings.TrimRight(s.Text("endpoint"), "/"), tier: s.Choice("access_tier", "Hot", "Cool", "Cold"),
	}
	emulator := s.Bool("use_emulator", false)
	s.Size("chunk_size", 1<<10, 4000<<20, 4<<20)
	s.Int("upload_concurrency", 1, 1024, 16)
	s.Ignore("no_check_container", "description")
	if err := s.Err(); err != nil {
		return c, err
	}
	if emulator {
		if c.account == "" {
			c.account, c.key = emulatorAccount, emulatorKey
		}
		if c.endpoint == "" {
			c.endpoint = "http://127.0.0.1:10000/" + c.account
		}
	}
	ways := 0
	for _, set := range []bool{c.key != "", c.sas != "", c.connection != "", c.secret != "", c.msi, c.env} {
		if set {
			ways++
		}
	}
	switch {
	case ways != 1:
		return c, s.Refuse(repo.RuleKeyValue, "key", "set exactly one of key, sas_url, connection_string, client_secret, use_msi and env_auth; set are %d", ways)
	case c.account == "" && c.endpoint == "" && c.sas == "" && c.connection == "":
		return c, s.Refuse(repo.RuleKeyValue, "account", "name the storage account")
	case c.key != "" && c.account == "":
		return c, s.Refuse(repo.RuleKeyValue, "account", "a key needs the account that it belongs to")
	case c.secret != "" && (c.tenant == "" || c.clientID == ""):
		return c, s.Refuse(repo.RuleKeyValue, "client_secret", "a service principal needs tenant and client_id too")
	}
	if c.endpoint == "" {
		c.endpoint = "https://" + c.account + ".blob.core.windows.net"
	}
	if !strings.Contains(c.endpoint, "://") {
		c.endpoint = "https://" + c.endpoint
	}
	return c, nil
}

func open(ctx context.Context, s *repo.Settings) (*blob.Bucket, error) {
	c, err := read(s)
	if err != nil {
		return nil, err
	}
	client, err := c.client(s)
	if err != nil {
		return nil, err
	}
	return azureblob.OpenBucket(ctx, client, nil)
}

func (c section) client(s *repo.Settings) (*container.Client, error) {
	opts := &container.ClientOptions{ClientOptions: policy.ClientOptions{
		// The repository tries again, and counts.
		Retry:           policy.RetryOptions{MaxRetries: -1},
		Transport:       discreet{http.DefaultClient},
		PerCallPolicies: []policy.Policy{tier(c.tier)},
	}}
	where := c.endpoint + "/" + url.PathEscape(s.Bucket())
	switch {
	case c.key != "":
		cred, err := container.NewSharedKeyCredential(c.account, c.key)
		if err != nil {
			return nil, s.Refuse(repo.RuleKeyValue, "key", "the key of a storage account is in base64; copy it whole")
		}
		return container.NewClientWithSharedKeyCredential(where, cred, opts)
	case c.sas != "":
		signed, err := signedURL(c.sas, s.Bucket())
		if err != nil {
			return nil, s.Refuse(repo.RuleKeyValue, "sas_url", "%s", err.Error())
		}
		return container.NewClientWithNoCredential(signed, opts)
	case c.connection != "":
		client, err := container.NewClientFromConnectionString(c.connection, s.Bucket(), opts)
		if err != nil {
			return nil, s.Refuse(repo.RuleKeyValue, "connection_string", "it cannot be read; copy it whole, from DefaultEndpointsProtocol on")
		}
		return client, nil
	}
	cred, err := c.identity()
	if err != nil {
		return nil, err
	}
	return container.NewClient(where, cred, opts)
}

func (c section) identity() (azcore.TokenCredential, error) {
	switch {
	case c.secret != "":
		return azidentity.NewClientSecretCredential(c.tenant, c.clientID, c.secret, nil)
	case c.msi:
		opts := &azidentity.ManagedIdentityCredentialOptions{}
		if c.clientID != "" {
			opts.ID = azidentity.ClientID(c.clientID)
		}
		return azidentity.NewManagedIdentityCredential(opts)
	}
	return azidentity.NewDefaultAzureCredential(nil)
}

// signedURL returns the URL of a container from that of its account or itself. Errors hold nothing of it.
func signedURL(text, name string) (string, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.RawQuery == "" {
		return "", errors.New("write a URL with its signature, as in https://ACCOUNT.blob.core.windows.net/?sv=VERSION&sig=SIGNATURE")
	}
	path := strings.Trim(u.Path, "/")
	if last := path[strings.LastIndexByte(path, '/')+1:]; last != name {
		u = u.JoinPath(name)
	}
	return u.String(), nil
}

// discreet keeps the query, where a signature is, out of the errors of an HTTP client.
type discreet struct{ client *http.Client }

func (d discreet) Do(req *http.Request) (*http.Response, error) {
	resp, err := d.client.Do(req)
	var failed *url.Error
	if errors.As(err, &failed) {
		if u, parseErr := url.Parse(failed.URL); parseErr == nil {
			u.RawQuery = ""
			failed.URL = u.String()
		} else {
			failed.URL = ""
		}
	}
	return resp, err
}

// tier asks for an access tier for each blob that is written, which azureblob has no option for.
type tier string

func (t tier) Do(req *policy.Request) (*http.Response, error) {
	if raw := req.Raw(); t != "" && raw.Method == http.MethodPut && raw.Header.Get("x-ms-blob-type") != "" {
		raw.Header.Set("x-ms-access-tier", string(t))
	}
	return req.Next()
}

// writes keeps clear of azureblob's writer, which panics when a write through it fails.
func writes(bucket *blob.Bucket) repo.WriteHints {
	var client *container.Client
	return repo.WriteHints{Upload: bucket.As(&client)}
}

func classify(err error) repo.ErrorClass {
	var auth *azidentity.AuthenticationFailedError
	var required *azidentity.AuthenticationRequiredError
	if errors.As(err, &auth) || errors.As(err, &required) {
		return repo.ClassAuthentication
	}
	var response *azcore.ResponseError
	if !errors.As(err, &response) {
		return repo.ClassUnknown
	}
	if class := repo.ClassOfCode(response.ErrorCode); class != repo.ClassUnknown {
		return class
	}
	return repo.ClassOfStatus(response.StatusCode)
}
