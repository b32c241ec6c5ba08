package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"

	"github.com/esclab/esclab/artifacts/s3"
	"github.com/esclab/esclab/internal/freeport"
)

// Gateway is an S3 service on a directory of its own, inside the test process or
// a process of its own.
type Gateway struct {
	// Root holds one directory per bucket: tests reach behind the service.
	Root    string
	address string
	buckets int
	process *exec.Cmd // nil inside the test process
}

const (
	accessKey = "storetest"
	secretKey = "storetest-secret"
)

// StartGateway starts the gateway and stops it when the test ends. There can be
// only one in a process, so tests that use it must not run in parallel; and it
// works from its root as the current directory, so until the test ends relative
// paths mean something else.
func StartGateway(t testing.TB) *Gateway {
	t.Helper()
	cwd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	var storer meta.MetadataStorer = meta.XattrMeta{}
	var opts posix.PosixOpts
	if err := (meta.XattrMeta{}).Test(root); err != nil { // no extended attributes on this file system
		opts.SideCarDir = filepath.Join(dir, "meta")
		if err := os.Mkdir(opts.SideCarDir, 0o755); err != nil {
			t.Fatal(err)
		}
		if storer, err = meta.NewSideCar(opts.SideCarDir); err != nil {
			t.Fatal(err)
		}
	}
	be, err := posix.New(root, storer, opts)
	if err != nil {
		t.Fatalf("gateway: %v", err)
	}
	g := &Gateway{Root: root, address: FreeAddress(t)}
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan error, 1)
	// Without keep-alive: the gateway may otherwise take 10 seconds to stop,
	// waiting for connections that are closed already.
	go func() {
		stopped <- embedgw.RunVersityGW(ctx, be, &embedgw.Config{
			RootUserAccess: accessKey, RootUserSecret: secretKey,
			Ports: []string{g.address}, MaxConnections: 256, MaxRequests: 256, MultipartMaxParts: 10_000,
			Quiet: true,
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-stopped; err != nil {
			t.Errorf("gateway: %v", err)
		}
		if err := os.Chdir(cwd); err != nil {
			t.Error(err)
		}
	})
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		conn, err := net.Dial("tcp", g.address)
		if err == nil {
			conn.Close()
			return g
		}
		select {
		case err := <-stopped:
			stopped <- err
			t.Fatalf("gateway stopped: %v", err)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("gateway does not listen: %v", err)
		}
	}
}

// URL is the endpoint.
func (g *Gateway) URL() string { return "http://" + g.address }

// Config returns settings for a new, not yet created bucket.
func (g *Gateway) Config() s3.Config {
	g.buckets++
	return s3.Config{
		Bucket: fmt.Sprintf("bucket-%d", g.buckets), Endpoint: g.URL(), Region: "us-east-1",
		PathStyle: true, AccessKey: accessKey, SecretKey: secretKey,
	}
}

// client speaks to the gateway itself, whatever stands between it and a backend.
func (g *Gateway) client() *awss3.Client {
	return awss3.New(awss3.Options{BaseEndpoint: aws.String(g.URL()), Region: "us-east-1", UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(accessKey, secretKey, "")})
}

// LeaveUpload begins a multipart upload of one part and leaves it, as a killed
// process does.
func (g *Gateway) LeaveUpload(t testing.TB, c s3.Config, key string, part []byte) {
	t.Helper()
	client := g.client()
	upload, err := client.CreateMultipartUpload(t.Context(), &awss3.CreateMultipartUploadInput{Bucket: &c.Bucket, Key: &key})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.UploadPart(t.Context(), &awss3.UploadPartInput{Bucket: &c.Bucket, Key: &key, UploadId: upload.UploadId,
		PartNumber: aws.Int32(1), Body: bytes.NewReader(part)}); err != nil {
		t.Fatal(err)
	}
}

// MakeBucket creates the bucket of c unless it is there.
func (g *Gateway) MakeBucket(t testing.TB, c s3.Config) {
	t.Helper()
	_, err := g.client().CreateBucket(t.Context(), &awss3.CreateBucketInput{Bucket: &c.Bucket})
	var owned *types.BucketAlreadyOwnedByYou
	if err != nil && !errors.As(err, &owned) {
		t.Fatal(err)
	}
}

// Open returns a backend on the bucket of c and creates the bucket.
func (g *Gateway) Open(t testing.TB, c s3.Config) *s3.Backend {
	t.Helper()
	g.MakeBucket(t, c)
	b, err := s3.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// FreeAddress returns an address of the loopback interface that a server of the test
// may listen on by its number.
func FreeAddress(t testing.TB) string {
	t.Helper()
	port, err := freeport.Port()
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}
