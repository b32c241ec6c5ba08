package stack_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	"github.com/esclab/esclab/workers/settings"
)

// The S3 operations that an artifact store needs, through the AWS client.
func TestObjects(t *testing.T) {
	o := options(t.TempDir())
	o.NoTemporal = true
	s := start(t, o)
	p := s.S3()
	c := p.Client()
	ctx := t.Context()
	wd, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}

	t.Run("list", func(t *testing.T) {
		for i := range 25 {
			put(t, p, fmt.Sprintf("list/%02d/x", i), fmt.Sprint(i))
		}
		var keys []string
		pages := s3.NewListObjectsV2Paginator(c, &s3.ListObjectsV2Input{Bucket: &p.Bucket, Prefix: aws.String("list/"), MaxKeys: aws.Int32(10)})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if aws.ToString(page.Name) != p.Bucket {
				t.Errorf("bucket is called %q", aws.ToString(page.Name))
			}
			for _, o := range page.Contents {
				keys = append(keys, *o.Key)
			}
		}
		if len(keys) != 25 || !slices.IsSorted(keys) || keys[24] != "list/24/x" {
			t.Errorf("keys: %v", keys)
		}
		page, err := c.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &p.Bucket, Delimiter: aws.String("/")})
		if err != nil || len(page.CommonPrefixes) != 1 || *page.CommonPrefixes[0].Prefix != "list/" {
			t.Errorf("common prefixes: %v, %v", page.CommonPrefixes, err)
		}
		buckets, err := c.ListBuckets(ctx, &s3.ListBucketsInput{})
		if err != nil || len(buckets.Buckets) != 1 || *buckets.Buckets[0].Name != p.Bucket {
			t.Errorf("buckets: %v, %v", buckets.Buckets, err)
		}
	})
	t.Run("metadata, range, overwrite, delete", func(t *testing.T) {
		key := aws.String("k ä/+x")
		for _, body := range []string{"first", "second one"} {
			if _, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: &p.Bucket, Key: key, Body: strings.NewReader(body), Metadata: map[string]string{"sha256": "ab"}}); err != nil {
				t.Fatal(err)
			}
		}
		head, err := c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &p.Bucket, Key: key})
		if err != nil || *head.ContentLength != 10 || head.Metadata["sha256"] != "ab" {
			t.Errorf("head %+v, %v; want the 10 bytes and the metadata that were put last", head, err)
		}
		part, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: &p.Bucket, Key: key, Range: aws.String("bytes=7-")})
		if err != nil {
			t.Fatal(err)
		}
		if data, _ := io.ReadAll(part.Body); string(data) != "one" {
			t.Errorf("range: %q", data)
		}
		if _, err := c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &p.Bucket, Key: key}); err != nil {
			t.Fatal(err)
		}
		var missing *types.NoSuchKey
		if _, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: &p.Bucket, Key: key}); !errors.As(err, &missing) {
			t.Errorf("after delete: %v", err)
		}
	})
	t.Run("create only once", func(t *testing.T) {
		// Of many writers at a time, one creates the object.
		var created, refused int
		var mu sync.Mutex
		var group sync.WaitGroup
		for i := range 8 {
			group.Go(func() {
				_, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: &p.Bucket, Key: aws.String("lease"), IfNoneMatch: aws.String("*"), Body: strings.NewReader(fmt.Sprint(i))})
				var api smithy.APIError
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					created++
				case errors.As(err, &api) && api.ErrorCode() == "PreconditionFailed":
					refused++
				default:
					t.Error(err)
				}
			})
		}
		group.Wait()
		if created != 1 || refused != 7 {
			t.Errorf("%d created, %d refused", created, refused)
		}
	})
	t.Run("multipart", func(t *testing.T) {
		content := make([]byte, 5<<20+1000)
		rand.Read(content)
		key := aws.String("multi/part")
		up, err := c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: &p.Bucket, Key: key})
		if err != nil {
			t.Fatal(err)
		}
		var parts []types.CompletedPart
		for i, body := range [][]byte{content[:5<<20], content[5<<20:]} {
			n := aws.Int32(int32(i + 1))
			part, err := c.UploadPart(ctx, &s3.UploadPartInput{Bucket: &p.Bucket, Key: key, UploadId: up.UploadId, PartNumber: n, Body: bytes.NewReader(body)})
			if err != nil {
				t.Fatal(err)
			}
			parts = append(parts, types.CompletedPart{ETag: part.ETag, PartNumber: n})
		}
		done, err := c.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: &p.Bucket, Key: key, UploadId: up.UploadId,
			MultipartUpload: &types.CompletedMultipartUpload{Parts: parts}})
		if err != nil {
			t.Fatal(err)
		}
		if aws.ToString(done.Bucket) != p.Bucket {
			t.Errorf("bucket is called %q", aws.ToString(done.Bucket))
		}
		if got := read(t, p, *key); got != string(content) {
			t.Errorf("%d bytes, want %d, or other ones", len(got), len(content))
		}
	})
	t.Run("errors name the bucket", func(t *testing.T) {
		_, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String("no-such-bucket"), Key: aws.String("k")})
		var api smithy.APIError
		if !errors.As(err, &api) || api.ErrorCode() != "NoSuchBucket" || strings.Contains(err.Error(), o.DataDir) {
			t.Errorf("error %v, want NoSuchBucket without the data directory's path", err)
		}
	})
	t.Run("wrong credentials", func(t *testing.T) {
		q := p
		q.Credentials = settings.Credentials{AccessKey: p.Credentials.AccessKey, SecretKey: "wrong"}
		if _, err := q.Client().ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &p.Bucket}); err == nil {
			t.Error("accepted")
		}
	})
	t.Run("objects are private files, nothing lands in the working directory", func(t *testing.T) {
		info, err := os.Stat(filepath.Join(o.DataDir, "s3", p.Bucket, "lease"))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("file %v, %v; want mode 0600", info, err)
		}
		now, err := os.ReadDir(".")
		if err != nil || len(now) != len(wd) {
			t.Errorf("working directory: %v, was %v (%v)", now, wd, err)
		}
	})
}
