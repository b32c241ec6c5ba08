package settings

import (
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
)

var (
	bucketName    = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	attributeName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]*$`)
	variableName  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

// minHeartbeat lets one sign of life get lost: a worker gives one every 3 s.
const minHeartbeat = 7 * time.Second

// problem is a rule that a key breaks: its YAML path and what to do.
type problem struct{ key, message string }

// validate checks the values; the first broken rule is the error, with the
// line of its key where the file has it.
func (s *Settings) validate(file *ast.File) error {
	problems := slices.Concat(s.temporalProblems(), s.s3Problems(), s.embeddedProblems(), s.judgeProblems(), s.queueProblems(), s.versioningProblems(),
		s.attributeProblems(), s.nightlyProblems(), s.scheduleProblems())
	if len(problems) == 0 {
		return nil
	}
	p := problems[0]
	return fmt.Errorf("%s: %s: %s", s.position(file, p.key), p.key, p.message)
}

// position is "file:line" of a key, or of the nearest enclosing one given.
func (s *Settings) position(file *ast.File, key string) string {
	for ; key != ""; key = key[:max(strings.LastIndexAny(key, ".["), 0)] {
		path, err := yaml.PathString("$." + key)
		if err != nil {
			continue
		}
		if node, err := path.FilterFile(file); err == nil && node != nil {
			return fmt.Sprintf("%s:%d", s.Path, node.GetToken().Position.Line)
		}
	}
	return s.Path
}

func (s *Settings) temporalProblems() (out []problem) {
	t := s.Temporal
	if t.Address == "" && s.Embedded.Mode == ModeOff {
		out = append(out, problem{"temporal.address", "empty while embedded.mode is off: give host:port, or set embedded.mode to auto"})
	}
	if t.Address != "" {
		if host, port, err := net.SplitHostPort(t.Address); err != nil || host == "" || !isPort(port) {
			out = append(out, problem{"temporal.address", fmt.Sprintf("%q is not host:port (for example temporal.example.org:7233)", t.Address)})
		}
	}
	if t.Namespace == "" {
		out = append(out, problem{"temporal.namespace", "empty: name a namespace (default is the usual one)"})
	}
	if t.APIKeyEnv != "" && !variableName.MatchString(t.APIKeyEnv) {
		out = append(out, problem{"temporal.api_key_env", "not the name of an environment variable: put the key into a variable and give the variable's name"})
	}
	if t.UI != "" {
		if u, err := url.Parse(t.UI); err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil {
			out = append(out, problem{"temporal.ui", "not the URL of a web UI (for example https://cloud.temporal.io)"})
		}
	}
	if t.Heartbeat != 0 && (t.Heartbeat < minHeartbeat || t.Heartbeat%time.Second != 0) {
		out = append(out, problem{"temporal.heartbeat", fmt.Sprintf("%s: whole seconds, at least %s, or 0 for what suits the service", t.Heartbeat, minHeartbeat)})
	}
	if t.TLS != nil && (t.TLS.Cert == "") != (t.TLS.Key == "") {
		out = append(out, problem{"temporal.tls", "cert and key go together: give both or neither"})
	}
	if host, _, err := net.SplitHostPort(t.Address); t.TLS != nil && t.TLS.Disabled && (err != nil || !LocalHost(host)) {
		out = append(out, problem{"temporal.tls.disabled", "goes with an address on this machine alone: keys and results would be sent in plain text"})
	}
	return out
}

func (s *Settings) s3Problems() (out []problem) {
	c := s.S3
	if c.Endpoint == "" && s.Embedded.Mode == ModeOff {
		out = append(out, problem{"s3.endpoint", "empty while embedded.mode is off: give a URL, or set embedded.mode to auto"})
	}
	if c.Endpoint != "" {
		u, err := url.Parse(c.Endpoint)
		switch {
		case err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "":
			out = append(out, problem{"s3.endpoint", fmt.Sprintf("%q is not a URL (for example https://s3.example.org)", c.Endpoint)})
		case u.User != nil:
			out = append(out, problem{"s3.endpoint", "holds credentials: use access_key_env and secret_key_env, or credentials_file"})
		}
	}
	if c.TLS != nil {
		if (c.TLS.Cert == "") != (c.TLS.Key == "") {
			out = append(out, problem{"s3.tls", "cert and key go together: give both or neither"})
		}
		if !strings.HasPrefix(c.Endpoint, "https://") || c.TLS.Disabled {
			out = append(out, problem{"s3.tls", "goes with an endpoint that begins with https://"})
		}
	}
	if !bucketName.MatchString(c.Bucket) {
		out = append(out, problem{"s3.bucket", fmt.Sprintf("%q is not a bucket name: 3 to 63 of a-z, 0-9, '.' and '-'", c.Bucket)})
	}
	if c.Region == "" {
		out = append(out, problem{"s3.region", "empty: us-east-1 suits a service that has no regions"})
	}
	if c.Checksum != ChecksumWhenRequired && c.Checksum != ChecksumWhenSupported {
		out = append(out, problem{"s3.checksum", fmt.Sprintf("%q: when_required or when_supported", c.Checksum)})
	}
	switch c.Encryption {
	case EncryptionNone:
	case EncryptionS3, EncryptionKMS:
		if s.EmbedS3() {
			out = append(out, problem{"s3.encryption", "the embedded store does not encrypt: encrypt the disk, or give s3.endpoint"})
		}
	default:
		out = append(out, problem{"s3.encryption", fmt.Sprintf("%q: none, sse-s3 or sse-kms", c.Encryption)})
	}
	if c.KMSKey != "" && c.Encryption != EncryptionKMS {
		out = append(out, problem{"s3.kms_key", "goes with s3.encryption sse-kms"})
	}
	if (c.AccessKeyEnv == "") != (c.SecretKeyEnv == "") {
		out = append(out, problem{"s3.access_key_env", "goes together with secret_key_env: give both or neither"})
	}
	for key, name := range map[string]string{"s3.access_key_env": c.AccessKeyEnv, "s3.secret_key_env": c.SecretKeyEnv} {
		if name != "" && !variableName.MatchString(name) {
			out = append(out, problem{key, "not the name of an environment variable: put the key into a variable and give the variable's name"})
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].key < out[j].key })
	return out
}

func (s *Settings) embeddedProblems() (out []problem) {
	e := s.Embedded
	if e.Mode != ModeAuto && e.Mode != ModeOff {
		out = append(out, problem{"embedded.mode", fmt.Sprintf("%q: auto or off", e.Mode)})
	}
	seen := make(map[Port]string)
	for _, p := range []struct {
		name string
		port Port
	}{{"temporal", e.Ports.Temporal}, {"ui", e.Ports.UI}, {"s3", e.Ports.S3}} {
		key := "embedded.ports." + p.name
		switch {
		case p.port < 0 || p.port > 65535:
			out = append(out, problem{key, "a port is a number from 1 to 65535, or auto"})
		case p.port != 0 && seen[p.port] != "":
			out = append(out, problem{key, fmt.Sprintf("%d is also the port of %s: give each its own", int(p.port), seen[p.port])})
		}
		seen[p.port] = p.name
	}
	if p := e.Open.problem(); p != nil {
		out = append(out, *p)
	} else if e.Open.Enabled() && !s.EmbedTemporal() && !s.EmbedS3() {
		out = append(out, problem{"embedded.open.listen", "Temporal and S3 both run elsewhere: there is nothing to open"})
	}
	if s.Cache.Gigabytes < 0 {
		out = append(out, problem{"cache.gigabytes", fmt.Sprintf("%d: a size, or 0 for no bound", s.Cache.Gigabytes)})
	}
	if e.Retention < 24*time.Hour {
		out = append(out, problem{"embedded.retention", fmt.Sprintf("%s: at least 24h", e.Retention)})
	}
	return out
}

func (s *Settings) queueProblems() (out []problem) {
	q := s.TaskQueues
	for _, p := range []problem{{"control", q.Control}, {"cpu", q.CPU}, {"gpu", q.GPU}} {
		if p.message == "" {
			out = append(out, problem{"task_queues." + p.key, "empty: name a task queue"})
		}
	}
	if q.Control == q.CPU || q.Control == q.GPU {
		out = append(out, problem{"task_queues.control", "shared with a queue for stages: long stages would hold up workflows; give it its own name"})
	}
	return out
}

func (s *Settings) versioningProblems() (out []problem) {
	v := s.Versioning
	switch {
	case v.Mode != VersioningOff && v.Mode != VersioningPinned:
		out = append(out, problem{"versioning.mode", fmt.Sprintf("%q: off or pinned", v.Mode)})
	case v.Mode == VersioningPinned && s.EmbedTemporal():
		out = append(out, problem{"versioning.mode", "pinned needs a Temporal of its own (temporal.address): the embedded one has one build at a time, and runs that were pinned to the build before would wait for ever"})
	}
	if v.Deployment == "" || strings.ContainsAny(v.Deployment, ".:") {
		out = append(out, problem{"versioning.deployment", fmt.Sprintf("%q: a name without '.' and ':'", v.Deployment)})
	}
	return out
}

func (s *Settings) attributeProblems() (out []problem) {
	names := make([]string, 0, len(s.SearchAttributes))
	for name := range s.SearchAttributes {
		names = append(names, name)
	}
	sort.Strings(names)
	if p := s.SearchAttributePrefix; p != "" && !attributeName.MatchString(p) {
		out = append(out, problem{"search_attribute_prefix", fmt.Sprintf("%q: letters, digits, '_' and '-', a letter first", p)})
	}
	count := make(map[string]int)
	for _, name := range names {
		kind := s.SearchAttributes[name]
		key := "search_attributes." + name
		limit, known := attributeTypes[kind]
		count[kind]++
		switch {
		case !attributeName.MatchString(name):
			out = append(out, problem{"search_attributes", fmt.Sprintf("%q: a name is letters, digits, '_' and '-', a letter first", name)})
		case !known:
			out = append(out, problem{key, fmt.Sprintf("type %q: Keyword, KeywordList, Text, Int, Double, Bool or Datetime", kind)})
		case count[kind] > limit:
			out = append(out, problem{key, fmt.Sprintf("more than %d attributes of type %s: a namespace holds no more on SQL visibility", limit, kind)})
		}
	}
	return out
}

func isPort(s string) bool {
	n, err := strconv.Atoi(s)
	return err == nil && n > 0 && n < 65536
}
