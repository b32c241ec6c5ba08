package stack

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/base32"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"path/filepath"
	"time"

	uiconfig "github.com/temporalio/ui-server/v2/server/config"
	"go.temporal.io/server/common/authorization"
	"go.temporal.io/server/common/rpc/encryption"

	"github.com/esclab/esclab/workers/settings"
	"github.com/esclab/esclab/workers/stack/internal/datadir"
)

// ensureKey reads the key that Temporal's frontend demands, having generated it
// at the first start on the data directory. The path is that of the file.
func ensureKey(dataDir string) (key settings.Secret, path string, err error) {
	path = filepath.Join(dataDir, datadir.KeyFile)
	key, err = settings.ReadKey("temporal", path)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return key, path, err
	}
	random := make([]byte, 30)
	if _, err := rand.Read(random); err != nil {
		return "", path, fmt.Errorf("temporal: generate a key: %w", err)
	}
	key = settings.Secret(base32.StdEncoding.EncodeToString(random))
	if err := datadir.WriteFile(path, []byte(string(key)+"\n")); err != nil {
		return "", path, fmt.Errorf("temporal: keep the key: %w", err)
	}
	return key, path, nil
}

// keyHolders lets those in who send the key, as a bearer token.
type keyHolders struct{ want [sha256.Size]byte }

func holdersOf(key settings.Secret) keyHolders {
	return keyHolders{sha256.Sum256([]byte("Bearer " + string(key)))}
}

// GetClaims makes whoever sends the key an administrator, and everybody else
// nobody. It is asked by the frontend on the loopback interface.
func (k keyHolders) GetClaims(info *authorization.AuthInfo) (*authorization.Claims, error) {
	has := sha256.Sum256([]byte(info.AuthToken))
	if subtle.ConstantTimeCompare(has[:], k.want[:]) != 1 {
		return &authorization.Claims{}, nil
	}
	return &authorization.Claims{System: authorization.RoleAdmin}, nil
}

// administrators is the authorizer of every frontend: nobody else may do
// anything, not even ask for the server's health.
type administrators struct{}

func (administrators) Authorize(_ context.Context, caller *authorization.Claims, _ *authorization.CallTarget) (authorization.Result, error) {
	if caller != nil && caller.System == authorization.RoleAdmin {
		return authorization.Result{Decision: authorization.DecisionAllow}, nil
	}
	return authorization.Result{Decision: authorization.DecisionDeny}, nil
}

// mesh is what the services of one server know each other by: a certificate
// that is made at each start and never leaves the process. Their ports are on
// the loopback interface, too, where anybody could reach them.
type mesh struct {
	pair      tls.Certificate
	authority *x509.CertPool
	cert, key []byte // PEM
}

// meshName is the only name that the certificate is for.
const meshName = "esclab"

func newMesh() (*mesh, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{meshName}, NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().AddDate(20, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, err
	}
	m := &mesh{authority: x509.NewCertPool(),
		cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})}
	m.authority.AppendCertsFromPEM(m.cert)
	m.pair, err = tls.X509KeyPair(m.cert, m.key)
	return m, err
}

// server and client are the two ends of a connection between the services.
func (m *mesh) server() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{m.pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: m.authority}
}

func (m *mesh) client() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{m.pair}, RootCAs: m.authority, ServerName: meshName, NextProtos: []string{"h2"}}
}

// ui is the client's end in the form of the web UI's configuration.
func (m *mesh) ui() uiconfig.TLS {
	encode := base64.StdEncoding.EncodeToString
	return uiconfig.TLS{CaData: encode(m.cert), CertData: encode(m.cert), KeyData: encode(m.key), EnableHostVerification: true, ServerName: meshName}
}

// encrypted has the server's internal connections use the mesh. The frontend for
// clients keeps plain text: its port is on the loopback interface alone.
type encrypted struct{ *mesh }

func (e encrypted) GetInternodeServerConfig() (*tls.Config, error) { return e.server(), nil }
func (e encrypted) GetInternodeClientConfig() (*tls.Config, error) { return e.client(), nil }
func (e encrypted) GetFrontendServerConfig() (*tls.Config, error)  { return nil, nil }
func (e encrypted) GetFrontendClientConfig() (*tls.Config, error)  { return nil, nil }

// GetRemoteClusterClientConfig is never used: there is one cluster.
func (e encrypted) GetRemoteClusterClientConfig(string) (*tls.Config, error) { return nil, nil }

// GetExpiringCerts names none: the certificate outlives every process.
func (e encrypted) GetExpiringCerts(time.Duration) (expiring, expired encryption.CertExpirationMap, err error) {
	return nil, nil, nil
}
