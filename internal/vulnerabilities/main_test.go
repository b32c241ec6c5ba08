package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const config = `{"config":{"protocol_version":"v1.0.0","db":"file:///db","scan_level":"symbol"}}
`

// held and module are findings as govulncheck writes them.
const (
	held = `{"finding":{"osv":"GO-2026-0001","fixed_version":"v1.2.3","trace":[
		{"module":"example.com/m","version":"v1.2.2","package":"example.com/m/p","function":"Parse"}]}}
`
	module = `{"finding":{"osv":"GO-2026-0002","trace":[{"module":"example.com/m","version":"v1.2.2","package":"example.com/m/q"}]}}
`
)

func TestVulnerabilities(t *testing.T) {
	for name, c := range map[string]struct{ accepted, scan, want string }{
		"nothing found":               {"", config, ""},
		"a module alone":              {"", config + module, ""},
		"held":                        {"", config + module + held, "GO-2026-0001 in example.com/m v1.2.2 is held (example.com/m/p.Parse) and is fixed in v1.2.3"},
		"held, with a reason":         {"GO-2026-0001 it parses our own files alone", config + held, ""},
		"held, without a reason":      {"GO-2026-0001", config + held, "line 1: GO-2026-0001 has no reason"},
		"accepted and not held":       {"# a comment\nGO-2026-0002 never", config + module, "GO-2026-0002 is accepted"},
		"the scan has said nothing":   {"", "", "what the programs hold is not known"},
		"the scan of packages":        {"", strings.Replace(config, "symbol", "package", 1) + module, "what the programs hold is not known"},
		"the scan broke in the midst": {"", config + held[:40], "what govulncheck says"},
	} {
		path := filepath.Join(t.TempDir(), "accepted.txt")
		if err := os.WriteFile(path, []byte(c.accepted), 0o600); err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		err := run([]string{path}, strings.NewReader(c.scan), &out)
		if (c.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
