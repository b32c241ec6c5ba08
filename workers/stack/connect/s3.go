package connect

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	store "github.com/esclab/esclab/artifacts/s3"
	"github.com/esclab/esclab/workers/settings"
)

// S3 is how to reach an S3 service.
type S3 struct {
	Endpoint    string // URL
	Region      string
	Bucket      string
	PathStyle   bool
	Credentials settings.Credentials // without keys: those of the AWS default chain
	Checksum    settings.Checksum
	Encryption  settings.Encryption
	KMSKey      string
	// CredentialsFile is where Credentials were read from, "" for the
	// environment: it may be renewed while a process runs.
	CredentialsFile string
	TLS             *tls.Config // of an https endpoint; nil: the system's authorities
}

// S3TLS reads the TLS files of an S3 service; nil where none are set.
func S3TLS(s settings.S3) (*tls.Config, error) {
	if s.TLS == nil {
		return nil, nil
	}
	return tlsConfig("s3.tls", *s.TLS)
}

// encryption is what a put asks of the service.
func (p S3) encryption() (types.ServerSideEncryption, *string) {
	switch p.Encryption {
	case settings.EncryptionS3:
		return types.ServerSideEncryptionAes256, nil
	case settings.EncryptionKMS:
		if p.KMSKey == "" {
			return types.ServerSideEncryptionAwsKms, nil
		}
		return types.ServerSideEncryptionAwsKms, &p.KMSKey
	}
	return "", nil
}

// Client returns an S3 client. It opens no connection.
func (p S3) Client() *s3.Client {
	keys := store.DefaultChain(p.Region)
	if p.Credentials.AccessKey != "" {
		keys = aws.NewCredentialsCache(credentials.NewStaticCredentialsProvider(
			p.Credentials.AccessKey, string(p.Credentials.SecretKey), string(p.Credentials.SessionToken)))
	}
	options := s3.Options{
		BaseEndpoint:               aws.String(p.Endpoint),
		Region:                     p.Region,
		UsePathStyle:               p.PathStyle,
		Credentials:                keys,
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenRequired,
		RetryMaxAttempts:           2,
	}
	if p.TLS != nil {
		options.HTTPClient = awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) { t.TLSClientConfig = p.TLS.Clone() })
	}
	if p.Checksum == settings.ChecksumWhenSupported {
		options.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenSupported
		options.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenSupported
	}
	return s3.New(options)
}

// EnsureBucket creates the bucket where it is missing. It asks by a list: the
// answer to HEAD has no body, and so no reason.
func EnsureBucket(ctx context.Context, p S3) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	c := p.Client()
	if p.Credentials.AccessKey == "" {
		if _, err := c.Options().Credentials.Retrieve(ctx); err != nil {
			return problem(nil, "export s3.access_key_env and s3.secret_key_env, set s3.credentials_file, or give this machine a role (a profile, web identity, a container's or an instance's)",
				"s3: no credentials for %s: neither the settings nor the AWS default chain have any", p.Endpoint)
		}
	}
	_, err := c.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &p.Bucket, MaxKeys: aws.Int32(1)})
	if err == nil {
		return nil
	}
	if codeOf(err) != "NoSuchBucket" {
		return p.explain("look up", err)
	}
	input := &s3.CreateBucketInput{Bucket: &p.Bucket}
	if p.Region != "us-east-1" { // the one region that must not be named
		input.CreateBucketConfiguration = &types.CreateBucketConfiguration{LocationConstraint: types.BucketLocationConstraint(p.Region)}
	}
	_, err = c.CreateBucket(ctx, input)
	if err != nil && codeOf(err) != "BucketAlreadyOwnedByYou" {
		return p.explain("create", err)
	}
	return nil
}

// explain names the remedy for an error of the service, on one line.
func (p S3) explain(verb string, err error) error {
	var untrusted *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var name x509.HostnameError
	var handshake *net.OpError
	status, said := statusOf(err), reasonOf(err)
	switch remedy := store.Advice(err); {
	case errors.As(err, &untrusted):
		do := "have it renewed, or set this machine's clock right"
		if errors.As(err, &authority) {
			do = "give its authority's certificate as s3.tls.ca, or correct s3.endpoint"
		} else if errors.As(err, &name) {
			do = "correct s3.endpoint, or set s3.tls.server_name"
		}
		return problem(untrusted.Err, do, "s3: the certificate of %s is not trusted", p.Endpoint)
	case errors.Is(err, http.ErrSchemeMismatch):
		return problem(nil, "give s3.endpoint as http://", "s3: %s does not speak TLS", p.Endpoint)
	case errors.As(err, &handshake) && handshake.Op == "remote error":
		return problem(handshake.Err, "check s3.tls (does it ask for cert and key?)", "s3: %s ended the TLS connection", p.Endpoint)
	case status == 0:
		return problem(cause(err), "start the service there, or correct s3.endpoint", "s3: cannot reach %s", p.Endpoint)
	case codeOf(err) == "", codeOf(err) == "NotFound": // the latter is the SDK's word for any 404
		return problem(nil, cmp.Or(remedy, "correct s3.endpoint: the address of the S3 API, not that of a console or a proxy"),
			"s3: %s could not %s bucket %s (status %d, and no reason as S3 services give it)", p.Endpoint, verb, p.Bucket, status)
	case status == http.StatusForbidden:
		return problem(nil, remedy, "s3: %s refused to %s bucket %s (status %d %s)", p.Endpoint, verb, p.Bucket, status, said)
	default:
		return problem(nil, cmp.Or(remedy, "check s3.region, s3.path_style and s3.endpoint, and see the log of the service"),
			"s3: %s could not %s bucket %s (status %d %s)", p.Endpoint, verb, p.Bucket, status, said)
	}
}

// codeOf is the service's name of an error, "" where it gave none.
func codeOf(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// maxReason bounds what a service says, in runes.
const maxReason = 200

// reasonOf is what the service says of an error, on one line: its code and
// message, and where it is about the time, how far the clocks are apart.
func reasonOf(err error) string {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return ""
	}
	said := strings.Join(strings.Fields(strings.ToValidUTF8(api.ErrorMessage(), "\uFFFD")), " ")
	if r := []rune(said); len(r) > maxReason {
		said = string(r[:maxReason]) + "…"
	}
	said = strings.TrimSuffix(api.ErrorCode()+": "+said, ": ")
	var response *awshttp.ResponseError
	if strings.HasPrefix(api.ErrorCode(), "Request") && errors.As(err, &response) && response.Response != nil {
		if there, err := http.ParseTime(response.Response.Header.Get("Date")); err == nil {
			if apart := time.Since(there).Round(time.Second); apart > time.Minute {
				said += fmt.Sprintf("; this machine's clock is %s ahead of the service's", apart)
			} else if apart < -time.Minute {
				said += fmt.Sprintf("; this machine's clock is %s behind the service's", -apart)
			}
		}
	}
	return said
}

// statusOf is the HTTP status of an S3 error, 0 where there was no response.
func statusOf(err error) int {
	var response *awshttp.ResponseError
	if errors.As(err, &response) {
		return response.HTTPStatusCode()
	}
	return 0
}
