package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/esclab/esclab/workers/node"
	"github.com/esclab/esclab/workers/settings"
)

const deploy = "../../deploy"

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(deploy, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// accepts says whether the program takes the arguments, without running it.
func accepts(t *testing.T, where string, args []string) {
	t.Helper()
	c := command()
	if err := c.ParseFlags(args); err != nil {
		t.Errorf("%s: %v: %v", where, args, err)
	}
	if rest := c.Flags().Args(); len(rest) > 0 {
		t.Errorf("%s: %v: %v is no flag", where, args, rest)
	}
	queues, err := c.Flags().GetStringSlice("queues")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := node.ParseQueues(queues); err != nil {
		t.Errorf("%s: %v", where, err)
	}
}

type service struct {
	Image       string            `yaml:"image"`
	Command     []string          `yaml:"command"`
	Environment map[string]string `yaml:"environment"`
	Ports       []string          `yaml:"ports"`
	Volumes     []string          `yaml:"volumes"`
}

func TestDeployCompose(t *testing.T) {
	var file struct {
		Services map[string]service `yaml:"services"`
		Volumes  map[string]any     `yaml:"volumes"`
	}
	if err := yaml.Unmarshal([]byte(read(t, "compose.yaml")), &file); err != nil {
		t.Fatal(err)
	}
	workers := 0
	example, modules := read(t, ".env.example"), read(t, "../go.mod")
	// The images are of the versions that this program is built and tested with.
	of := map[string]string{
		"temporalio/server": "go.temporal.io/server", "temporalio/admin-tools": "go.temporal.io/server",
		"temporalio/ui": "github.com/temporalio/ui-server/v2", "ghcr.io/versity/versitygw": "github.com/versity/versitygw",
	}
	for name, s := range file.Services {
		image, tag, _ := strings.Cut(s.Image, ":")
		if image == "" {
			t.Errorf("%s has no image", name)
		}
		if module := of[image]; module != "" && !strings.Contains(modules, "\t"+module+" v"+strings.TrimPrefix(tag, "v")+"\n") {
			t.Errorf("%s runs %s, go.mod has another version of %s", name, s.Image, module)
		}
		if strings.HasPrefix(name, "worker-") {
			workers++
			accepts(t, "compose.yaml: "+name, s.Command)
		}
		for _, p := range s.Ports {
			if !strings.HasPrefix(p, "127.0.0.1:") {
				t.Errorf("%s publishes %s to everybody", name, p)
			}
		}
		for _, v := range s.Volumes {
			from, _, _ := strings.Cut(v, ":")
			if _, ok := file.Volumes[from]; !ok && !strings.HasPrefix(from, "./") {
				t.Errorf("%s: no volume %s", name, from)
			} else if strings.HasPrefix(from, "./") {
				read(t, from)
			}
		}
		for key, value := range s.Environment {
			secret := strings.Contains(key, "SECRET") || strings.Contains(key, "PASS") || strings.Contains(key, "PWD") || strings.Contains(key, "ACCESS_KEY")
			m := regexp.MustCompile(`^\$\{(\w+):\?`).FindStringSubmatch(value)
			if secret && (m == nil || !strings.Contains(example, "\n"+m[1]+"=\n")) {
				t.Errorf("%s: %s is %q: a secret comes from .env and has no default", name, key, value)
			}
		}
	}
	if workers != 2 {
		t.Errorf("%d workers", workers)
	}
}

func TestDeploySettings(t *testing.T) {
	s, err := settings.Load(filepath.Join(deploy, "temporal.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if s.EmbedS3() || s.EmbedTemporal() || len(s.Schedules) != 1 {
		t.Errorf("%+v", s)
	}
	for _, name := range []string{s.S3.AccessKeyEnv, s.S3.SecretKeyEnv} {
		if !strings.Contains(read(t, "worker.env.example"), "\n"+name+"=\n") || !strings.Contains(read(t, "compose.yaml"), name+":") {
			t.Errorf("nobody sets $%s", name)
		}
	}
}

// TestDeployChart reads what the templates are filled with; make deploy-check renders them.
func TestDeployChart(t *testing.T) {
	type worker struct {
		Queues []string `yaml:"queues"`
	}
	var values struct {
		Settings  map[string]any    `yaml:"settings"`
		SecretEnv map[string]any    `yaml:"secretEnv"`
		Workers   map[string]worker `yaml:"workers"`
	}
	if err := yaml.Unmarshal([]byte(read(t, "helm/esclab/values.yaml")), &values); err != nil {
		t.Fatal(err)
	}
	raw, err := yaml.Marshal(values.Settings)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "temporal.yaml")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := settings.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if s.EmbedS3() || s.EmbedTemporal() {
		t.Errorf("the chart's settings embed a server: %+v", s)
	}
	for _, name := range []string{s.S3.AccessKeyEnv, s.S3.SecretKeyEnv} {
		if values.SecretEnv[name] == nil {
			t.Errorf("no Secret sets $%s, which the settings name", name)
		}
	}
	var served []string
	for name, w := range values.Workers {
		accepts(t, "values.yaml: "+name, []string{"--queues=" + strings.Join(w.Queues, ",")})
		served = append(served, w.Queues...)
	}
	if slices.Sort(served); !slices.Equal(served, []string{"control", "cpu", "gpu"}) {
		t.Errorf("the workers serve %q, want each class of queues once", served)
	}
	for _, flag := range regexp.MustCompile(`(?m)^ +- (--[a-z-]+)=`).FindAllStringSubmatch(read(t, "helm/esclab/templates/workers.yaml"), -1) {
		if command().Flags().Lookup(strings.TrimPrefix(flag[1], "--")) == nil {
			t.Errorf("workers.yaml gives the worker %s, which it does not have", flag[1])
		}
	}
}

func TestDeployUnit(t *testing.T) {
	unit, env := read(t, "esclab-worker@.service"), read(t, "worker.env.example")
	for line := range strings.Lines(env) {
		if args, ok := strings.CutPrefix(line, "ESCLAB_WORKER_ARGS="); ok {
			accepts(t, "worker.env.example", strings.Fields(args))
		}
	}
	start := regexp.MustCompile(`(?m)^ExecStart=(\S+) (.*)$`).FindStringSubmatch(unit)
	if start == nil || !slices.Contains(strings.Fields(start[2]), "$ESCLAB_WORKER_ARGS") {
		t.Fatalf("ExecStart: %q", start)
	}
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not there")
	}
	// The program is not installed here: any that is stands for it.
	path := filepath.Join(t.TempDir(), "esclab-worker@gpu0.service")
	if err := os.WriteFile(path, []byte(strings.Replace(unit, start[1], "/bin/true", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(analyze, "verify", "--man=no", path).CombinedOutput()
	for line := range bytes.Lines(out) {
		if bytes.Contains(line, []byte("esclab-worker@")) {
			t.Errorf("systemd-analyze verify: %s", line)
		}
	}
	if err != nil && len(out) == 0 {
		t.Errorf("systemd-analyze verify: %v", err)
	}
}
