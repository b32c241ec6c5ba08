// Package s3 is the store's backend on an S3-compatible service, and the only
// part of artifacts that knows the AWS SDK.
package s3

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
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"
	transfertypes "github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager/types"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/logging"

	"github.com/esclab/esclab/artifacts"
)

// Config says where a bucket is and how to talk to its service.
type Config struct {
	Bucket string
	// Prefix, if any, is put before each key ("team/esclab"), so that several
	// stores can share a bucket.
	Prefix string
	// Endpoint is the URL of an S3-compatible service; empty means AWS.
	Endpoint string
	Region   string
	// PathStyle puts the bucket into the path, not the host name. Most
	// self-hosted services need it.
	PathStyle bool
	// Checksums is when_required (the default) or when_supported. Many
	// S3-compatible services reject the CRC trailers of when_supported; the
	// store verifies SHA-256 on its own in either case.
	Checksums string
	// MaxAttempts bounds the tries of one request; 0 means 5.
	MaxAttempts int
	// MaxBackoff bounds the pause before a request is tried again; 0 means 20 s.
	MaxBackoff time.Duration
	// PartBytes is the size of one part of a multipart upload, at least 5 MiB;
	// 0 means 8 MiB. An object has at most 10,000 parts.
	PartBytes int64

	// Encryption asks the service to encrypt what it stores: empty or "none" for
	// what the bucket does by itself, "sse-s3" for keys that the service manages,
	// "sse-kms" for a key of its key management. A service that takes the request
	// but does not say that it has encrypted is an error.
	Encryption string
	// KMSKey is the key of sse-kms, an ARN or ID; empty means the account's own.
	KMSKey string

	// TLS replaces the trust in the system's authorities, and may hold a client
	// certificate; nil: the system's, and those of AWS_CA_BUNDLE.
	TLS *tls.Config

	// AccessKey and SecretKey, if set, replace the SDK's chain of environment,
	// shared configuration and instance role.
	AccessKey string
	SecretKey string
	// SessionToken goes with temporary credentials; empty otherwise.
	SessionToken string
	// Reload, if set, gives the keys in their place, and is asked again when the
	// service says that they have expired.
	Reload func(context.Context) (accessKey, secretKey, sessionToken string, err error)
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

// Backend is an artifacts.Backend on an S3-compatible service. PutIfAbsent needs
// a service that honours If-None-Match (AWS, MinIO, Ceph, R2, versitygw ≥ 1.0.20 do).
type Backend struct {
	client  *awss3.Client
	uploads *transfermanager.Client
	conns   *connections
	bucket  string
	prefix  string // empty or ends with a slash
	sse     encryption
	keys    *aws.CredentialsCache // nil unless they can be read again
}

// ParseURI takes "s3://bucket/prefix" apart; the prefix may be empty.
func ParseURI(uri string) (bucket, prefix string, err error) {
	rest, ok := strings.CutPrefix(uri, "s3://")
	bucket, prefix, _ = strings.Cut(rest, "/")
	prefix = strings.TrimSuffix(prefix, "/")
	if !ok || bucket == "" {
		return "", "", fmt.Errorf("%q is no s3://bucket/prefix", uri)
	}
	if prefix != "" {
		if err := artifacts.ValidKey(prefix); err != nil {
			return "", "", fmt.Errorf("%s: %w", uri, err)
		}
	}
	return bucket, prefix, nil
}

// Open prepares a client; it sends no request. The bucket has to exist.
func Open(ctx context.Context, c Config) (*Backend, error) {
	if c.Bucket == "" {
		return nil, errors.New("open S3 store: no bucket; set bucket in the S3 settings")
	}
	if c.Prefix != "" {
		if err := artifacts.ValidKey(c.Prefix); err != nil {
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
				// An answer whose body breaks off, such as a list, is asked for again.
				o.Retryables = append(o.Retryables, retry.IsErrorRetryableFunc(func(err error) aws.Ternary {
					if errors.Is(err, io.ErrUnexpectedEOF) {
						return aws.TrueTernary
					}
					return aws.UnknownTernary
				}))
			})
			// Services answer with these codes while somebody else changes the same
			// key or, on a file system, removes the directory that a key needs.
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
	// The client is frozen only now, because loading the configuration has added
	// the certificates of AWS_CA_BUNDLE to it.
	if b, ok := cfg.HTTPClient.(*awshttp.BuildableClient); ok {
		cfg.HTTPClient = b.Freeze()
	}
	client := awss3.NewFromConfig(cfg, func(o *awss3.Options) {
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
	return &Backend{client: client, uploads: uploads, conns: conns, bucket: c.Bucket, prefix: c.Prefix, sse: sse, keys: keys}, nil
}

// DefaultChain gives the credentials that the AWS SDK finds by itself: in the
// environment and its shared files, by web identity, from a container's or an
// instance's role. They are asked for anew before they expire.
func DefaultChain(region string) *aws.CredentialsCache {
	return aws.NewCredentialsCache(aws.CredentialsProviderFunc(func(ctx context.Context) (aws.Credentials, error) {
		cfg, err := config.LoadDefaultConfig(ctx, config.WithRegion(region))
		if err != nil {
			return aws.Credentials{}, err
		}
		return cfg.Credentials.Retrieve(ctx)
	}))
}

// Close closes the connections, none of which may be in use any more. A service
// that is being stopped may otherwise wait for them.
func (b *Backend) Close() error { return b.conns.close() }

// Location implements artifacts.Backend.
func (b *Backend) Location() string { return "s3://" + b.bucket + "/" + b.prefix }

func (b *Backend) key(key string) *string { return aws.String(b.prefix + key) }

// Put implements artifacts.Backend. Objects up to one part go in one request,
// larger ones as a multipart upload, which S3 publishes in one step.
func (b *Backend) Put(ctx context.Context, key string, r io.Reader) error {
	if err := errors.Join(ctx.Err(), artifacts.ValidKey(key)); err != nil {
		return b.fail("put", key, err)
	}
	out, err := b.uploads.UploadObject(ctx, &transfermanager.UploadObjectInput{
		Bucket:               &b.bucket,
		Key:                  b.key(key),
		ServerSideEncryption: transfertypes.ServerSideEncryption(b.sse.mode),
		SSEKMSKeyID:          b.sse.key,
		// The SDK would size a body that can seek and send it as it is; this is
		// only a reader.
		Body: artifacts.ContextReader(ctx, r),
	})
	if err == nil {
		err = b.sse.check(string(out.ServerSideEncryption))
	}
	if err != nil {
		return b.fail("put", key, err)
	}
	return nil
}

// PutIfAbsent implements artifacts.Backend.
func (b *Backend) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	if err := errors.Join(ctx.Err(), artifacts.ValidKey(key)); err != nil {
		return b.fail("put if absent", key, err)
	}
	for attempt := 1; ; attempt++ {
		out, err := b.client.PutObject(ctx, &awss3.PutObjectInput{
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
			return b.fail("put if absent", key, artifacts.ErrExists)
		case status(err) == http.StatusConflict && attempt < 5:
			// Another conditional write was under way, and S3 asks to retry.
		default:
			return b.fail("put if absent", key, err)
		}
	}
}

// Get implements artifacts.Backend.
func (b *Backend) Get(ctx context.Context, key string) (io.ReadCloser, error) {
	if err := artifacts.ValidKey(key); err != nil {
		return nil, b.fail("get", key, err)
	}
	out, err := b.client.GetObject(ctx, &awss3.GetObjectInput{Bucket: &b.bucket, Key: b.key(key)})
	if err != nil {
		return nil, b.fail("get", key, err)
	}
	return &reader{ctx: ctx, backend: b, key: key, etag: aws.ToString(out.ETag), body: out.Body}, nil
}

// GetRange implements artifacts.Ranger.
func (b *Backend) GetRange(ctx context.Context, key string, offset, n int64) (io.ReadCloser, error) {
	if err := artifacts.ValidKey(key); err != nil {
		return nil, b.fail("get", key, err)
	}
	out, err := b.client.GetObject(ctx, &awss3.GetObjectInput{Bucket: &b.bucket, Key: b.key(key), Range: byteRange(offset, n)})
	if err != nil {
		return nil, b.fail("get", key, err)
	}
	return &reader{ctx: ctx, backend: b, key: key, etag: aws.ToString(out.ETag), body: out.Body, offset: offset, end: offset + n}, nil
}

// byteRange names n bytes from an offset on; n 0: all that follow.
func byteRange(offset, n int64) *string {
	if n == 0 {
		return aws.String(fmt.Sprintf("bytes=%d-", offset))
	}
	return aws.String(fmt.Sprintf("bytes=%d-%d", offset, offset+n-1))
}

// Stat implements artifacts.Backend.
func (b *Backend) Stat(ctx context.Context, key string) (artifacts.Object, error) {
	if err := artifacts.ValidKey(key); err != nil {
		return artifacts.Object{}, b.fail("stat", key, err)
	}
	head := &awss3.HeadObjectInput{Bucket: &b.bucket, Key: b.key(key)}
	out, err := b.client.HeadObject(ctx, head)
	if status(err) == http.StatusForbidden {
		// The answer to HEAD has no body and so no reason: a request that has one
		// tells it, and lets the SDK correct its clock if that is the reason.
		got, why := b.client.GetObject(ctx, &awss3.GetObjectInput{Bucket: &b.bucket, Key: b.key(key), Range: aws.String("bytes=0-0")})
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
		return artifacts.Object{}, b.fail("stat", key, err)
	}
	return artifacts.Object{Key: key, Bytes: aws.ToInt64(out.ContentLength), ModTime: aws.ToTime(out.LastModified)}, nil
}

// List implements artifacts.Backend.
func (b *Backend) List(ctx context.Context, prefix string) iter.Seq2[artifacts.Object, error] {
	return func(yield func(artifacts.Object, error) bool) {
		if err := artifacts.ValidPrefix(prefix); err != nil {
			yield(artifacts.Object{}, b.fail("list", prefix, err))
			return
		}
		pages := awss3.NewListObjectsV2Paginator(b.client, &awss3.ListObjectsV2Input{Bucket: &b.bucket, Prefix: b.key(prefix)})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				yield(artifacts.Object{}, b.fail("list", prefix, err))
				return
			}
			for _, o := range page.Contents {
				key := aws.ToString(o.Key)[len(b.prefix):]
				if artifacts.ValidKey(key) != nil { // not ours: consoles make "directory/" objects
					continue
				}
				if !yield(artifacts.Object{Key: key, Bytes: aws.ToInt64(o.Size), ModTime: aws.ToTime(o.LastModified)}, nil) {
					return
				}
			}
		}
	}
}

// Delete implements artifacts.Backend.
func (b *Backend) Delete(ctx context.Context, key string) error {
	err := artifacts.ValidKey(key)
	if err == nil {
		_, err = b.client.DeleteObject(ctx, &awss3.DeleteObjectInput{Bucket: &b.bucket, Key: b.key(key)})
	}
	if code(err) == "NoSuchKey" { // AWS answers 204, some services 404
		return nil
	}
	if err != nil {
		return b.fail("delete", key, err)
	}
	return nil
}
