package stack_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/artifacts/s3"
	"github.com/esclab/esclab/artifacts/storetest"
	"github.com/esclab/esclab/workers/stack/connect"
)

// TestStoreOnStack: the embedded store keeps every promise that artifacts makes
// of a backend, and what a collection asks besides.
func TestStoreOnStack(t *testing.T) {
	o := options(t.TempDir())
	o.NoTemporal = true
	p := start(t, o).S3()
	n := 0
	open := func(t *testing.T) artifacts.Backend {
		n++
		here := p
		here.Bucket = fmt.Sprintf("%s-%d", p.Bucket, n)
		if err := connect.EnsureBucket(t.Context(), here); err != nil {
			t.Fatal(err)
		}
		b, err := s3.Open(t.Context(), s3.Config{
			Bucket: here.Bucket, Endpoint: p.Endpoint, Region: p.Region, PathStyle: true,
			AccessKey: p.Credentials.AccessKey, SecretKey: string(p.Credentials.SecretKey),
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { b.Close() })
		return b
	}
	storetest.Run(t, open)

	b := open(t)
	s, err := artifacts.New(b, artifacts.Options{CacheDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		orphan, err := s.PutFunc(t.Context(), artifacts.BytesFile(storetest.Bytes(9<<20, 1)))
		if err != nil {
			t.Fatal(err)
		}
		if c, err := s.Collect(t.Context(), artifacts.CollectOptions{OlderThan: time.Hour}); err != nil || len(c.Found) != 0 {
			t.Errorf("young: %+v, %v", c, err)
		}
		time.Sleep(1100 * time.Millisecond) // S3 stamps to the second
		c, err := s.Collect(t.Context(), artifacts.CollectOptions{OlderThan: 0})
		if got := c.Found[artifacts.GarbageBlob]; err != nil || got.Bytes != orphan.Bytes {
			t.Errorf("collected %+v, %v; want the orphan of %d bytes", c, err, orphan.Bytes)
		}
		if keys := storetest.Keys(t, b, ""); len(keys) != 0 {
			t.Errorf("left %q", keys)
		}
	}
}
