package stack

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
	"strconv"

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

// gateway is the S3 store.
type gateway struct {
	cancel context.CancelFunc
	done   chan error // receives once, when the gateway has stopped
}

// startGateway serves the objects below dataDir on a loopback port.
func startGateway(ctx context.Context, dataDir string, port int, credentials settings.Credentials) (*gateway, error) {
	o, err := newObjects(dataDir)
	if err != nil {
		return nil, err
	}
	run, cancel := context.WithCancel(context.Background())
	ready := make(chan struct{})
	g := &gateway{cancel: cancel, done: make(chan error, 1)}
	config := &embedgw.Config{
		RootUserAccess: credentials.AccessKey,
		RootUserSecret: string(credentials.SecretKey),
		IAMService: auth.NewIAMServiceSingle(auth.Account{
			Access: credentials.AccessKey, Secret: string(credentials.SecretKey), Role: auth.RoleAdmin,
		}),
		Region:            region,
		Ports:             []string{net.JoinHostPort(loopback, strconv.Itoa(port))},
		MaxConnections:    2 * maxRequests,
		MaxRequests:       maxRequests,
		MultipartMaxParts: 10000,
		KeepAlive:         true,
		Quiet:             true,
		S3Options:         []s3api.Option{s3api.WithOnListen(func() { close(ready) })},
	}
	go func() { g.done <- embedgw.RunVersityGW(run, o, config) }()
	select {
	case <-ready:
		return g, nil
	case err := <-g.done:
		cancel()
		if err == nil {
			err = errors.New("it stopped by itself")
		}
		return nil, fmt.Errorf("s3: start on port %d: %w", port, err)
	case <-ctx.Done():
		cancel()
		<-g.done
		return nil, fmt.Errorf("s3: start on port %d: %w", port, ctx.Err())
	}
}

// stop ends the gateway and waits for it.
func (g *gateway) stop() error {
	g.cancel()
	if err := <-g.done; err != nil {
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
