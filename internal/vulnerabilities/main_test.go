package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const config = `{"config":{"protocol_version":"v1.0.0","db":"file:///db","db_last_modified":"2026-11-05T23:49:57Z","scan_level":"symbol"}}
`

// called and linked are findings as govulncheck writes them.
const (
	called = `{"finding":{"osv":"GO-2026-0001","fixed_version":"v1.2.3","trace":[
		{"module":"example.com/m","version":"v1.2.2","package":"example.com/m/p","function":"Parse"},
		{"module":"github.com/esclab/esclab","package":"github.com/esclab/esclab/cmd/esclab","function":"main"}]}}
`
	linked = `{"finding":{"osv":"GO-2026-0002","trace":[{"module":"example.com/m","version":"v1.2.2","package":"example.com/m/q"}]}}
`
)

func TestVulnerabilities(t *testing.T) {
	for name, c := range map[string]struct{ accepted, scan, want string }{
		"nothing found":               {"", config, ""},
		"linked and not called":       {"", config + linked, ""},
		"called":                      {"", config + linked + called, "GO-2026-0001 in example.com/m v1.2.2 is called (example.com/m/p.Parse, from github.com/esclab/esclab/cmd/esclab) and is fixed in v1.2.3"},
		"called, with a reason":       {"GO-2026-0001 it parses our own files alone", config + called, ""},
		"called, without a reason":    {"GO-2026-0001", config + called, "line 1: GO-2026-0001 has no reason"},
		"accepted and not called":     {"# a comment\nGO-2026-0002 never", config + linked, "GO-2026-0002 is accepted"},
		"the scan has said nothing":   {"", "", "what is called is not known"},
		"the scan of packages":        {"", strings.Replace(config, "symbol", "package", 1) + linked, "what is called is not known"},
		"the scan broke in the midst": {"", config + called[:40], "what govulncheck says"},
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
