package benchlm

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/esclab/esclab/internal/bench"
	"github.com/esclab/esclab/lm"
)

// benchModel is a model that takes steps in no time, with room for the demo
// corpus's vocabulary.
const benchModel = `{"model_type": "llama", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1,
	"num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 4096, "max_position_embeddings": 1024}`

func benchLM(t *testing.T, args ...string) (benchReport, string, error) {
	t.Helper()
	var out bytes.Buffer
	quiet := zerolog.Nop()
	root := Command(Host{OpenEngine: lm.EngineOptions{}.Open, Log: &quiet, Failed: func(err error) error { return err }})
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetOut(&out)
	root.SetArgs(append([]string{"lm", "--engine", "go", "--batch", "4", "--steps", "1", "--dialogues", "10"}, args...))
	err := root.ExecuteContext(t.Context())
	var r benchReport
	if err == nil && strings.HasPrefix(out.String(), "{") {
		if err := json.Unmarshal(out.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
	}
	return r, out.String(), err
}

func TestBenchLM(t *testing.T) {
	dir := t.TempDir()
	model := filepath.Join(dir, "config.json")
	if err := os.WriteFile(model, []byte(benchModel), 0o600); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	r, _, err := benchLM(t, "--config", model, "--packing", "both", "--export", data, "--json")
	if err != nil {
		t.Fatal(err)
	}
	if r.PeakFLOPS <= 0 || len(r.Training) != 2*len(bench.Names()) || len(r.Generation) != 6 {
		t.Errorf("%+v", r)
	}
	for _, m := range r.Training {
		if m.SamplesPerSecond <= 0 || m.ShareOfPeak <= 0 || (m.TokensUnpacked > 2*m.Tokens) != (m.Packing == lm.PackTree) {
			t.Errorf("%+v", m)
		}
	}
	for _, w := range r.Workloads {
		if least := 2.0; w.Sharing.Saved() < least || w.Sharing.Unpacked >= w.Tokens {
			t.Errorf("%+v: whole dialogues save %.1f times", w, w.Sharing.Saved())
		}
	}
	for _, name := range bench.Names() {
		lines, err := os.ReadFile(filepath.Join(data, name+".jsonl"))
		if err != nil || bytes.Count(lines, []byte("\n")) < 20 {
			t.Errorf("export of %s: %d lines (%v)", name, bytes.Count(lines, []byte("\n")), err)
		}
	}
	if _, text, err := benchLM(t, "--config", model, "--workloads", "sp-sft,sp-generate"); err != nil || !strings.Contains(text, "sp-sft") || !strings.Contains(text, "sp-generate") {
		t.Errorf("%v\n%s", err, text)
	}
}

// A peer is any program that answers as the help says: this one counts the
// batches that it was given.
const peerProgram = `#!/bin/sh
verb=$1
while [ $# -gt 0 ]; do
	case $1 in --data) data=$2 ;; --batch) batch=$2 ;; --kind) kind=$2 ;; esac
	shift
done
[ "$verb" = generate ] && { echo "{\"prefill_tokens_per_second\": 4, \"decode_tokens_per_second\": $batch}"; exit; }
lines=$(wc -l < "$data")
[ "$kind" = sft ] && [ "$lines" -ge "$batch" ] || { echo "no such data" >&2; exit 1; }
echo "{\"samples_per_second\": 0.5, \"tokens_per_second\": 7, \"median_step\": 8, \"peak_rss_mb\": 9, \"loss\": 1}"
`

func TestBenchLMBesideAPeer(t *testing.T) {
	dir := t.TempDir()
	model, peer := filepath.Join(dir, "config.json"), filepath.Join(dir, "peer")
	if err := os.WriteFile(model, []byte(benchModel), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(peer, []byte(peerProgram), 0o700); err != nil {
		t.Fatal(err)
	}
	args := []string{"--config", model, "--workloads", "sp-sft,equal", "--length", "64", "--rounds", "3", "--peer", peer}
	r, _, err := benchLM(t, append(args, "--json")...)
	if err != nil || len(r.Beside) != 2 || len(r.Training) != 2 {
		t.Fatalf("%v %+v", err, r)
	}
	for _, c := range r.Beside {
		if c.Rounds != 3 || c.Peer != (bench.Spread{Median: 0.5, Min: 0.5, Max: 0.5}) || c.PeerPeakMiB != 9 ||
			c.Ours.Min > c.Ours.Median || c.Ours.Median > c.Ours.Max || c.Ratio.Median != 2*c.Ours.Median {
			t.Errorf("%+v", c)
		}
	}
	if equal := r.Training[1]; equal.Packing != lm.PackNone || equal.TokensUnpacked != 4*64*equal.Steps || equal.Labels != 4*63*equal.Steps || equal.TokensPadded > equal.TokensUnpacked {
		t.Errorf("equal lengths, yet %+v", equal)
	}
	if _, text, err := benchLM(t, args...); err != nil || !strings.Contains(text, "BESIDE THE PEER") {
		t.Errorf("%v\n%s", err, text)
	}
	args = []string{"--config", model, "--workloads", "generate", "--slots", "5", "--prompt-tokens", "9", "--new", "4", "--rounds", "3", "--peer", peer}
	if r, _, err = benchLM(t, append(args, "--json")...); err != nil || len(r.Decoding) != 1 || len(r.Beside) != 2 || r.Decoding[0].Prompt != 9 ||
		r.Beside[0].Peer.Max != 4 || r.Beside[1].Peer.Min != 5 || r.Beside[1].Ours.Median != r.Decoding[0].DecodeTokensPerSecond {
		t.Errorf("%v %+v", err, r)
	}
	if _, text, err := benchLM(t, args...); err != nil || !strings.Contains(text, "DECODING") || !strings.Contains(text, "decode") {
		t.Errorf("%v\n%s", err, text)
	}
	if _, _, err := benchLM(t, "--config", model, "--workloads", "sp-dpo", "--peer", peer); err == nil || !strings.Contains(err.Error(), "no such data") {
		t.Errorf("a peer that fails: %v", err)
	}
}

func TestBenchLMRefuses(t *testing.T) {
	for _, args := range [][]string{
		{"--packing", "some"}, {"--split", "all"}, {"--workloads", "sft"}, {"--batch", "0"}, {"--prompts", "long"},
		{"--config", "absent.json"}, {"--tokenizer", "absent"}, {"--corpus", "absent"}, {"--max-tokens", "100000"},
	} {
		if _, _, err := benchLM(t, args...); err == nil || !strings.Contains(err.Error(), args[1]) && !strings.Contains(err.Error(), args[0]) {
			t.Errorf("%v: %v", args, err)
		}
	}
}
