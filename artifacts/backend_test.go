package artifacts_test

import (
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
