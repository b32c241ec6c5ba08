package s3

import (
	"context"
	"errors"
	"io"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
)

// maxResumes bounds how often a download goes on after a broken connection.
const maxResumes = 4

// reader reads an object and goes on where it was when the connection breaks:
// the SDK retries requests, not the reading of their bodies, and weights are
// gigabytes. The entity tag keeps a replaced object from being mixed in.
type reader struct {
	ctx     context.Context
	backend *Backend
	key     string
	etag    string
	body    io.ReadCloser
	offset  int64
	end     int64 // of the part that is read; 0: the object's own
	resumes int
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.body.Read(p)
	r.offset += int64(n)
	if err == nil || err == io.EOF {
		return n, err
	}
	if n > 0 { // hand over what there is; the next Read meets the error again
		return n, nil
	}
	if r.ctx.Err() != nil || r.resumes == maxResumes || r.etag == "" {
		return 0, r.backend.fail("read", r.key, errors.Join(r.ctx.Err(), err))
	}
	r.resumes++
	r.body.Close()
	out, again := r.backend.client.GetObject(r.ctx, &awss3.GetObjectInput{
		Bucket:  &r.backend.bucket,
		Key:     r.backend.key(r.key),
		Range:   byteRange(r.offset, max(r.end-r.offset, 0)),
		IfMatch: aws.String(r.etag),
	})
	if again != nil {
		r.body = io.NopCloser(failedReader{err})
		return 0, r.backend.fail("resume reading", r.key, errors.Join(err, again))
	}
	r.body = out.Body
	return 0, nil
}

func (r *reader) Close() error { return r.body.Close() }

type failedReader struct{ err error }

func (f failedReader) Read([]byte) (int, error) { return 0, f.err }
