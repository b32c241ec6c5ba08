package s3

import (
	"context"
	"iter"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/esclab/esclab/artifacts"
)

// Uploads implements artifacts.Uploads: multipart uploads that are neither
// complete nor aborted.
func (b *Backend) Uploads(ctx context.Context) iter.Seq2[artifacts.Upload, error] {
	return func(yield func(artifacts.Upload, error) bool) {
		in := &awss3.ListMultipartUploadsInput{Bucket: &b.bucket}
		if b.prefix != "" {
			in.Prefix = &b.prefix
		}
		pages := awss3.NewListMultipartUploadsPaginator(b.client, in)
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				yield(artifacts.Upload{}, b.fail("list unfinished uploads of", "", err))
				return
			}
			for _, u := range page.Uploads {
				key := aws.ToString(u.Key)[len(b.prefix):]
				if artifacts.ValidKey(key) != nil { // not ours
					continue
				}
				upload := artifacts.Upload{Key: key, ID: aws.ToString(u.UploadId), ModTime: aws.ToTime(u.Initiated)}
				upload.Bytes, err = b.uploaded(ctx, upload)
				if err != nil && status(err) != http.StatusNotFound { // finished meanwhile
					yield(artifacts.Upload{}, b.fail("list the parts of an upload of", key, err))
					return
				}
				if err == nil && !yield(upload, nil) {
					return
				}
			}
		}
	}
}

// uploaded sums the parts of an upload.
func (b *Backend) uploaded(ctx context.Context, u artifacts.Upload) (n int64, err error) {
	parts := awss3.NewListPartsPaginator(b.client, &awss3.ListPartsInput{Bucket: &b.bucket, Key: b.key(u.Key), UploadId: &u.ID})
	for parts.HasMorePages() {
		page, err := parts.NextPage(ctx)
		if err != nil {
			return 0, err
		}
		for _, p := range page.Parts {
			n += aws.ToInt64(p.Size)
		}
	}
	return n, nil
}

// Abort implements artifacts.Uploads.
func (b *Backend) Abort(ctx context.Context, u artifacts.Upload) error {
	_, err := b.client.AbortMultipartUpload(ctx, &awss3.AbortMultipartUploadInput{Bucket: &b.bucket, Key: b.key(u.Key), UploadId: &u.ID})
	if err != nil && status(err) != http.StatusNotFound {
		return b.fail("abort an upload of", u.Key, err)
	}
	return nil
}
