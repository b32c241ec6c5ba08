package artifacts

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// Uploads is what a Backend can do besides if a killed writer may leave
// something half-written behind, which takes space and is no object.
type Uploads interface {
	// Uploads yields what is half-written, by live writers too.
	Uploads(ctx context.Context) iter.Seq2[Upload, error]
	// Abort removes it. Its writer, if there is one, gets an error.
	Abort(ctx context.Context, u Upload) error
}

// Upload is an object that is being written, or was.
type Upload struct {
	Key     string // that it would get
	ID      string
	Bytes   int64
	ModTime time.Time // when it began, or was last written to, by the backend's clock
}

// Uploads implements [Uploads]: multipart uploads that are neither complete nor
// aborted.
func (b *S3) Uploads(ctx context.Context) iter.Seq2[Upload, error] {
	return func(yield func(Upload, error) bool) {
		in := &s3.ListMultipartUploadsInput{Bucket: &b.bucket}
		if b.prefix != "" {
			in.Prefix = &b.prefix
		}
		pages := s3.NewListMultipartUploadsPaginator(b.client, in)
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				yield(Upload{}, b.fail("list unfinished uploads of", "", err))
				return
			}
			for _, u := range page.Uploads {
				key := aws.ToString(u.Key)[len(b.prefix):]
				if ValidKey(key) != nil { // not ours
					continue
				}
				upload := Upload{Key: key, ID: aws.ToString(u.UploadId), ModTime: aws.ToTime(u.Initiated)}
				upload.Bytes, err = b.uploaded(ctx, upload)
				if err != nil && status(err) != http.StatusNotFound { // finished meanwhile
					yield(Upload{}, b.fail("list the parts of an upload of", key, err))
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
func (b *S3) uploaded(ctx context.Context, u Upload) (n int64, err error) {
	parts := s3.NewListPartsPaginator(b.client, &s3.ListPartsInput{Bucket: &b.bucket, Key: b.key(u.Key), UploadId: &u.ID})
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

// Abort implements [Uploads].
func (b *S3) Abort(ctx context.Context, u Upload) error {
	_, err := b.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &b.bucket, Key: b.key(u.Key), UploadId: &u.ID})
	if err != nil && status(err) != http.StatusNotFound {
		return b.fail("abort an upload of", u.Key, err)
	}
	return nil
}

// Uploads implements [Uploads]: temporary files.
func (d *Directory) Uploads(ctx context.Context) iter.Seq2[Upload, error] {
	return func(yield func(Upload, error) bool) {
		entries, err := os.ReadDir(d.temp())
		if err = errors.Join(err, ctx.Err()); err != nil {
			yield(Upload{}, fmt.Errorf("list unfinished writes in %s: %w", d.root, err))
			return
		}
		for _, e := range entries {
			info, err := e.Info()
			if err != nil || !info.Mode().IsRegular() { // published or removed meanwhile
				continue
			}
			if !yield(Upload{Key: e.Name(), ID: e.Name(), Bytes: info.Size(), ModTime: info.ModTime()}, nil) {
				return
			}
		}
	}
}

// Abort implements [Uploads].
func (d *Directory) Abort(ctx context.Context, u Upload) error {
	err := ctx.Err()
	if err == nil {
		err = os.Remove(filepath.Join(d.temp(), filepath.Base(u.ID)))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove an unfinished write in %s: %w", d.root, err)
	}
	return nil
}

var _, _ Uploads = (*S3)(nil), (*Directory)(nil)
