package external

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/server/common/cluster"
	"go.temporal.io/server/common/config"
	temporallog "go.temporal.io/server/common/log"
	"go.temporal.io/server/common/membership/static"
	sqliteplugin "go.temporal.io/server/common/persistence/sql/sqlplugin/sqlite"
	"go.temporal.io/server/common/primitives"
	sqliteschema "go.temporal.io/server/schema/sqlite"
	"go.temporal.io/server/temporal"

	"github.com/esclab/esclab/internal/freeport"
)

// Variables that make the test binary one of the servers.
const (
	envServer  = "ESCLAB_TEST_SERVER" // temporal | temporal-postgres | versitygw
	envAddress = "ESCLAB_TEST_ADDRESS"
	envDir     = "ESCLAB_TEST_DIR"
)

func TestMain(m *testing.M) {
	serve := map[string]func(context.Context) error{"temporal": serveTemporal, "temporal-postgres": servePostgres, "versitygw": serveVersitygw}[os.Getenv(envServer)]
	if serve == nil {
		os.Exit(m.Run())
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := serve(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// serveVersitygw does what "versitygw posix" does, its change of the working
// directory included.
func serveVersitygw(ctx context.Context) error {
	backend, err := posix.New(os.Getenv(envDir), meta.XattrMeta{}, posix.PosixOpts{})
	if err != nil {
		return err
	}
	return embedgw.RunVersityGW(ctx, backend, &embedgw.Config{
		RootUserAccess: os.Getenv("ROOT_ACCESS_KEY"), RootUserSecret: os.Getenv("ROOT_SECRET_KEY"),
		Ports: []string{os.Getenv(envAddress)}, MaxConnections: 100, MaxRequests: 100, MultipartMaxParts: 10000, Quiet: true,
	})
}

// serveTemporal does what "temporal server start-dev" does: all services in
// one process, on an SQLite database in memory, with the namespace default.
func serveTemporal(ctx context.Context) error {
	database := &config.SQL{PluginName: sqliteplugin.PluginName, DatabaseName: "dev",
		ConnectAttributes: map[string]string{"mode": "memory", "cache": "shared"}}
	namespace, err := sqliteschema.NewNamespaceConfig("active", "default", false, nil)
	if err != nil {
		return err
	}
	if err := sqliteschema.CreateNamespaces(database, namespace); err != nil {
		return err
	}
	return serveOn(ctx, config.Persistence{DefaultStore: "db", VisibilityStore: "db", NumHistoryShards: 1,
		DataStores: map[string]config.DataStore{"db": {SQL: database}}})
}

// serveOn serves all of Temporal's services on databases that are set up.
func serveOn(ctx context.Context, persistence config.Persistence) error {
	host, port, err := net.SplitHostPort(os.Getenv(envAddress))
	if err != nil {
		return err
	}
	c := &config.Config{
		Persistence: persistence,
		ClusterMetadata: &cluster.Config{FailoverVersionIncrement: 10, MasterClusterName: "active", CurrentClusterName: "active",
			ClusterInformation: map[string]cluster.ClusterInformation{"active": {Enabled: true, InitialFailoverVersion: 1, RPCAddress: os.Getenv(envAddress)}}},
		DCRedirectionPolicy: config.DCRedirectionPolicy{Policy: "noop"},
		Services:            map[string]config.Service{},
		PublicClient:        config.PublicClient{HostPort: os.Getenv(envAddress)},
	}
	c.Global.Membership.MaxJoinDuration = 30 * time.Second
	c.Global.Membership.BroadcastAddress = host
	for _, state := range []*string{&c.Archival.History.State, &c.Archival.Visibility.State,
		&c.NamespaceDefaults.Archival.History.State, &c.NamespaceDefaults.Archival.Visibility.State} {
		*state = "disabled"
	}
	options := secured(c)
	names := []primitives.ServiceName{primitives.FrontendService, primitives.HistoryService, primitives.MatchingService, primitives.WorkerService}
	if c.Global.TLS.Frontend.IsServerEnabled() {
		names, c.PublicClient.HostPort = append(names, primitives.InternalFrontendService), ""
	}
	hosts := make(map[primitives.ServiceName]static.Hosts)
	services := make([]string, 0, len(names))
	for _, name := range names {
		services = append(services, string(name))
		n, err := strconv.Atoi(port)
		if name != primitives.FrontendService {
			n, err = freeport.Port()
		}
		if err != nil {
			return err
		}
		c.Services[string(name)] = config.Service{RPC: config.RPC{GRPCPort: n, BindOnIP: host}}
		hosts[name] = static.SingleLocalHost(net.JoinHostPort(host, strconv.Itoa(n)))
	}
	server, err := temporal.NewServer(append(options, temporal.WithConfig(c), temporal.ForServices(services),
		temporal.WithStaticHosts(hosts), temporal.WithLogger(temporallog.NewNoopLogger()))...)
	if err != nil {
		return err
	}
	if err := server.Start(); err != nil {
		return err
	}
	<-ctx.Done()
	return server.Stop()
}

// find returns the program that the variable names, else the one on the PATH,
// else "".
func find(variable, name string) string {
	if path := os.Getenv(variable); path != "" {
		return path
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return ""
	}
	return path
}

// spawn runs a program until the test ends.
func spawn(t *testing.T, env []string, program string, args ...string) {
	t.Helper()
	t.Logf("%s %v", program, args)
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
}

func waitFor(t *testing.T, limit time.Duration, f func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatal(err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func activityNamed(name string) activity.RegisterOptions {
	return activity.RegisterOptions{Name: name}
}
