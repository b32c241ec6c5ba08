package stack

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/versity/versitygw/backend"
	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/s3err"
	"github.com/versity/versitygw/s3response"

	"github.com/esclab/esclab/workers/stack/internal/datadir"
)

// objects is versitygw's POSIX backend, made fit to live inside a program:
//
//   - posix.New changes the working directory of the whole process and names
//     buckets relative to it. Here a bucket is handed on as an absolute path,
//     so the working directory stays what the user's relative paths mean.
//   - the backend leaves written objects to the page cache. Here a write
//     returns when file and directories are on disk, so that a manifest never
//     survives a power cut that its blobs did not.
//
// Operations that artifacts do not use (copies, tags, ACL changes, versions)
// answer NotImplemented.
type objects struct {
	backend.BackendUnsupported
	posix *posix.Posix
	root  string // absolute; holds one directory per bucket

	mu      sync.Mutex
	durable map[string]bool // directories whose own entry is on disk
}

// newObjects serves the buckets below dataDir.
func newObjects(dataDir string) (*objects, error) {
	root := filepath.Join(dataDir, datadir.ObjectsDir)
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, fmt.Errorf("s3: %w", err)
	}
	options := posix.PosixOpts{
		// Lock files would order the writers of several gateways, but the lock of
		// the data directory admits only one.
		ForceNoObjLockFile: true,
	}
	options.SetNewDirPerm(0o700)
	options.SetNewFilePerm(0o600)
	var metadata meta.MetadataStorer = meta.XattrMeta{}
	if err := (meta.XattrMeta{}).Test(root); err != nil {
		sidecar := filepath.Join(dataDir, datadir.SidecarDir)
		if err := os.MkdirAll(sidecar, 0o700); err != nil {
			return nil, fmt.Errorf("s3: %w", err)
		}
		if metadata, err = meta.NewSideCar(sidecar); err != nil {
			return nil, fmt.Errorf("s3: metadata: %w", err)
		}
		metadata = rootedMetadata{metadata, root}
	}
	// "." rather than root: posix.New enters the directory that it is given.
	p, err := posix.New(".", metadata, options)
	if err != nil {
		return nil, fmt.Errorf("s3: open %s: %w", root, err)
	}
	return &objects{posix: p, root: root, durable: map[string]bool{root: true}}, nil
}

func (o *objects) String() string { return "esclab objects" }
func (o *objects) Shutdown()      { o.posix.Shutdown() }

func (o *objects) NormalizeObjectKey(bucket, object string) string {
	return o.posix.NormalizeObjectKey(bucket, object)
}

// path is the directory of a bucket.
func (o *objects) path(bucket string) string { return filepath.Join(o.root, bucket) }

// in replaces the bucket's name in a request by its path.
func (o *objects) in(bucket **string) {
	if *bucket != nil {
		path := o.path(**bucket)
		*bucket = &path
	}
}

// name turns a bucket's path in an answer back into its name.
func (o *objects) name(path string) string {
	return strings.TrimPrefix(strings.TrimPrefix(path, o.root), string(filepath.Separator))
}

// out does the same for an error.
func (o *objects) out(err error) error {
	var e s3err.BucketError
	if errors.As(err, &e) {
		e.BucketName = o.name(e.BucketName)
		return e
	}
	return err
}

// sync makes an object durable: its file, the directory that names it, and
// those above as far as they are new.
func (o *objects) sync(bucketPath, key string) error {
	path := filepath.Join(bucketPath, key)
	if err := o.syncPath(path); err != nil || path == o.root {
		return err
	}
	for named := false; !named; {
		path = filepath.Dir(path)
		if err := o.syncPath(path); err != nil {
			return err
		}
		o.mu.Lock()
		named = o.durable[path]
		o.durable[path] = true
		o.mu.Unlock()
	}
	return nil
}

