package connect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/esclab/esclab/workers/settings"
	"github.com/esclab/esclab/workers/stack/internal/datadir"
)

func TestDiscover(t *testing.T) {
	dir := t.TempDir()
	discover := func() (*Info, error) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		return Discover(ctx, dir)
	}
	if _, err := discover(); !errors.Is(err, ErrNotRunning) || !strings.Contains(err.Error(), "esclab up") {
		t.Errorf("empty directory: %v", err)
	}
	// A description without its process is one that a crash left behind.
	if err := datadir.Publish(dir, &Info{PID: 1, Temporal: "old"}); err != nil {
		t.Fatal(err)
	}
	if _, err := discover(); !errors.Is(err, ErrNotRunning) {
		t.Errorf("stale description: %v", err)
	}
	lock, err := datadir.Acquire(dir)
	if err != nil {
		t.Fatal(err)
	}
	// The stack is starting: wait for it.
	if _, err := discover(); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("process %d holds", os.Getpid())) {
		t.Errorf("not ready: %v", err)
	}
	go func() {
		time.Sleep(50 * time.Millisecond)
		datadir.Publish(dir, &Info{PID: os.Getpid(), Temporal: "new"})
	}()
	if info, err := discover(); err != nil || info.Temporal != "new" {
		t.Errorf("found %+v, %v; want the stack that came up meanwhile", info, err)
	}
	if err := lock.Release(); err != nil {
		t.Fatal(err)
	}
	if _, err := discover(); !errors.Is(err, ErrNotRunning) {
		t.Errorf("released: %v", err)
	}
}

func TestResolve(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "credentials")
	if err := os.WriteFile(file, []byte("[default]\naws_access_key_id=id\naws_secret_access_key=secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(dir, "key")
	if err := os.WriteFile(key, []byte("hush\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	info := &Info{PID: 7, Temporal: "127.0.0.1:7233", Namespace: "default", KeyFile: key, UI: "http://127.0.0.1:8233",
		S3: &datadir.S3{Endpoint: "http://127.0.0.1:9233", Region: "us-east-1", Bucket: "esclab", CredentialsFile: file}}
	credentials := settings.Credentials{AccessKey: "id", SecretKey: "secret"}

	s := settings.Default()
	got, err := Resolve(s, info)
	want := Target{Temporal: Temporal{Address: "127.0.0.1:7233", Namespace: "default", APIKey: "hush", KeyFile: key}, UI: "http://127.0.0.1:8233", Stack: info, embedded: true, FilesPath: FilesPath,
		S3: S3{Endpoint: "http://127.0.0.1:9233", Region: "us-east-1", Bucket: "esclab", PathStyle: true, Credentials: credentials, Checksum: settings.ChecksumWhenRequired, Encryption: settings.EncryptionNone, CredentialsFile: file}}
	if err != nil || got != want {
		t.Errorf("embedded: %+v, %v", got, err)
	}
	if _, err := Resolve(s, nil); !errors.Is(err, ErrNotRunning) {
		t.Errorf("without a stack: %v", err)
	}
	if _, err := Resolve(s, &Info{PID: 7, Temporal: "x"}); err == nil || !strings.Contains(err.Error(), "process 7 runs without S3") {
		t.Errorf("half a stack: %v", err)
	}

	s.Temporal.Address, s.S3.Endpoint, s.S3.Bucket, s.S3.CredentialsFile = "far:7233", "https://s3", "other", file
	s.S3.PathStyle, s.S3.Checksum = false, settings.ChecksumWhenSupported
	got, err = Resolve(s, nil)
	want = Target{Temporal: Temporal{Address: "far:7233", Namespace: "default"},
		S3: S3{Endpoint: "https://s3", Region: "us-east-1", Bucket: "other", Credentials: credentials, Checksum: settings.ChecksumWhenSupported, Encryption: settings.EncryptionNone, CredentialsFile: file}}
	if err != nil || got != want {
		t.Errorf("external: %+v, %v", got, err)
	}

	s.Temporal.APIKeyEnv = "TEST_API_KEY"
	t.Setenv("TEST_API_KEY", "k")
	if got, err := Resolve(s, nil); err != nil || got.Temporal.TLS == nil || got.Temporal.APIKey != "k" {
		t.Errorf("an API key goes out in plain text: %+v, %v", got.Temporal, err)
	}
}

// Doctor finds out whether the service honours conditional writes, and whether
// anything gives credentials where the settings have none.
func TestCheckS3ProvesConditionalWrites(t *testing.T) {
	for name, c := range map[string]struct {
		again        int // status of the second conditional write
		want, remedy string
	}{
		"honoured": {http.StatusPreconditionFailed, "", ""},
		"ignored":  {http.StatusOK, "two workers could take the same stage", "use a service that honours conditional writes"},
		"unknown":  {http.StatusNotImplemented, "could not refuse a second conditional write to bucket", "see its log"},
	} {
		t.Run(name, func(t *testing.T) {
			var content []byte
			puts := 0
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch {
				case r.URL.Query().Get("list-type") != "":
					io.WriteString(w, `<?xml version="1.0"?><ListBucketResult></ListBucketResult>`)
				case r.Method == http.MethodPut:
					if puts++; r.Header.Get("If-None-Match") != "*" {
						t.Errorf("put %d is not conditional", puts)
					}
					if puts > 1 && c.again != http.StatusOK {
						w.WriteHeader(c.again)
						io.WriteString(w, `<?xml version="1.0"?><Error><Code>Other</Code><Message>no</Message></Error>`)
						return
					}
					content, _ = io.ReadAll(r.Body) // of this process
				case r.Method == http.MethodGet:
					w.Write(content)
				}
			}))
			defer server.Close()
			p := S3{Endpoint: server.URL, Region: "us-east-1", Bucket: "b", PathStyle: true, Credentials: settings.Credentials{AccessKey: "id", SecretKey: "secret"}}
			got := CheckS3(t.Context(), p)
			if ok := c.want == ""; ok != (got.Status == OK) || !strings.Contains(got.Detail, c.want) || !strings.Contains(got.Remedy, c.remedy) {
				t.Errorf("got %+v, want %q and %q", got, c.want, c.remedy)
			}
		})
	}

	var asked http.Header
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.Header
		io.WriteString(w, `<?xml version="1.0"?><ListBucketResult></ListBucketResult>`)
	}))
	defer server.Close()
	for key, value := range map[string]string{"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_PROFILE": "", "AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "none",
		"AWS_SHARED_CREDENTIALS_FILE": writeShared(t, "[default]\naws_access_key_id = chained\naws_secret_access_key = x\n")} {
		t.Setenv(key, value)
	}
	p := S3{Endpoint: server.URL, Region: "us-east-1", Bucket: "b", PathStyle: true}
	if err := EnsureBucket(t.Context(), p); err != nil || !strings.Contains(asked.Get("Authorization"), "Credential=chained/") {
		t.Errorf("without keys of its own: %v, authorization %q; want those of the AWS default chain", err, asked.Get("Authorization"))
	}
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "none")
	if err := EnsureBucket(t.Context(), p); err == nil || !strings.Contains(err.Error(), "nor the AWS default chain have any: export") {
		t.Errorf("without any keys: %v, want what to set", err)
	}
}

