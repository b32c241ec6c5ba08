package activities

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/esclab/esclab/artifacts/storetest"
	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/internal/chattest"
	"github.com/esclab/esclab/lm"
	"github.com/esclab/esclab/workflows"
)

// tinyLab is a lab whose backbone is trained in a second.
func tinyLab(t *testing.T, sets ...string) *testLab {
	t.Helper()
	s := chattest.New(t)
	return newLab(t, s, append([]string{"engine=go", "corpus.max_dialogues=10",
		"backbone.tiny.vocab_size=300", "backbone.tiny.hidden_size=16", "backbone.tiny.layers=1", "backbone.tiny.heads=1", "backbone.tiny.kv_heads=1",
		"backbone.tiny.intermediate_size=32", "backbone.tiny.max_positions=512", "backbone.tiny.pretrain.epochs=1", "backbone.tiny.pretrain.batch_size=4",
		"limits.max_tokens=512", "limits.pack_tokens=1024", "mining.max_turns=8", "mining.max_new_tokens=4", "judge.kind=offline",
		"checkpoint.every_steps=1"}, sets...)...)
}

// failureOf reads the document that a failed stage has left, and checks that
// the error names it.
func (l *testLab) failureOf(t *testing.T, stage string, err error) failure {
	t.Helper()
	_, key, found := strings.Cut(err.Error(), "(what led there: ")
	key, _, _ = strings.Cut(key, " in the store)")
	if !found || !strings.HasPrefix(key, "stages/"+l.stages[stage].Fingerprint+"/failed/") {
		t.Fatalf("the error names no document: %v", err)
	}
	raw := l.object(t, key)
	var f failure
	if err := json.Unmarshal(raw, &f); err != nil {
		t.Fatalf("%v in %s", err, raw)
	}
	if f.Stage != stage || f.Problem == "" || f.Time.IsZero() {
		t.Errorf("the document is %s, want its stage, problem and time", raw)
	}
	return f
}

// UnmarshalJSON reads what MarshalJSON writes.
func (n *number) UnmarshalJSON(data []byte) error {
	var text string
	if json.Unmarshal(data, &text) == nil {
		*n = number(math.NaN())
		return nil
	}
	return json.Unmarshal(data, (*float64)(n))
}

// A training whose numbers go wrong: the state before the step, its batch and
// the steps before are kept, and the error is not tried again.
func TestWhatLedToAFailureIsKept(t *testing.T) {
	l := tinyLab(t, "sft.learning_rate=1", "sft.max_grad_norm=0", "sft.schedule=constant", "sft.warmup_ratio=0")
	// A learning rate that no experiment may have: the weights are useless after one step.
	stage := l.stages["sft/vm"]
	stage.Params = bytes.Replace(stage.Params, []byte(`"learning_rate":1,`), []byte(`"learning_rate":1e30,`), 1)
	inputs := map[string]string{}
	for input, from := range stage.Inputs {
		inputs[input] = l.stages[from].Fingerprint
	}
	var err error
	if stage.Fingerprint, err = stage.FingerprintOf(inputs); err != nil {
		t.Fatal(err)
	}
	l.stages["sft/vm"] = stage
	if _, err := l.run("base"); err != nil {
		t.Fatal(err)
	}
	_, err = l.run("sft/vm")
	if kind := errorType(err); kind != workflows.ErrTypeNonFinite && kind != workflows.ErrTypeExploded {
		t.Fatalf("a learning rate of 1e30 ends with %q: %v", kind, err)
	}
	f := l.failureOf(t, "sft/vm", err)
	if f.Step < 2 || f.Steps < f.Step || len(f.Batch) == 0 || f.Batch[0].Dialogue == "" || len(f.Last) != f.Step-1 || f.LearningRate != 1e30 {
		t.Errorf("kept is %+v, want the step, its batch, the steps before and the learning rate", f)
	}
	if f.Loss == nil || f.Checkpoint == nil || f.Checkpoint.Step != int64(f.Step-1) || f.Checkpoint.Files[stateFile].Key == "" {
		t.Errorf("no loss or no state before the step: %+v", f)
	}
	// What is kept leads there again.
	_, again := l.run("sft/vm")
	if f2 := l.failureOf(t, "sft/vm", again); f2.Step != f.Step {
		t.Errorf("from the checkpoint, step %d goes wrong, not %d", f2.Step, f.Step)
	}
}

// A model that never ends a turn: mining says so by name and keeps the samples.
func TestNeverStops(t *testing.T) {
	l := tinyLab(t, "mining.max_new_tokens=1", "sft.epochs=1")
	for _, name := range []string{"base", "sft/rg"} {
		if _, err := l.run(name); err != nil {
			t.Fatal(err)
		}
	}
	_, err := l.run("mine/rg")
	if kind := errorType(err); kind != workflows.ErrTypeNeverStops {
		t.Fatalf("samples of one token: %q, %v", kind, err)
	}
	f := l.failureOf(t, "mine/rg", err)
	if f.Counts["cut"] == 0 || f.Counts["cut"] != f.Counts["samples"] || f.Checkpoint == nil {
		t.Errorf("kept is %+v, want every sample counted as cut, and a checkpoint", f)
	}
}

func TestNoContrast(t *testing.T) {
	same := lm.Example{Sequences: []lm.Sequence{{Tokens: []int32{1, 2}}, {Tokens: []int32{1, 2}}}}
	other := lm.Example{Sequences: []lm.Sequence{{Tokens: []int32{1, 2}}, {Tokens: []int32{1, 3}}}}
	if n := contrast(lm.Dataset{}); n != 0 {
		t.Errorf("no pairs: %d", n)
	}
	if n := contrast(lm.Dataset{Examples: []lm.Example{same, same}}); n != 0 {
		t.Errorf("pairs of one side: %d", n)
	}
	if n := contrast(lm.Dataset{Examples: []lm.Example{same, other}}); n != 1 {
		t.Errorf("one pair: %d", n)
	}
}

func TestOneClass(t *testing.T) {
	var one []esc.Pair
	for range fewestTexts {
		one = append(one, esc.Pair{Gold: esc.Reflection, Strategy: esc.Question})
	}
	mixed := append([]esc.Pair{{Gold: esc.Question}}, one...)
	for _, c := range []struct {
		role  esc.Role
		pairs []esc.Pair
		want  bool
	}{{esc.SP, one, true}, {esc.SP, mixed, false}, {esc.RG, one, false}, {esc.SP, one[:2], false}} {
		if got := oneClass(c.role, c.pairs, esc.PairsAll); got != c.want {
			t.Errorf("%s, %d pairs: %v", c.role, len(c.pairs), got)
		}
	}
	if !identical([]string{"a", "a", "a", "a", "a"}) || identical([]string{"a", "a", "a", "a", "b"}) || identical([]string{"a"}) {
		t.Error("identical texts")
	}
}

// object reads an object of the lab's store by its key.
func (l *testLab) object(t *testing.T, key string) []byte {
	t.Helper()
	r, err := storetest.OpenDirectory(t, l.dir+"/store").Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var raw json.RawMessage
	if err := json.NewDecoder(r).Decode(&raw); err != nil {
		t.Fatal(err)
	}
	return raw
}
