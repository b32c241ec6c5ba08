package models

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/esc/chat"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/lm"
	"github.com/esclab/esclab/results"
)

// Speaker is a system of Table 3 to talk with: what a generate stage replies to
// the test split with, as a chat.Model.
type Speaker struct {
	// Engine says what computes; Greedy that each token is the likeliest one.
	Engine string
	Greedy bool

	engine  *lm.Engine
	b       *Backbone
	planner *Planner
	writer  *Sampler
	role    esc.Role // of the writer
	seed    uint64
	dir     string
}

var _ chat.Model = (*Speaker)(nil)

// SpeakerOptions changes how a system replies; zero values are as the run does.
type SpeakerOptions struct {
	Engine       experiments.Engine
	Temperature  *float64 // of the reply; 0: the likeliest token, always
	MaxNewTokens int
	Seed         uint64
}

// Talks says whether a system can be talked with: not one that is given the
// gold strategy, nor a prompt baseline, which replies in steps.
func Talks(p experiments.GenerateParams) bool {
	return p.Paradigm != experiments.Gold && p.Method.Texts() == 1
}

// NewSpeaker loads the models of a generate stage from the store. inputs maps
// the stage's inputs to the fingerprints of the stages that made them. An error
// that wraps artifacts.ErrNotFound means that one of those is not done. Close
// the speaker when done.
func NewSpeaker(ctx context.Context, store *artifacts.Store, stage experiments.Stage, inputs map[string]string, o SpeakerOptions) (_ *Speaker, err error) {
	params, err := experiments.ParamsOf[experiments.GenerateParams](stage)
	if err != nil {
		return nil, err
	}
	if !Talks(params) {
		return nil, fmt.Errorf("system %s/%s cannot be talked with: it is given the gold strategy, or replies in several steps", params.Paradigm, params.Method)
	}
	if o.Engine != "" {
		params.Engine = o.Engine
	}
	params.DecodeBatch = 1
	if o.MaxNewTokens > 0 {
		params.MaxNewTokens = o.MaxNewTokens
	}
	if o.Temperature != nil {
		params.Temperature, params.Greedy = *o.Temperature, *o.Temperature == 0
		if params.TopP == 0 {
			params.TopP = 1
		}
	}
	s := &Speaker{Greedy: params.Greedy, seed: o.Seed}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if s.dir, err = os.MkdirTemp("", "esclab-chat-"); err != nil {
		return nil, err
	}
	engine, err := lm.EngineOptions{}.Open(string(params.Engine))
	if err != nil {
		return nil, err
	}
	s.engine, s.Engine = engine, engine.Identity(lm.BaseType(params.BaseType))
	// The files of an input's artifact, in a directory of its own.
	files := func(input string) (string, error) {
		fingerprint, ok := inputs[input]
		if !ok {
			return "", fmt.Errorf("stage %s has no input %q", stage.Name, input)
		}
		dir := filepath.Join(s.dir, input)
		if _, err := results.Checkout(ctx, store, fingerprint, dir); err != nil {
			return "", fmt.Errorf("input %s: %w", input, err)
		}
		return dir, nil
	}
	base, err := files("base")
	if err != nil {
		return nil, err
	}
	if s.b, err = Load(engine, base, params.ModelParams); err != nil {
		return nil, err
	}
	adapterOf := func(role esc.Role) (*lm.Adapter, error) {
		if _, trained := inputs[string(role)]; !trained {
			return nil, nil // the backbone as it is
		}
		dir, err := files(string(role))
		if err != nil {
			return nil, err
		}
		adapter, err := s.b.Adapter(dir)
		if err != nil {
			return nil, fmt.Errorf("adapter %s: %w", role, err)
		}
		return adapter, nil
	}
	plans := esc.SP
	if s.role = esc.RG; params.Paradigm == experiments.Vanilla {
		plans, s.role = esc.VM, esc.VM
	}
	adapter, err := adapterOf(plans)
	if err != nil {
		return nil, err
	}
	if s.planner, err = s.b.Planner(plans, adapter, lm.LogProbsOptions{}); err != nil {
		return nil, err
	}
	if s.role != plans {
		if adapter, err = adapterOf(s.role); err != nil {
			return nil, err
		}
	}
	s.writer, err = s.b.Sampler(s.role, adapter, params.Sampling, o.Seed)
	return s, err
}

// Close releases the models.
func (s *Speaker) Close() {
	if s.writer != nil {
		s.writer.Close()
	}
	if s.planner != nil {
		s.planner.Close()
	}
	if s.engine != nil {
		s.engine.Close()
	}
	if s.dir != "" {
		os.RemoveAll(s.dir) // links into the cache; what stays is swept with the system's temporary files
	}
}

// Plan scores the eight strategies as continuations of one prompt, which is
// computed once. The planner's answer is the bracketed name and the end of its
// turn; the vanilla model goes on after it.
func (s *Speaker) Plan(ctx context.Context, context []esc.Message) (chat.Plan, error) {
	var plan chat.Plan
	scores, err := s.planner.Score(ctx, []esc.Turn{{Context: context}})
	if err != nil {
		return plan, err
	}
	best := math.Inf(-1)
	sums := make([]float64, esc.NumStrategies)
	for i := range sums {
		for _, p := range scores[0][i] {
			sums[i] += float64(p)
		}
		best = max(best, sums[i])
	}
	if math.IsNaN(best) || math.IsInf(best, 0) {
		return plan, errors.New("the planner's probabilities are not numbers: are the weights damaged?")
	}
	total := 0.0
	for i, sum := range sums {
		plan.Probabilities[i] = math.Exp(sum - best)
		total += plan.Probabilities[i]
	}
	for i := range plan.Probabilities {
		plan.Probabilities[i] /= total
	}
	plan.Mass = min(1, total*math.Exp(best))
	return plan, nil
}

// Respond writes the reply under a strategy: the generator's after it was
// given, the vanilla model's as the continuation of the strategy's name.
func (s *Speaker) Respond(ctx context.Context, context []esc.Message, strategy esc.Strategy, sample int, emit func(string)) (string, bool, error) {
	var given []int32
	if s.role == esc.VM {
		given = s.b.Tok.EncodeText(strategy.Bracketed())
	}
	prompt, err := s.writer.enc.prompt(context, strategy, s.writer.max+1+len(given))
	if err != nil {
		return "", false, err
	}
	decoder := s.b.Tok.NewDecoder()
	told := 0
	s.writer.gen.Watch(func(_, _, position int, id int32) {
		if position == told { // not one that was told before a restart
			told++
			emit(decoder.Write(id))
		}
	})
	defer s.writer.gen.Watch(nil)
	s.writer.gen.Reseed(s.seed + uint64(sample))
	samples, err := s.writer.gen.Generate(ctx, []lm.Request{{Prompt: slices.Concat(prompt, given)}}, nil)
	if err != nil {
		return "", false, fmt.Errorf("reply: %w", err)
	}
	emit(decoder.Flush())
	one := samples[0][0]
	return esc.ParseAnswer(esc.RG, s.b.Tok.DecodeText(one.Tokens)).Response, !one.Stopped, nil
}