// syncPath syncs a file or directory; one that another request deletes
// meanwhile needs none.
func (o *objects) syncPath(path string) error {
	if err := datadir.Sync(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// forget is called before a delete, which also removes directories that it
// leaves empty.
func (o *objects) forget() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.durable = map[string]bool{o.root: true}
}

func (o *objects) ListBuckets(_ context.Context, in s3response.ListBucketsInput) (s3response.ListAllMyBucketsResult, error) {
	out := s3response.ListAllMyBucketsResult{Owner: s3response.CanonicalUser{ID: in.Owner}, Prefix: in.Prefix}
	entries, err := os.ReadDir(o.root) // sorted
	if err != nil {
		return out, fmt.Errorf("list buckets: %w", err)
	}
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), in.Prefix) || e.Name() <= in.ContinuationToken {
			continue
		}
		if n := len(out.Buckets.Bucket); in.MaxBuckets > 0 && n == int(in.MaxBuckets) {
			out.ContinuationToken = out.Buckets.Bucket[n-1].Name
			break
		}
		info, err := e.Info()
		if err != nil {
			continue
		}
		out.Buckets.Bucket = append(out.Buckets.Bucket, s3response.ListAllMyBucketsEntry{Name: e.Name(), CreationDate: info.ModTime()})
	}
	return out, nil
}

func (o *objects) HeadBucket(ctx context.Context, in *s3.HeadBucketInput) (*s3.HeadBucketOutput, error) {
	o.in(&in.Bucket)
	out, err := o.posix.HeadBucket(ctx, in)
	return out, o.out(err)
}

func (o *objects) GetBucketAcl(ctx context.Context, in *s3.GetBucketAclInput) ([]byte, error) {
	o.in(&in.Bucket)
	out, err := o.posix.GetBucketAcl(ctx, in)
	return out, o.out(err)
}

func (o *objects) CreateBucket(ctx context.Context, in *s3.CreateBucketInput, acl []byte) error {
	o.in(&in.Bucket)
	if err := o.posix.CreateBucket(ctx, in, acl); err != nil {
		return o.out(err)
	}
	return o.sync(*in.Bucket, "")
}

func (o *objects) DeleteBucket(ctx context.Context, bucket string) error {
	o.forget()
	return o.out(o.posix.DeleteBucket(ctx, o.path(bucket)))
}

// What follows is asked before every request is let through.

func (o *objects) GetBucketVersioning(ctx context.Context, bucket string) (s3response.GetBucketVersioningOutput, error) {
	out, err := o.posix.GetBucketVersioning(ctx, o.path(bucket))
	return out, o.out(err)
}

func (o *objects) GetBucketPolicy(ctx context.Context, bucket string) ([]byte, error) {
	out, err := o.posix.GetBucketPolicy(ctx, o.path(bucket))
	return out, o.out(err)
}

func (o *objects) GetBucketCors(ctx context.Context, bucket string) ([]byte, error) {
	out, err := o.posix.GetBucketCors(ctx, o.path(bucket))
	return out, o.out(err)
}

func (o *objects) GetObjectLockConfiguration(ctx context.Context, bucket string) ([]byte, error) {
	out, err := o.posix.GetObjectLockConfiguration(ctx, o.path(bucket))
	return out, o.out(err)
}

// Objects.

func (o *objects) PutObject(ctx context.Context, in s3response.PutObjectInput) (s3response.PutObjectOutput, error) {
	o.in(&in.Bucket)
	out, err := o.posix.PutObject(ctx, in)
	if err != nil {
		return out, o.out(err)
	}
	return out, o.sync(*in.Bucket, *in.Key)
}

func (o *objects) HeadObject(ctx context.Context, in *s3.HeadObjectInput) (*s3.HeadObjectOutput, error) {
	o.in(&in.Bucket)
	out, err := o.posix.HeadObject(ctx, in)
	return out, o.out(err)
}

func (o *objects) GetObject(ctx context.Context, in *s3.GetObjectInput) (*s3.GetObjectOutput, error) {
	o.in(&in.Bucket)
	out, err := o.posix.GetObject(ctx, in)
	return out, o.out(err)
}

func (o *objects) GetObjectAttributes(ctx context.Context, in *s3.GetObjectAttributesInput) (s3response.GetObjectAttributesResponse, error) {
	o.in(&in.Bucket)
	out, err := o.posix.GetObjectAttributes(ctx, in)
	return out, o.out(err)
}

func (o *objects) DeleteObject(ctx context.Context, in *s3.DeleteObjectInput) (*s3.DeleteObjectOutput, error) {
	o.in(&in.Bucket)
	o.forget()
	out, err := o.posix.DeleteObject(ctx, in)
	return out, o.out(err)
}

