package external

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/server/common/config"
	temporallog "go.temporal.io/server/common/log"
	"go.temporal.io/server/common/metrics"
	"go.temporal.io/server/common/persistence"
	"go.temporal.io/server/common/persistence/sql"
	"go.temporal.io/server/common/persistence/sql/sqlplugin"
	"go.temporal.io/server/common/persistence/sql/sqlplugin/postgresql"
	"go.temporal.io/server/common/resolver"
	"go.temporal.io/server/schema"
	v12 "go.temporal.io/server/schema/postgresql/v12"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/esclab/esclab/artifacts/storetest"
)

// What the test of PostgreSQL reads, and hands to its Temporal server.
const (
	envProgram  = "ESCLAB_TEST_PROGRAM"  // esclab, as make builds it
	envPostgres = "ESCLAB_TEST_POSTGRES" // directory of initdb and postgres; empty: found
	envDatabase = "ESCLAB_TEST_DATABASE" // host:port
	envPassword = "ESCLAB_TEST_DATABASE_PASSWORD"
)

// Databases of a Temporal on PostgreSQL, with the directories of their schemas
// and those schemas' versions.
var databases = []struct{ name, schema, version string }{
	{"temporal", "postgresql/v12/temporal", v12.Version},
	{"temporal_visibility", "postgresql/v12/visibility", v12.VisibilityVersion},
}

