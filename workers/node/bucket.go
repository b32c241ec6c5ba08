package node

import (
	"context"
	"os"

	"github.com/esclab/esclab/artifacts/s3"
	"github.com/esclab/esclab/workers/settings"
	"github.com/esclab/esclab/workers/stack/connect"
)

// OpenBucket opens what an s3://bucket/prefix names, for backbones: on the S3
// service of the settings, or, where the store is embedded, on whatever the
// AWS SDK's own variables and files name (AWS_ENDPOINT_URL, AWS_REGION,
// AWS_PROFILE, credentials).
func OpenBucket(ctx context.Context, s *settings.Settings, uri string) (*s3.Backend, error) {
	bucket, prefix, err := s3.ParseURI(uri)
	if err != nil {
		return nil, err
	}
	c := s3.Config{Bucket: bucket, Prefix: prefix}
	if s.EmbedS3() {
		// A service of one's own seldom has a host name for each bucket.
		c.PathStyle = os.Getenv("AWS_ENDPOINT_URL_S3") != "" || os.Getenv("AWS_ENDPOINT_URL") != ""
		return s3.Open(ctx, c)
	}
	credentials, err := s.S3.Credentials()
	if err != nil {
		return nil, err
	}
	c.Endpoint, c.Region, c.PathStyle, c.Checksums = s.S3.Endpoint, s.S3.Region, s.S3.PathStyle, string(s.S3.Checksum)
	if c.TLS, err = connect.S3TLS(s.S3); err != nil {
		return nil, err
	}
	c.AccessKey, c.SecretKey, c.SessionToken = credentials.AccessKey, string(credentials.SecretKey), string(credentials.SessionToken)
	return s3.Open(ctx, c)
}
