package artifacts

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"
	transfertypes "github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/logging"
)

// S3Config says where a bucket is and how to talk to its service.
type S3Config struct {
	Bucket string `yaml:"bucket" json:"bucket"`
	// Prefix, if any, is put before each key ("team/esclab"), so that several
	// stores can share a bucket.
	Prefix string `yaml:"prefix" json:"prefix"`
	// Endpoint is the URL of an S3-compatible service; empty means AWS.
	Endpoint string `yaml:"endpoint" json:"endpoint"`
	Region   string `yaml:"region" json:"region"`
	// PathStyle puts the bucket into the path, not the host name. Most
	// self-hosted services need it.
	PathStyle bool `yaml:"path_style" json:"path_style"`
	// Checksums is when_required (the default) or when_supported. Many
	// S3-compatible services reject the CRC trailers of when_supported; the
	// store verifies SHA-256 on its own in either case.
	Checksums string `yaml:"checksums" json:"checksums"`
	// MaxAttempts bounds the tries of one request; 0 means 5.
	MaxAttempts int `yaml:"max_attempts" json:"max_attempts"`
	// MaxBackoff bounds the pause before a request is tried again; 0 means 20 s.
	MaxBackoff time.Duration `yaml:"-" json:"-"`
	// PartBytes is the size of one part of a multipart upload, at least 5 MiB;
	// 0 means 8 MiB. An object has at most 10,000 parts.
	PartBytes int64 `yaml:"part_bytes" json:"part_bytes"`

	// Encryption asks the service to encrypt what it stores: empty or "none" for
	// what the bucket does by itself, "sse-s3" for keys that the service manages,
	// "sse-kms" for a key of its key management. A service that takes the request
	// but does not say that it has encrypted is an error.
	Encryption string `yaml:"encryption" json:"encryption"`
	// KMSKey is the key of sse-kms, an ARN or ID; empty means the account's own.
	KMSKey string `yaml:"kms_key" json:"kms_key"`

	// TLS replaces the trust in the system's authorities, and may hold a client
	// certificate; nil: the system's, and those of AWS_CA_BUNDLE.
	TLS *tls.Config `yaml:"-" json:"-"`

	// AccessKey and SecretKey, if set, replace the SDK's chain of environment,
	// shared configuration and instance role.
	AccessKey string `yaml:"-" json:"-"`
	SecretKey string `yaml:"-" json:"-"`
	// SessionToken goes with temporary credentials; empty otherwise.
	SessionToken string `yaml:"-" json:"-"`
	// Reload, if set, gives the keys in their place, and is asked again when the
	// service says that they have expired.
	Reload func(context.Context) (accessKey, secretKey, sessionToken string, err error) `yaml:"-" json:"-"`
}

const (
	minPartBytes     = 5 << 20
	defaultPartBytes = 8 << 20
	// uploadParts in flight at once: with the one being filled, an upload holds
	// about four parts in memory whatever the object's size.
	uploadParts = 2
	// readTimeout is how long a connection may stay silent. It has to cover the
	// time in which a service puts the parts of a large upload together.
	readTimeout = 10 * time.Minute
)

// S3 is a Backend on an S3-compatible service. PutIfAbsent needs a service that
// honours If-None-Match (AWS, MinIO, Ceph, R2, versitygw ≥ 1.0.20 do).
type S3 struct {
	client  *s3.Client
	uploads *transfermanager.Client
	conns   *connections
	bucket  string
	prefix  string // empty or ends with a slash
	sse     encryption
	keys    *aws.CredentialsCache // nil unless they can be read again
}

