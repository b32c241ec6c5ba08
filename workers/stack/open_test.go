package stack_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/esclab/esclab/internal/certtest"
	"github.com/esclab/esclab/workers/settings"
	"github.com/esclab/esclab/workers/stack"
	"github.com/esclab/esclab/workers/stack/connect"
)

// opened are options of a stack that other machines reach at an address.
func opened(t *testing.T, ca *certtest.Authority, address string) stack.Options {
	t.Helper()
	cert, key := ca.Issue(t, "server", address)
	o := options(filepath.Join(t.TempDir(), "data"))
	o.Open = settings.Open{Listen: address, Cert: cert, Key: key, ClientCA: ca.Path("ca.pem")}
	return o
}

// Another machine works with a stack that is open, with a certificate for
// Temporal and the store's keys, and gets nowhere without them.
func TestOpen(t *testing.T) {
	address := certtest.Outside(t)
	ca, stranger := certtest.New(t, t.TempDir()), certtest.New(t, t.TempDir())
	ca.Issue(t, "client")
	stranger.Issue(t, "client")
	o := opened(t, ca, address)
	s := start(t, o)
	at := s.Opened()

	// What the other machine has: settings, certificates, a copy of the keys.
	keys, err := os.ReadFile(filepath.Join(o.DataDir, "s3-credentials"))
	if err != nil {
		t.Fatal(err)
	}
	there := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(there, keys, 0o600); err != nil {
		t.Fatal(err)
	}
	remote := func(change func(*settings.Settings)) (connect.Target, error) {
		t.Helper()
		r := settings.Default()
		r.Embedded.Mode = settings.ModeOff
		r.Temporal.Address, r.Temporal.TLS = at["temporal"], &settings.TLS{CA: ca.Path("ca.pem"), Cert: ca.Path("client.pem"), Key: ca.Path("client.key")}
		r.S3.Endpoint, r.S3.CredentialsFile, r.S3.TLS = "https://"+at["s3"], there, &settings.TLS{CA: ca.Path("ca.pem")}
		change(r)
		return connect.Resolve(r, nil)
	}

	t.Run("works", func(t *testing.T) {
		target, err := remote(func(*settings.Settings) {})
		if err != nil {
			t.Fatal(err)
		}
		c, err := connect.Dial(t.Context(), target.Temporal, zerolog.Nop())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		// The other machine's worker does the work of a client of this one.
		w := worker.New(c, "far", worker.Options{})
		w.RegisterWorkflowWithOptions(func(ctx workflow.Context) (string, error) {
			return "from afar", workflow.Sleep(ctx, 100*time.Millisecond)
		}, workflow.RegisterOptions{Name: "far"})
		if err := w.Start(); err != nil {
			t.Fatal(err)
		}
		defer w.Stop()
		run, err := dial(t, s).ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "far", TaskQueue: "far"}, "far")
		if err != nil {
			t.Fatal(err)
		}
		var got string
		if err := run.Get(t.Context(), &got); err != nil || got != "from afar" {
			t.Errorf("workflow: %q, %v; want from afar", got, err)
		}
		if check := connect.CheckS3(t.Context(), target.S3); check.Status != connect.OK {
			t.Errorf("check of the store %+v, want it to pass", check)
		}
		large := strings.Repeat("from afar ", 1<<19) // 5 MiB
		put(t, target.S3, "far", large)
		if read(t, s.S3(), "far") != large || read(t, target.S3, "far") != large {
			t.Error("another object came back")
		}
	})
	for name, c := range map[string]struct {
		change func(*settings.Settings)
		want   string
	}{
		"no certificate": {func(r *settings.Settings) { r.Temporal.TLS.Cert, r.Temporal.TLS.Key = "", "" }, "does it ask for cert and key?"},
		"a certificate of another authority": {func(r *settings.Settings) {
			r.Temporal.TLS.Cert, r.Temporal.TLS.Key = stranger.Path("client.pem"), stranger.Path("client.key")
		}, "check temporal.tls"},
		"another authority for the server": {func(r *settings.Settings) { r.Temporal.TLS.CA = stranger.Path("ca.pem") }, "check temporal.tls"},
		"plain text":                       {func(r *settings.Settings) { r.Temporal.TLS = nil }, "set temporal.tls"},
	} {
		t.Run(name, func(t *testing.T) {
			target, err := remote(c.change)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			_, err = connect.Dial(ctx, target.Temporal, zerolog.Nop())
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
	t.Run("store without its keys", func(t *testing.T) {
		for _, cred := range []settings.Credentials{{AccessKey: "a", SecretKey: "b"}, {AccessKey: s.S3().Credentials.AccessKey, SecretKey: "guessed"}} {
			target, err := remote(func(*settings.Settings) {})
			if err != nil {
				t.Fatal(err)
			}
			target.S3.Credentials = cred
			if check := connect.CheckS3(t.Context(), target.S3); check.Status != connect.Fail {
				t.Errorf("check with wrong credentials %+v, want it to fail", check)
			}
		}
	})
	t.Run("store in plain text", func(t *testing.T) {
		conn, err := net.Dial("tcp", at["s3"])
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		if answer, _ := io.ReadAll(conn); strings.Contains(string(answer), "<?xml") || strings.Contains(string(answer), "200 OK") {
			t.Errorf("an answer: %.200q", answer)
		}
	})
	t.Run("old TLS", func(t *testing.T) {
		conn, err := tls.Dial("tcp", at["s3"], &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
		if err == nil {
			conn.Close()
			t.Error("TLS 1.1 is spoken")
		}
	})
	t.Run("nothing else is open", func(t *testing.T) {
		// The process's own sockets tell, not a dial: at the outside address another
		// process may listen on a number that is the store's on the loopback interface.
		if n := loopbackBut(t, at["temporal"], at["s3"]); n != 2 {
			t.Errorf("%d of the two gates are among the sockets", n)
		}
	})
	t.Run("stop ends connections", func(t *testing.T) {
		conn, err := tls.Dial("tcp", at["s3"], &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the connection lives on: %v", err)
		}
		if conn, err := net.Dial("tcp", at["temporal"]); err == nil {
			conn.Close()
			t.Error("Temporal's gate still answers")
		}
	})
}

// A stack that cannot be opened as asked does not start, and says why.
func TestOpenErrors(t *testing.T) {
	address := certtest.Outside(t)
	ca := certtest.New(t, t.TempDir())
	busy, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	for name, c := range map[string]struct {
		change func(*stack.Options)
		want   string
	}{
		"no certificates":       {func(o *stack.Options) { o.Open.Cert, o.Open.Key, o.Open.ClientCA = "", "", "" }, "without TLS dialogues could be read on the wire"},
		"no clients' authority": {func(o *stack.Options) { o.Open.ClientCA = "" }, "embedded.open: client_ca not set"},
		"a key that others may read": {func(o *stack.Options) {
			if err := os.Chmod(o.Open.Key, 0o644); err != nil {
				t.Fatal(err)
			}
		}, "chmod 600"},
		"an authority that is none":  {func(o *stack.Options) { o.Open.ClientCA = o.Open.Key }, "holds no PEM certificate"},
		"another's key":              {func(o *stack.Options) { _, o.Open.Key = ca.Issue(t, "another") }, "embedded.open: "},
		"a busy port":                {func(o *stack.Options) { o.Open.Ports.S3 = settings.Port(busy.Addr().(*net.TCPAddr).Port) }, "for s3 is in use by another process: stop that process, or set embedded.open.ports.s3"},
		"no address of this machine": {func(o *stack.Options) { o.Open.Listen = "192.0.2.1" }, "set embedded.open.listen to an address of this machine"},
		"keys that can be guessed": {func(o *stack.Options) {
			if err := errors.Join(os.MkdirAll(o.DataDir, 0o700), os.WriteFile(filepath.Join(o.DataDir, "s3-credentials"),
				[]byte("[default]\naws_access_key_id = minioadmin\naws_secret_access_key = minioadmin\n"), 0o600)); err != nil {
				t.Fatal(err)
			}
		}, "too easy to guess"},
	} {
		t.Run(name, func(t *testing.T) {
			o := opened(t, ca, address)
			o.NoTemporal = true // quicker; the gates are the same
			c.change(&o)
			s, err := stack.Start(t.Context(), o)
			if err == nil {
				s.Stop()
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "minioadmin") {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
			oneLine(t, err)
			if _, err := connect.Discover(t.Context(), o.DataDir); !errors.Is(err, connect.ErrNotRunning) {
				t.Errorf("after a failed start: %v", err)
			}
		})
	}
}

// Settings open nothing but through esclab up.
func TestOptionsFromStayClosed(t *testing.T) {
	s := settings.Default()
	s.Embedded.Open = settings.Open{Listen: "0.0.0.0", Cert: "c", Key: "k", ClientCA: "a"}
	if o := stack.OptionsFrom(s, zerolog.Nop()); o.Open.Enabled() {
		t.Errorf("open is %+v, want it closed", o.Open)
	}
}
