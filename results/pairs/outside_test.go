package pairs

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/esclab/esclab/esc"
)

// An export writes into its folder and nowhere else, whatever the run is called.
func TestExportStaysInItsFolder(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "out")
	for _, name := range []string{"../evil", "/tmp/evil", "a/b", "..", ""} {
		if files, err := Export(dir, name, TRL, esc.Prompts{}, nil); err == nil || len(files) > 0 {
			t.Errorf("%q: %v, %v", name, files, err)
		}
	}
	entries, err := os.ReadDir(parent)
	if err != nil || len(entries) > 0 {
		t.Errorf("%v, %v", entries, err)
	}
}
