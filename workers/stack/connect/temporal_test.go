package connect

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/esclab/esclab/internal/certtest"
	"github.com/esclab/esclab/workers/settings"
)

// frontend answers what Dial asks of a Temporal service, behind TLS with
// client certificates and an API key.
type frontend struct {
	workflowservice.UnimplementedWorkflowServiceServer
}

func (frontend) GetSystemInfo(context.Context, *workflowservice.GetSystemInfoRequest) (*workflowservice.GetSystemInfoResponse, error) {
	return &workflowservice.GetSystemInfoResponse{Capabilities: &workflowservice.GetSystemInfoResponse_Capabilities{}}, nil
}

func (frontend) DescribeNamespace(_ context.Context, r *workflowservice.DescribeNamespaceRequest) (*workflowservice.DescribeNamespaceResponse, error) {
	if r.Namespace != "esc" {
		return nil, serviceerror.ToStatus(serviceerror.NewNamespaceNotFound(r.Namespace)).Err()
	}
	return &workflowservice.DescribeNamespaceResponse{}, nil
}

func requireKey(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	if got := md.Get("authorization"); len(got) != 1 || got[0] != "Bearer right" {
		return nil, status.Error(codes.Unauthenticated, "no such key")
	}
	return handler(ctx, request)
}

func TestDialTLS(t *testing.T) {
	dir := t.TempDir()
	ca := certtest.New(t, dir)
	ca.Issue(t, "server", "temporal.test")
	ca.Issue(t, "client")
	ca.Issue(t, "open")
	if err := os.Chmod(ca.Path("open.key"), 0o644); err != nil {
		t.Fatal(err)
	}
	certtest.New(t, filepath.Join(dir, "other"))
	address := serveTLS(t, dir, ca)

	good := settings.Temporal{Address: address, Namespace: "esc", APIKeyEnv: "TEST_KEY", TLS: &settings.TLS{
		CA: filepath.Join(dir, "ca.pem"), Cert: filepath.Join(dir, "client.pem"), Key: filepath.Join(dir, "client.key"), ServerName: "temporal.test"}}
	for _, c := range []struct {
		name, key string
		change    func(*settings.Temporal)
		want      string // "" for success
	}{
		{"all right", "right", func(*settings.Temporal) {}, ""},
		{"wrong key", "wrong", func(*settings.Temporal) {}, "refused the credentials"},
		{"no client certificate", "right", func(s *settings.Temporal) { s.TLS.Cert, s.TLS.Key = "", "" }, "temporal.tls"},
		{"unknown authority", "right", func(s *settings.Temporal) { s.TLS.CA = "" }, "certificate signed by unknown authority"},
		{"other authority", "right", func(s *settings.Temporal) { s.TLS.CA = filepath.Join(dir, "other", "ca.pem") }, "check temporal.tls"},
		{"wrong name", "right", func(s *settings.Temporal) { s.TLS.ServerName = "elsewhere" }, "check temporal.tls"},
		{"no such namespace", "right", func(s *settings.Temporal) { s.Namespace = "x" }, `has no namespace "x": create it (temporal operator namespace create -n x)`},
		{"open key file", "right", func(s *settings.Temporal) { s.TLS.Key = filepath.Join(dir, "open.key") }, "chmod 600"},
		{"no certificate in the file", "right", func(s *settings.Temporal) { s.TLS.CA = filepath.Join(dir, "client.key") }, "holds no PEM certificate"},
		{"key unset", "", func(*settings.Temporal) {}, "TEST_KEY is not set"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("TEST_KEY", c.key)
			s := good
			files := *good.TLS
			s.TLS = &files
			c.change(&s)
			target, err := external(s)
			if err == nil {
				_, err = dial(t, target)
			}
			oneLine(t, err, c.want)
		})
	}
	t.Run("plain text to TLS", func(t *testing.T) {
		_, err := dial(t, Temporal{Address: address, Namespace: "esc"})
		oneLine(t, err, "temporal.tls")
	})
}

// A key and a certificate that are replaced are used from then on; one that cannot be
// read stays as it was.
func TestRotatedSecrets(t *testing.T) {
	dir := t.TempDir()
	ca := certtest.New(t, dir)
	ca.Issue(t, "server", "temporal.test")
	ca.Issue(t, "client")
	address, key := serveTLS(t, dir, ca), filepath.Join(dir, "key")
	rotate := func(text string) {
		t.Helper()
		if err := os.WriteFile(key, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	rotate("right")
	target, err := external(settings.Temporal{Address: address, Namespace: "esc", APIKeyFile: key, TLS: &settings.TLS{
		CA: filepath.Join(dir, "ca.pem"), Cert: filepath.Join(dir, "client.pem"), Key: filepath.Join(dir, "client.key"), ServerName: "temporal.test"}})
	if err != nil {
		t.Fatal(err)
	}
	c, err := Dial(t.Context(), target, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, step := range []struct {
		key  string
		good bool
	}{{"wrong", false}, {"right", true}, {"no key of one word", true}} { // the last one stays unread
		rotate(step.key)
		_, err := c.WorkflowService().DescribeNamespace(t.Context(), &workflowservice.DescribeNamespaceRequest{Namespace: "esc"})
		if step.good != (err == nil) {
			t.Errorf("key %q: %v, want that it is let in: %v", step.key, err, step.good)
		}
	}

	serial := func() string {
		t.Helper()
		pair, err := target.TLS.GetClientCertificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(pair.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		return leaf.SerialNumber.String()
	}
	before := serial()
	ca.Issue(t, "client")
	after := serial()
	if after == before {
		t.Error("the certificate was replaced, and the old one is used")
	}
	if err := os.Remove(filepath.Join(dir, "client.key")); err != nil {
		t.Fatal(err)
	}
	if serial() != after {
		t.Error("a certificate that cannot be read is not the last one that could")
	}
}

func TestDialFailsFast(t *testing.T) {
	t.Run("nothing listens", func(t *testing.T) {
		address := nowhere(t)
		_, err := dial(t, Temporal{Address: address, Namespace: "default"})
		oneLine(t, err, "temporal: cannot reach "+address+" (connect: connection refused): start the server there, or correct temporal.address")
		if check := CheckTemporal(t.Context(), Temporal{Address: address, Namespace: "default"}, nil); check.Status != Fail || check.Remedy == "" {
			t.Errorf("check %+v, want a failure with a remedy", check)
		}
	})
	t.Run("unknown host", func(t *testing.T) {
		_, err := dial(t, Temporal{Address: "no-such-host.invalid:7233", Namespace: "default"})
		oneLine(t, err, "cannot reach no-such-host.invalid:7233")
	})
	t.Run("silent server", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		_, err = Dial(ctx, Temporal{Address: l.Addr().String(), Namespace: "default"}, zerolog.Nop())
		oneLine(t, err, "does not answer as a Temporal server")
	})
}

func dial(t *testing.T, target Temporal) (struct{}, error) {
	c, err := Dial(t.Context(), target, zerolog.Nop())
	if err == nil {
		t.Cleanup(c.Close)
	}
	return struct{}{}, err
}

// oneLine wants an error of one line that contains want, or none for "".
func oneLine(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Error(err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n")):
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func serveTLS(t *testing.T, dir string, ca *certtest.Authority) string {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca.Cert)
	server := grpc.NewServer(grpc.UnaryInterceptor(requireKey), grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert})))
	workflowservice.RegisterWorkflowServiceServer(server, frontend{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve(l)
	t.Cleanup(server.Stop)
	return l.Addr().String()
}
