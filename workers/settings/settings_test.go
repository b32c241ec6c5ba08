package settings

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func noEnv(string) string { return "" }

// The file at the root of the project documents the defaults, so it must be
// them.
func TestRootFileIsTheDefaults(t *testing.T) {
	path := filepath.Join("..", "..", FileName)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Parse(path, data)
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Path, want.Schedules, want.Judge.Endpoints = path, []Schedule{}, []Endpoint{}
	want.Nightly = Nightly{Newest: []string{}, Webhooks: []string{}, Directories: []string{}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s differs from Default (-want +got):\n%s", FileName, diff)
	}
}

// Every key of the structs stands in the documented file, if only in a comment.
func TestRootFileExplainsEveryKey(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "..", FileName))
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"address", "namespace", "api_key_env", "tls", "ca", "cert", "key", "server_name",
		"endpoint", "bucket", "region", "path_style", "access_key_env", "secret_key_env", "credentials_file", "checksum", "encryption", "kms_key",
		"mode", "data_dir", "ports", "ui", "retention", "control", "cpu", "gpu", "id", "experiment", "cron", "overlap",
		"endpoints", "api_key_file", "catchup_window", "pause_on_failure", "paused", "note", "open", "listen", "client_ca",
		"cache", "dir", "gigabytes", "search_attribute_prefix"} {
		if !strings.Contains(string(data), key+":") {
			t.Errorf("key %s is not in %s", key, FileName)
		}
	}
}

