package artifacts_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/artifacts/storetest"
)

func openDirectory(t *testing.T) *storetest.Directory {
	t.Helper()
	return storetest.OpenDirectory(t, t.TempDir())
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
