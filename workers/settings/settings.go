// Package settings reads temporal.yaml: where Temporal and S3 are, the task
// queues, the search attributes and the schedules. It decodes, validates and
// resolves secrets; it opens no connection (workers/stack/connect does).
package settings

import (
	"cmp"
	"os"
	"path/filepath"
	"time"
)

// FileName is the settings file looked for in the working directory.
const FileName = "temporal.yaml"

// Environment variables that override the file.
const (
	EnvConfig  = "ESCLAB_CONFIG"   // path of the settings file
	EnvDataDir = "ESCLAB_DATA_DIR" // embedded.data_dir
)

// Settings is temporal.yaml. The zero value is not usable: start from Default
// or Load.
type Settings struct {
	// Path is the file the settings came from, empty for the defaults.
	Path string `yaml:"-"`

	Temporal         Temporal          `yaml:"temporal"`
	S3               S3                `yaml:"s3"`
	Embedded         Embedded          `yaml:"embedded"`
	Cache            Cache             `yaml:"cache"`
	Judge            Judge             `yaml:"judge"`
	TaskQueues       TaskQueues        `yaml:"task_queues"`
	Versioning       Versioning        `yaml:"versioning"`
	SearchAttributes map[string]string `yaml:"search_attributes"` // name → type, see AttributeTypes
	// SearchAttributePrefix stands before the name of every search attribute in the
	// namespace; Parse has put it into SearchAttributes.
	SearchAttributePrefix string     `yaml:"search_attribute_prefix"`
	Nightly               Nightly    `yaml:"nightly"`
	Schedules             []Schedule `yaml:"schedules"`
}

// Temporal says how to reach the Temporal service.
type Temporal struct {
	Address   string `yaml:"address"`     // host:port; empty: the embedded server
	Namespace string `yaml:"namespace"`   // must exist on an external service
	TLS       *TLS   `yaml:"tls"`         // nil: plain text
	APIKeyEnv string `yaml:"api_key_env"` // name of the variable that holds the API key
	// APIKeyFile holds the API key, mode 0600; it wins over the variable.
	APIKeyFile string `yaml:"api_key_file"`
	UI         string `yaml:"ui"` // URL of the service's web UI, for links; empty: unknown
	// Heartbeat is how long a silent worker counts as alive; 0: HeartbeatTimeout's
	// own choice.
	Heartbeat time.Duration `yaml:"heartbeat"`
}

// TLS for a connection to Temporal or S3. An empty mapping means TLS with the
// system's certificate authorities. Paths are relative to the settings file.
type TLS struct {
	CA         string `yaml:"ca"`          // PEM file with the authorities to trust
	Cert       string `yaml:"cert"`        // PEM client certificate, with Key
	Key        string `yaml:"key"`         // PEM client key, mode 0600
	ServerName string `yaml:"server_name"` // overrides the name that is verified
	// Disabled sends Temporal's key in plain text: to an embedded Temporal on this
	// machine, which has no TLS.
	Disabled bool `yaml:"disabled"`
}

// S3 says how to reach the S3 service that keeps the artifacts.
type S3 struct {
	Endpoint        string   `yaml:"endpoint"`         // URL; empty: the embedded store
	Bucket          string   `yaml:"bucket"`           // created when missing
	Region          string   `yaml:"region"`           //
	PathStyle       bool     `yaml:"path_style"`       // http://host/bucket/key rather than http://bucket.host/key
	AccessKeyEnv    string   `yaml:"access_key_env"`   // name of the variable that holds the access key
	SecretKeyEnv    string   `yaml:"secret_key_env"`   // name of the variable that holds the secret key
	CredentialsFile string   `yaml:"credentials_file"` // AWS shared credentials file, mode 0600; wins over the variables
	Checksum        Checksum `yaml:"checksum"`         // when_required | when_supported
	// Encryption by the service of what it stores: none | sse-s3 | sse-kms.
	Encryption Encryption `yaml:"encryption"`
	KMSKey     string     `yaml:"kms_key"` // key of sse-kms, its ARN or ID; empty: the account's own
	TLS        *TLS       `yaml:"tls"`     // of an https endpoint; nil: the system's authorities
}

// Checksum says when the S3 client sends its own checksum headers.
type Checksum string

// Checksum modes, named as in the AWS SDK's request_checksum_calculation.
const (
	ChecksumWhenRequired  Checksum = "when_required"
	ChecksumWhenSupported Checksum = "when_supported"
)

// Encryption says which server-side encryption the S3 client asks for.
type Encryption string

// Encryptions: none is what the bucket does by itself.
const (
	EncryptionNone Encryption = "none"
	EncryptionS3   Encryption = "sse-s3"  // keys that the service manages, AES256
	EncryptionKMS  Encryption = "sse-kms" // a key of the service's key management
)

// Embedded configures the servers that run inside the process.
type Embedded struct {
	Mode      Mode          `yaml:"mode"`      // auto | off
	DataDir   string        `yaml:"data_dir"`  // absolute after Load
	Ports     Ports         `yaml:"ports"`     //
	Open      Open          `yaml:"open"`      // for other machines; of esclab up alone
	Retention time.Duration `yaml:"retention"` // how long closed workflows stay in the embedded Temporal
}