func TestParseEverything(t *testing.T) {
	const file = `
temporal:
  address: temporal.example.org:7233
  namespace: esc
  api_key_env: TEMPORAL_API_KEY
  api_key_file: temporal.key
  tls: {ca: ca.pem, cert: /abs/client.pem, key: client.key, server_name: temporal}
s3:
  endpoint: https://s3.example.org
  bucket: esc-artifacts
  path_style: false
  checksum: when_supported
  encryption: sse-kms
  kms_key: alias/esclab
embedded:
  mode: off
  data_dir: data
  ports: {temporal: auto, ui: 0, s3: 9000}
  open: {ports: {s3: auto}, cert: server.pem, key: server.key, client_ca: /abs/clients.pem}
  retention: 48h
judge: {endpoints: [{base_url: "https://a.example/v1", api_key_file: judge.key}]}
task_queues: {control: c, cpu: p, gpu: p}
cache: {dir: copies, gigabytes: 5}
search_attributes: {Stage: Keyword}
search_attribute_prefix: lab_
schedules:
- {id: nightly, experiment: demo, cron: "0 22 * * *", catchup_window: 2h}
`
	got, err := Parse("/etc/esclab/temporal.yaml", []byte(file))
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Path = "/etc/esclab/temporal.yaml"
	want.Temporal = Temporal{Address: "temporal.example.org:7233", Namespace: "esc", APIKeyEnv: "TEMPORAL_API_KEY", APIKeyFile: "/etc/esclab/temporal.key",
		TLS: &TLS{CA: "/etc/esclab/ca.pem", Cert: "/abs/client.pem", Key: "/etc/esclab/client.key", ServerName: "temporal"}}
	want.S3.Endpoint, want.S3.Bucket, want.S3.PathStyle, want.S3.Checksum = "https://s3.example.org", "esc-artifacts", false, ChecksumWhenSupported
	want.S3.Encryption, want.S3.KMSKey = EncryptionKMS, "alias/esclab"
	want.Embedded = Embedded{Mode: ModeOff, DataDir: "/etc/esclab/data", Ports: Ports{S3: 9000}, Retention: 48 * time.Hour,
		Open: Open{Ports: OpenPorts{Temporal: 7243}, Cert: "/etc/esclab/server.pem", Key: "/etc/esclab/server.key", ClientCA: "/abs/clients.pem"}}
	want.Judge = Judge{Endpoints: []Endpoint{{BaseURL: "https://a.example/v1", APIKeyFile: "/etc/esclab/judge.key"}}}
	want.TaskQueues = TaskQueues{Control: "c", CPU: "p", GPU: "p"}
	want.Cache = Cache{Dir: "/etc/esclab/copies", Gigabytes: 5}
	want.SearchAttributes, want.SearchAttributePrefix = map[string]string{"lab_Stage": "Keyword"}, "lab_"
	want.Schedules = []Schedule{{ID: "nightly", Experiment: "demo", Cron: "0 22 * * *", Overlap: "skip", CatchupWindow: 2 * time.Hour,
		Fresh: "all", Window: 14, MinNights: 3, Noise: 4, Slack: 0.1}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got.EmbedTemporal() || got.EmbedS3() {
		t.Error("mode off still embeds")
	}
}

func TestParseErrors(t *testing.T) {
	for _, c := range []struct{ name, file, want string }{
		{"unknown top key", "temporl: {}\n", `t.yaml:1: unknown key "temporl": did you mean "temporal"?`},
		{"unknown nested key", "s3:\n  bucket: abc\n  endpont: x\n", `t.yaml:3: unknown key "s3.endpont": did you mean "s3.endpoint"?`},
		{"unknown deep key", "temporal:\n  tls:\n    sever_name: x\n", `t.yaml:3: unknown key "temporal.tls.sever_name": did you mean "temporal.tls.server_name"?`},
		{"unknown key in a list", "schedules:\n- id: a\n  crn: x\n", `t.yaml:3: unknown key "schedules.crn": did you mean "schedules.cron"?`},
		{"duplicate key", "s3:\n  bucket: abc\n  bucket: def\n", `t.yaml:3: mapping key "bucket" already defined`},
		{"truth wanted", "s3:\n  path_style: 3.5x\n", `t.yaml:2: s3.path_style: wants true or false, has "3.5x"`},
		{"mapping wanted", "s3: yes please\n", `t.yaml:1: s3: wants keys and values (access_key_env, `},
		{"a list for a mapping", "temporal:\n- a\n", `t.yaml:2: temporal: wants keys and values (address, `},
		{"a list for the file", "- a\n", `t.yaml:1: the file: wants keys and values (`},
		{"heartbeat without a unit", "temporal: {heartbeat: 5}\n", `t.yaml:1: temporal.heartbeat: wants a duration like 5s, 10m or 24h, has "5"`},
		{"retention without a unit", "embedded:\n  mode: auto\n  retention: 72\n", `t.yaml:3: embedded.retention: wants a duration like 5s, 10m or 24h, has "72"`},
		{"a unit in words", "temporal:\n  heartbeat: 10 seconds\n", `t.yaml:2: temporal.heartbeat: wants a duration like 5s, 10m or 24h, has "10 seconds"`},
		{"catch-up in days", "schedules:\n- {id: a, experiment: x, cron: '* * * * *', catchup_window: 1d}\n", `t.yaml:2: schedules[0].catchup_window: wants a duration like 5s, 10m or 24h, has "1d"`},
		{"a mapping for a duration", "temporal: {heartbeat: {seconds: 5}}\n", `t.yaml:1: temporal.heartbeat: wants a duration like 5s, 10m or 24h, has keys and values`},
		{"a list for text", "s3: {bucket: [a, b]}\n", `t.yaml:1: s3.bucket: wants text, has a list`},
		{"text for a list", "judge: {endpoints: https://a.example/v1}\n", `t.yaml:1: judge.endpoints: wants a list, has "https://a.example/v1"`},
		{"half a night", "schedules:\n- {id: a, experiment: x, cron: '* * * * *', window: 1.5}\n", `t.yaml:2: schedules[0].window: wants a whole number, has "1.5"`},
		{"a mapping for an attribute", "search_attributes:\n  Stage: {type: Keyword}\n", `t.yaml:2: search_attributes.Stage: wants text, has keys and values`},
		{"Latin-1", "s3:\n  bucket: caf\xe9\n", `t.yaml: not UTF-8 text`},
		{"UTF-16", "\xff\xfes\x003\x00", `t.yaml: not UTF-8 text`},
		{"unknown key behind a byte order mark", "\ufefftemporl: {}\n", `t.yaml:1: unknown key "temporl": did you mean "temporal"?`},
		{"broken YAML", "s3:\n  bucket: [a\n", `t.yaml:2: `},
		{"tab", "s3:\n\tbucket: a\n", `t.yaml:2: `},
		{"two documents", "s3: {}\n---\ns3: {}\n", `t.yaml: more than one YAML document`},
		{"port word", "embedded:\n  ports:\n    ui: any\n", "t.yaml:3: embedded.ports.ui: a port"},
		{"port range", "embedded:\n  ports:\n    ui: 70000\n", "t.yaml:3: embedded.ports.ui: a port"},
		{"port twice", "embedded:\n  ports:\n    ui: 9233\n", "t.yaml:3: embedded.ports.s3: 9233 is also the port of ui"},
		{"mode", "embedded:\n  mode: on\n", `t.yaml:2: embedded.mode: "on": auto or off`},
		{"open to a name", "embedded:\n  open: {listen: lab.example.org, cert: c, key: k, client_ca: a}\n", `t.yaml:2: embedded.open.listen: "lab.example.org" is not an IP address`},
		{"open without TLS", "embedded:\n  open: {listen: 0.0.0.0}\n", "t.yaml:2: embedded.open: cert and key and client_ca not set: a key alone is too little"},
		{"open without clients' authority", "embedded:\n  open: {listen: 0.0.0.0, cert: c, key: k}\n", "embedded.open: client_ca not set"},
		{"open on one port", "embedded:\n  open: {listen: 0.0.0.0, cert: c, key: k, client_ca: a, ports: {s3: 7243}}\n", "embedded.open.ports.s3: 7243 is also the port of temporal"},
		{"nothing to open", "temporal: {address: 'a:1'}\ns3: {endpoint: 'http://a:1'}\nembedded:\n  open: {listen: 0.0.0.0, cert: c, key: k, client_ca: a}\n", "there is nothing to open"},
		{"off without address", "embedded: {mode: off}\ns3: {endpoint: 'http://a:1'}\n", "temporal.address: empty while embedded.mode is off"},
		{"address", "temporal:\n  address: localhost\n", `t.yaml:2: temporal.address: "localhost" is not host:port`},
		{"endpoint", "s3:\n  endpoint: s3.example.org\n", `t.yaml:2: s3.endpoint: "s3.example.org" is not a URL`},
		{"credentials in URL", "s3:\n  endpoint: https://a:b@s3.example.org\n", "holds credentials"},
		{"bucket", "s3:\n  bucket: A_B\n", `t.yaml:2: s3.bucket: "A_B" is not a bucket name`},
		{"encryption", "s3:\n  endpoint: http://s3\n  encryption: rot13\n", `t.yaml:3: s3.encryption: "rot13": none, sse-s3 or sse-kms`},
		{"encryption of the embedded store", "s3:\n  encryption: sse-s3\n", `t.yaml:2: s3.encryption: the embedded store does not encrypt`},
		{"KMS key alone", "s3:\n  kms_key: k\n", `t.yaml:2: s3.kms_key: goes with s3.encryption sse-kms`},
		{"checksum", "s3:\n  checksum: never\n", `t.yaml:2: s3.checksum: "never"`},
		{"secret instead of name", "temporal:\n  api_key_env: sk-1234\n", "t.yaml:2: temporal.api_key_env: not the name"},
		{"heartbeat", "temporal:\n  heartbeat: 2s\n", "t.yaml:2: temporal.heartbeat: 2s: whole seconds, at least 7s"},
		{"half a heartbeat", "temporal:\n  heartbeat: 7500ms\n", "t.yaml:2: temporal.heartbeat: 7.5s: whole seconds"},
		{"half a client certificate", "temporal:\n  tls:\n    cert: a.pem\n", "temporal.tls: cert and key go together"},
		{"plain text elsewhere", "temporal: {address: \"a.example:7233\", tls: {disabled: true}}\n", "temporal.tls.disabled: goes with an address on this machine"},
		{"judge address", "judge:\n  endpoints: [{base_url: api.openai.com}]\n", "judge.endpoints[0].base_url: not an address"},
		{"judge key", "judge:\n  endpoints: [{base_url: https://a.b, api_key_env: sk-1234}]\n", "judge.endpoints[0].api_key_env: not the name"},
		{"judge keys", "judge:\n  endpoints: [{base_url: https://a.b, api_key_env: K, api_key_file: f}]\n", "judge.endpoints[0].api_key_file: goes instead"},
		{"judge endpoint twice", "judge:\n  endpoints: [{base_url: https://a.b, api_key_env: K}, {base_url: https://a.b/}]\n", "judge.endpoints[1].base_url: is given twice"},
		{"attribute type", "search_attributes:\n  Stage: keyword\n", `t.yaml:2: search_attributes.Stage: type "keyword"`},
		{"too many", "search_attributes: {A: Int, B: Int, C: Int, D: Int}\n", "search_attributes.D: more than 3 attributes of type Int"},
		{"cron", "schedules:\n- {id: a, experiment: demo, cron: often}\n", `t.yaml:2: schedules[0].cron: "often"`},
		{"time zone", "schedules:\n- {id: a, experiment: demo, cron: 'TZ=Asia/Tokyo 0 22 * * *'}\n", `schedules[0].cron: "TZ=Asia/Tokyo`},
		{"six fields", "schedules:\n- {id: a, experiment: demo, cron: '0 0 22 * * *'}\n", `schedules[0].cron: "0 0 22`},
		{"catch-up of a month", "schedules:\n- {id: a, experiment: demo, cron: '0 22 * * *', catchup_window: 720h}\n", `schedules[0].catchup_window: 720h0m0s: at most 24h`},
		{"fresh", "schedules:\n- {id: a, experiment: demo, cron: '0 22 * * *', fresh: everything}\n", `schedules[0].fresh: "everything": all, none, or kinds`},
		{"min_nights", "schedules:\n- {id: a, experiment: demo, cron: '0 22 * * *', window: 2}\n", `schedules[0].min_nights: at least 1`},
		{"webhook", "schedules:\n- {id: a, experiment: demo, cron: '0 22 * * *', webhook: hooks.example.org}\n", `schedules[0].webhook: not a URL`},
		{"schedule ID", "schedules:\n- {id: 'a/b', experiment: demo, cron: '0 22 * * *'}\n", `schedules[0].id: "a/b"`},
		{"secret without webhooks", "nightly: {secret_env: HOOK}\n", `nightly.secret_env: without nightly.webhooks`},
		{"allowed webhook", "nightly: {webhooks: [x]}\n", `nightly.webhooks[0]`},
		{"schedule twice", "schedules:\n- {id: a, experiment: x, cron: '* * * * *'}\n- {id: a, experiment: x, cron: '* * * * *'}\n", `t.yaml:3: schedules[1].id: "a" is given twice`},
		{"overlap", "schedules:\n- {id: a, experiment: x, cron: '* * * * *', overlap: maybe}\n", `schedules[0].overlap: "maybe"`},
		{"retention", "embedded:\n  retention: 1h\n", "t.yaml:2: embedded.retention"},
		{"control shared", "task_queues:\n  control: x\n  cpu: x\n", "t.yaml:2: task_queues.control"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse("t.yaml", []byte(c.file))
			if err == nil {
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %q", err)
			}
		})
	}
}