func (o *objects) DeleteObjects(ctx context.Context, in *s3.DeleteObjectsInput) (s3response.DeleteResult, error) {
	o.in(&in.Bucket)
	o.forget()
	out, err := o.posix.DeleteObjects(ctx, in)
	return out, o.out(err)
}

func (o *objects) ListObjects(ctx context.Context, in *s3.ListObjectsInput) (s3response.ListObjectsResult, error) {
	o.in(&in.Bucket)
	out, err := o.posix.ListObjects(ctx, in)
	o.rename(out.Name)
	return out, o.out(err)
}

func (o *objects) ListObjectsV2(ctx context.Context, in *s3.ListObjectsV2Input) (s3response.ListObjectsV2Result, error) {
	o.in(&in.Bucket)
	out, err := o.posix.ListObjectsV2(ctx, in)
	o.rename(out.Name)
	return out, o.out(err)
}

// rename puts the bucket's name into an answer that holds its path.
func (o *objects) rename(bucket *string) {
	if bucket != nil {
		*bucket = o.name(*bucket)
	}
}

// Multipart uploads.

func (o *objects) CreateMultipartUpload(ctx context.Context, in s3response.CreateMultipartUploadInput) (s3response.InitiateMultipartUploadResult, error) {
	o.in(&in.Bucket)
	out, err := o.posix.CreateMultipartUpload(ctx, in)
	o.rename(&out.Bucket)
	return out, o.out(err)
}

func (o *objects) UploadPart(ctx context.Context, in *s3.UploadPartInput) (*s3.UploadPartOutput, error) {
	o.in(&in.Bucket)
	out, err := o.posix.UploadPart(ctx, in)
	return out, o.out(err)
}

func (o *objects) CompleteMultipartUpload(ctx context.Context, in *s3.CompleteMultipartUploadInput) (s3response.CompleteMultipartUploadResult, string, error) {
	o.in(&in.Bucket)
	out, version, err := o.posix.CompleteMultipartUpload(ctx, in)
	o.rename(out.Bucket)
	if err != nil {
		return out, version, o.out(err)
	}
	return out, version, o.sync(*in.Bucket, *in.Key)
}

func (o *objects) AbortMultipartUpload(ctx context.Context, in *s3.AbortMultipartUploadInput) error {
	o.in(&in.Bucket)
	return o.out(o.posix.AbortMultipartUpload(ctx, in))
}

func (o *objects) ListMultipartUploads(ctx context.Context, in *s3.ListMultipartUploadsInput) (s3response.ListMultipartUploadsResult, error) {
	o.in(&in.Bucket)
	out, err := o.posix.ListMultipartUploads(ctx, in)
	o.rename(&out.Bucket)
	return out, o.out(err)
}

func (o *objects) ListParts(ctx context.Context, in *s3.ListPartsInput) (s3response.ListPartsResult, error) {
	o.in(&in.Bucket)
	out, err := o.posix.ListParts(ctx, in)
	o.rename(&out.Bucket)
	return out, o.out(err)
}

// rootedMetadata keeps a sidecar's metadata by bucket name rather than by
// absolute path, so that a data directory can be moved.
type rootedMetadata struct {
	meta.MetadataStorer
	root string
}

func (m rootedMetadata) name(path string) string { return strings.TrimPrefix(path, m.root) }

func (m rootedMetadata) RetrieveAttribute(f *os.File, bucket, object, attribute string) ([]byte, error) {
	return m.MetadataStorer.RetrieveAttribute(f, m.name(bucket), object, attribute)
}

func (m rootedMetadata) StoreAttribute(f *os.File, bucket, object, attribute string, value []byte) error {
	return m.MetadataStorer.StoreAttribute(f, m.name(bucket), object, attribute, value)
}

func (m rootedMetadata) DeleteAttribute(bucket, object, attribute string) error {
	return m.MetadataStorer.DeleteAttribute(m.name(bucket), object, attribute)
}

func (m rootedMetadata) ListAttributes(bucket, object string) ([]string, error) {
	return m.MetadataStorer.ListAttributes(m.name(bucket), object)
}

func (m rootedMetadata) DeleteAttributes(bucket, object string) error {
	return m.MetadataStorer.DeleteAttributes(m.name(bucket), object)
}

func (m rootedMetadata) RenameObject(bucket, from, to string) error {
	return m.MetadataStorer.RenameObject(m.name(bucket), from, to)
}

var _ backend.Backend = (*objects)(nil)
