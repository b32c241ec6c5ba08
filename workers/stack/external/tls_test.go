package external

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.temporal.io/server/common/authorization"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/temporal"

	"github.com/esclab/esclab/artifacts/storetest"
	"github.com/esclab/esclab/internal/certtest"
	"github.com/esclab/esclab/workers/settings"
	"github.com/esclab/esclab/workers/stack/connect"
)

// Variables of a server with TLS.
const (
	envCertificates = "ESCLAB_TEST_CERTIFICATES" // directory with server.pem, server.key and ca.pem: serve TLS
	envMutual       = "ESCLAB_TEST_MUTUAL"       // not empty: ask clients for certificates
	envKey          = "ESCLAB_TEST_KEY"          // not empty: the API key that callers must have
)

// secured makes a server's frontend ask for what the environment says. Its own
// workers then go through the internal frontend.
func secured(c *config.Config) []temporal.ServerOption {
	dir, key := os.Getenv(envCertificates), os.Getenv(envKey)
	if dir == "" {
		return nil
	}
	c.Global.TLS.Frontend.Server = config.ServerTLS{CertFile: filepath.Join(dir, "server.pem"), KeyFile: filepath.Join(dir, "server.key")}
	if os.Getenv(envMutual) != "" {
		c.Global.TLS.Frontend.Server.ClientCAFiles, c.Global.TLS.Frontend.Server.RequireClientAuth = []string{filepath.Join(dir, "ca.pem")}, true
	}
	if key == "" {
		return nil
	}
	return []temporal.ServerOption{
		temporal.WithAuthorizer(authorization.NewDefaultAuthorizer()),
		temporal.WithClaimMapper(func(*config.Config) authorization.ClaimMapper { return keys{key} }),
	}
}

// keys gives everything to who has the key.
type keys struct{ right string }

func (k keys) GetClaims(info *authorization.AuthInfo) (*authorization.Claims, error) {
	if info.AuthToken != "Bearer "+k.right {
		return nil, errors.New("no such key")
	}
	return &authorization.Claims{System: authorization.RoleAdmin}, nil
}

// A Temporal server that asks for TLS, for certificates or for an API key is
// used by settings alone, and says what is wrong with them.
func TestSecuredTemporal(t *testing.T) {
	dir := t.TempDir()
	ca := certtest.New(t, dir)
	ca.Issue(t, "server", "temporal.test", "127.0.0.1")
	ca.Issue(t, "client")
	other := certtest.New(t, filepath.Join(dir, "other"))
	other.Issue(t, "client")
	for name, key := range map[string]string{"right.key": "canary-right-4d1f", "wrong.key": "canary-wrong-7b20"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(key+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s3Endpoint := startVersitygw(t)
	t.Setenv("EXTERNAL_ACCESS", accessKey)
	t.Setenv("EXTERNAL_SECRET", secretKey)
	t.Setenv("EXTERNAL_KEY", "canary-right-4d1f")
	for _, server := range []struct {
		name        string
		mutual, key string
		good        []string // what goes under temporal
		bad         map[string]string
	}{
		{"TLS", "", "", []string{"tls: {ca: ca.pem}", "tls: {ca: ca.pem, server_name: temporal.test}"}, map[string]string{
			"":                        "set temporal.tls",
			"tls: {}":                 "certificate signed by unknown authority",
			"tls: {ca: other/ca.pem}": "check temporal.tls",
			"tls: {ca: ca.pem, server_name: elsewhere}": "check temporal.tls",
		}},
		{"mutual TLS", "1", "", []string{"tls: {ca: ca.pem, cert: client.pem, key: client.key}"}, map[string]string{
			"tls: {ca: ca.pem}": "does it ask for cert and key?",
			"tls: {ca: ca.pem, cert: other/client.pem, key: other/client.key}": "check temporal.tls",
		}},
		{"API key", "", "canary-right-4d1f", []string{"api_key_file: right.key, tls: {ca: ca.pem}", "api_key_env: EXTERNAL_KEY, tls: {ca: ca.pem}"}, map[string]string{
			"tls: {ca: ca.pem}":                          "refused the credentials",
			"api_key_file: wrong.key, tls: {ca: ca.pem}": "refused the credentials",
			// Never without TLS: the key implies it, with the system's authorities.
			"api_key_file: right.key": "certificate signed by unknown authority",
		}},
	} {
		t.Run(server.name, func(t *testing.T) {
			address := storetest.FreeAddress(t)
			spawn(t, []string{envServer + "=temporal", envAddress + "=" + address, envCertificates + "=" + dir, envMutual + "=" + server.mutual, envKey + "=" + server.key}, os.Args[0])
			load := func(t *testing.T, temporal string) (*settings.Settings, connect.Target) {
				t.Helper()
				path := filepath.Join(dir, settings.FileName)
				file := fmt.Sprintf("temporal: {address: %q, %s}\ns3: {endpoint: %q, access_key_env: EXTERNAL_ACCESS, secret_key_env: EXTERNAL_SECRET}\nembedded: {mode: off}\n",
					address, temporal, s3Endpoint)
				if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
					t.Fatal(err)
				}
				s, err := settings.Load(path)
				if err != nil {
					t.Fatal(err)
				}
				target, err := connect.Resolve(s, nil)
				if err != nil {
					t.Fatal(err)
				}
				return s, target
			}
			_, first := load(t, server.good[0])
			waitFor(t, 30*time.Second, func() error {
				c, err := connect.Dial(t.Context(), first.Temporal, zerolog.Nop())
				if err == nil {
					c.Close()
				}
				return err
			})
			for _, good := range server.good {
				t.Run(good, func(t *testing.T) {
					s, target := load(t, good)
					work(t, s, target)
				})
			}
			for bad, want := range server.bad {
				t.Run("not "+bad, func(t *testing.T) {
					_, target := load(t, bad)
					ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
					defer stop()
					_, err := connect.Dial(ctx, target.Temporal, zerolog.Nop())
					if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "canary") {
						t.Errorf("got  %v\nwant %s", err, want)
					}
				})
			}
		})
	}
}

// A listener that speaks plain text never gets to see an API key.
func TestKeyNeverInPlainText(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	heard := make(chan []byte, 16)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				close(heard)
				return
			}
			text := make([]byte, 1<<16)
			_ = conn.SetReadDeadline(time.Now().Add(time.Second))
			n, _ := conn.Read(text)
			_, _ = conn.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
			conn.Close()
			heard <- text[:n]
		}
	}()
	t.Setenv("EXTERNAL_KEY", "canary-right-4d1f")
	s := settings.Default()
	s.Temporal.Address, s.Temporal.APIKeyEnv, s.Embedded.Mode = l.Addr().String(), "EXTERNAL_KEY", settings.ModeOff
	s.S3.Endpoint = "http://127.0.0.1:1"
	t.Setenv("AWS_ACCESS_KEY_ID", "a")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "b")
	target, err := connect.Resolve(s, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	if _, err := connect.Dial(ctx, target.Temporal, zerolog.Nop()); err == nil {
		t.Error("a server without TLS is talked to")
	}
	l.Close()
	n := 0
	for text := range heard {
		if n++; len(text) == 0 || text[0] != 0x16 || strings.Contains(string(text), "canary") {
			t.Errorf("no TLS handshake but %.200q", text)
		}
	}
	if n == 0 {
		t.Error("nobody connected: the test proves nothing")
	}
}