func TestParseEmptyIsDefault(t *testing.T) {
	for _, file := range []string{"", "\ufeff", "\ufeff# saved by an editor\r\ns3: {}\r\n", "\ufefftemporal: {address: \"\"}\n", "\n", "# nothing\n", "s3: {}\n", "s3:\n"} {
		got, err := Parse("t.yaml", []byte(file))
		if err != nil {
			t.Fatalf("%q: %v", file, err)
		}
		want := Default()
		want.Path = "t.yaml"
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", file, diff)
		}
	}
}

func TestLoadFindsTheFile(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	env := map[string]string{"XDG_DATA_HOME": "/xdg"}
	get := func(key string) string { return env[key] }
	load := func(path string) *Settings {
		t.Helper()
		s, err := load(path, get)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}

	if s := load(""); s.Path != "" || s.Embedded.DataDir != "/xdg/esclab" {
		t.Errorf("without a file: path %q, data directory %q", s.Path, s.Embedded.DataDir)
	}
	write(t, FileName, "s3: {bucket: in-cwd}\nembedded: {data_dir: here}\n", 0o644)
	if s := load(""); s.S3.Bucket != "in-cwd" || s.Embedded.DataDir != filepath.Join(dir, "here") {
		t.Errorf("working directory: %+v", s)
	}
	write(t, "other.yaml", "s3: {bucket: by-env}\n", 0o644)
	env[EnvConfig] = "other.yaml"
	if s := load(""); s.S3.Bucket != "by-env" {
		t.Errorf("%s: %+v", EnvConfig, s)
	}
	if s := load(FileName); s.S3.Bucket != "in-cwd" {
		t.Errorf("explicit path does not win over %s: %+v", EnvConfig, s)
	}
	env[EnvDataDir] = "elsewhere"
	if s := load(FileName); s.Embedded.DataDir != filepath.Join(dir, "elsewhere") {
		t.Errorf("%s: %q", EnvDataDir, s.Embedded.DataDir)
	}
	env[EnvConfig] = "absent.yaml"
	if _, err := Load("absent.yaml"); err == nil || !strings.Contains(err.Error(), "absent.yaml") {
		t.Errorf("absent file: %v", err)
	}
}

