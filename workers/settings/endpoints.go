package settings

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/esclab/esclab/internal/whole"
)

// Judge says which endpoints of language models this worker may ask to judge.
// An endpoint on this machine needs no entry unless it wants a key.
type Judge struct {
	Endpoints []Endpoint `yaml:"endpoints"`
}

// Endpoint pairs an address with the key that is sent to it and to no other.
type Endpoint struct {
	BaseURL    string `yaml:"base_url"`
	APIKeyEnv  string `yaml:"api_key_env"`  // name of the variable that holds the key; empty: none is sent
	APIKeyFile string `yaml:"api_key_file"` // mode 0600; instead of the variable
}

// LocalHost says whether a host is this machine for certain.
func LocalHost(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// find returns the entry of an endpoint.
func (j Judge) find(baseURL string) (Endpoint, bool) {
	same := func(e Endpoint) bool { return strings.TrimSuffix(e.BaseURL, "/") == strings.TrimSuffix(baseURL, "/") }
	i := slices.IndexFunc(j.Endpoints, same)
	if i < 0 {
		return Endpoint{}, false
	}
	return j.Endpoints[i], true
}

// Allows says whether an endpoint may be asked with the key that is wanted for
// it: it is listed, or it is on this machine and no key is wanted.
func (j Judge) Allows(want Endpoint) bool {
	_, listed := j.find(want.BaseURL)
	u, err := url.Parse(want.BaseURL)
	return listed || err == nil && LocalHost(u.Hostname()) && want.APIKeyEnv == ""
}

// JudgeKey returns the API key of an endpoint, "" where it has none. It refuses
// an endpoint that is neither listed nor on this machine.
func (s *Settings) JudgeKey(baseURL string) (Secret, error) {
	if !s.Judge.Allows(Endpoint{BaseURL: baseURL}) {
		return "", fmt.Errorf("judge.base_url: this worker may not ask %s: add it to judge.endpoints in its %s", baseURL, s.File())
	}
	e, _ := s.Judge.find(baseURL)
	switch {
	case e.APIKeyFile != "":
		return ReadKey("judge.endpoints: api_key_file", e.APIKeyFile)
	case e.APIKeyEnv == "":
		return "", nil
	case os.Getenv(e.APIKeyEnv) == "":
		return "", fmt.Errorf("judge.endpoints: environment variable %s is not set on this worker: export it with the API key of %s, or give api_key_file", e.APIKeyEnv, baseURL)
	}
	return keyVariable("judge.endpoints: api_key_env", e.APIKeyEnv)
}

func (s *Settings) judgeProblems() (out []problem) {
	for i, e := range s.Judge.Endpoints {
		at := fmt.Sprintf("judge.endpoints[%d].", i)
		u, err := url.Parse(e.BaseURL)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
			out = append(out, problem{at + "base_url", "not an address like https://api.openai.com/v1"})
		}
		if e.APIKeyEnv != "" && !variableName.MatchString(e.APIKeyEnv) {
			out = append(out, problem{at + "api_key_env", "not the name of an environment variable: put the key into a variable and give the variable's name"})
		}
		if e.APIKeyEnv != "" && e.APIKeyFile != "" {
			out = append(out, problem{at + "api_key_file", "goes instead of api_key_env: give one of them"})
		}
		if first, _ := s.Judge.find(e.BaseURL); first != e {
			out = append(out, problem{at + "base_url", "is given twice, with different keys"})
		}
	}
	return out
}

// YAML is the endpoint's entry as a settings file has it.
func (e Endpoint) YAML() string {
	entry := fmt.Sprintf("{base_url: %q", e.BaseURL)
	if e.APIKeyEnv != "" {
		entry += ", api_key_env: " + e.APIKeyEnv
	}
	return entry + "}"
}

// File is the settings file: the one that was read, or the one that would be.
func (s *Settings) File() string {
	if s.Path != "" {
		return s.Path
	}
	path, err := filepath.Abs(FileName)
	if err != nil {
		return FileName
	}
	return path
}

// errNoPlace says that a settings file is not written the way AddEndpoint knows.
var errNoPlace = errors.New("its judge: is not written as this program writes it")

// AddEndpoint writes an endpoint into the settings file and into s. Every other
// line of the file stays as it is; where that cannot be done, the file is left alone
// and the error says so.
func (s *Settings) AddEndpoint(e Endpoint) error {
	path := s.File()
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	mode := whole.Public
	old, err := os.ReadFile(path)
	switch info, statErr := os.Stat(path); {
	case errors.Is(err, fs.ErrNotExist):
	case errors.Join(err, statErr) != nil:
		return fmt.Errorf("settings: %w", errors.Join(err, statErr))
	default:
		mode = info.Mode().Perm()
	}
	before, err := Parse(path, old)
	if err != nil {
		return err
	}
	text := withEndpoint(string(old), e)
	after, err := Parse(path, []byte(text))
	before.Judge.Endpoints = append(before.Judge.Endpoints, e)
	if err != nil || !sameEndpoints(before, after) {
		return fmt.Errorf("settings: cannot add to %s: %w", path, errNoPlace)
	}
	if err := whole.Write(path, mode, []byte(text)); err != nil {
		return fmt.Errorf("settings: %w", err)
	}
	s.Judge = after.Judge
	return nil
}

// sameEndpoints compares two settings; the order of their endpoints is free.
func sameEndpoints(a, b *Settings) bool {
	byURL := func(x, y Endpoint) int { return strings.Compare(x.BaseURL, y.BaseURL) }
	slices.SortFunc(a.Judge.Endpoints, byURL)
	slices.SortFunc(b.Judge.Endpoints, byURL)
	return reflect.DeepEqual(a, b)
}

var (
	judgeLine     = regexp.MustCompile(`^judge:\s*(#.*)?$`)
	endpointsLine = regexp.MustCompile(`^(\s+endpoints:)(?:\s*\[\s*\])?(\s+#.*)?\s*$`)
	itemLine      = regexp.MustCompile(`^(\s*)- `)
	emptyLine     = regexp.MustCompile(`^\s*(#.*)?$`)
)

// withEndpoint adds an entry to the text of a settings file: to the list under
// judge:, as a list there, or at the end.
func withEndpoint(text string, e Endpoint) string {
	lines := strings.SplitAfter(text, "\n")
	at := slices.IndexFunc(lines, func(l string) bool { return judgeLine.MatchString(strings.TrimRight(l, "\r\n")) })
	if at < 0 {
		if text != "" && !strings.HasSuffix(text, "\n") {
			text += "\n"
		}
		return text + "judge:\n  endpoints:\n  - " + e.YAML() + "\n"
	}
	indent, list := "  ", "  endpoints:\n"
	for i := at + 1; i < len(lines); i++ {
		line := strings.TrimRight(lines[i], "\r\n")
		if emptyLine.MatchString(line) {
			continue
		}
		if line[0] != ' ' {
			break
		}
		if m := endpointsLine.FindStringSubmatch(line); m != nil {
			at, list = i, ""
			lines[i] = m[1] + m[2] + "\n"
			if i+1 < len(lines) {
				if item := itemLine.FindStringSubmatch(lines[i+1]); item != nil {
					indent = item[1]
				}
			}
			break
		}
	}
	return strings.Join(slices.Insert(lines, at+1, list+indent+"- "+e.YAML()+"\n"), "")
}
