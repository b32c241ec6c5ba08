// Package connect turns settings, or the description of an embedded stack,
// into connections: a Temporal client and the parameters of the S3 service. It
// also checks them, for esclab doctor. It starts no server, so that a worker
// that imports it stays small.
package connect

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/esclab/esclab/workers/settings"
	"github.com/esclab/esclab/workers/stack/internal/datadir"
)

// Info describes an embedded stack that is ready; see Discover.
type Info = datadir.Info

// ErrNotRunning is returned by Discover where no stack runs.
var ErrNotRunning = datadir.ErrNotRunning

// discoverWait bounds how long Discover waits for a stack that is starting.
const discoverWait = 15 * time.Second

// Discover returns the description of the stack that runs on dataDir, in
// whichever process. While that process is still starting its servers,
// Discover waits for it. Without one the error is ErrNotRunning.
func Discover(ctx context.Context, dataDir string) (*Info, error) {
	ctx, cancel := context.WithTimeout(ctx, discoverWait)
	defer cancel()
	for {
		pid, err := datadir.Running(dataDir)
		if err != nil {
			return nil, fmt.Errorf("discover stack: %w", err)
		}
		if pid == 0 {
			return nil, notRunning(dataDir)
		}
		if datadir.Stopped(pid) { // by Ctrl-Z, say: its servers take connections and answer none
			return nil, problem(nil, fmt.Sprintf("continue it (fg in its terminal, or kill -CONT %d), or end it (kill -KILL %d); what it has finished is in the store", pid, pid),
				"process %d, whose stack runs on %s, is stopped", pid, dataDir)
		}
		info, err := datadir.Read(dataDir)
		if err == nil {
			return info, nil
		}
		if !errors.Is(err, ErrNotRunning) {
			return nil, fmt.Errorf("discover stack: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil, problem(nil, fmt.Sprintf("wait for it, or stop it (kill %d)", pid), "process %d holds %s but its stack is not ready", pid, dataDir)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Target is where everything is.
type Target struct {
	Temporal Temporal
	S3       S3
	UI       string // URL of the web UI, empty where it is not known

	embedded bool // Temporal and the UI are those of a stack on this machine
	// FilesPath is that of the embedded web UI where it has the store's files; empty
	// elsewhere.
	FilesPath string
}

// Resolve says where Temporal and S3 are: at the settings' addresses, and for
// services without one, in the stack that info describes (nil where nothing is
// embedded). It reads the secrets and the TLS files.
func Resolve(s *settings.Settings, info *Info) (Target, error) {
	var t Target
	if (s.EmbedTemporal() || s.EmbedS3()) && info == nil {
		return t, notRunning(s.Embedded.DataDir)
	}

	var err error
	if s.EmbedTemporal() {
		if info.Temporal == "" {
			return t, lacks(info, "Temporal", "temporal.address")
		}
		if t.Temporal, err = Embedded(info); err != nil {
			return t, err
		}
		t.UI, t.embedded = info.UI, true
	} else if t.Temporal, err = external(s.Temporal); err != nil {
		return t, err
	} else {
		t.UI = s.Temporal.UI
	}

	c := s.S3
	if s.EmbedS3() {
		if info.S3 == nil {
			return t, lacks(info, "S3", "s3.endpoint")
		}
		c.Endpoint, c.Region, c.Bucket = info.S3.Endpoint, info.S3.Region, info.S3.Bucket
		c.CredentialsFile, c.PathStyle = info.S3.CredentialsFile, true
		if t.embedded {
			t.FilesPath = FilesPath
		}
	}
	credentials, err := c.Credentials()
	if err != nil {
		return t, err
	}
	secure, err := S3TLS(c)
	if err != nil {
		return t, err
	}
	t.S3 = S3{Endpoint: c.Endpoint, Region: c.Region, Bucket: c.Bucket, PathStyle: c.PathStyle,
		Credentials: credentials, Checksum: c.Checksum, Encryption: c.Encryption, KMSKey: c.KMSKey, CredentialsFile: c.CredentialsFile, TLS: secure}
	return t, nil
}

// Embedded is how to reach the Temporal of a stack that is up. Whoever may not
// read its key cannot.
func Embedded(info *Info) (Temporal, error) {
	t := Temporal{Address: info.Temporal, Namespace: info.Namespace, KeyFile: info.KeyFile}
	if info.KeyFile == "" {
		return t, nil
	}
	var err error
	t.APIKey, err = settings.ReadKey("temporal", info.KeyFile)
	return t, err
}

// Find says where everything is without starting anything: at the settings'
// addresses, or in the stack that runs on the data directory.
func Find(ctx context.Context, s *settings.Settings) (Target, error) {
	if !s.EmbedTemporal() && !s.EmbedS3() {
		return Resolve(s, nil)
	}
	info, err := Discover(ctx, s.Embedded.DataDir)
	if err != nil {
		return Target{}, err
	}
	return Resolve(s, info)
}

// lacks says that the running stack was started with other settings.
func lacks(info *Info, service, key string) error {
	return problem(nil, fmt.Sprintf("restart it (kill %d; esclab up), or set %s", info.PID, key), "the stack of process %d runs without %s", info.PID, service)
}

func notRunning(dataDir string) error {
	return &Problem{Detail: fmt.Sprintf("%v on %s", ErrNotRunning, dataDir), Remedy: "start one with esclab up", Err: ErrNotRunning}
}
