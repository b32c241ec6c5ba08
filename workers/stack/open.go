package stack

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"github.com/esclab/esclab/workers/settings"
	"github.com/esclab/esclab/workers/stack/connect"
)

// Bounds of a gate.
const (
	maxGuests        = 512 // connections at the same time; more are closed at once
	maxOfOne         = 128 // of these from one address
	handshakeTimeout = 10 * time.Second
)

// gate lets other machines reach a server that listens on the loopback
// interface: it terminates their TLS and passes the bytes on. A client without a
// valid certificate never reaches a server that demands one.
type gate struct {
	name     string
	listener net.Listener
	target   string // host:port of the server
	config   *tls.Config
	inner    *tls.Config // towards the server; nil: plain text
	log      zerolog.Logger

	done chan struct{} // closed when nobody accepts any more

	mu     sync.Mutex
	conns  map[net.Conn]string // and whence they are; nil once the gate is closed
	guests sync.WaitGroup
}

// openConfig reads the certificates and returns two TLS configurations: one that
// demands clients' certificates and one that does not.
func openConfig(o settings.Open) (mutual, plain *tls.Config, err error) {
	private, err := settings.ReadSecretFile(o.Key)
	if err != nil {
		return nil, nil, fmt.Errorf("embedded.open.key: %w", err)
	}
	cert, err := os.ReadFile(o.Cert)
	if err != nil {
		return nil, nil, fmt.Errorf("embedded.open.cert: %w", err)
	}
	pair, err := tls.X509KeyPair(cert, private)
	if err != nil {
		return nil, nil, fmt.Errorf("embedded.open: %s and %s: %w", o.Cert, o.Key, err)
	}
	if now := time.Now(); now.After(pair.Leaf.NotAfter) || now.Before(pair.Leaf.NotBefore) {
		return nil, nil, fmt.Errorf("embedded.open.cert: %s is valid from %s to %s: renew it", o.Cert, pair.Leaf.NotBefore.Format(time.DateOnly), pair.Leaf.NotAfter.Format(time.DateOnly))
	}
	authorities, err := os.ReadFile(o.ClientCA)
	if err != nil {
		return nil, nil, fmt.Errorf("embedded.open.client_ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(authorities) {
		return nil, nil, fmt.Errorf("embedded.open.client_ca: %s holds no PEM certificate", o.ClientCA)
	}
	plain = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, NextProtos: []string{"http/1.1"}}
	mutual = plain.Clone()
	mutual.NextProtos, mutual.ClientAuth, mutual.ClientCAs = []string{"h2"}, tls.RequireAndVerifyClientCert, pool
	return mutual, plain, nil
}

// open lets other machines reach what the stack runs. It is the last step: a
// client that connects finds servers that are ready.
func (s *Stack) open(o settings.Open, log zerolog.Logger) error {
	if err := o.Check(); err != nil {
		return err
	}
	mutual, plain, err := openConfig(o)
	if err != nil {
		return err
	}
	if s.temporal != nil {
		g, err := startGate("temporal", o.Listen, o.Ports.Temporal, s.inside, mutual, s.mesh.client(), log)
		if err != nil {
			return err
		}
		s.gates = append(s.gates, g)
	}
	if s.gateway != nil {
		if err := s.s3.Credentials.Presentable(); err != nil {
			return fmt.Errorf("embedded.open: %s: %w: move the file away to have new keys generated", s.info.S3.CredentialsFile, err)
		}
		g, err := startGate("s3", o.Listen, o.Ports.S3, s.s3.Endpoint[len("http://"):], plain, nil, log)
		if err != nil {
			return err
		}
		s.gates = append(s.gates, g)
	}
	if len(s.gates) == 0 {
		return errors.New("embedded.open: Temporal and S3 both run elsewhere: there is nothing to open")
	}
	return nil
}