// TestPostgres runs the whole DAG of the micro experiment on a Temporal server,
// in a process of its own, whose database is PostgreSQL. `make postgres` starts
// it; elsewhere it is skipped.
func TestPostgres(t *testing.T) {
	program := os.Getenv(envProgram)
	if program == "" {
		t.Skipf("$%s names no esclab: use make postgres", envProgram)
	}
	database := startPostgres(t)
	address := storetest.FreeAddress(t)
	spawn(t, []string{envServer + "=temporal-postgres", envAddress + "=" + address, envDatabase + "=" + database.address, envPassword + "=" + database.password}, os.Args[0])
	register(t, address)

	data := t.TempDir()
	settings := filepath.Join(t.TempDir(), "temporal.yaml")
	yaml := fmt.Sprintf("temporal: {address: %q, namespace: esclab}\nembedded: {ports: {temporal: auto, ui: auto, s3: auto}}\n", address)
	if err := os.WriteFile(settings, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func() string {
		t.Helper()
		c := exec.CommandContext(t.Context(), program, "run", "../../../cmd/esclab/testdata/micro.yaml", "--config", settings, "--data", data, "--report", filepath.Join(data, "report"))
		out, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("esclab run: %v\n%s", err, out)
		}
		return string(out)
	}
	began := time.Now()
	first := run()
	t.Logf("the first run took %s", time.Since(began).Round(time.Second))
	if _, err := os.Stat(filepath.Join(data, "report", "report.html")); err != nil {
		t.Error(err)
	}
	began = time.Now()
	second := run()
	t.Logf("the second run took %s", time.Since(began).Round(time.Second))
	stages, reused := ended(t, first)
	if stages < 30 || reused > stages/2 { // stages of one fingerprint share an artifact
		t.Errorf("the first run:\n%s", first)
	}
	if again, reused := ended(t, second); again != stages || reused != stages {
		t.Errorf("the second run:\n%s", second)
	}
	// PostgreSQL itself has them: the two runs, and the stages of the first.
	count := func(kind string) int {
		n, err := strconv.Atoi(database.query(t, "temporal_visibility", "select count(*) from executions_visibility where status = 2 and workflow_type_name = '"+kind+"'"))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if runs, made := count("Run"), count("Stage"); runs != 2 || made < 30 || made > stages {
		t.Errorf("PostgreSQL has %d completed runs and %d stages, want 2 and up to %d", runs, made, stages)
	}
	t.Logf("PostgreSQL %s: %s history nodes of %d stages and two runs",
		database.query(t, "temporal", "show server_version"), database.query(t, "temporal", "select count(*) from history_node"), stages)
}

// ended reads how many stages a run had, and reused, in the line it ends with.
func ended(t *testing.T, out string) (stages, reused int) {
	t.Helper()
	found := regexp.MustCompile(`(?m)^done in \S+: (\d+) stages, (\d+) of them reused`).FindStringSubmatch(out)
	if found == nil {
		t.Fatalf("the run does not say how it ended:\n%s", out)
	}
	stages, _ = strconv.Atoi(found[1])
	reused, _ = strconv.Atoi(found[2])
	return stages, reused
}

// postgres is a PostgreSQL server of the test's own.
type postgres struct{ bin, address, password string }

// startPostgres makes a cluster in a directory of its own and serves it on a
// port of the loopback interface.
func startPostgres(t *testing.T) postgres {
	t.Helper()
	p := postgres{bin: os.Getenv(envPostgres), address: storetest.FreeAddress(t), password: "esclab-test"}
	if p.bin == "" {
		found, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
		if len(found) == 0 {
			t.Fatalf("there is no PostgreSQL in /usr/lib/postgresql: install it (apt install postgresql), or name its programs' directory in $%s", envPostgres)
		}
		p.bin = found[len(found)-1]
	}
	// Not t.TempDir: initdb and postgres refuse to be root, and the user that
	// they run as then cannot pass its parent.
	dir, err := os.MkdirTemp("", "esclab-postgres-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	who := &syscall.SysProcAttr{}
	if os.Geteuid() == 0 {
		u, err := user.Lookup("postgres")
		if err != nil {
			t.Fatal(err)
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		who.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(dir, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	password, cluster := filepath.Join(dir, "password"), filepath.Join(dir, "data")
	if err := os.WriteFile(password, []byte(p.password), 0o644); err != nil {
		t.Fatal(err)
	}
	init := exec.Command(filepath.Join(p.bin, "initdb"), "-D", cluster, "-U", "temporal", "--auth=scram-sha-256", "--pwfile="+password, "--encoding=UTF8", "--locale=C")
	init.SysProcAttr, init.Dir = who, dir
	if out, err := init.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	host, port, _ := net.SplitHostPort(p.address)
	var log bytes.Buffer
	server := exec.Command(filepath.Join(p.bin, "postgres"), "-D", cluster, "-c", "listen_addresses="+host, "-p", port, "-k", dir, "-c", "max_connections=100")
	server.SysProcAttr, server.Dir, server.Stderr = who, dir, &log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Signal(syscall.SIGINT) // fast shutdown
		_ = server.Wait()
		if t.Failed() {
			t.Logf("PostgreSQL:\n%s", &log)
		}
	})
	waitFor(t, 30*time.Second, func() error {
		out, err := exec.Command(filepath.Join(p.bin, "pg_isready"), "-h", host, "-p", port).CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
		return err
	})
	return p
}

// query asks PostgreSQL itself.
func (p postgres) query(t *testing.T, database, statement string) string {
	t.Helper()
	host, port, _ := net.SplitHostPort(p.address)
	c := exec.Command(filepath.Join(p.bin, "psql"), "-h", host, "-p", port, "-U", "temporal", "-d", database, "-Atc", statement)
	c.Env = append(os.Environ(), "PGPASSWORD="+p.password)
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("psql: %v\n%s", err, out)
	}
	return strings.TrimSpace(string(out))
}

// register makes the namespace, once the server is there.
func register(t *testing.T, address string) {
	t.Helper()
	c, err := client.NewNamespaceClient(client.Options{HostPort: address})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	waitFor(t, time.Minute, func() error {
		ctx, stop := context.WithTimeout(t.Context(), 5*time.Second)
		defer stop()
		return c.Register(ctx, &workflowservice.RegisterNamespaceRequest{Namespace: "esclab", WorkflowExecutionRetentionPeriod: durationpb.New(24 * time.Hour)})
	})
}

// servePostgres serves a Temporal on PostgreSQL, whose databases it makes.
func servePostgres(ctx context.Context) error {
	stores := map[string]config.DataStore{}
	for _, d := range databases {
		store := &config.SQL{
			PluginName: postgresql.PluginName, ConnectProtocol: "tcp", ConnectAddr: os.Getenv(envDatabase), User: "temporal", Password: os.Getenv(envPassword),
			DatabaseName: "postgres", MaxConns: 20, MaxIdleConns: 20,
		}
		if err := setUp(*store, d.name, d.schema, d.version); err != nil {
			return fmt.Errorf("database %s: %w", d.name, err)
		}
		store.DatabaseName = d.name
		stores[d.name] = config.DataStore{SQL: store}
	}
	return serveOn(ctx, config.Persistence{DefaultStore: databases[0].name, VisibilityStore: databases[1].name, NumHistoryShards: 4, DataStores: stores})
}

// setUp makes a database with the schema that comes with Temporal, as its tool
// temporal-sql-tool does.
func setUp(c config.SQL, name, dir, version string) error {
	open := func(database string) (sqlplugin.AdminDB, error) {
		c.DatabaseName = database
		return sql.NewSQLAdminDB(sqlplugin.DbKindUnknown, &c, resolver.NewNoopResolver(), temporallog.NewNoopLogger(), metrics.NoopMetricsHandler)
	}
	admin, err := open("postgres")
	if err != nil {
		return err
	}
	if err := errors.Join(admin.CreateDatabase(name), admin.Close()); err != nil {
		return err
	}
	db, err := open(name)
	if err != nil {
		return err
	}
	defer db.Close()
	statements, err := fs.ReadFile(schema.Assets(), dir+"/schema.sql")
	if err != nil {
		return err
	}
	split, err := persistence.LoadAndSplitQueryFromReaders([]io.Reader{bytes.NewReader(statements)})
	if err != nil {
		return err
	}
	if err := db.CreateSchemaVersionTables(); err != nil {
		return err
	}
	for _, s := range split {
		if err := db.Exec(s); err != nil {
			return fmt.Errorf("%.60s…: %w", s, err)
		}
	}
	return db.UpdateSchemaVersion(name, version, version)
}
