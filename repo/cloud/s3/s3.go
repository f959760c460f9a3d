// Package s3 is the driver for repositories in S3 and in stores that speak its protocol. Import it for its effect:
//
//	import _ "github.com/holdstill/holdstill/repo/cloud/s3"
//
// Then [repo.OpenLocation] opens locations of type "s3": the first part of the path is the bucket, the rest a prefix
// of all keys. The section's keys are rclone's:
//
//   - provider: "AWS", "Minio", "Ceph" or any other name, in any case. It sets defaults only.
//   - access_key_id, secret_access_key, session_token: the credentials.
//   - env_auth: "true" takes credentials, where those are not set, from the environment, the shared files and the
//     machine, as other tools for AWS do. profile and shared_credentials_file choose among them. Without env_auth and
//     without credentials, requests are not signed.
//   - role_arn: a role to assume with those credentials.
//   - region: default "us-east-1". endpoint: a URL, or a host that is spoken to over HTTPS; default: that of AWS.
//   - force_path_style: "false" puts the bucket into the host's name. Default: true, but for AWS, Alibaba, Netease and
//     TencentCOS.
//   - acl, storage_class, server_side_encryption ("AES256", "aws:kms"), sse_kms_key_id: how objects are stored.
//   - chunk_size, upload_cutoff, upload_concurrency, no_check_bucket, description: taken, and without effect. Objects
//     are stored in one request each, so that a condition holds for the whole and nothing half-done can be left
//     behind; they are a few MiB, and 512 MiB at most.
package s3

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"
	"github.com/aws/smithy-go/middleware"
	"gocloud.dev/blob"
	"gocloud.dev/blob/s3blob"

	"github.com/holdstill/holdstill/repo"
)

func init() {
	repo.RegisterDriver(repo.Driver{Type: "s3", Open: open, Classify: classify, Writes: writes})
}

// section is what a section says, read and checked.
type section struct {
	provider, endpoint, region   string
	key, secret, token, role     string
	env                          bool
	profile, file                string
	pathStyle                    bool
	acl, class, encryption, kmsK string
}

// virtualHosted are the providers that want the bucket in the host's name.
var virtualHosted = []string{"", "aws", "alibaba", "netease", "tencentcos"}

func read(s *repo.Settings) (section, error) {
	c := section{
		provider: strings.ToLower(s.Text("provider")), endpoint: s.Text("endpoint"), region: s.Text("region"),
		key: s.Text("access_key_id"), secret: s.Text("secret_access_key"), token: s.Text("session_token"), role: s.Text("role_arn"),
		env: s.Bool("env_auth", false), profile: s.Text("profile"), file: s.Text("shared_credentials_file"),
		class: s.Text("storage_class"), kmsK: s.Text("sse_kms_key_id"),
	}
	var acls []string
	for _, a := range types.ObjectCannedACL("").Values() {
		acls = append(acls, string(a))
	}
	c.acl = s.Choice("acl", acls...)
	c.encryption = s.Choice("server_side_encryption", "AES256", "aws:kms", "aws:kms:dsse")
	c.pathStyle = s.Bool("force_path_style", c.endpoint != "" && c.provider == "" || !slices.Contains(virtualHosted, c.provider))
	s.Size("chunk_size", 5<<20, 5<<30, 5<<20)
	s.Size("upload_cutoff", 0, 5<<30, 200<<20)
	s.Int("upload_concurrency", 1, 1024, 4)
	s.Ignore("no_check_bucket", "description")
	if err := s.Err(); err != nil {
		return c, err
	}
	if c.region == "" {
		c.region = "us-east-1"
	}
	if c.endpoint != "" && !strings.Contains(c.endpoint, "://") {
		c.endpoint = "https://" + c.endpoint
	}
	switch {
	case (c.key == "") != (c.secret == ""):
		return c, s.Refuse(repo.RuleKeyValue, "secret_access_key", "set both access_key_id and secret_access_key, or neither")
	case c.token != "" && c.key == "":
		return c, s.Refuse(repo.RuleKeyValue, "session_token", "a session token goes with access_key_id and secret_access_key")
	case c.key == "" && !c.env && (c.profile != "" || c.file != ""):
		return c, s.Refuse(repo.RuleKeyValue, "env_auth", `profile and shared_credentials_file are used only where env_auth is "true"`)
	}
	return c, nil
}