func TestDefaultDataDir(t *testing.T) {
	t.Setenv("HOME", "/home/someone")
	if dir, err := defaultDataDir(noEnv); err != nil || dir != "/home/someone/.local/share/esclab" {
		t.Errorf("data directory %q, %v; want the one below HOME", dir, err)
	}
}

// A data directory whose name would break messages or descriptions is refused,
// wherever it was named; marks of URLs and shells are names like others.
func TestDataDirNames(t *testing.T) {
	t.Chdir(t.TempDir())
	for dir, good := range map[string]bool{
		"what?#1": true, "100% %2f": true, `back\slash and "quotes"`: true, "日本 ünï": true,
		"two\nlines": false, "bell\a": false, "tab\t": false, "latin1 \xfc": false, "\u0085": false,
	} {
		_, err := load("", func(name string) string { return map[string]string{EnvDataDir: "/labs/" + dir}[name] })
		if good != (err == nil) || err != nil && (strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), EnvDataDir)) {
			t.Errorf("%s %q: got %v, want that it can be used: %v", EnvDataDir, dir, err, good)
		}
		if err := Default().SetDataDir(dir); good != (err == nil) {
			t.Errorf("--data %q: got %v, want that it can be used: %v", dir, err, good)
		}
	}
	write(t, FileName, "embedded: {data_dir: \"two\\nlines\"}\n", 0o644)
	if _, err := load("", noEnv); err == nil || !strings.Contains(err.Error(), "embedded.data_dir") {
		t.Errorf("in the file: got %v, want that embedded.data_dir is refused", err)
	}
}

