package node

import (
	"io/fs"
	"strings"
	"testing"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/artifacts/storetest"
	"github.com/esclab/esclab/workers/settings"
)

// TestOpenBucket reads a bucket on the settings' service and, where the store
// is embedded, on the one that the AWS variables name.
func TestOpenBucket(t *testing.T) {
	g := storetest.StartGateway(t)
	c := g.Config()
	b := g.Open(t, c)
	if err := b.Put(t.Context(), "models/tiny/config.json", strings.NewReader("{}")); err != nil {
		t.Fatal(err)
	}
	uri := "s3://" + c.Bucket + "/models/tiny/"
	read := func(s *settings.Settings) {
		t.Helper()
		bucket, err := OpenBucket(t.Context(), s, uri)
		if err != nil {
			t.Fatal(err)
		}
		defer bucket.Close()
		if data, err := fs.ReadFile(artifacts.Files(t.Context(), bucket), "config.json"); err != nil || string(data) != "{}" {
			t.Errorf("config.json holds %q, %v; want {}", data, err)
		}
	}
	external := settings.Default()
	external.S3.Endpoint, external.S3.Region, external.S3.PathStyle = c.Endpoint, c.Region, true
	external.S3.AccessKeyEnv, external.S3.SecretKeyEnv = "TEST_ACCESS", "TEST_SECRET"
	t.Setenv("TEST_ACCESS", c.AccessKey)
	t.Setenv("TEST_SECRET", c.SecretKey)
	read(external)

	for name, value := range map[string]string{"AWS_ENDPOINT_URL": c.Endpoint, "AWS_REGION": c.Region, "AWS_ACCESS_KEY_ID": c.AccessKey, "AWS_SECRET_ACCESS_KEY": c.SecretKey} {
		t.Setenv(name, value)
	}
	read(settings.Default())
	if _, err := OpenBucket(t.Context(), external, "s3://"); err == nil {
		t.Error("no bucket is taken")
	}
}
