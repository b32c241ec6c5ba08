package experiments

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
)

// fakeHost serves files from memory under the paths they have in the map.
func fakeHost(files map[string]string, env map[string]string) Host {
	m := fstest.MapFS{}
	for path, content := range files {
		m[path] = &fstest.MapFile{Data: []byte(content)}
	}
	return Host{
		Open:    func(p string) (io.ReadCloser, error) { return m.Open(p) },
		Stat:    func(p string) (fs.FileInfo, error) { return m.Stat(p) },
		ReadDir: func(p string) ([]fs.DirEntry, error) { return m.ReadDir(p) },
		Getenv:  func(name string) string { return env[name] },
		Demo:    []byte(`[{"dialog":[]}]`),
	}
}

// paperHost has a made-up ESConv and made-up checkpoints where the presets look.
func paperHost() Host {
	files := map[string]string{
		"data/esconv/train.json": "train", "data/esconv/valid.json": "valid", "data/esconv/test.json": "test",
	}
	for _, model := range []string{"Qwen/Qwen2.5-7B-Instruct", "meta-llama/Llama-3.1-8B-Instruct", "HuggingFaceTB/SmolLM2-135M-Instruct"} {
		for _, name := range []string{"config.json", "tokenizer.json", "model-00001-of-00001.safetensors", "README.md"} {
			files["models/"+model+"/"+name] = model + name
		}
	}
	return fakeHost(files, map[string]string{"ESCLAB_ESCONV": "data/esconv", "ESCLAB_MODELS": "models"})
}

func mustLoad(t *testing.T, name string, sets ...string) Experiment {
	t.Helper()
	exp, err := Load(name, sets...)
	if err != nil {
		t.Fatalf("Load(%s, %v): %v", name, sets, err)
	}
	return exp
}

// mustPlan plans a preset with overrides on the made-up host.
func mustPlan(t *testing.T, name string, sets ...string) []Stage {
	t.Helper()
	exp := mustLoad(t, name, sets...)
	sources, err := SourceDigests(exp, paperHost())
	if err != nil {
		t.Fatalf("SourceDigests(%s): %v", name, err)
	}
	stages, err := Plan(exp, sources)
	if err != nil {
		t.Fatalf("Plan(%s): %v", name, err)
	}
	return stages
}

func names(stages []Stage) string {
	var out []string
	for _, s := range stages {
		out = append(out, s.Name)
	}
	return strings.Join(out, " ")
}

func find(t *testing.T, stages []Stage, name string) Stage {
	t.Helper()
	for _, s := range stages {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("no stage %s among %s", name, names(stages))
	return Stage{}
}

func sha(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// minimal is the shortest valid experiment.
const minimal = "name: t\ncorpus:\n  source: demo\nbackbone:\n  name: tiny-llama\n  tiny:\n    vocab_size: 1024\nlimits:\n  max_tokens: 512\n"

type readCloser = io.ReadCloser

type nopCloser struct{ io.Reader }

func (nopCloser) Close() error { return nil }
