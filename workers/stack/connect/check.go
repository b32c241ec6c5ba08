package connect

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/rs/zerolog"
	"go.temporal.io/sdk/client"
	"golang.org/x/sys/unix"
)

// Status of a check.
type Status string

// Statuses, from good to bad.
const (
	OK   Status = "ok"
	Warn Status = "warn" // works, but for how long
	Fail Status = "fail"
)

// Check is the result of one health check.
type Check struct {
	Name   string // temporal, s3, disk
	Status Status
	Detail string // what was found, one line
	Remedy string // what to do, empty when all is well
}

// Free bytes below which CheckDisk warns and fails.
const (
	diskWarn = 5 << 30
	diskFail = 512 << 20
)

// CheckTemporal connects, and compares the namespace's search attributes with
// attributes (name → type).
func CheckTemporal(ctx context.Context, t Temporal, attributes map[string]string) Check {
	start := time.Now()
	c, err := Dial(ctx, t, zerolog.Nop())
	if err != nil {
		return failed("temporal", err)
	}
	defer c.Close()
	took := time.Since(start)
	missing, err := missingAttributes(ctx, c, t.Namespace, attributes)
	if err != nil {
		return failed("temporal", err)
	}
	check := Check{Name: "temporal", Status: OK,
		Detail: fmt.Sprintf("%s, namespace %s, answered in %d ms", t.Address, t.Namespace, took.Milliseconds())}
	if exposed := t.Exposed(); exposed != "" {
		check.Status, check.Remedy = Warn, "set temporal.tls, if the service speaks TLS"
		check.Detail += "; " + exposed
	}
	if len(missing) > 0 {
		check.Status = Warn
		check.Detail += "; lacks search attributes " + strings.Join(missing, ", ")
		check.Remedy = "they are registered by the next run; without the right to do so, add them with temporal operator search-attribute create"
	}
	return check
}

// CheckAccess tries what another user of this machine could: an embedded Temporal
// without its key, and its web UI without a session. The second result is false
// where Temporal is not embedded.
func CheckAccess(ctx context.Context, t Target) (Check, bool) {
	if !t.embedded {
		return Check{}, false
	}
	stranger := t.Temporal
	stranger.APIKey = ""
	open := ""
	if c, err := Dial(ctx, stranger, zerolog.Nop()); err == nil {
		c.Close()
		open = "Temporal"
	}
	if request, err := http.NewRequestWithContext(ctx, http.MethodGet, t.UI+"/api/v1/namespaces", nil); err == nil {
		if answer, err := http.DefaultClient.Do(request); err == nil {
			answer.Body.Close()
			if answer.StatusCode != http.StatusUnauthorized {
				open = strings.TrimPrefix(open+" and the web UI", " and ")
			}
		}
	}
	if open != "" {
		return Check{Name: "access", Status: Fail, Detail: "any user of this machine is served by " + open,
			Remedy: "stop the stack and start it with this version of esclab"}, true
	}
	return Check{Name: "access", Status: OK, Detail: "Temporal wants the key in " + t.Temporal.KeyFile + ", the web UI a session (esclab ui)"}, true
}

func missingAttributes(ctx context.Context, c client.Client, namespace string, attributes map[string]string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	have, err := listed(ctx, c, namespace)
	if err != nil {
		return nil, err
	}
	var missing []string
	for name := range attributes {
		if _, ok := have[name]; !ok {
			missing = append(missing, name)
		}
	}
	sort.Strings(missing)
	return missing, nil
}

