package storetest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"
)

// Variables that make a test binary a gateway.
const (
	envAddress = "ESCLAB_STORETEST_ADDRESS"
	envRoot    = "ESCLAB_STORETEST_ROOT"
	envSidecar = "ESCLAB_STORETEST_SIDECAR"
)

// Main is for the TestMain of packages that use StartProcess: in the process
// that StartProcess has started it is the gateway, elsewhere it runs the tests.
func Main(m *testing.M) {
	if os.Getenv(envAddress) == "" {
		os.Exit(m.Run())
	}
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// serve does what "versitygw posix" does.
func serve() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	var storer meta.MetadataStorer = meta.XattrMeta{}
	var opts posix.PosixOpts
	if opts.SideCarDir = os.Getenv(envSidecar); opts.SideCarDir != "" {
		s, err := meta.NewSideCar(opts.SideCarDir)
		if err != nil {
			return err
		}
		storer = s
	}
	be, err := posix.New(os.Getenv(envRoot), storer, opts)
	if err != nil {
		return err
	}
	return embedgw.RunVersityGW(ctx, be, &embedgw.Config{
		RootUserAccess: accessKey, RootUserSecret: secretKey,
		Ports: []string{os.Getenv(envAddress)}, MaxConnections: 256, MaxRequests: 256, MultipartMaxParts: 10_000, Quiet: true,
	})
}

// StartProcess starts a versitygw as a process of its own on root, an existing
// directory, and kills it when the test ends: the program that
// ESCLAB_TEST_VERSITYGW names, or the one on the PATH, or else this test binary,
// whose TestMain has to be Main. On a file system without extended attributes
// sidecar holds the objects' metadata; it is "" elsewhere.
func StartProcess(t testing.TB, root, sidecar string) *Gateway {
	t.Helper()
	g := &Gateway{Root: root, address: FreeAddress(t)}
	g.start(t, sidecar)
	t.Cleanup(g.Kill)
	return g
}

// Restart starts the gateway again, after Kill, at the same address.
func (g *Gateway) Restart(t testing.TB) {
	t.Helper()
	g.start(t, "")
}

// Kill kills the process of the gateway: SIGKILL, as a power cut would but for
// the page cache.
func (g *Gateway) Kill() {
	if g.process != nil {
		g.process.Process.Kill()
		g.process.Wait()
		g.process = nil
	}
}

func (g *Gateway) start(t testing.TB, sidecar string) {
	t.Helper()
	program := os.Getenv("ESCLAB_TEST_VERSITYGW")
	if program == "" {
		program, _ = exec.LookPath("versitygw")
	}
	if program != "" {
		args := []string{"--port", g.address, "--quiet", "posix"}
		if sidecar != "" {
			args = append(args, "--sidecar", sidecar)
		}
		g.process = exec.Command(program, append(args, g.Root)...)
		g.process.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+accessKey, "ROOT_SECRET_KEY="+secretKey)
	} else {
		g.process = exec.Command(os.Args[0])
		g.process.Env = append(os.Environ(), envAddress+"="+g.address, envRoot+"="+g.Root, envSidecar+"="+sidecar)
	}
	g.process.Stderr = os.Stderr
	g.process.Dir = t.TempDir()
	if err := g.process.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("tcp", g.address)
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("gateway %s does not listen: %v", g.process, err)
		}
	}
}
