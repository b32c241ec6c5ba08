package stack

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/server/common/authorization"
	"go.temporal.io/server/common/cluster"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/dynamicconfig"
	temporallog "go.temporal.io/server/common/log"
	"go.temporal.io/server/common/membership/static"
	sqliteplugin "go.temporal.io/server/common/persistence/sql/sqlplugin/sqlite"
	"go.temporal.io/server/common/primitives"
	sqliteschema "go.temporal.io/server/schema/sqlite"
	"go.temporal.io/server/temporal"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/rs/zerolog"

	"github.com/esclab/esclab/workers/settings"
	"github.com/esclab/esclab/workers/stack/connect"
	"github.com/esclab/esclab/workers/stack/internal/datadir"
)

// Identity of the one-node cluster. The database holds it: it must not change.
const (
	clusterName    = "active"
	clusterID      = "9f3c6e4c-1c5c-4f0e-9d7b-6a1f2f6b5d10"
	initialVersion = 1
)

// services of a Temporal server, in the order of their ports. The internal
// frontend serves those that have the mesh's certificate: the server's own
// workflows, the web UI and the gate for other machines.
var services = []primitives.ServiceName{
	primitives.FrontendService, primitives.InternalFrontendService, primitives.HistoryService, primitives.MatchingService, primitives.WorkerService,
}

// temporalOptions configure the embedded Temporal server.
type temporalOptions struct {
	dataDir    string
	port       int // of the frontend
	namespace  string
	retention  time.Duration
	attributes map[string]string // name → type
	prefix     string            // of their names
	key        settings.Secret   // that clients have to send
	mesh       *mesh
	log        temporallog.Logger
}

// startTemporal starts a Temporal server with its data in a SQLite file. inside is
// the address of its internal frontend.
func startTemporal(o temporalOptions) (server temporal.Server, inside string, err error) {
	database, err := prepareDatabase(o)
	if err != nil {
		return nil, "", err
	}
	internal, err := freePorts(len(services) - 1)
	if err != nil {
		return nil, "", err
	}
	ports := append([]int{o.port}, internal...)
	names := make([]string, len(services))
	for i, name := range services {
		names[i] = string(name)
	}
	server, err = temporal.NewServer(
		temporal.WithConfig(serverConfig(database, ports)),
		temporal.ForServices(names),
		temporal.WithAuthorizer(administrators{}),
		temporal.WithClaimMapper(func(*config.Config) authorization.ClaimMapper { return holdersOf(o.key) }),
		temporal.WithTLSConfigFactory(encrypted{o.mesh}),
		temporal.WithStaticHosts(staticHosts(ports)),
		temporal.WithLogger(o.log),
		temporal.WithDynamicConfigClient(dynamicconfig.StaticClient{
			// The number of executions that are cached in memory, at about 60 KB
			// each. A sweep leaves thousands behind which are never needed again.
			dynamicconfig.HistoryCacheHostLevelMaxSize.Key():                 512,
			dynamicconfig.FrontendMaxNamespaceVisibilityRPSPerInstance.Key(): 100,
			// A change of search attributes or retention takes effect this much later.
			dynamicconfig.NamespaceCacheRefreshInterval.Key(): 250 * time.Millisecond,
			// Since one process serves every partition, more than one would only add hops.
			dynamicconfig.MatchingNumTaskqueueReadPartitions.Key():  1,
			dynamicconfig.MatchingNumTaskqueueWritePartitions.Key(): 1,
		}),
	)
	if err != nil {
		return nil, "", fmt.Errorf("temporal: configure: %w", err)
	}
	if err := server.Start(); err != nil {
		return nil, "", fmt.Errorf("temporal: start: %w: see %s", err, filepath.Join(o.dataDir, datadir.LogDir))
	}
	return server, net.JoinHostPort(loopback, strconv.Itoa(internal[0])), nil
}

func serverConfig(database *config.SQL, ports []int) *config.Config {
	frontend := net.JoinHostPort(loopback, strconv.Itoa(ports[0]))
	c := &config.Config{
		Persistence: config.Persistence{
			DefaultStore:     "sqlite",
			VisibilityStore:  "sqlite",
			NumHistoryShards: 1, // SQLite has one writer; fixed for the life of the database
			DataStores:       map[string]config.DataStore{"sqlite": {SQL: database}},
		},
		ClusterMetadata: &cluster.Config{
			FailoverVersionIncrement: 10,
			MasterClusterName:        clusterName,
			CurrentClusterName:       clusterName,
			ClusterInformation: map[string]cluster.ClusterInformation{clusterName: {
				Enabled: true, InitialFailoverVersion: initialVersion, RPCAddress: frontend, ClusterID: clusterID,
			}},
		},
		DCRedirectionPolicy: config.DCRedirectionPolicy{Policy: "noop"},
		Services:            make(map[string]config.Service),
	}
	c.Global.Membership.MaxJoinDuration = 30 * time.Second
	c.Global.Membership.BroadcastAddress = loopback
	c.Archival.History.State = "disabled"
	c.Archival.Visibility.State = "disabled"
	c.NamespaceDefaults.Archival.History.State = "disabled"
	c.NamespaceDefaults.Archival.Visibility.State = "disabled"
	for i, name := range services {
		c.Services[string(name)] = config.Service{RPC: config.RPC{GRPCPort: ports[i], BindOnIP: loopback}}
	}
	return c
}

