package connect

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	"github.com/esclab/esclab/workers/settings"
)

// S3 is how to reach an S3 service.
type S3 struct {
	Endpoint    string // URL
	Region      string
	Bucket      string
	PathStyle   bool
	Credentials settings.Credentials
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
	options := s3.Options{
		BaseEndpoint: aws.String(p.Endpoint),
		Region:       p.Region,
		UsePathStyle: p.PathStyle,
		Credentials: aws.NewCredentialsCache(credentials.NewStaticCredentialsProvider(
			p.Credentials.AccessKey, string(p.Credentials.SecretKey), string(p.Credentials.SessionToken))),
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

// EnsureBucket creates the bucket where it is missing.
func EnsureBucket(ctx context.Context, p S3) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	c := p.Client()
	_, err := c.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &p.Bucket})
	if err == nil {
		return nil
	}
	if statusOf(err) != http.StatusNotFound {
		return p.explain("look up", err)
	}
	input := &s3.CreateBucketInput{Bucket: &p.Bucket}
	if p.Region != "us-east-1" { // the one region that must not be named
		input.CreateBucketConfiguration = &types.CreateBucketConfiguration{LocationConstraint: types.BucketLocationConstraint(p.Region)}
	}
	_, err = c.CreateBucket(ctx, input)
	var owned *types.BucketAlreadyOwnedByYou
	if err != nil && !errors.As(err, &owned) {
		return p.explain("create", err)
	}
	return nil
}

// explain names the remedy for an error of the service, on one line.
func (p S3) explain(verb string, err error) error {
	var api smithy.APIError
	code := ""
	if errors.As(err, &api) {
		code = api.ErrorCode()
	}
	var send *smithy.OperationError
	if errors.As(err, &send) {
		err = send.Err // without "operation error S3: HeadBucket"
	}
	switch status := statusOf(err); {
	case status == 0:
		return problem(cause(err), "start the service there, or correct s3.endpoint", "s3: cannot reach %s", p.Endpoint)
	case code == "InvalidAccessKeyId" || code == "SignatureDoesNotMatch" || status == http.StatusForbidden:
		return problem(nil, "check the credentials, their rights, s3.bucket and s3.region",
			"s3: %s refused to %s bucket %s (status %d %s)", p.Endpoint, verb, p.Bucket, status, code)
	case status == http.StatusMovedPermanently || status == http.StatusBadRequest:
		return problem(nil, "check s3.region, s3.path_style and s3.endpoint",
			"s3: %s could not %s bucket %s (status %d %s)", p.Endpoint, verb, p.Bucket, status, code)
	default:
		return problem(err, "see the log of the service", "s3: %s could not %s bucket %s", p.Endpoint, verb, p.Bucket)
	}
}

// statusOf is the HTTP status of an S3 error, 0 where there was no response.
func statusOf(err error) int {
	var response *awshttp.ResponseError
	if errors.As(err, &response) {
		return response.HTTPStatusCode()
	}
	return 0
}
