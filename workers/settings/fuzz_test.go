package settings

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzParse: whatever the bytes of temporal.yaml, Parse returns settings that
// hold together or an error of one line that names the file.
func FuzzParse(f *testing.F) {
	own, err := os.ReadFile(filepath.Join("..", "..", FileName))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(own)
	for _, s := range []string{"", "temporal: {address: a:1, tls: {}}", "a: &x [*x]", "s3: {endpoint: http://u:p@h}", "embedded: {ports: {ui: auto, s3: -1}}",
		"schedules: [{id: a, experiment: b, cron: '* * * * *'}]", "search_attributes: {a: Keyword}", "temporal:\n  address: x\n---\n", "<<: {temporal: {}}",
		"temporal: !!binary x", "embedded: {retention: 999999h}", "versioning: {mode: pinned}", "temporal: null", "s3: [1]", "? {a: b}\n: c"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Parse("/etc/lab/fuzz.yaml", data)
		if err != nil {
			if !strings.Contains(err.Error(), "fuzz.yaml") || strings.Contains(strings.TrimSpace(err.Error()), "\n") {
				t.Fatalf("an error that is no line with the file's name: %q", err)
			}
			return
		}
		paths := []string{s.Embedded.DataDir, s.S3.CredentialsFile}
		for _, e := range s.Judge.Endpoints {
			paths = append(paths, e.APIKeyFile)
		}
		for _, path := range paths {
			if path != "" && !filepath.IsAbs(path) {
				t.Fatalf("the path %q is not absolute", path)
			}
		}
		if s.Temporal.Namespace == "" || s.S3.Bucket == "" || s.TaskQueues.Control == "" {
			t.Fatalf("accepted and of no use: %+v", s)
		}
	})
}
