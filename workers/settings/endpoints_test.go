package settings

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestJudgeKey(t *testing.T) {
	t.Setenv("TEST_JUDGE_KEY", "from-variable")
	file := filepath.Join(t.TempDir(), "key")
	write(t, file, "from-file\n", 0o600)
	open := filepath.Join(t.TempDir(), "open")
	write(t, open, "from-open\n", 0o644)
	s := Default()
	s.Path = "/etc/lab.yaml"
	s.Judge.Endpoints = []Endpoint{
		{BaseURL: "https://variable.example/v1/", APIKeyEnv: "TEST_JUDGE_KEY"}, {BaseURL: "https://unset.example/v1", APIKeyEnv: "TEST_JUDGE_UNSET"},
		{BaseURL: "https://file.example/v1", APIKeyFile: file}, {BaseURL: "https://open.example/v1", APIKeyFile: open}, {BaseURL: "http://none.example"},
	}
	for _, c := range []struct{ url, key, wrong string }{
		{"https://variable.example/v1", "from-variable", ""},
		{"https://file.example/v1/", "from-file", ""},
		{"http://none.example", "", ""},
		{"http://127.0.0.1:8000/v1", "", ""},
		{"http://[::1]:8000/v1", "", ""},
		{"http://localhost/v1", "", ""},
		{"https://unset.example/v1", "", "TEST_JUDGE_UNSET is not set"},
		{"https://open.example/v1", "", "chmod 600"},
		{"https://other.example/v1", "", "may not ask https://other.example/v1: add it to judge.endpoints in its /etc/lab.yaml"},
		{"https://variable.example/v2", "", "may not ask"},
		{"http://variable.example/v1", "", "may not ask"},
		{"https://localhost.example/v1", "", "may not ask"},
		{"https://127.0.0.1@other.example/", "", "may not ask"},
		{"http://169.254.169.254/", "", "may not ask"},
	} {
		key, err := s.JudgeKey(c.url)
		if string(key) != c.key || (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%s: key %q, error %v; want %q and an error with %q", c.url, string(key), err, c.key, c.wrong)
		}
	}
}

func TestAllows(t *testing.T) {
	j := Judge{Endpoints: []Endpoint{{BaseURL: "https://a.example/v1", APIKeyEnv: "A"}}}
	for want, allowed := range map[Endpoint]bool{
		{BaseURL: "https://a.example/v1", APIKeyEnv: "B"}:  true, // the worker's own pair decides
		{BaseURL: "https://b.example/v1"}:                  false,
		{BaseURL: "http://localhost:8000"}:                 true,
		{BaseURL: "http://localhost:8000", APIKeyEnv: "B"}: false,
	} {
		if got := j.Allows(want); got != allowed {
			t.Errorf("%+v: allowed %v, want %v", want, got, allowed)
		}
	}
}

// An endpoint finds its place in any settings file that people write, and every
// other line stays.
func TestAddEndpoint(t *testing.T) {
	own, err := os.ReadFile(filepath.Join("..", "..", FileName))
	if err != nil {
		t.Fatal(err)
	}
	e := Endpoint{BaseURL: "https://a.example/v1?x=y#\"z", APIKeyEnv: "KEY"}
	for name, text := range map[string]string{
		"no file":   "",
		"no judge":  "temporal: {namespace: a}", // without a line break at its end
		"own":       string(own),
		"empty":     "judge:\n  endpoints: []\ns3:\n  bucket: abc\n",
		"null":      "judge:\n  endpoints:\n",
		"no list":   "judge: # asks\n\n# nothing\ns3: {bucket: abc}\n",
		"block":     "judge:\n    endpoints:  # these\n    - base_url: https://b.example\n      api_key_env: B\ns3: {bucket: abc}\n",
		"indented":  "judge:\n  endpoints:\n      - {base_url: https://b.example}\n",
		"last line": "judge:\n  endpoints: []",
	} {
		path := filepath.Join(t.TempDir(), FileName)
		if text != "" {
			write(t, path, text, 0o640)
		}
		s, err := Parse(path, []byte(text))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := s.AddEndpoint(e); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		now, err := Load(path)
		if err != nil || !now.Judge.Allows(e) || !s.Judge.Allows(e) {
			t.Errorf("%s: %v; the file holds %+v, the settings %+v; want %+v in both", name, err, now.Judge, s.Judge, e)
		}
		data, _ := os.ReadFile(path)
		for _, line := range strings.Split(text, "\n") {
			if !strings.Contains(line, "endpoints:") && !strings.Contains(string(data), line) {
				t.Errorf("%s: the line %q is gone from\n%s", name, line, data)
			}
		}
		if info, err := os.Stat(path); text != "" && (err != nil || info.Mode().Perm() != 0o640) {
			t.Errorf("%s: the file has mode %v, want that of before, 0640", name, info.Mode())
		}
	}
	path := filepath.Join(t.TempDir(), FileName)
	write(t, path, "{judge: {endpoints: []}}\n", 0o644)
	if err := (&Settings{Path: path}).AddEndpoint(e); err == nil {
		t.Error("a file in flow style: no error, want one that leaves it to the user")
	}
	if data, _ := os.ReadFile(path); string(data) != "{judge: {endpoints: []}}\n" {
		t.Errorf("it was changed: %s", data)
	}
}