func staticHosts(ports []int) map[primitives.ServiceName]static.Hosts {
	hosts := make(map[primitives.ServiceName]static.Hosts)
	for i, name := range services {
		hosts[name] = static.SingleLocalHost(net.JoinHostPort(loopback, strconv.Itoa(ports[i])))
	}
	return hosts
}

// prepareDatabase creates the database where it is missing, and the namespace
// in it.
func prepareDatabase(o temporalOptions) (*config.SQL, error) {
	path := filepath.Join(o.dataDir, datadir.DatabaseFile)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		// The database has another name until it is whole, because a schema that
		// a crash cut short would be taken for a finished one.
		part := path + ".new"
		if err := os.Remove(part); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("temporal: %w", err)
		}
		// Nothing is synced meanwhile, because after a crash it is made anew.
		if err := sqliteschema.SetupSchema(sqlConfig(part, "off", "off")); err != nil {
			return nil, fmt.Errorf("temporal: create database %s: %w", path, err)
		}
		if err := datadir.Rename(part, path); err != nil {
			return nil, fmt.Errorf("temporal: create database: %w", err)
		}
	} else if err != nil {
		return nil, fmt.Errorf("temporal: database: %w", err)
	}
	// The log is synced by keepSynced.
	database := sqlConfig(path, "wal", "normal")
	types, err := connect.AttributeTypes(o.attributes)
	if err != nil {
		return nil, err
	}
	namespace, err := sqliteschema.NewNamespaceConfig(clusterName, o.namespace, false, types)
	if err != nil {
		return nil, fmt.Errorf("temporal: namespace %s: %w", o.namespace, err)
	}
	namespace.Detail.Config.Retention = durationpb.New(o.retention)
	if err := sqliteschema.CreateNamespaces(database, namespace); err != nil {
		return nil, damaged(path, fmt.Errorf("create namespace %s: %w", o.namespace, err))
	}
	return database, nil
}

// inURI escapes a path for the URI by which SQLite opens a database: an unescaped
// mark would end the path, and the database lie elsewhere.
var inURI = strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23")

// sqlConfig opens a database with SQLite's pragmas journal_mode and synchronous.
func sqlConfig(path, journal, synchronous string) *config.SQL {
	return &config.SQL{
		PluginName:   sqliteplugin.PluginName,
		DatabaseName: inURI.Replace(path),
		ConnectAttributes: map[string]string{
			"mode":         "rwc",
			"journal_mode": journal,
			"synchronous":  synchronous,
			"busy_timeout": "5000",
		},
	}
}

// prepareNamespace waits until the frontend serves the namespace and brings an
// older one up to the options: its retention and its search attributes.
func prepareNamespace(ctx context.Context, o temporalOptions, log zerolog.Logger) error {
	address := net.JoinHostPort(loopback, strconv.Itoa(o.port))
	var c client.Client
	for {
		var err error
		if c, err = connect.Dial(ctx, connect.Temporal{Address: address, Namespace: o.namespace, APIKey: o.key}, zerolog.Nop()); err == nil {
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("temporal: not ready in time: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
	defer c.Close()

	described, err := c.WorkflowService().DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: o.namespace})
	if err != nil {
		return fmt.Errorf("temporal: namespace %s: %w", o.namespace, err)
	}
	if c2 := described.GetConfig(); c2.GetWorkflowExecutionRetentionTtl().AsDuration() != o.retention {
		c2.WorkflowExecutionRetentionTtl = durationpb.New(o.retention)
		_, err := c.WorkflowService().UpdateNamespace(ctx, &workflowservice.UpdateNamespaceRequest{Namespace: o.namespace, Config: c2})
		if err != nil {
			return fmt.Errorf("temporal: retention of namespace %s: %w", o.namespace, err)
		}
	}
	added, err := connect.EnsureSearchAttributes(ctx, c, o.namespace, o.attributes)
	if len(added) > 0 {
		log.Info().Strs("search_attributes", added).Msg("registered")
	}
	return err
}