func open(ctx context.Context, s *repo.Settings) (*blob.Bucket, error) {
	c, err := read(s)
	if err != nil {
		return nil, err
	}
	cfg, err := c.load(ctx)
	if err != nil {
		return nil, err
	}
	checksums := aws.RequestChecksumCalculationWhenSupported
	if c.endpoint != "" && c.provider != "aws" && c.provider != "minio" {
		// Many stores that are compatible with S3 know nothing of its newer checksums.
		checksums = aws.RequestChecksumCalculationWhenRequired
	}
	client := s3.NewFromConfig(cfg, func(o *s3.Options) {
		o.UsePathStyle = c.pathStyle
		o.RequestChecksumCalculation = checksums
		o.DisableLogOutputChecksumValidationSkipped = true
		if c.endpoint != "" {
			o.BaseEndpoint = aws.String(c.endpoint)
		}
		o.APIOptions = append(o.APIOptions, c.storeAs)
	})
	return s3blob.OpenBucket(ctx, client, s.Bucket(), &s3blob.Options{
		EncryptionType: types.ServerSideEncryption(c.encryption), KMSEncryptionID: c.kmsK, RequestChecksumCalculation: checksums,
	})
}

// load returns the SDK's configuration. It tries nothing again: the repository does, and counts.
func (c section) load(ctx context.Context) (aws.Config, error) {
	cfg := aws.Config{Region: c.region}
	if c.env {
		var err error
		options := []func(*config.LoadOptions) error{config.WithRegion(c.region), config.WithSharedConfigProfile(c.profile)}
		if c.file != "" {
			options = append(options, config.WithSharedCredentialsFiles([]string{c.file}))
		}
		if cfg, err = config.LoadDefaultConfig(ctx, options...); err != nil {
			return cfg, err
		}
	}
	cfg.Retryer = func() aws.Retryer { return aws.NopRetryer{} }
	cfg.Logger = logging.Nop{}
	switch {
	case c.key != "":
		cfg.Credentials = credentials.NewStaticCredentialsProvider(c.key, c.secret, c.token)
	case !c.env:
		cfg.Credentials = aws.AnonymousCredentials{}
	}
	if c.role != "" {
		assume := stscreds.NewAssumeRoleProvider(sts.NewFromConfig(cfg), c.role)
		cfg.Credentials = aws.NewCredentialsCache(assume)
	}
	return cfg, nil
}

// storeAs sets what s3blob has no options for.
func (c section) storeAs(stack *middleware.Stack) error {
	if c.acl == "" && c.class == "" {
		return nil
	}
	return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("holdstillStoreAs",
		func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
			if put, ok := in.Parameters.(*s3.PutObjectInput); ok {
				put.ACL = types.ObjectCannedACL(c.acl)
				put.StorageClass = types.StorageClass(c.class)
			}
			return next.HandleInitialize(ctx, in)
		}), middleware.Before)
}

// largestPut is the most that S3 takes in one request.
const largestPut = 5 << 30

// writes makes every object go in one request: of several parts, the first are left behind when the rest does not
// follow, and stores exist that apply a condition to none of them.
func writes(bucket *blob.Bucket) repo.WriteHints {
	var client *s3.Client
	if !bucket.As(&client) {
		return repo.WriteHints{}
	}
	// Upload, since a blob.Writer would copy every pack once more, through a pipe.
	return repo.WriteHints{Upload: true, Prepare: func(data []byte, opts *blob.WriterOptions) func() {
		direct := &directClient{Client: client, body: &body{data: data}}
		opts.BeforeWrite = func(as func(any) bool) error {
			var transfer *transfermanager.Client
			if !as(&transfer) {
				return errors.New("repo/cloud/s3: the bucket's writer is not of the version of gocloud.dev that this driver knows")
			}
			*transfer = *transfermanager.New(direct, func(o *transfermanager.Options) {
				o.MultipartUploadThreshold = largestPut
				o.RequestChecksumCalculation = client.Options().RequestChecksumCalculation
				o.FailTimeout = 30 * time.Second
			})
			return nil
		}
		return direct.body.detach
	}}
}

// classify knows S3's codes, and the statuses of answers without one, such as those to HEAD.
func classify(err error) repo.ErrorClass {
	var api smithy.APIError
	if errors.As(err, &api) {
		if class := repo.ClassOfCode(api.ErrorCode()); class != repo.ClassUnknown {
			return class
		}
	}
	var response *awshttp.ResponseError
	if !errors.As(err, &response) || response.Response == nil {
		return repo.ClassUnknown
	}
	status := response.HTTPStatusCode()
	if status == http.StatusMovedPermanently {
		return repo.ClassNoBucket // in this region
	}
	return repo.ClassOfStatus(status)
}
