package activities

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/internal/chattest"
	"github.com/esclab/esclab/lm"
	"github.com/esclab/esclab/results"
	"github.com/esclab/esclab/results/models"
	"github.com/esclab/esclab/results/models/modelstest"
	"github.com/esclab/esclab/workflows"
)

// shortCorpus writes a corpus whose test part has more dialogues than a chunk,
// each of them the beginning of one of the samples.
func shortCorpus(t *testing.T) string {
	t.Helper()
	dialogues := modelstest.Dialogues(t)
	var short []esc.Dialogue
	for i := range chunkDialogues + 3 {
		d := dialogues[i]
		d.Utterances = d.Utterances[:min(4, len(d.Utterances))]
		short = append(short, d)
	}
	dir := t.TempDir()
	for _, name := range []string{"train.json", "valid.json", "test.json"} {
		var file bytes.Buffer
		if err := esc.WriteDialogues(&file, short); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), file.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// promptedLab is a lab with a random base on a short corpus.
func promptedLab(t *testing.T, corpus string) *testLab {
	t.Helper()
	l := newLab(t, chattest.New(t), "corpus.source="+corpus, "engine=go", "backbone.tiny.max_positions=512", "generation.max_new_tokens=8",
		"methods=base,direct-refine,self-refine,emotion-cot,sft")
	l.forgetStage(t, "generate/vanilla/base") // it is made by the model here
	modelstest.RandomBase(t, l.a.Store, l.stages["base"].Fingerprint, 512)
	return l
}

func (l *testLab) predict(t *testing.T, method experiments.Method) []results.Prediction {
	t.Helper()
	name := "generate/vanilla/" + string(method)
	if _, err := l.run(name); err != nil {
		t.Fatal(err)
	}
	return decoded[results.Prediction](t, l.read(t, name, results.FilePredictions))
}

// The prompt baselines keep what they wrote on the way, and begin where the base
// model's own reply does.
func TestPromptBaselines(t *testing.T) {
	l := promptedLab(t, shortCorpus(t))
	base := l.predict(t, experiments.MethodBase)
	direct := l.predict(t, experiments.MethodDirectRefine)
	refined := l.predict(t, experiments.MethodSelfRefine)
	thought := l.predict(t, experiments.MethodEmotionCoT)
	var drafted, feedback, emotions, changed, led int
	for i, b := range base {
		if draft := esc.ParseAnswer(esc.VM, direct[i].Draft); draft.Response != b.Response || draft.Strategy.Valid() != (b.Strategy != "") {
			t.Errorf("turn %d: the draft is %q, the base's reply %q", i, direct[i].Draft, b.Response)
		}
		if refined[i].Draft != direct[i].Draft {
			t.Errorf("turn %d: drafts %q and %q", i, refined[i].Draft, direct[i].Draft)
		}
		count := func(n *int, holds bool) {
			if holds {
				*n++
			}
		}
		count(&drafted, direct[i].Draft != "")
		count(&feedback, refined[i].Feedback != "" && refined[i].Feedback != refined[i].Draft)
		count(&emotions, thought[i].Emotion != "" && thought[i].Draft == "" && thought[i].Feedback == "")
		count(&changed, direct[i].Response != b.Response && refined[i].Response != direct[i].Response)
		count(&led, thought[i].Response != b.Response && thought[i].Response != thought[i].Emotion)
		if b.Draft+b.Feedback+b.Emotion+direct[i].Feedback+direct[i].Emotion+refined[i].Emotion != "" {
			t.Errorf("turn %d: a text that the method does not write", i)
		}
	}
	// A random model's texts differ where their prompts do, all but always.
	for what, n := range map[string]int{"drafts": drafted, "feedback": feedback, "emotions": emotions, "revised": changed, "led by thoughts": led} {
		if n < len(base)*9/10 {
			t.Errorf("%s: %d of %d", what, n, len(base))
		}
	}
}

// stoppingSystem stops its attempt after so many texts.
type stoppingSystem struct {
	system
	left int
	stop func()
}

func (s *stoppingSystem) reply(ctx context.Context, turns []esc.Turn, tokens func(int)) ([]reply, error) {
	return s.system.reply(ctx, turns, func(n int) {
		if s.left--; s.left == 0 {
			s.stop()
		}
		tokens(n)
	})
}

// An attempt that is stopped in the second chunk, in the midst of the steps,
// leaves the first to the next one, which gives the bytes of an unbroken one.
func TestPromptBaselineResumes(t *testing.T) {
	corpus := shortCorpus(t)
	const name = "generate/vanilla/self-refine"
	whole := promptedLab(t, corpus)
	want, err := whole.run(name)
	if err != nil {
		t.Fatal(err)
	}
	predictions := decoded[results.Prediction](t, whole.read(t, name, results.FilePredictions))
	inFirst := slices.IndexFunc(predictions, func(p results.Prediction) bool { return p.Dialogue >= chunkDialogues })

	l := promptedLab(t, corpus)
	attempts := func(texts int) workflows.StageActivity {
		return stageOf(l.a, func(ctx context.Context, a *attempt, params experiments.GenerateParams) (output, error) {
			ctx, stop := context.WithCancelCause(ctx)
			defer stop(nil)
			b, err := loadBackbone(ctx, a, params.ModelParams)
			if err != nil {
				return output{}, err
			}
			s, err := loadSystem(ctx, a, b, params)
			if err != nil {
				return output{}, err
			}
			defer s.close()
			test, err := readCorpus(ctx, a, results.FileTest)
			if err != nil {
				return output{}, err
			}
			_, err = predictTurns(ctx, a, &stoppingSystem{s, texts, func() { stop(errWorkerStopping) }}, esc.AllTurns(test[results.FileTest]))
			return output{}, err
		})
	}
	if _, err := l.runActivity(attempts(3*inFirst+4), name); err == nil || !strings.Contains(err.Error(), "the worker is stopping") {
		t.Fatalf("got %v, want that the worker is stopping", err)
	}
	if c, _, err := l.a.Store.LatestCheckpoint(t.Context(), l.stages[name].Fingerprint); err != nil || c.Step != 1 {
		t.Errorf("the first chunk is not kept: %+v, %v", c, err)
	}
	got, err := l.run(name)
	if err != nil || got.Digest != want.Digest {
		t.Errorf("%s, unbroken %s (%v)", got.Digest, want.Digest, err)
	}
}

// Given the gold strategy, the generator replies under it.
func TestGoldSystem(t *testing.T) {
	engine, err := lm.EngineOptions{}.Open("go")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(engine.Close)
	backbone := &models.Backbone{Engine: engine, Params: experiments.ModelParams{Prompts: experiments.PromptsTiny, MaxTokens: 160}}
	backbone.Model, backbone.Tok = modelstest.Random(t, t.TempDir(), 256)
	rg, err := backbone.Sampler(esc.RG, nil, experiments.Sampling{Temperature: 1, TopP: 0.95, MaxNewTokens: 24, DecodeBatch: 8}, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(rg.Close)
	gold := &goldSystem{rg}
	turn := esc.Turn{Context: []esc.Message{{Role: esc.UserRole, Content: "I lost my job."}}, Strategy: esc.Question, Response: "Why?"}
	other := turn
	other.Strategy = esc.Reflection
	answers, err := gold.reply(t.Context(), []esc.Turn{turn, other}, func(int) {})
	if err != nil || answers[0].Strategy != esc.Question || answers[1].Strategy != esc.Reflection || answers[0].Response == answers[1].Response {
		t.Errorf("the answers are %+v (%v), want each under its gold strategy, and two responses", answers, err)
	}
	if p := predict(other, answers[1]); p.Strategy != p.GoldStrategy || p.Response == "" {
		t.Errorf("the prediction is %+v, want the gold strategy and a response", p)
	}
}