// CheckS3 writes, reads and deletes a small object, having created the bucket
// where it was missing. The object is written on the condition that it is not there,
// twice: a service that ignores the condition would let two workers take one stage.
func CheckS3(ctx context.Context, p S3) Check {
	start := time.Now()
	if err := EnsureBucket(ctx, p); err != nil {
		return failed("s3", err)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := p.roundTrip(ctx); err != nil {
		return failed("s3", err)
	}
	check := Check{Name: "s3", Status: OK,
		Detail: fmt.Sprintf("%s, bucket %s, put, conditional put, get and delete in %d ms", p.Endpoint, p.Bucket, time.Since(start).Milliseconds())}
	if exposed := p.Exposed(); exposed != "" {
		check.Status, check.Remedy = Warn, "give s3.endpoint as https://, if the service speaks TLS"
		check.Detail += "; " + exposed
	}
	return check
}

func (p S3) roundTrip(ctx context.Context) error {
	content := make([]byte, 32)
	if _, err := rand.Read(content); err != nil {
		return err
	}
	// Each check has a key of its own, so that two at a time do not interfere.
	key := "checks/" + hex.EncodeToString(content[:8])
	c := p.Client()
	encryption, kmsKey := p.encryption()
	ifAbsent := func() (*s3.PutObjectOutput, error) {
		return c.PutObject(ctx, &s3.PutObjectInput{Bucket: &p.Bucket, Key: &key, Body: bytes.NewReader(content), IfNoneMatch: aws.String("*"),
			ServerSideEncryption: encryption, SSEKMSKeyId: kmsKey})
	}
	put, err := ifAbsent()
	if err != nil {
		return p.explain("write to", err)
	}
	if put.ServerSideEncryption != encryption && encryption != "" {
		return problem(nil, "use a service that encrypts, or set s3.encryption to none",
			"s3: %s was asked to encrypt (%s) and does not say that it did", p.Endpoint, p.Encryption)
	}
	got, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: &p.Bucket, Key: &key})
	if err != nil {
		return p.explain("read from", err)
	}
	defer got.Body.Close()
	read, err := io.ReadAll(got.Body)
	if err != nil {
		return p.explain("read from", err)
	}
	_, again := ifAbsent()
	if _, err := c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &p.Bucket, Key: &key}); err != nil {
		return p.explain("delete from", err)
	}
	if !bytes.Equal(read, content) {
		return problem(nil, "the service is broken, use another", "s3: %s returned other bytes than were written to bucket %s", p.Endpoint, p.Bucket)
	}
	switch {
	case again == nil:
		return problem(nil, "use a service that honours conditional writes (AWS, MinIO, Ceph, R2, versitygw from 1.0.20 on)",
			"s3: %s has written an object of bucket %s again that was to be written only where there is none (If-None-Match): two workers could take the same stage", p.Endpoint, p.Bucket)
	case statusOf(again) != http.StatusPreconditionFailed:
		return p.explain("refuse a second conditional write to", again)
	}
	return nil
}

// CheckDisk reports the space left for dir, which need not exist yet.
func CheckDisk(dir string) Check {
	at := dir
	for {
		_, err := os.Stat(at)
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) || at == filepath.Dir(at) {
			return failed("disk", problem(err, "set ESCLAB_DATA_DIR to a directory that you may write", "no data directory at %s", dir))
		}
		at = filepath.Dir(at)
	}
	var stat unix.Statfs_t
	if err := unix.Statfs(at, &stat); err != nil {
		return failed("disk", fmt.Errorf("free space of %s: %w", at, err))
	}
	return diskCheck(dir, stat.Bavail*uint64(stat.Bsize))
}

func diskCheck(dir string, free uint64) Check {
	check := Check{Name: "disk", Status: OK, Detail: fmt.Sprintf("%.1f GiB free for %s", float64(free)/(1<<30), dir)}
	if free < diskWarn {
		check.Status = Warn
		check.Remedy = "free space, or set ESCLAB_DATA_DIR to a larger disk"
	}
	if free < diskFail {
		check.Status = Fail
	}
	return check
}

// failed is the result of a check that ended with err.
func failed(name string, err error) Check {
	check := Check{Name: name, Status: Fail, Detail: err.Error()}
	var p *Problem
	if errors.As(err, &p) {
		check.Detail, check.Remedy = p.Detail, p.Remedy
	}
	return check
}
