package stack

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/gofiber/fiber/v3"
	"github.com/versity/versitygw/auth"
	"github.com/versity/versitygw/embedgw"
	"github.com/versity/versitygw/s3api"

	"github.com/esclab/esclab/workers/settings"
	"github.com/esclab/esclab/workers/stack/connect"
	"github.com/esclab/esclab/workers/stack/internal/datadir"
)

// maxRequests bounds the requests in flight; more are refused with SlowDown.
const maxRequests = 512

// region is what the embedded store calls itself.
const region = "us-east-1"

// gateway is the S3 store: versitygw's application behind an HTTP server of ours.
type gateway struct {
	front  *front
	cancel context.CancelFunc
	done   chan error // receives once, when versitygw has stopped
}

// startGateway serves the objects below dataDir on a loopback port.
func startGateway(ctx context.Context, dataDir string, port int, credentials settings.Credentials, b bounds) (*gateway, error) {
	g, err := tryGateway(ctx, dataDir, port, credentials, b)
	if err != nil {
		return nil, fmt.Errorf("s3: start on port %d: %w", port, err)
	}
	return g, nil
}

func tryGateway(ctx context.Context, dataDir string, port int, credentials settings.Credentials, b bounds) (*gateway, error) {
	o, err := newObjects(dataDir)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp4", net.JoinHostPort(loopback, strconv.Itoa(port)))
	if err != nil {
		return nil, err
	}
	// versitygw keeps its application to itself and listens by itself: on a socket
	// that nobody else can reach, for one request, whose handler is given it.
	dir, err := os.MkdirTemp("", "esclab-s3-*") // short: a socket's path has 107 bytes
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "s3")
	ready, apps := make(chan struct{}), make(chan *fiber.App, 1)
	var once sync.Once
	config := &embedgw.Config{
		RootUserAccess: credentials.AccessKey,
		RootUserSecret: string(credentials.SecretKey),
		IAMService: auth.NewIAMServiceSingle(auth.Account{
			Access: credentials.AccessKey, Secret: string(credentials.SecretKey), Role: auth.RoleAdmin,
		}),
		Region:            region,
		Ports:             []string{socket},
		MaxConnections:    2 * maxRequests,
		MaxRequests:       maxRequests,
		MultipartMaxParts: 10000,
		KeepAlive:         true,
		Quiet:             true,
		S3Options: []s3api.Option{
			s3api.WithOnListen(func() { close(ready) }),
			s3api.WithMiddleware("/", func(ctx fiber.Ctx) error {
				once.Do(func() { apps <- ctx.App() })
				return ctx.Next()
			}),
		},
	}
	run, cancel := context.WithCancel(context.Background())
	g := &gateway{cancel: cancel, done: make(chan error, 1)}
	go func() { g.done <- embedgw.RunVersityGW(run, o, config) }()
	select {
	case <-ready:
		err = askOnce(ctx, socket)
	case err = <-g.done:
		g.done <- nil
		if err == nil {
			err = errors.New("it stopped by itself")
		}
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		cancel()
		<-g.done
		return nil, errors.Join(err, l.Close())
	}
	g.front = startFront(l, <-apps, credentials.AccessKey, b)
	return g, nil
}

// askOnce sends a request to a socket; what the answer says does not matter.
func askOnce(ctx context.Context, socket string) error {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		}}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+loopback+"/", nil)
	if err != nil {
		return err
	}
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	return answer.Body.Close()
}

// stop ends the gateway and waits for it.
func (g *gateway) stop() error {
	err := g.front.stop()
	g.cancel()
	if err = errors.Join(err, <-g.done); err != nil {
		return fmt.Errorf("s3: stop: %w", err)
	}
	return nil
}

// ensureCredentials reads the store's credentials, having generated them at
// the first start. The path is that of the file.
func ensureCredentials(dataDir string) (settings.Credentials, string, error) {
	path := filepath.Join(dataDir, datadir.CredentialsFile)
	credentials, err := settings.ReadCredentials(path)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return credentials, path, err
	}
	access, secret := make([]byte, 10), make([]byte, 30)
	for _, b := range [][]byte{access, secret} {
		if _, err := rand.Read(b); err != nil {
			return settings.Credentials{}, path, fmt.Errorf("s3: generate credentials: %w", err)
		}
	}
	encode := base32.StdEncoding.EncodeToString
	credentials = settings.Credentials{AccessKey: "ESC" + encode(access), SecretKey: settings.Secret(encode(secret))}
	text := fmt.Sprintf("# Credentials of the embedded S3 store, generated at its first start.\n[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n",
		credentials.AccessKey, string(credentials.SecretKey))
	if err := datadir.WriteFile(path, []byte(text)); err != nil {
		return settings.Credentials{}, path, fmt.Errorf("s3: keep credentials: %w", err)
	}
	return credentials, path, nil
}

// s3Target is how to reach the embedded store.
func s3Target(port int, bucket string, credentials settings.Credentials) connect.S3 {
	return connect.S3{
		Endpoint:    "http://" + net.JoinHostPort(loopback, strconv.Itoa(port)),
		Region:      region,
		Bucket:      bucket,
		PathStyle:   true,
		Credentials: credentials,
		Checksum:    settings.ChecksumWhenRequired,
	}
}
