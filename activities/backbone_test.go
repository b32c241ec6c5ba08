package activities

import (
	"os"
	"strings"
	"testing"

	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/internal/chattest"
	"github.com/esclab/esclab/results"
)

// The second stage on a device finds the base there that the first one has uploaded, also where its role is another.
func TestBaseStaysOnDevice(t *testing.T) {
	if engine := os.Getenv("ESCLAB_TEST_ENGINE"); engine != string(experiments.EngineXLACPU) {
		t.Skip("no XLA: set ESCLAB_TEST_ENGINE=xla:cpu, and ESCLAB_DATA_DIR to where its plugin is installed")
	}
	l := newLab(t, chattest.New(t), "engine=xla:cpu", "backbone.dtype=bfloat16", "backbone.tiny.layers=1", "backbone.tiny.pretrain.max_steps=1",
		"sft.max_steps=1", "corpus.max_dialogues=8", "limits.pack_tokens=512", "limits.max_tokens=512")
	l.a.DataDir = os.Getenv("ESCLAB_DATA_DIR")
	if _, err := l.run("base"); err != nil {
		t.Fatal(err)
	}
	engine, err := l.a.engines.get(l.a.DataDir, experiments.EngineXLACPU)
	if err != nil {
		t.Fatal(err)
	}
	size := int64(len(l.read(t, "base", results.FileWeights)))
	var uploaded []int64
	for _, stage := range []string{"sft/vm", "sft/sp"} {
		before := engine.UploadedBytes()
		if _, err := l.run(stage); err != nil {
			t.Fatal(err)
		}
		uploaded = append(uploaded, engine.UploadedBytes()-before)
	}
	if uploaded[0]-uploaded[1] < size/4 {
		t.Errorf("sft/vm uploads %d bytes, sft/sp %d: want the base, of %d bytes in float32, once", uploaded[0], uploaded[1], size)
	}
	b := l.a.kept.b
	if b == nil {
		t.Fatal("no base is kept after a stage")
	}
	if other := l.a.kept.take("another"); other != nil || l.a.kept.b != nil {
		t.Errorf("another base was asked for: got %v and kept %v, want neither", other, l.a.kept.b)
	}
	if !strings.HasPrefix(l.a.kept.key, "xla:cpu bfloat16 ") {
		t.Errorf("the base is kept as %q, want engine and base type before the digest", l.a.kept.key)
	}
}