func writeShared(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "credentials")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Doctor says for what reason the service refuses, and what mends that one.
func TestCheckS3(t *testing.T) {
	fault := func(code, message string) string {
		return `<?xml version="1.0" encoding="UTF-8"?><Error><Code>` + code + `</Code><Message>` + message + `</Message></Error>`
	}
	type answer struct {
		status int
		body   string
		header map[string]string
	}
	var list, other answer // to a list, and to everything else
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := other
		if r.URL.Query().Get("list-type") != "" || r.Method == http.MethodHead {
			a = list
		}
		for key, value := range a.header {
			w.Header().Set(key, value)
		}
		w.WriteHeader(a.status)
		if r.Method != http.MethodHead { // which has no body
			w.Write([]byte(a.body))
		}
	}))
	defer server.Close()
	p := S3{Endpoint: server.URL, Region: "us-east-1", Bucket: "b-1", PathStyle: true, Credentials: settings.Credentials{AccessKey: "a", SecretKey: "hush"}}
	hour := func(d time.Duration) map[string]string {
		return map[string]string{"Date": time.Now().Add(d).UTC().Format(http.TimeFormat)}
	}
	empty := answer{status: 200, body: "<ListBucketResult/>"}
	for _, c := range []struct {
		name           string
		list, other    answer
		detail, remedy string
	}{
		{"wrong access key", answer{403, fault("InvalidAccessKeyId", "The key does not exist in our records."), nil}, empty, "refused to look up bucket b-1 (status 403 InvalidAccessKeyId: The key does not exist", "correct the access key"},
		{"wrong secret key", answer{403, fault("SignatureDoesNotMatch", "Check your key."), nil}, empty, "SignatureDoesNotMatch", "the secret key"},
		{"no key in the header", answer{400, fault("AuthorizationHeaderMalformed", "a non-empty Access Key must be provided"), nil}, empty, "non-empty Access Key", "correct the access key"},
		{"no rights", answer{403, fault("AccessDenied", "Access Denied"), nil}, empty, "AccessDenied", "right to get, put, list and delete"},
		{"no right to write", empty, answer{403, fault("AccessDenied", "Access Denied"), nil}, "refused to write to bucket b-1", "right to get, put, list and delete"},
		{"clock ahead", answer{403, fault("RequestTimeTooSkewed", "The difference is too large."), hour(-time.Hour)}, empty, "clock is 1h0m", "set this machine's clock right"},
		{"clock behind", answer{403, fault("RequestTimeTooSkewed", "The difference is too large."), hour(2 * time.Hour)}, empty, "behind the service's", "set this machine's clock right"},
		{"expired token", answer{400, fault("ExpiredToken", "The provided token has expired."), nil}, empty, "The provided token has expired.", "renew the credentials"},
		{"invalid token", answer{403, fault("InvalidToken", "The token is malformed."), nil}, empty, "InvalidToken", "renew the credentials"},
		{"region, by redirect", answer{301, fault("PermanentRedirect", "Use the specified endpoint."), map[string]string{"X-Amz-Bucket-Region": "eu-west-1"}}, empty, "PermanentRedirect", `set s3.region to the bucket's ("eu-west-1")`},
		{"region, by signature", answer{400, fault("AuthorizationHeaderMalformed", "the region 'us-east-1' is wrong; expecting 'eu-west-3'"), nil}, empty, "expecting 'eu-west-3'", "set s3.region"},
		{"region, of a new bucket", answer{404, fault("NoSuchBucket", ""), nil}, answer{400, fault("IllegalLocationConstraintException", "The location constraint is incompatible."), nil}, "could not create bucket b-1", "set s3.region"},
		{"taken name", answer{404, fault("NoSuchBucket", ""), nil}, answer{409, fault("BucketAlreadyExists", "taken"), nil}, "BucketAlreadyExists", "choose another name"},
		{"overloaded", answer{503, fault("SlowDown", "Please reduce your request rate."), nil}, empty, "SlowDown", "try again later"},
		{"full", empty, answer{507, fault("XMinioStorageFull", "Storage backend has reached its minimum free drive threshold."), nil}, "minimum free drive", "free space there"},
		{"two lines", answer{400, fault("InvalidRequest", "first\nsecond"), nil}, empty, "first second", "s3.checksum"},
		{"broken", answer{500, "oops", nil}, empty, "could not look up bucket b-1 (status 500", "see its log"},
		{"a page", answer{200, "<!doctype html><p>Sign in<br>", nil}, empty, "no reason as S3 services give it", "not that of a console"},
		{"another service", answer{404, "404 page not found", nil}, empty, "status 404", "correct s3.endpoint"},
		{"other bytes", empty, answer{200, "not what was put", nil}, "returned other bytes", "broken"},
	} {
		list, other = c.list, c.other
		got := CheckS3(t.Context(), p)
		if got.Status != Fail || !strings.Contains(got.Detail, c.detail) || !strings.Contains(got.Remedy, c.remedy) || strings.Contains(got.Detail+got.Remedy, "\n") {
			t.Errorf("%s: got %+v, want %q and that %q", c.name, got, c.detail, c.remedy)
		}
	}
	server.Close()
	got := CheckS3(t.Context(), p)
	if got.Status != Fail || got.Remedy != "start the service there, or correct s3.endpoint" ||
		got.Detail != fmt.Sprintf("s3: cannot reach %s (connect: connection refused)", server.URL) {
		t.Errorf("nothing listens: %+v", got)
	}
	private := httptest.NewTLSServer(http.NotFoundHandler())
	defer private.Close()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	for endpoint, remedy := range map[string]string{private.URL: "s3.tls.ca", strings.Replace(plain.URL, "http:", "https:", 1): "http://"} {
		p.Endpoint = endpoint
		if got := CheckS3(t.Context(), p); got.Status != Fail || !strings.Contains(got.Remedy, remedy) {
			t.Errorf("%s: got %+v, want the remedy %q", endpoint, got, remedy)
		}
	}
}

