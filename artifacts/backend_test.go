package artifacts_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/artifacts/storetest"
)

func openDirectory(t *testing.T) *artifacts.Directory {
	t.Helper()
	d, err := artifacts.OpenDirectory(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDirectory(t *testing.T) {
	storetest.Run(t, func(t *testing.T) artifacts.Backend { return openDirectory(t) })
}

func TestMain(m *testing.M) {
	if what := os.Getenv(envMove); what != "" { // a process of the benchmark
		if err := moveOne(what); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	storetest.Main(m)
}

// TestProcess runs the suite on a versitygw in a process of its own.
func TestProcess(t *testing.T) {
	g := storetest.StartProcess(t, t.TempDir(), "")
	storetest.Run(t, func(t *testing.T) artifacts.Backend { return g.Open(t, g.Config()) })
}

func TestS3(t *testing.T) {
	g := storetest.StartGateway(t)
	t.Run("WhenRequired", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) artifacts.Backend { return g.Open(t, g.Config()) })
	})
	t.Run("WhenSupportedWithPrefix", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) artifacts.Backend {
			c := g.Config()
			c.Checksums, c.Prefix = "when_supported", "team/esclab"
			return g.Open(t, c)
		})
	})
}
