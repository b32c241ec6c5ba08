package settings

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/parser"

	"github.com/esclab/esclab/experiments"
)

// maxFile bounds a settings file; the one of the repository has 7 kB.
const maxFile = 256 << 10

// Load reads the settings from path. With an empty path it takes the file that
// ESCLAB_CONFIG names, else temporal.yaml in the working directory, else the
// defaults. ESCLAB_DATA_DIR overrides embedded.data_dir. Errors name file,
// line and remedy on one line.
func Load(path string) (*Settings, error) {
	return load(path, os.Getenv)
}

func load(path string, env func(string) string) (*Settings, error) {
	path, err := locate(path, env)
	if err != nil {
		return nil, err
	}
	s := Default()
	if path != "" {
		file, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("settings: read %s: %w", path, err)
		}
		data, err := io.ReadAll(io.LimitReader(file, maxFile+1))
		if err := errors.Join(err, file.Close()); err != nil {
			return nil, fmt.Errorf("settings: read %s: %w", path, err)
		}
		if s, err = Parse(path, data); err != nil {
			return nil, err
		}
	}
	dir := s.Embedded.DataDir
	if named := env(EnvDataDir); named != "" {
		dir = expandHome(named)
	}
	if dir == "" {
		if dir, err = defaultDataDir(env); err != nil {
			return nil, fmt.Errorf("settings: no home directory for the data directory (%w): set %s", err, EnvDataDir)
		}
	}
	return s, s.SetDataDir(dir)
}

// SetDataDir takes another data directory than the file and the environment
// name. Unlike a path in the file, it is relative to the working directory, as a
// shell user expects.
func (s *Settings) SetDataDir(dir string) (err error) {
	// Its name is kept in JSON, and stands in messages of one line.
	if !utf8.ValidString(dir) || strings.ContainsFunc(dir, unicode.IsControl) {
		return fmt.Errorf("settings: the data directory's name is UTF-8 without line breaks and control characters, not %q: set --data, %s or embedded.data_dir to another", dir, EnvDataDir)
	}
	if s.Embedded.DataDir, err = filepath.Abs(dir); err != nil {
		return fmt.Errorf("settings: data directory: %w", err)
	}
	return nil
}

// locate returns the file to read, or "" for the defaults.
func locate(path string, env func(string) string) (string, error) {
	if path == "" {
		path = env(EnvConfig)
	}
	if path != "" {
		return filepath.Abs(expandHome(path))
	}
	path, err := filepath.Abs(FileName)
	if err != nil {
		return "", fmt.Errorf("settings: working directory: %w", err)
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return path, nil
}

// Parse decodes settings over the defaults, strictly: an unknown key, a value
// of the wrong type and a key given twice are errors that name file and line.
// A UTF-8 byte order mark is skipped. name is the file's path; relative paths in it are relative to its directory.
// The environment is not consulted.
func Parse(name string, data []byte) (*Settings, error) {
	if len(data) > maxFile {
		return nil, fmt.Errorf("%s: more than %d KiB: is it a settings file?", name, maxFile>>10)
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff")) // what editors put in front
	if !utf8.Valid(data) {
		return nil, fmt.Errorf("%s: not UTF-8 text: save the file as UTF-8", name)
	}
	s := Default()
	s.Path = name
	if line := experiments.TooDeep(data); line > 0 {
		return nil, fmt.Errorf("%s:%d: nested deeper than any setting: is it a settings file?", name, line)
	}
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		return nil, located(name, err)
	}
	for _, doc := range file.Docs {
		if err := checkKeys(name, doc.Body); err != nil {
			return nil, err
		}
	}
	if len(file.Docs) > 1 {
		return nil, fmt.Errorf("%s: more than one YAML document: keep one", name)
	}
	attributes := s.SearchAttributes
	// The file's search attributes replace the default ones instead of adding to
	// them, so that a name that is left out is not registered.
	s.SearchAttributes = nil
	if len(file.Docs) == 1 && file.Docs[0].Body != nil {
		if err := checkValues(name, "", file.Docs[0].Body, reflect.TypeFor[Settings]()); err != nil {
			return nil, err
		}
		if err := yaml.NewDecoder(bytes.NewReader(data), yaml.Strict()).Decode(s); err != nil {
			return nil, located(name, err)
		}
	}
	if s.SearchAttributes == nil {
		s.SearchAttributes = attributes
	}
	s.resolvePaths(filepath.Dir(name))
	if err := s.validate(file); err != nil {
		return nil, err
	}
	prefixed := make(map[string]string, len(s.SearchAttributes))
	for name, kind := range s.SearchAttributes {
		prefixed[s.SearchAttributePrefix+name] = kind
	}
	s.SearchAttributes = prefixed
	return s, nil
}

// resolvePaths makes every path absolute, relative to the settings file.
func (s *Settings) resolvePaths(dir string) {
	paths := []*string{&s.Embedded.DataDir, &s.Cache.Dir, &s.S3.CredentialsFile, &s.Temporal.APIKeyFile,
		&s.Embedded.Open.Cert, &s.Embedded.Open.Key, &s.Embedded.Open.ClientCA}
	for _, t := range []*TLS{s.Temporal.TLS, s.S3.TLS} {
		if t != nil {
			paths = append(paths, &t.CA, &t.Cert, &t.Key)
		}
	}
	for i := range s.Judge.Endpoints {
		paths = append(paths, &s.Judge.Endpoints[i].APIKeyFile)
	}
	for i := range s.Nightly.Directories {
		paths = append(paths, &s.Nightly.Directories[i])
	}
	for _, p := range paths {
		if *p == "" {
			continue
		}
		if *p = expandHome(*p); !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
}

func expandHome(path string) string {
	rest, ok := strings.CutPrefix(path, "~/")
	if !ok {
		return path
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return path
	}
	return filepath.Join(home, rest)
}

// located turns the YAML library's error into one line with file and line.
func located(name string, err error) error {
	var y yaml.Error
	if !errors.As(err, &y) {
		return fmt.Errorf("%s: %w", name, err)
	}
	message, _, _ := strings.Cut(y.GetMessage(), "\n")
	if t := y.GetToken(); t != nil {
		return fmt.Errorf("%s:%d: %s", name, t.Position.Line, message)
	}
	return fmt.Errorf("%s: %s", name, message)
}
