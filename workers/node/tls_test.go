package node

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io/fs"
	"math/big"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/artifacts/storetest"
	"github.com/esclab/esclab/workers/settings"
	"github.com/esclab/esclab/workers/stack/connect"
)

// authority issues the certificates of a test.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, dir string) *authority {
	t.Helper()
	a := &authority{dir: dir}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	a.key = newKey(t)
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(raw); err != nil {
		t.Fatal(err)
	}
	a.write(t, "ca.pem", "CERTIFICATE", raw, 0o644)
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (a *authority) write(t *testing.T, name, kind string, der []byte, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(a.dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// issue writes NAME.pem and NAME.key, for a host or for a client.
func (a *authority) issue(t *testing.T, name, host string) (cert, key string) {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	if host != "" {
		template.DNSNames = []string{host}
	}
	private := newKey(t)
	raw, err := x509.CreateCertificate(rand.Reader, template, a.cert, &private.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return a.write(t, name+".pem", "CERTIFICATE", raw, 0o644), a.write(t, name+".key", "EC PRIVATE KEY", der, 0o600)
}

// A store behind TLS that asks for a client certificate: reached with the right
// files, refused in words that name the setting with the wrong ones.
func TestStoreOverTLS(t *testing.T) {
	g := storetest.StartGateway(t)
	c := g.Config()
	if err := g.Open(t, c).Put(t.Context(), "models/tiny/config.json", strings.NewReader("{}")); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	ca := newAuthority(t, dir)
	ca.issue(t, "server", "s3.test")
	ca.issue(t, "client", "")
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	behind, err := url.Parse(c.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewUnstartedServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(behind)
		r.Out.Host = r.In.Host // it is signed
	}})
	front.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}
	front.Config.ErrorLog = nil
	front.StartTLS()
	t.Cleanup(front.Close)

	s := settings.Default()
	s.S3.Endpoint, s.S3.Region, s.S3.Bucket, s.S3.PathStyle = front.URL, c.Region, c.Bucket, true
	s.S3.AccessKeyEnv, s.S3.SecretKeyEnv = "TEST_ACCESS", "TEST_SECRET"
	t.Setenv("TEST_ACCESS", c.AccessKey)
	t.Setenv("TEST_SECRET", c.SecretKey)
	good := settings.TLS{CA: filepath.Join(dir, "ca.pem"), Cert: filepath.Join(dir, "client.pem"), Key: filepath.Join(dir, "client.key"), ServerName: "s3.test"}
	s.S3.TLS = &good
	bucket, err := OpenBucket(t.Context(), s, "s3://"+c.Bucket+"/models/tiny/")
	if err != nil {
		t.Fatal(err)
	}
	defer bucket.Close()
	if data, err := fs.ReadFile(artifacts.Files(t.Context(), bucket), "config.json"); err != nil || string(data) != "{}" {
		t.Errorf("config.json holds %q, %v; want {}", data, err)
	}
	s.Temporal.Address = "temporal.test:7233" // nothing embedded
	target, err := connect.Resolve(s, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := connect.EnsureBucket(t.Context(), target.S3); err != nil {
		t.Error(err)
	}

	for name, c := range map[string]struct {
		change func(*settings.TLS)
		remedy string
	}{
		"no client certificate": {func(s *settings.TLS) { s.Cert, s.Key = "", "" }, "does it ask for cert and key?"},
		"unknown authority":     {func(s *settings.TLS) { s.CA = "" }, "s3.tls.ca"},
		"wrong name":            {func(s *settings.TLS) { s.ServerName = "elsewhere" }, "s3.tls.server_name"},
	} {
		bad := good
		c.change(&bad)
		s.S3.TLS = &bad
		target, err := connect.Resolve(s, nil)
		if err != nil {
			t.Fatal(err)
		}
		err = connect.EnsureBucket(t.Context(), target.S3)
		if err == nil || !strings.Contains(err.Error(), front.URL) || !strings.Contains(err.Error(), c.remedy) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want the remedy %q", name, err, c.remedy)
		}
	}
	if err := os.Chmod(good.Key, 0o644); err != nil {
		t.Fatal(err)
	}
	s.S3.TLS = &good
	if _, err := connect.Resolve(s, nil); err == nil || !strings.Contains(err.Error(), "s3.tls.key") || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key that others may read: %v", err)
	}
}