// Cache is where local copies of artifact files lie. Workers of a host that name the
// same directory share it.
type Cache struct {
	Dir       string `yaml:"dir"`       // absolute after Load; empty: cache/ in the data directory
	Gigabytes int    `yaml:"gigabytes"` // of all copies together; 0: no bound
}

// CacheDir is where local copies of artifact files lie.
func (s *Settings) CacheDir() string {
	return cmp.Or(s.Cache.Dir, filepath.Join(s.Embedded.DataDir, "cache"))
}

// Mode says whether services without an address are run inside the process.
type Mode string

// Modes of the embedded servers.
const (
	ModeAuto Mode = "auto"
	ModeOff  Mode = "off"
)

// Ports of the embedded servers on the loopback interface.
type Ports struct {
	Temporal Port `yaml:"temporal"`
	UI       Port `yaml:"ui"`
	S3       Port `yaml:"s3"`
}

// TaskQueues names the queues that workers poll.
type TaskQueues struct {
	Control string `yaml:"control"` // workflows and short activities
	CPU     string `yaml:"cpu"`     // stages that need no accelerator
	GPU     string `yaml:"gpu"`     // stages that train or generate on an accelerator
}

// Versioning says whether runs stay on the build of the program that started
// them (Temporal's Worker Deployments).
type Versioning struct {
	Mode       VersioningMode `yaml:"mode"`       // off | pinned
	Deployment string         `yaml:"deployment"` // name of the Worker Deployment
}

// VersioningMode is how a newer build of the program treats what is running.
type VersioningMode string

// Modes of versioning.
const (
	VersioningOff    VersioningMode = "off"    // whatever worker is up goes on with it
	VersioningPinned VersioningMode = "pinned" // workers of the build that started it do
)

// attributeTypes maps a search attribute's type to how many of it Temporal's
// SQL visibility store has columns for in one namespace.
var attributeTypes = map[string]int{
	"Keyword": 10, "Bool": 3, "Int": 3, "Double": 3, "Datetime": 3, "Text": 3, "KeywordList": 3,
}

// Default returns the settings of an installation without a file: everything
// embedded, in the default data directory.
func Default() *Settings {
	return &Settings{
		Temporal: Temporal{Namespace: "default"},
		S3: S3{
			Bucket:       "esclab",
			Region:       "us-east-1",
			PathStyle:    true,
			AccessKeyEnv: "AWS_ACCESS_KEY_ID",
			SecretKeyEnv: "AWS_SECRET_ACCESS_KEY",
			Checksum:     ChecksumWhenRequired,
			Encryption:   EncryptionNone,
		},
		Embedded: Embedded{
			Mode:      ModeAuto,
			Ports:     Ports{Temporal: 7233, UI: 8233, S3: 9233},
			Open:      Open{Ports: OpenPorts{Temporal: 7243, S3: 9243}},
			Retention: 30 * 24 * time.Hour,
		},
		TaskQueues: TaskQueues{Control: "esclab-control", CPU: "esclab-cpu", GPU: "esclab-gpu"},
		Versioning: Versioning{Mode: VersioningOff, Deployment: "esclab"},
		SearchAttributes: map[string]string{
			"Experiment": "Keyword", "Stage": "Keyword", "Backbone": "Keyword", "Paradigm": "Keyword", "Method": "Keyword",
			"Sweep": "Keyword", "Cell": "Keyword", "Revision": "Keyword", "Verdict": "Keyword",
			"Paradigms": "KeywordList", "Methods": "KeywordList", "Seed": "Int", "RougeLBasisPoints": "Int", "RougeL": "Keyword",
			"PreferenceBias": "Double", "WeightedF1": "Double", "MacroF1": "Double",
		},
	}
}

// EmbedTemporal reports whether Temporal and its web UI run inside the process.
func (s *Settings) EmbedTemporal() bool {
	return s.Embedded.Mode == ModeAuto && s.Temporal.Address == ""
}

// HeartbeatTimeout is how long a silent worker counts as alive before its stages
// are given to another.
func (s *Settings) HeartbeatTimeout() time.Duration {
	return cmp.Or(s.Temporal.Heartbeat, 60*time.Second)
}

// HeartbeatThrottle is the least time between two heartbeats: what a progress bar
// wants where Temporal is in the process, and 15 s where each of them may be paid
// for. Three may get lost in a row.
func (s *Settings) HeartbeatThrottle() time.Duration {
	throttle := 15 * time.Second
	if s.EmbedTemporal() {
		throttle = 3 * time.Second
	}
	return min(throttle, s.HeartbeatTimeout()/4)
}

// EmbedS3 reports whether the S3 store runs inside the process.
func (s *Settings) EmbedS3() bool {
	return s.Embedded.Mode == ModeAuto && s.S3.Endpoint == ""
}

// defaultDataDir is $XDG_DATA_HOME/esclab, or ~/.local/share/esclab.
func defaultDataDir(env func(string) string) (string, error) {
	if dir := env("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "esclab"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(home, ".local", "share", "esclab"), nil
}