// OpenS3 prepares a client; it sends no request. EnsureBucket checks or creates
// the bucket.
func OpenS3(ctx context.Context, c S3Config) (*S3, error) {
	if c.Bucket == "" {
		return nil, errors.New("open S3 store: no bucket; set bucket in the S3 settings")
	}
	if c.Prefix != "" {
		if err := ValidKey(c.Prefix); err != nil {
			return nil, fmt.Errorf("open S3 store: prefix: %w", err)
		}
		c.Prefix += "/"
	}
	request, response := aws.RequestChecksumCalculationWhenRequired, aws.ResponseChecksumValidationWhenRequired
	switch c.Checksums {
	case "", "when_required":
	case "when_supported":
		request, response = aws.RequestChecksumCalculationWhenSupported, aws.ResponseChecksumValidationWhenSupported
	default:
		return nil, fmt.Errorf("open S3 store: checksums %q, want when_required or when_supported", c.Checksums)
	}
	sse, err := newEncryption(c.Encryption, c.KMSKey)
	if err != nil {
		return nil, fmt.Errorf("open S3 store: %w", err)
	}
	part := c.PartBytes
	if part == 0 {
		part = defaultPartBytes
	}
	if part < minPartBytes {
		return nil, fmt.Errorf("open S3 store: part_bytes %d, want at least %d", part, minPartBytes)
	}
	attempts := c.MaxAttempts
	if attempts == 0 {
		attempts = 5
	}
	conns := &connections{open: map[net.Conn]bool{}}
	transport := awshttp.NewBuildableClient().WithReadTimeout(readTimeout).WithTransportOptions(conns.track)
	if c.TLS != nil {
		transport = transport.WithTransportOptions(func(t *http.Transport) { t.TLSClientConfig = c.TLS.Clone() })
	}
	load := []func(*config.LoadOptions) error{
		config.WithHTTPClient(transport),
		config.WithLogger(logging.Nop{}), // what matters is in the errors
		config.WithRequestChecksumCalculation(request),
		config.WithResponseChecksumValidation(response),
		config.WithRetryer(func() aws.Retryer {
			standard := retry.NewStandard(func(o *retry.StandardOptions) {
				o.MaxAttempts = attempts
				if c.MaxBackoff > 0 {
					o.MaxBackoff = c.MaxBackoff
				}
				// An answer that breaks off in its body, such as a list.
				o.Retryables = append(o.Retryables, retry.IsErrorRetryableFunc(func(err error) aws.Ternary {
					if errors.Is(err, io.ErrUnexpectedEOF) {
						return aws.TrueTernary
					}
					return aws.UnknownTernary
				}))
			})
			// What services say while somebody else changes the same key, or, on a
			// file system, removes the directory that a key needs.
			return retry.AddWithErrorCodes(standard, "OperationAborted", "ExistingObjectIsDirectory")
		}),
	}
	if c.Region != "" {
		load = append(load, config.WithRegion(c.Region))
	}
	var keys *aws.CredentialsCache
	switch {
	case c.Reload != nil:
		keys = aws.NewCredentialsCache(aws.CredentialsProviderFunc(func(ctx context.Context) (aws.Credentials, error) {
			access, secret, token, err := c.Reload(ctx)
			return aws.Credentials{AccessKeyID: access, SecretAccessKey: secret, SessionToken: token, Source: "esclab"}, err
		}))
		load = append(load, config.WithCredentialsProvider(keys))
	case c.AccessKey != "":
		load = append(load, config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(c.AccessKey, c.SecretKey, c.SessionToken)))
	}
	cfg, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, fmt.Errorf("open S3 store: %w", err)
	}
	// Frozen only now: loading has added the certificates of AWS_CA_BUNDLE.
	if b, ok := cfg.HTTPClient.(*awshttp.BuildableClient); ok {
		cfg.HTTPClient = b.Freeze()
	}
	client := s3.NewFromConfig(cfg, func(o *s3.Options) {
		o.UsePathStyle = c.PathStyle
		if c.Endpoint != "" {
			o.BaseEndpoint = aws.String(c.Endpoint)
		}
		// The notice that a service sent no checksum says nothing to the user:
		// the store verifies SHA-256 itself.
		o.DisableLogOutputChecksumValidationSkipped = true
	})
	uploads := transfermanager.New(client, func(o *transfermanager.Options) {
		o.PartSizeBytes = part
		o.MultipartUploadThreshold = part
		o.Concurrency = uploadParts
		o.RequestChecksumCalculation = request
		// An upload that is cut short is aborted in its own time, so that a
		// cancelled activity leaves no parts behind that cost money.
		o.FailTimeout = 30 * time.Second
	})
	return &S3{client: client, uploads: uploads, conns: conns, bucket: c.Bucket, prefix: c.Prefix, sse: sse, keys: keys}, nil
}

// Close closes the connections, of which none may be in use any more; a service
// that is being stopped may wait for them.
func (b *S3) Close() error { return b.conns.close() }

// EnsureBucket creates the bucket unless it is there and reachable.
func (b *S3) EnsureBucket(ctx context.Context) error {
	_, err := b.client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &b.bucket})
	if status(err) == http.StatusNotFound {
		_, err = b.client.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &b.bucket})
		if code(err) == "BucketAlreadyOwnedByYou" { // another process was faster
			err = nil
		}
	}
	if err != nil {
		return fmt.Errorf("bucket %s: %w; check endpoint, credentials and permissions", b.bucket, err)
	}
	return nil
}

// Location implements Backend.
func (b *S3) Location() string { return "s3://" + b.bucket + "/" + b.prefix }

func (b *S3) key(key string) *string { return aws.String(b.prefix + key) }