func TestCheckDisk(t *testing.T) {
	if got := CheckDisk(filepath.Join(t.TempDir(), "not", "yet", "there")); got.Status == Fail && !strings.Contains(got.Detail, "GiB free") {
		t.Errorf("disk: %+v, want a failure to say how much is free", got)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := CheckDisk(filepath.Join(file, "data")); got.Status != Fail || !strings.Contains(got.Remedy, "ESCLAB_DATA_DIR") {
		t.Errorf("below a file: %+v", got)
	}
	for free, want := range map[uint64]Status{100 << 30: OK, 2 << 30: Warn, 1 << 20: Fail} {
		if got := diskCheck("d", free); got.Status != want || (want == OK) != (got.Remedy == "") {
			t.Errorf("%d bytes: %+v", free, got)
		}
	}
}

func TestLogger(t *testing.T) {
	var out bytes.Buffer
	l := NewLogger(zerolog.New(&out))
	l.Warn("slow", "took", time.Second, "error", errors.New("why"), "n", 3, "odd")
	if got, want := out.String(), `{"level":"warn","took":"1s","error":"why","n":3,"message":"slow"}`+"\n"; got != want {
		t.Errorf("got  %swant %s", got, want)
	}
}

// The package is what a small worker imports: no server may come with it.
func TestImportsNoServer(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Skip("needs the go command: ", err)
	}
	for _, heavy := range []string{"go.temporal.io/server/", "versitygw", "temporalio/ui-server", "modernc.org/sqlite"} {
		if strings.Contains(string(out), heavy) {
			t.Errorf("imports %s", heavy)
		}
	}
}

// nowhere is an address on which nothing listens.
func nowhere(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
