package bench

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/esc/democorpus"
	"github.com/esclab/esclab/internal/memory"
	"github.com/esclab/esclab/lm"
	"github.com/esclab/esclab/lm/tokens"
)

// demo is a small tokenizer and the dialogues it was trained on.
func demo(t *testing.T) (*tokens.Tokenizer, []esc.Dialogue) {
	t.Helper()
	dialogues, err := esc.ReadDialogues("demo corpus", bytes.NewReader(democorpus.JSON()), esc.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	dialogues = dialogues[:8]
	tok, err := TrainTokenizer(t.Context(), dialogues, t.TempDir(), 400)
	if err != nil {
		t.Fatal(err)
	}
	return tok, dialogues
}

var demoOptions = Options{Prompts: "tiny", MaxTokens: 4096, Seed: 3}

// tiny is a model that takes steps in no time.
func tiny(t *testing.T, tok *tokens.Tokenizer) *lm.Model {
	t.Helper()
	c := DefaultConfig(tok)
	c.HiddenSize, c.IntermediateSize, c.NumHiddenLayers, c.NumAttentionHeads, c.NumKeyValueHeads, c.HeadDim = 16, 24, 1, 2, 1, 8
	model, err := lm.NewModel(c, 1)
	if err != nil {
		t.Fatal(err)
	}
	return model
}

func openEngine(t *testing.T) *lm.Engine {
	t.Helper()
	engine, err := lm.EngineOptions{}.Open("go")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(engine.Close)
	return engine
}

func TestPrepare(t *testing.T) {
	tok, dialogues := demo(t)
	turns := esc.AllTurns(dialogues)
	for _, name := range Names() {
		t.Run(name, func(t *testing.T) {
			w, err := Prepare(tok, dialogues, name, demoOptions)
			if err != nil {
				t.Fatal(err)
			}
			if len(w.Examples) != len(turns) || w.Skipped != 0 {
				t.Fatalf("%d examples, %d skipped, of %d turns", len(w.Examples), w.Skipped, len(turns))
			}
			before := map[string][]int32{} // the prompt of a dialogue's turn before
			for i, e := range w.Examples {
				turn := turns[i]
				chosen := e.Sequences[0]
				if got, want := tok.DecodeText(chosen.Tokens[chosen.LossFrom:]), esc.Answer(w.Role, turn.Strategy, turn.Response); got != want {
					t.Fatalf("turn %d: answer %q, want %q", i, got, want)
				}
				prompt := chosen.Tokens[:chosen.LossFrom]
				if w.Role != esc.RG { // rg's prompts end with the strategy, which the history repeats apart
					if last := before[e.Group]; !slices.Equal(prompt[:len(last)], last) {
						t.Fatalf("turn %d: its prompt does not continue the one of the turn before", i)
					}
					before[e.Group] = prompt
				}
				if !w.Preference {
					continue
				}
				rejected := e.Sequences[1]
				if !slices.Equal(rejected.Tokens[:rejected.LossFrom], prompt) {
					t.Fatalf("pair %d: chosen and rejected do not share their prompt", i)
				}
				text := tok.DecodeText(rejected.Tokens[rejected.LossFrom:])
				parsed := esc.ParseAnswer(w.Role, text)
				if w.Role != esc.RG && (parsed.Strategy == turn.Strategy || !parsed.Strategy.Valid()) {
					t.Fatalf("pair %d: rejected %q, gold strategy %v", i, text, turn.Strategy)
				}
				if w.Role != esc.SP && (parsed.Response == turn.Response || parsed.Response == "") {
					t.Fatalf("pair %d: rejected %q has the gold response", i, text)
				}
			}
			again, err := Prepare(tok, dialogues, name, demoOptions)
			if err != nil || !reflect.DeepEqual(w, again) {
				t.Errorf("prepared again it differs (%v)", err)
			}
		})
	}
}

func TestPrepareLimits(t *testing.T) {
	tok, dialogues := demo(t)
	options := demoOptions
	all, err := Prepare(tok, dialogues, "vm-dpo", options)
	if err != nil {
		t.Fatal(err)
	}
	options.MaxTokens = 150
	w, err := Prepare(tok, dialogues, "vm-dpo", options)
	if err != nil {
		t.Fatal(err)
	}
	if w.Skipped == 0 || len(w.Examples)+w.Skipped != len(all.Examples) {
		t.Errorf("%d examples and %d skipped, of %d", len(w.Examples), w.Skipped, len(all.Examples))
	}
	for _, e := range w.Examples {
		for _, s := range e.Sequences {
			if len(s.Tokens) > options.MaxTokens {
				t.Fatalf("a sequence of %d tokens", len(s.Tokens))
			}
		}
	}
	options.MaxTokens = 3
	if _, err := Prepare(tok, dialogues, "vm-dpo", options); err == nil {
		t.Error("no example fits, and no error")
	}
	if _, err := Prepare(tok, dialogues, "sft", demoOptions); err == nil {
		t.Error("a workload that is none is prepared")
	}
	if kept := drawDialogues(dialogues, 3, 1); len(kept) != 3 || reflect.DeepEqual(kept, drawDialogues(dialogues, 3, 2)) && reflect.DeepEqual(kept, drawDialogues(dialogues, 3, 4)) {
		t.Errorf("the seed does not decide the dialogues: %d", len(kept))
	}
}

func TestRejectNeedsAnotherResponse(t *testing.T) {
	turn := esc.Turn{Strategy: esc.Question, Response: "yes"}
	if _, err := (&preparer{}).reject(esc.RG, turn, []esc.Turn{turn, turn}); err == nil {
		t.Error("a pair of equal sides")
	}
}

func TestExportRoundTrips(t *testing.T) {
	tok, dialogues := demo(t)
	dir := t.TempDir()
	for _, name := range []string{"rg-sft", "rg-dpo"} {
		w, err := Prepare(tok, dialogues, name, demoOptions)
		if err != nil {
			t.Fatal(err)
		}
		order := make([]int, len(w.Examples))
		for i := range order {
			order[i] = len(order) - 1 - i
		}
		if err := Export(dir, w, order); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(filepath.Join(dir, name+".jsonl"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		n := 0
		lines := bufio.NewScanner(f)
		lines.Buffer(nil, 1<<20)
		for ; lines.Scan(); n++ {
			var row struct {
				IDs                      []int32
				LossFrom                 int `json:"loss_from"`
				Prompt, Chosen, Rejected []int32
			}
			decode := json.NewDecoder(bytes.NewReader(lines.Bytes()))
			decode.DisallowUnknownFields()
			if err := decode.Decode(&row); err != nil {
				t.Fatal(err)
			}
			got := []lm.Sequence{{Tokens: row.IDs, LossFrom: row.LossFrom}}
			if w.Preference {
				got = []lm.Sequence{
					{Tokens: slices.Concat(row.Prompt, row.Chosen), LossFrom: len(row.Prompt)},
					{Tokens: slices.Concat(row.Prompt, row.Rejected), LossFrom: len(row.Prompt)},
				}
			}
			if want := w.Examples[order[n]].Sequences; !reflect.DeepEqual(got, want) {
				t.Fatalf("%s, line %d: %v, want %v", name, n+1, got, want)
			}
		}
		if n != len(w.Examples) {
			t.Errorf("%s: %d lines for %d examples", name, n, len(w.Examples))
		}
	}
	config := DefaultConfig(tok)
	if err := ExportConfig(dir, config); err != nil {
		t.Fatal(err)
	}
	if got, err := lm.ReadConfig(dir); err != nil || !reflect.DeepEqual(got, config) {
		t.Errorf("configuration %+v (%v), want %+v", got, err, config)
	}
}

// TestFLOP counts by hand: one layer, d 4, one head of 4, one kv head, ffn 8,
// vocabulary 10. Projections: q, k, v, o 16 weights each, gate, up, down 32
// each: 160. Adapters of rank 2: 2·(4+4) each of four, 2·(4+8) each of three: 136.
func TestFLOP(t *testing.T) {
	c := lm.Config{HiddenSize: 4, IntermediateSize: 8, NumHiddenLayers: 1, NumAttentionHeads: 1, NumKeyValueHeads: 1, HeadDim: 4, VocabSize: 10}
	work := lm.StepWork{Tokens: 3, Attended: 6, Sources: 2} // a sequence of three tokens
	for _, test := range []struct {
		rank int
		want float64
	}{
		{0, 6*160*3 + 6*40*2 + 3*4*4*6},
		{2, 4*160*3 + 4*40*2 + 6*136*3 + 3*4*4*6},
	} {
		if got := FLOP(c, test.rank, work); got != test.want {
			t.Errorf("rank %d: %v, want %v", test.rank, got, test.want)
		}
	}
}

// TestWork checks what a trainer says that it computes: without packing
// against the sequences, and trees against an independent count of prefixes.
func TestWork(t *testing.T) {
	tok, dialogues := demo(t)
	engine, model := openEngine(t), tiny(t, tok)
	w, err := Prepare(tok, dialogues, "vm-dpo", demoOptions)
	if err != nil {
		t.Fatal(err)
	}
	for _, packing := range []lm.Packing{lm.PackTree, lm.PackNone} {
		trainer, err := newTrainer(engine, model, w, TrainingOptions{Packing: packing, Batch: len(w.Examples), Steps: 1, Beta: 0.1})
		if err != nil {
			t.Fatal(err)
		}
		defer trainer.Close()
		got := trainer.Work(0)
		tokens, unpacked, attended, labels := 0, 0, 0, 0
		seen := map[string]bool{}
		for _, e := range w.Examples {
			for _, s := range e.Sequences {
				unpacked += len(s.Tokens)
				labels += len(s.Tokens) - s.LossFrom
				for i := range s.Tokens[:len(s.Tokens)-1] { // the last token predicts nothing
					key, _ := json.Marshal(s.Tokens[:i+1])
					if packing == lm.PackTree && seen[e.Group+string(key)] {
						continue
					}
					seen[e.Group+string(key)] = true
					tokens++
					attended += i + 1
				}
			}
		}
		if packing == lm.PackTree && tokens*3 > unpacked {
			t.Errorf("turns share too little: %d tokens of %d", tokens, unpacked)
		}
		if got.TokensUnpacked != unpacked && got.TokensUnpacked != unpacked-2*len(w.Examples) {
			t.Errorf("%s: %d unpacked tokens, want %d", packing, got.TokensUnpacked, unpacked)
		}
		if got.Labels != labels || len(got.Examples) != len(w.Examples) {
			t.Errorf("%s: %d labels of %d examples, want %d of %d", packing, got.Labels, len(got.Examples), labels, len(w.Examples))
		}
		// A tree that does not fit a row repeats the path to where it is cut.
		if got.Tokens < tokens || float64(got.Tokens) > 1.5*float64(tokens) || packing == lm.PackNone && got.Tokens != tokens {
			t.Errorf("%s: %d tokens, want %d", packing, got.Tokens, tokens)
		}
		if got.Attended < attended || packing == lm.PackNone && got.Attended != attended {
			t.Errorf("%s: %d attended pairs, want %d", packing, got.Attended, attended)
		}
	}
}

func TestTrain(t *testing.T) {
	tok, dialogues := demo(t)
	engine, model := openEngine(t), tiny(t, tok)
	for _, name := range []string{"sp-sft", "rg-dpo"} {
		w, err := Prepare(tok, dialogues, name, demoOptions)
		if err != nil {
			t.Fatal(err)
		}
		var losses []float64
		for _, packing := range []lm.Packing{lm.PackTree, lm.PackNone} {
			options := TrainingOptions{Packing: packing, Batch: 6, Steps: 2, Rank: 4, Beta: 0.2, Seed: 1}
			r, err := Train(t.Context(), engine, model, w, options)
			if err != nil {
				t.Fatal(err)
			}
			if r.Seconds <= 0 || r.SamplesPerSecond <= 0 || r.FLOP <= 0 || r.Compiled < 2 || r.Compiled > r.Planned+1 || r.TokensPadded < r.Tokens {
				t.Errorf("%s, %s: %+v", name, packing, r)
			}
			if packing == lm.PackTree && r.TokensUnpacked <= r.Tokens {
				t.Errorf("%s: nothing saved: %+v", name, r)
			}
			losses = append(losses, r.Loss)
			order, err := Order(engine, model, w, options)
			if err != nil {
				t.Fatal(err)
			}
			if sorted := slices.Sorted(slices.Values(order)); len(order) != len(w.Examples) || sorted[0] != 0 || sorted[len(sorted)-1] != len(order)-1 {
				t.Errorf("%s: the order is none: %v", name, order)
			}
		}
		// The same batches and updates whatever the packing.
		if d := losses[0] - losses[1]; d > 1e-4 || d < -1e-4 {
			t.Errorf("%s: loss %v packed, %v unpacked", name, losses[0], losses[1])
		}
	}
}

func TestGenerate(t *testing.T) {
	tok, dialogues := demo(t)
	engine, model := openEngine(t), tiny(t, tok)
	options := demoOptions
	options.Dialogues = 2
	requests, err := Requests(tok, dialogues, esc.SP, 3, options)
	if err != nil {
		t.Fatal(err)
	}
	for _, packing := range []lm.Packing{lm.PackTree, lm.PackNone} {
		r, err := Generate(t.Context(), engine, model, requests, GenerationOptions{Role: esc.SP, Packing: packing, New: 3, Slots: 4, Seed: 1})
		if err != nil {
			t.Fatal(err)
		}
		if r.Samples != len(requests) || r.NewTokens != 3*len(requests) || r.SamplesPerSecond <= 0 {
			t.Errorf("%s: %+v", packing, r)
		}
		if less := r.PrefillTokens < r.PromptTokens/2; less != (packing == lm.PackTree) {
			t.Errorf("%s: %d of %d prompt tokens computed", packing, r.PrefillTokens, r.PromptTokens)
		}
	}
}

func TestScore(t *testing.T) {
	tok, dialogues := demo(t)
	engine, model := openEngine(t), tiny(t, tok)
	options := demoOptions
	options.Dialogues = 2
	examples, err := Choices(tok, dialogues, options)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range examples {
		if len(e.Sequences) != esc.NumStrategies {
			t.Fatalf("%d sequences of a turn", len(e.Sequences))
		}
	}
	for _, packing := range []lm.Packing{lm.PackTree, lm.PackNone} {
		r, err := Score(t.Context(), engine, model, examples, packing)
		if err != nil {
			t.Fatal(err)
		}
		if less := r.PrefillTokens < r.PromptTokens/8; r.Samples != len(examples) || r.SamplesPerSecond <= 0 || less != (packing == lm.PackTree) {
			t.Errorf("%s: %+v", packing, r)
		}
	}
}

func TestDecode(t *testing.T) {
	tok, _ := demo(t)
	engine, model := openEngine(t), tiny(t, tok)
	r, err := Decode(t.Context(), engine, model, DecodingOptions{Slots: 3, Prompt: 5, New: 4, Seed: 1})
	if err != nil || r.PrefillTokensPerSecond <= 0 || r.DecodeTokensPerSecond <= 0 {
		t.Errorf("decoding: %+v, %v; want rates above 0", r, err)
	}
	if _, err := Decode(t.Context(), engine, model, DecodingOptions{Slots: 3, Prompt: 5, New: 1, Seed: 1}); err == nil {
		t.Error("one new token: accepted")
	}
}

func TestPeak(t *testing.T) {
	peak, err := openEngine(t).PeakFLOPS(t.Context(), 64, 2)
	if err != nil {
		t.Fatal(err)
	}
	if peak < 1e6 {
		t.Errorf("%v FLOP/s", peak)
	}
	if runningOnLinux := memory.PeakBytes() > 0; !runningOnLinux {
		t.Skip("this system does not tell the peak of memory")
	}
}
