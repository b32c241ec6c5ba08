package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/results"
)

// TestExportReplies: transformers and peft, with nothing but an exported folder, give
// every system's greedy replies, to the turns of a test split.
func TestExportReplies(t *testing.T) {
	python := os.Getenv("ESCLAB_TEST_PYTHON")
	if python == "" {
		t.Skip("ESCLAB_TEST_PYTHON names no Python: python3 -m venv DIR && DIR/bin/pip install torch transformers peft, then ESCLAB_TEST_PYTHON=DIR/bin/python")
	}
	ctx, data := t.Context(), t.TempDir()
	for _, strategy := range []string{"free", "constrained"} { // the second run has the first's models
		sets := []string{"--set", "methods=[base, sft]", "--set", "generation.greedy=true",
			// Without it a model of this size says one thing to everybody.
			"--set", "generation.repetition_penalty=1.5", "--set", "generation.max_turns=12", "--set", "judge.samples=2", "--set", "generation.strategy=" + strategy}
		c, log := esclab(t, ctx, append([]string{"run", "testdata/micro.yaml", "--data", data, "--set", "name=" + strategy}, sets...)...)
		if err := c.Run(); err != nil {
			t.Fatalf("esclab run: %v\n%s", err, log)
		}
		dir := filepath.Join(t.TempDir(), "out")
		output(t, ctx, "", "export", strategy, "--out", dir, "--data", data)
		turns := testTurns(t, ctx, data, strategy)
		for _, system := range []string{"vanilla/base", "vanilla/sft", "decoupled/sft", "gold/sft"} {
			var asked bytes.Buffer
			predicted := predictionsOf(t, filepath.Join(dir, "predictions", strings.ReplaceAll(system, "/", "-")+".jsonl"))
			for _, p := range predicted {
				line := map[string]any{"messages": turns[p.Place].Context}
				if strings.HasPrefix(system, "gold/") {
					line["strategy"] = p.GoldStrategy
				}
				if err := json.NewEncoder(&asked).Encode(line); err != nil {
					t.Fatal(err)
				}
			}
			script := exec.CommandContext(ctx, python, "-B", filepath.Join(dir, "inference.py"), system)
			var said bytes.Buffer
			script.Stdin, script.Stderr = &asked, &said
			out, err := script.Output()
			if err != nil {
				t.Fatalf("inference.py %s: %v (it needs pip install torch transformers peft)\n%s", system, err, &said)
			}
			named, distinct := 0, map[string]bool{}
			lines := strings.Split(strings.TrimSpace(string(out)), "\n")
			if len(lines) != len(predicted) || len(lines) < 5 {
				t.Fatalf("%s: %d replies to %d turns, want one each of at least 5", system, len(lines), len(predicted))
			}
			for i, line := range lines {
				var reply struct{ Strategy, Response string }
				if err := json.Unmarshal([]byte(line), &reply); err != nil {
					t.Fatal(err)
				}
				distinct[reply.Response] = true
				if reply.Strategy != "" {
					named++
				}
				if reply.Strategy != predicted[i].Strategy || reply.Response != predicted[i].Response {
					t.Errorf("%s, %s, dialogue %d, turn %d: %q %q by transformers, want %q %q", strategy, system, predicted[i].Dialogue, predicted[i].Turn,
						reply.Strategy, reply.Response, predicted[i].Strategy, predicted[i].Response)
				}
			}
			if len(distinct) < 5 || named == 0 {
				t.Errorf("%s, %s: %d distinct replies, %d with a strategy; the comparison wants at least 5, and one", strategy, system, len(distinct), named)
			}
		}
	}
}

// testTurns are the turns of a run's test split.
func testTurns(t *testing.T, ctx context.Context, data, run string) map[esc.Place]esc.Turn {
	t.Helper()
	se, err := (&app{dataDir: data, configPath: writeFile(t, "temporal.yaml", `embedded: {ports: {temporal: auto, ui: auto, s3: auto}}`), log: zerolog.Nop()}).openToRead(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer se.close()
	l, err := se.layoutOf(ctx, run, nil)
	if err != nil {
		t.Fatal(err)
	}
	corpus, _ := l.Stage("corpus")
	from, err := results.Open(ctx, se.node.Store, corpus.Fingerprint)
	if err != nil {
		t.Fatal(err)
	}
	dialogues, err := results.ReadDialogues(from, results.FileTest)
	if err != nil {
		t.Fatal(err)
	}
	turns := map[esc.Place]esc.Turn{}
	for _, turn := range esc.AllTurns(dialogues) {
		turns[turn.Place()] = turn
	}
	return turns
}

func predictionsOf(t *testing.T, path string) []results.Prediction {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := results.DecodeRows[results.Prediction](raw)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}
