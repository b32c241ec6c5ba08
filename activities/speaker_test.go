package activities

import (
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/artifacts/storetest"
	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/esc/democorpus"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/lm"
	"github.com/esclab/esclab/lm/tokens"
)

// randomBase commits a small model with random weights as a base artifact under
// a fingerprint, and gives the model and its tokenizer.
func randomBase(t *testing.T, store *artifacts.Store, fingerprint string, positions int) (*lm.Model, *tokens.Tokenizer) {
	t.Helper()
	dialogues, err := esc.ReadDialogues("demo.json", strings.NewReader(string(democorpus.JSON())), esc.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	tok, err := tokens.TrainBPE(t.Context(), texts(dialogues[:10]), dir, tokens.BPEOptions{VocabSize: 400})
	if err != nil {
		t.Fatal(err)
	}
	config, err := tinyConfig(&experiments.Tiny{HiddenSize: 32, IntermediateSize: 48, Layers: 2, Heads: 2, KVHeads: 1, MaxPositions: positions}, tok)
	if err != nil {
		t.Fatal(err)
	}
	model, err := lm.NewModel(config, 3)
	if err != nil {
		t.Fatal(err)
	}
	if err := model.Save(dir); err != nil {
		t.Fatal(err)
	}
	lease, err := store.Acquire(t.Context(), fingerprint, artifacts.Claim{Owner: "test", Attempt: 1})
	if err != nil {
		t.Fatal(err)
	}
	m := artifacts.Manifest{Kind: "base", Stage: "base", Files: map[string]artifacts.Ref{}}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if m.Files[e.Name()], err = store.PutFile(t.Context(), dir+"/"+e.Name()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := lease.Commit(t.Context(), m, nil); err != nil {
		t.Fatal(err)
	}
	return model, tok
}

// speaker makes a system of the base model, untrained.
func speaker(t *testing.T, paradigm experiments.Paradigm, o SpeakerOptions) (*Speaker, *lm.Model, *tokens.Tokenizer) {
	t.Helper()
	store := storetest.OpenStore(t, t.TempDir())
	base := strings.Repeat("ab", 32)
	model, tok := randomBase(t, store, base, 256)
	stage, err := experiments.NewStage("generate/"+string(paradigm)+"/base", experiments.GenerateParams{
		Kernel:   experiments.Kernel{Engine: experiments.EngineGo, Prompts: experiments.PromptsTiny, Packing: experiments.PackTree, MaxTokens: 160, Longer: experiments.LongerTrim, PackTokens: 512},
		Sampling: experiments.Sampling{Temperature: 1, TopP: 0.95, MaxNewTokens: 24, DecodeBatch: 8},
		Paradigm: paradigm, Method: experiments.MethodBase,
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	steps, err := experiments.NewStage("generate/vanilla/self-refine", experiments.GenerateParams{Paradigm: experiments.Vanilla, Method: experiments.MethodSelfRefine}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewSpeaker(t.Context(), store, steps, map[string]string{"base": base}, o); err == nil || !strings.Contains(err.Error(), "vanilla/self-refine cannot be talked with") {
		t.Errorf("a system that replies in steps: %v", err)
	}
	s, err := NewSpeaker(t.Context(), store, stage, map[string]string{"base": base}, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s, model, tok
}

var said = []esc.Message{
	{Role: esc.UserRole, Content: "I lost my job."}, {Role: esc.AssistantRole, Content: "[Question] When?"}, {Role: esc.UserRole, Content: "Last week."},
}

// The probabilities of the strategies are the model's own: those that each
// whole answer has by itself, relative to each other.
func TestSpeakerPlans(t *testing.T) {
	for _, paradigm := range []experiments.Paradigm{experiments.Vanilla, experiments.Decoupled} {
		s, model, tok := speaker(t, paradigm, SpeakerOptions{Seed: 1})
		plan, err := s.Plan(t.Context(), said)
		if err != nil {
			t.Fatal(err)
		}
		role := esc.SP
		if paradigm == experiments.Vanilla {
			role = esc.VM
		}
		prompts, err := esc.BuiltinPrompts("tiny")
		if err != nil {
			t.Fatal(err)
		}
		messages := []tokens.Message{{Role: esc.SystemRole, Content: prompts.System(role)}}
		for _, m := range said {
			messages = append(messages, tokens.Message{Role: m.Role, Content: m.Content})
		}
		var want [esc.NumStrategies]float64
		mass := 0.0
		for i, strategy := range esc.Strategies() {
			ids, from, err := tok.ChatTokens(messages, "", strategy.Bracketed())
			if err != nil {
				t.Fatal(err)
			}
			if role == esc.VM {
				ids = ids[:len(ids)-1]
			}
			scores, err := lm.LogProbs(t.Context(), s.k.engine, model, nil, []lm.Example{{Sequences: []lm.Sequence{{Tokens: ids, LossFrom: from}}}}, lm.LogProbsOptions{Packing: lm.PackNone})
			if err != nil {
				t.Fatal(err)
			}
			want[i] = math.Exp(scores[0][0].Sum())
			mass += want[i]
		}
		sum := 0.0
		for i, p := range plan.Probabilities {
			sum += p
			if math.Abs(p-want[i]/mass) > 1e-4 {
				t.Errorf("%s: %s has %v, by itself %v", paradigm, esc.Strategy(i), p, want[i]/mass)
			}
		}
		if math.Abs(sum-1) > 1e-9 || math.Abs(plan.Mass/mass-1) > 1e-4 {
			t.Errorf("%s: sum %v, mass %v, want 1 and %v", paradigm, sum, plan.Mass, mass)
		}
		other, err := s.Plan(t.Context(), said[:1])
		if err != nil || other == plan {
			t.Errorf("%s: another context gives the same plan (%v)", paradigm, err)
		}
	}
}

// A reply comes in pieces that together are the reply; it depends on the
// strategy, the seed and which sample it is, and on nothing else.
func TestSpeakerResponds(t *testing.T) {
	for _, paradigm := range []experiments.Paradigm{experiments.Vanilla, experiments.Decoupled} {
		s, _, _ := speaker(t, paradigm, SpeakerOptions{Seed: 1})
		respond := func(context []esc.Message, strategy esc.Strategy, sample int) (string, int) {
			var pieces []string
			response, cut, err := s.Respond(t.Context(), context, strategy, sample, func(text string) {
				if text != "" {
					pieces = append(pieces, text)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			whole := strings.Join(pieces, "")
			if esc.ParseAnswer(esc.RG, whole).Response != response {
				t.Errorf("%s: streamed %q, returned %q", paradigm, whole, response)
			}
			if !cut && len(pieces) >= 24 {
				t.Errorf("%s: %d pieces and not cut", paradigm, len(pieces))
			}
			return response, len(pieces)
		}
		first, pieces := respond(said, esc.Reflection, 0)
		if pieces < 2 {
			t.Errorf("%s: the reply came in %d pieces: %q", paradigm, pieces, first)
		}
		var others []string
		for _, c := range []struct {
			strategy esc.Strategy
			sample   int
		}{{esc.Reflection, 1}, {esc.Question, 0}} {
			again, _ := respond(said, c.strategy, c.sample)
			others = append(others, again)
		}
		if slices.Contains(others, first) {
			t.Errorf("%s: another sample or strategy gives the same reply %q", paradigm, first)
		}
		if again, _ := respond(said, esc.Reflection, 0); again != first {
			t.Errorf("%s: the same call gives %q, then %q", paradigm, first, again)
		}
		// A conversation that has outgrown the model's context goes on.
		long := slices.Clone(said)
		for range 40 {
			long = append(long, said[1], said[2])
		}
		respond(long, esc.Question, 0)
		if _, err := s.Plan(t.Context(), long); err != nil {
			t.Errorf("%s: a long conversation: %v", paradigm, err)
		}
	}
	zero := 0.0
	s, _, _ := speaker(t, experiments.Decoupled, SpeakerOptions{Temperature: &zero, MaxNewTokens: 8})
	quiet := func(string) {}
	a, _, errA := s.Respond(t.Context(), said, esc.Question, 0, quiet)
	b, _, errB := s.Respond(t.Context(), said, esc.Question, 1, quiet)
	if errA != nil || errB != nil || a != b || !s.Greedy {
		t.Errorf("at temperature 0: %q, then %q; %v, %v", a, b, errA, errB)
	}
}
