package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/esclab/esclab/internal/freeport"
	"github.com/esclab/esclab/workers/stack/connect"
)

// Clients that have no key and are slow, or many, lose their connections; one that
// has the key goes on meanwhile.
func TestStoreBounds(t *testing.T) {
	b := bounds{header: 300 * time.Millisecond, stall: time.Second, idle: time.Minute, strangers: 16}
	dir := t.TempDir()
	credentials, _, err := ensureCredentials(dir)
	if err != nil {
		t.Fatal(err)
	}
	port, err := freeport.Port()
	if err != nil {
		t.Fatal(err)
	}
	g, err := startGateway(t.Context(), dir, port, credentials, b)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.stop(); err != nil {
			t.Error(err)
		}
	})
	at := s3Target(port, "bounds", credentials)
	if err := connect.EnsureBucket(t.Context(), at); err != nil {
		t.Fatal(err)
	}
	address := strings.TrimPrefix(at.Endpoint, "http://")
	open := func(t *testing.T, sends string) net.Conn {
		t.Helper()
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		if _, err := io.WriteString(conn, sends); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	// closed waits until the store has closed a connection, and gives what it said.
	closed := func(conn net.Conn) string {
		answer, _ := io.ReadAll(conn) // a reset is an end, too
		return string(answer)
	}

	t.Run("slow header", func(t *testing.T) {
		conn := open(t, "GET / HTTP/1.1\r\n")
		trickled := make(chan struct{})
		go func() {
			defer close(trickled)
			for i := 0; ; i++ {
				if _, err := fmt.Fprintf(conn, "X-%d: slow\r\n", i); err != nil {
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
		}()
		if answer := closed(conn); strings.Contains(answer, "200 OK") {
			t.Errorf("a header without end is answered: %s", answer)
		}
		<-trickled
		closed(open(t, "")) // one that sends nothing at all
	})
	t.Run("one request for strangers", func(t *testing.T) {
		if answer := closed(open(t, "GET /bounds HTTP/1.1\r\nHost: "+address+"\r\n\r\n")); !strings.Contains(answer, "Connection: close") || strings.Contains(answer, "200 OK") {
			t.Errorf("without a key: %q, want a refusal that ends the connection", answer)
		}
	})
	t.Run("body that stalls", func(t *testing.T) {
		// The key without a good signature: who has it is no stranger, and not served.
		head := "PUT /bounds/stalls HTTP/1.1\r\nHost: " + address + "\r\nAuthorization: AWS4-HMAC-SHA256 Credential=" + credentials.AccessKey +
			"/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=00\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("begins", 2000) // past what is read before the handler
		if answer := closed(open(t, head)); strings.Contains(answer, "200 OK") {
			t.Errorf("a body that never comes is answered: %s", answer)
		}
	})
	t.Run("many connections", func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		var crowd sync.WaitGroup
		for range 4 {
			crowd.Go(func() {
				var held []net.Conn
				for ctx.Err() == nil {
					if conn, err := net.Dial("tcp", address); err == nil {
						held = append(held, conn)
					}
					time.Sleep(time.Millisecond)
				}
				for _, conn := range held {
					conn.Close()
				}
			})
		}
		client := at.Client()
		for i := range 30 {
			key, content := fmt.Sprint("key-", i), strings.Repeat("content", 1000)
			if _, err := client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &at.Bucket, Key: &key, Body: strings.NewReader(content)}); err != nil {
				t.Fatalf("put %d in a crowd of strangers: %v", i, err)
			}
			out, err := client.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &at.Bucket, Key: &key})
			if err != nil {
				t.Fatalf("get %d in a crowd of strangers: %v", i, err)
			}
			got, err := io.ReadAll(out.Body)
			if err = errors.Join(err, out.Body.Close()); err != nil || string(got) != content {
				t.Fatalf("get %d: %d bytes (%v), want %d", i, len(got), err, len(content))
			}
		}
		stop()
		crowd.Wait()
		g.front.door.mu.Lock()
		defer g.front.door.mu.Unlock()
		if n := len(g.front.door.strangers); n > b.strangers {
			t.Errorf("strangers hold %d connections, want at most %d", n, b.strangers)
		}
	})
}

// One address cannot take all the room at a gate.
func TestGateBoundsAnAddress(t *testing.T) {
	g := &gate{conns: map[net.Conn]string{}}
	let := 0
	for i := range 2 * maxOfOne {
		if g.enter(from{port: i, host: "192.0.2.1"}) {
			let++
		}
	}
	if let != maxOfOne || !g.enter(from{port: 1, host: "2001:db8::1"}) {
		t.Errorf("%d connections of one address were let in, want %d, and then one of another", let, maxOfOne)
	}
}

// from is a connection that is only asked where it is from.
type from struct {
	net.Conn
	port int
	host string
}

func (f from) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.ParseIP(f.host), Port: f.port} }