// A key that no header can hold is refused where it is read: a service would
// say that it is unknown, or the connection would fail each time.
func TestKeysAreOneWord(t *testing.T) {
	for value, good := range map[string]bool{"abc/+=": true, "abc\n": false, "abc def": false, "abc\r\n": false, "abc\u00a0": false, "\ufeffabc": false} {
		t.Setenv("TEST_KEY", value)
		t.Setenv("TEST_OTHER", "other")
		t.Setenv("AWS_ACCESS_KEY_ID", "id")
		t.Setenv("AWS_SESSION_TOKEN", value)
		for name, read := range map[string]func() error{
			"judge": func() error {
				s := Settings{Judge: Judge{Endpoints: []Endpoint{{BaseURL: "http://a/v1", APIKeyEnv: "TEST_KEY"}}}}
				_, err := s.JudgeKey("http://a/v1")
				return err
			},
			"temporal": func() error { _, err := Temporal{APIKeyEnv: "TEST_KEY"}.APIKey(); return err },
			"s3 access": func() error {
				_, err := S3{AccessKeyEnv: "TEST_KEY", SecretKeyEnv: "TEST_OTHER"}.Credentials()
				return err
			},
			"s3 secret": func() error {
				_, err := S3{AccessKeyEnv: "TEST_OTHER", SecretKeyEnv: "TEST_KEY"}.Credentials()
				return err
			},
			"s3 token": func() error {
				_, err := S3{AccessKeyEnv: "AWS_ACCESS_KEY_ID", SecretKeyEnv: "TEST_OTHER"}.Credentials()
				return err
			},
			"s3 file": func() error {
				path := filepath.Join(t.TempDir(), "credentials")
				write(t, path, "[default]\naws_access_key_id=id\naws_secret_access_key=x"+value+"x\n", 0o600)
				_, err := ReadCredentials(path)
				return err
			},
		} {
			if strings.HasSuffix(value, "\n") && name == "s3 file" {
				continue // there a line ends
			}
			err := read()
			if good != (err == nil) || err != nil && (strings.Contains(err.Error(), "abc") || strings.Contains(err.Error(), "\n")) {
				t.Errorf("%s key %q: got %v, want that it can be used: %v", name, value, err, good)
			}
		}
	}
}