// Put implements Backend. Objects up to one part go in one request, larger ones
// as a multipart upload, which S3 publishes in one step.
func (b *S3) Put(ctx context.Context, key string, r io.Reader) error {
	if err := errors.Join(ctx.Err(), ValidKey(key)); err != nil {
		return b.fail("put", key, err)
	}
	out, err := b.uploads.UploadObject(ctx, &transfermanager.UploadObjectInput{
		Bucket:               &b.bucket,
		Key:                  b.key(key),
		ServerSideEncryption: transfertypes.ServerSideEncryption(b.sse.mode),
		SSEKMSKeyID:          b.sse.key,
		// Only a reader: a seekable body would be sized and sent as it is.
		Body: struct{ io.Reader }{contextReader{ctx, r}},
	})
	if err == nil {
		err = b.sse.check(string(out.ServerSideEncryption))
	}
	if err != nil {
		return b.fail("put", key, err)
	}
	return nil
}

// PutIfAbsent implements Backend.
func (b *S3) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	if err := errors.Join(ctx.Err(), ValidKey(key)); err != nil {
		return b.fail("put if absent", key, err)
	}
	for attempt := 1; ; attempt++ {
		out, err := b.client.PutObject(ctx, &s3.PutObjectInput{
			Bucket:               &b.bucket,
			Key:                  b.key(key),
			Body:                 bytes.NewReader(data),
			IfNoneMatch:          aws.String("*"),
			ServerSideEncryption: types.ServerSideEncryption(b.sse.mode),
			SSEKMSKeyId:          b.sse.key,
		})
		if err == nil {
			err = b.sse.check(string(out.ServerSideEncryption))
		}
		switch {
		case err == nil:
			return nil
		case status(err) == http.StatusPreconditionFailed:
			return b.fail("put if absent", key, ErrExists)
		case status(err) == http.StatusConflict && attempt < 5:
			// A concurrent conditional write was under way; S3 asks to retry.
		default:
			return b.fail("put if absent", key, err)
		}
	}
}

// Get implements Backend.
func (b *S3) Get(ctx context.Context, key string) (io.ReadCloser, error) {
	if err := ValidKey(key); err != nil {
		return nil, b.fail("get", key, err)
	}
	out, err := b.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &b.bucket, Key: b.key(key)})
	if err != nil {
		return nil, b.fail("get", key, err)
	}
	return &s3Reader{ctx: ctx, backend: b, key: key, etag: aws.ToString(out.ETag), body: out.Body}, nil
}

// Stat implements Backend.
func (b *S3) Stat(ctx context.Context, key string) (Object, error) {
	if err := ValidKey(key); err != nil {
		return Object{}, b.fail("stat", key, err)
	}
	head := &s3.HeadObjectInput{Bucket: &b.bucket, Key: b.key(key)}
	out, err := b.client.HeadObject(ctx, head)
	if status(err) == http.StatusForbidden {
		// The answer to HEAD has no body and so no reason: a request that has one
		// tells it, and lets the SDK correct its clock if that is the reason.
		got, why := b.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &b.bucket, Key: b.key(key), Range: aws.String("bytes=0-0")})
		if why == nil {
			got.Body.Close()
		}
		if status(why) == http.StatusForbidden {
			err = why
		} else {
			out, err = b.client.HeadObject(ctx, head)
		}
	}
	if err != nil {
		return Object{}, b.fail("stat", key, err)
	}
	return Object{Key: key, Bytes: aws.ToInt64(out.ContentLength), ModTime: aws.ToTime(out.LastModified)}, nil
}

// List implements Backend.
func (b *S3) List(ctx context.Context, prefix string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		if err := validPrefix(prefix); err != nil {
			yield(Object{}, b.fail("list", prefix, err))
			return
		}
		pages := s3.NewListObjectsV2Paginator(b.client, &s3.ListObjectsV2Input{Bucket: &b.bucket, Prefix: b.key(prefix)})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				yield(Object{}, b.fail("list", prefix, err))
				return
			}
			for _, o := range page.Contents {
				key := aws.ToString(o.Key)[len(b.prefix):]
				if ValidKey(key) != nil { // not ours: consoles make "directory/" objects
					continue
				}
				if !yield(Object{Key: key, Bytes: aws.ToInt64(o.Size), ModTime: aws.ToTime(o.LastModified)}, nil) {
					return
				}
			}
		}
	}
}

// Delete implements Backend.
func (b *S3) Delete(ctx context.Context, key string) error {
	err := ValidKey(key)
	if err == nil {
		_, err = b.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &b.bucket, Key: b.key(key)})
	}
	if code(err) == "NoSuchKey" { // AWS answers 204, some services 404
		return nil
	}
	if err != nil {
		return b.fail("delete", key, err)
	}
	return nil
}