func startGate(name, address string, port settings.Port, target string, config, inner *tls.Config, log zerolog.Logger) (*gate, error) {
	at := net.JoinHostPort(address, strconv.Itoa(int(port)))
	l, err := net.Listen("tcp", at)
	if err != nil {
		detail := fmt.Sprintf("embedded.open: cannot listen on %s for %s (%v)", at, name, err)
		remedy := "set embedded.open.listen to an address of this machine"
		if errors.Is(err, unix.EADDRINUSE) {
			detail, remedy = fmt.Sprintf("embedded.open: %s for %s is in use by another process", at, name), "stop that process, or set embedded.open.ports."+name
		}
		return nil, &connect.Problem{Detail: detail, Remedy: remedy, Err: err}
	}
	g := &gate{name: name, listener: l, target: target, config: config, inner: inner, log: log, done: make(chan struct{}), conns: make(map[net.Conn]string)}
	go g.accept()
	return g, nil
}

func (g *gate) accept() {
	defer close(g.done)
	for {
		conn, err := g.listener.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // such as too many open files, which passes
			g.log.Warn().Err(err).Str("service", g.name).Msg("a connection from another machine is lost")
			time.Sleep(100 * time.Millisecond)
			continue
		}
		if !g.enter(conn) {
			conn.Close()
			continue
		}
		go func() {
			defer g.leave(conn)
			if err := g.serve(conn); err != nil {
				g.log.Info().Err(err).Str("service", g.name).Stringer("from", conn.RemoteAddr()).Msg("a connection from another machine is refused")
			}
		}()
	}
}

// enter counts a connection in; false where there is no room for it.
func (g *gate) enter(conn net.Conn) bool {
	host, _, err := net.SplitHostPort(conn.RemoteAddr().String())
	if err != nil {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.conns == nil || len(g.conns) >= maxGuests {
		return false
	}
	ofOne := 0
	for _, from := range g.conns {
		if from == host {
			ofOne++
		}
	}
	if ofOne >= maxOfOne {
		return false
	}
	g.conns[conn] = host
	g.guests.Add(1)
	return true
}

func (g *gate) leave(conn net.Conn) {
	conn.Close()
	g.mu.Lock()
	delete(g.conns, conn)
	g.mu.Unlock()
	g.guests.Done()
}

// serve passes a connection's bytes on until both directions have ended. The
// error says why the connection was refused.
func (g *gate) serve(conn net.Conn) error {
	guest := tls.Server(conn, g.config)
	ctx, cancel := context.WithTimeout(context.Background(), handshakeTimeout)
	err := guest.HandshakeContext(ctx)
	cancel()
	if err != nil {
		return err
	}
	host, err := g.dial()
	if err != nil {
		return err
	}
	defer host.Close()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if _, err := io.Copy(host, guest); err != nil {
			host.Close() // the guest is gone, or the gate is closed: nobody waits for an answer
			return
		}
		// A guest that leaves before the server has shaken hands has nothing to say.
		if host.CloseWrite() != nil {
			host.Close()
		}
	}()
	// Once the server has closed its side there is nothing more to pass on. The
	// client may not have noticed, so it is not waited for.
	_, _ = io.Copy(guest, host)
	_ = guest.CloseWrite()
	conn.Close()
	<-ended
	return nil
}

// halfCloser is a connection whose other direction goes on.
type halfCloser interface {
	net.Conn
	CloseWrite() error
}

// dial connects to the server.
func (g *gate) dial() (halfCloser, error) {
	conn, err := net.Dial("tcp", g.target)
	if err != nil {
		return nil, err
	}
	if g.inner == nil {
		return conn.(*net.TCPConn), nil
	}
	return tls.Client(conn, g.inner), nil
}

// address is where the gate listens.
func (g *gate) address() string { return g.listener.Addr().String() }

// stop closes the gate and every connection through it, and waits for them.
func (g *gate) stop() error {
	err := g.listener.Close()
	<-g.done
	g.mu.Lock()
	for conn := range g.conns {
		conn.Close()
	}
	g.conns = nil
	g.mu.Unlock()
	g.guests.Wait()
	if err != nil {
		return fmt.Errorf("%s: close to other machines: %w", g.name, err)
	}
	return nil
}