func TestCredentials(t *testing.T) {
	c := Default().S3
	c.AccessKeyEnv, c.SecretKeyEnv = "TEST_ACCESS", "TEST_SECRET"
	if got, err := c.Credentials(); err != nil || got != (Credentials{}) {
		t.Errorf("no variables: %v, %v; want none, so that the AWS default chain is asked", got, err)
	}
	t.Setenv("TEST_ACCESS", "a")
	if _, err := c.Credentials(); err == nil || !strings.Contains(err.Error(), "export both TEST_ACCESS and TEST_SECRET") {
		t.Errorf("one variable of two: %v", err)
	}
	t.Setenv("TEST_SECRET", "b")
	if got, err := c.Credentials(); err != nil || got != (Credentials{AccessKey: "a", SecretKey: "b"}) {
		t.Errorf("credentials of the environment: %v, %v; want a and b", got, err)
	}

	path := filepath.Join(t.TempDir(), "credentials")
	write(t, path, "# c\n[other]\naws_access_key_id = x\n[default]\naws_access_key_id = id\naws_secret_access_key=a=b\naws_session_token = t\n", 0o600)
	c.CredentialsFile = path
	want := Credentials{AccessKey: "id", SecretKey: "a=b", SessionToken: "t"}
	if got, err := c.Credentials(); err != nil || got != want {
		t.Errorf("credentials of the file: %v, %v; want %v", got, err, want)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Credentials(); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("mode 0640: %v", err)
	}
	write(t, path+"2", "[default]\naws_access_key_id = id\n", 0o600)
	if _, err := ReadCredentials(path + "2"); err == nil {
		t.Error("half a credential is accepted")
	}
}

func TestPresentable(t *testing.T) {
	for secret, want := range map[Secret]bool{"minioadmin": false, "": false, "test": false, "access-key-of-24-letters": false, "QZ5K2M7XW4TB6RJ3NHVD": true} {
		if err := (Credentials{AccessKey: "ACCESS-KEY-OF-24-LETTERS", SecretKey: secret}).Presentable(); (err == nil) != want || err != nil && strings.Contains(err.Error(), "letters") {
			t.Errorf("%d characters: %v", len(secret), err)
		}
	}
}

func TestAPIKey(t *testing.T) {
	c := Temporal{APIKeyEnv: "TEST_API_KEY"}
	if _, err := c.APIKey(); err == nil || !strings.Contains(err.Error(), "TEST_API_KEY is not set") {
		t.Errorf("unset: %v", err)
	}
	t.Setenv("TEST_API_KEY", "k")
	if key, err := c.APIKey(); err != nil || key != "k" {
		t.Errorf("key of the environment: %q, %v; want k", key, err)
	}
	t.Setenv("TEST_API_KEY", "hush\nX-Other: 1")
	if _, err := c.APIKey(); err == nil || !strings.Contains(err.Error(), "one key on one line") || strings.Contains(err.Error(), "hush") {
		t.Errorf("two lines: %v", err)
	}
	c.APIKeyFile = filepath.Join(t.TempDir(), "key")
	write(t, c.APIKeyFile, "from-file\n", 0o600)
	if key, err := c.APIKey(); err != nil || key != "from-file" {
		t.Errorf("key of the file: %q, %v; want from-file", key, err)
	}
	if err := os.Chmod(c.APIKeyFile, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := c.APIKey(); err == nil || !strings.Contains(err.Error(), "temporal.api_key_file") || !strings.Contains(err.Error(), "chmod 600") || strings.Contains(err.Error(), "from-file") {
		t.Errorf("mode 0640: %v", err)
	}
	// The key itself has no place in the file, and the error does not repeat it.
	if _, err := Parse("t.yaml", []byte("temporal:\n  api_key: hush\n")); err == nil || !strings.Contains(err.Error(), "api_key_env") || strings.Contains(err.Error(), "hush") {
		t.Errorf("the key in YAML: %v", err)
	}
}

func TestSecretDoesNotPrint(t *testing.T) {
	c := Credentials{AccessKey: "id", SecretKey: "hush", SessionToken: "hush"}
	data, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{fmt.Sprint(c), fmt.Sprintf("%+v", c), fmt.Sprintf("%#v", c), fmt.Sprintf("%q", c), string(data)} {
		if strings.Contains(s, "hush") {
			t.Errorf("secret in %s", s)
		}
	}
}

func TestLevenshtein(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"a", "", 1}, {"", "ab", 2}, {"kitten", "sitting", 3}, {"flaw", "lawn", 2}, {"same", "same", 0}} {
		if got := levenshtein(c.a, c.b); got != c.want {
			t.Errorf("%q, %q: %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

func write(t *testing.T, path, data string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(data), mode); err != nil {
		t.Fatal(err)
	}
}
