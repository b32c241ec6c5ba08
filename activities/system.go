package activities

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/lm"
	"github.com/esclab/esclab/results"
	"github.com/esclab/esclab/results/models"
)

// reply is what a system's text says.
type reply struct {
	esc.Parsed
	cut bool
	// What a prompt baseline wrote before.
	draft, feedback, emotion string
}

// system replies to turns: one model, or a planner and a generator.
type system interface {
	// reply writes texts() texts a turn and tells tokens the length of each.
	reply(ctx context.Context, turns []esc.Turn, tokens func(int)) ([]reply, error)
	texts() int
	close()
}

// loadSystem loads the models of a row of Table 3 or 4.
func loadSystem(ctx context.Context, t *attempt, b *models.Backbone, p experiments.GenerateParams) (system, error) {
	switch {
	case p.Paradigm == experiments.Vanilla && p.Method.Texts() > 1:
		return prompted(b, p)
	case p.Paradigm == experiments.Vanilla:
		return loadVanilla(ctx, t, b, p)
	case p.Paradigm == experiments.Decoupled:
		return loadDecoupled(ctx, t, b, p)
	case p.Paradigm == experiments.Gold:
		return loadGold(ctx, t, b, p)
	}
	return nil, badInput(fmt.Errorf("unknown paradigm %q", p.Paradigm))
}

// vanillaSystem is one model that writes "[Strategy] response".
type vanillaSystem struct {
	vm    *models.Sampler
	drawn *drawnStrategies // nil: it writes the strategy itself
}

func loadVanilla(ctx context.Context, t *attempt, b *models.Backbone, p experiments.GenerateParams) (system, error) {
	adapter, err := loadAdapter(ctx, t, b, string(esc.VM))
	if err != nil {
		return nil, err
	}
	vm, err := b.Sampler(esc.VM, adapter, p.Sampling, p.Seed)
	if err != nil {
		return nil, err
	}
	s := &vanillaSystem{vm: vm}
	if p.Strategy == experiments.StrategyConstrained {
		if s.drawn, err = drawStrategies(b, esc.VM, adapter, p); err != nil {
			s.close()
			return nil, err
		}
	}
	return s, nil
}

func (s *vanillaSystem) reply(ctx context.Context, turns []esc.Turn, tokens func(int)) ([]reply, error) {
	if s.drawn == nil {
		return replies(ctx, s.vm, esc.VM, turns, nil, tokens)
	}
	drawn, err := s.drawn.draw(ctx, turns)
	if err != nil {
		return nil, err
	}
	answers, err := replies(ctx, s.vm, esc.VM, turns, drawn, tokens)
	for i := range answers {
		answers[i].Strategy = drawn[i]
	}
	return answers, err
}

func (s *vanillaSystem) texts() int { return 1 }

func (s *vanillaSystem) close() {
	s.vm.Close()
	s.drawn.close()
}

// decoupledSystem plans a strategy, then generates the response under it.
type decoupledSystem struct {
	sp    *models.Sampler  // nil where the plan is drawn
	drawn *drawnStrategies // nil where the planner writes the plan
	rg    *models.Sampler
}

func loadDecoupled(ctx context.Context, t *attempt, b *models.Backbone, p experiments.GenerateParams) (_ system, err error) {
	spAdapter, err := loadAdapter(ctx, t, b, string(esc.SP))
	if err != nil {
		return nil, err
	}
	rgAdapter, err := loadAdapter(ctx, t, b, string(esc.RG))
	if err != nil {
		return nil, err
	}
	s := &decoupledSystem{}
	if p.Strategy == experiments.StrategyConstrained {
		s.drawn, err = drawStrategies(b, esc.SP, spAdapter, p)
	} else {
		s.sp, err = b.Sampler(esc.SP, spAdapter, p.Planning(), p.Seed)
	}
	if err != nil {
		return nil, err
	}
	if s.rg, err = b.Sampler(esc.RG, rgAdapter, p.Sampling, p.Seed); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// plan gives each turn a strategy, or what stands in its place.
func (s *decoupledSystem) plan(ctx context.Context, turns []esc.Turn, tokens func(int)) ([]reply, error) {
	if s.drawn == nil {
		return replies(ctx, s.sp, esc.SP, turns, nil, tokens)
	}
	drawn, err := s.drawn.draw(ctx, turns)
	if err != nil {
		return nil, err
	}
	plans := make([]reply, len(turns))
	for i, strategy := range drawn {
		plans[i].Parsed = esc.Parsed{Strategy: strategy, OK: true}
	}
	return plans, nil
}

func (s *decoupledSystem) reply(ctx context.Context, turns []esc.Turn, tokens func(int)) ([]reply, error) {
	plans, err := s.plan(ctx, turns, tokens)
	if err != nil {
		return nil, err
	}
	// A plan that names no strategy leaves the generator with the strategy
	// that means none in particular; the prediction keeps the plan as unread.
	given := make([]esc.Strategy, len(turns))
	for i, plan := range plans {
		given[i] = plan.Strategy
		if !plan.Strategy.Valid() {
			given[i] = esc.Others
		}
	}
	answers, err := replies(ctx, s.rg, esc.RG, turns, given, tokens)
	if err != nil {
		return nil, err
	}
	for i := range answers {
		answers[i].Strategy = plans[i].Strategy
		answers[i].Reason = cmp.Or(plans[i].Reason, answers[i].Reason)
		answers[i].OK = answers[i].OK && plans[i].OK
		answers[i].cut = answers[i].cut || plans[i].cut
	}
	return answers, nil
}

func (s *decoupledSystem) texts() int {
	if s.drawn != nil {
		return 1
	}
	return 2
}

func (s *decoupledSystem) close() {
	if s.sp != nil {
		s.sp.Close()
	}
	s.drawn.close()
	if s.rg != nil {
		s.rg.Close()
	}
}

// goldSystem generates the response under the gold strategy (Table 4).
type goldSystem struct{ rg *models.Sampler }

func loadGold(ctx context.Context, t *attempt, b *models.Backbone, p experiments.GenerateParams) (system, error) {
	adapter, err := loadAdapter(ctx, t, b, string(esc.RG))
	if err != nil {
		return nil, err
	}
	rg, err := b.Sampler(esc.RG, adapter, p.Sampling, p.Seed)
	return &goldSystem{rg}, err
}

func (s *goldSystem) reply(ctx context.Context, turns []esc.Turn, tokens func(int)) ([]reply, error) {
	given := make([]esc.Strategy, len(turns))
	for i, turn := range turns {
		given[i] = turn.Strategy
	}
	answers, err := replies(ctx, s.rg, esc.RG, turns, given, tokens)
	for i := range answers {
		answers[i].Strategy = given[i]
	}
	return answers, err
}

func (s *goldSystem) texts() int { return 1 }
func (s *goldSystem) close()     { s.rg.Close() }

// drawnStrategies draws strategies from the exact probabilities of the eight names, so that every
// reply has one.
type drawnStrategies struct {
	planner     *models.Planner
	temperature float64 // 0 when greedy
	seed        uint64
}

func drawStrategies(b *models.Backbone, role esc.Role, adapter *lm.Adapter, p experiments.GenerateParams) (*drawnStrategies, error) {
	planner, err := b.Planner(role, adapter, lm.LogProbsOptions{Native: true})
	return &drawnStrategies{planner, p.Temperature, p.Seed}, err
}

// draw gives each turn the strategy at a quantile that is a function of the seed and the turn's place.
func (d *drawnStrategies) draw(ctx context.Context, turns []esc.Turn) ([]esc.Strategy, error) {
	scores, err := d.planner.Score(ctx, turns)
	if err != nil {
		return nil, err
	}
	names := results.StrategyNames{Tokens: d.planner.Names}
	drawn := make([]esc.Strategy, len(turns))
	for i, turn := range turns {
		key := esc.Draw(d.seed, "strategy", uint64(turn.Dialogue), uint64(turn.Index))
		quantile := float64(binary.LittleEndian.Uint64(key[:])>>11) / (1 << 53)
		sum := 0.0
		for strategy, p := range names.Probabilities(results.StrategyScores{LogProbabilities: scores[i]}, d.temperature) {
			if math.IsNaN(p) {
				return nil, fmt.Errorf("dialogue %d, turn %d: the probability of %s: %w", turn.Dialogue, turn.Index, esc.Strategy(strategy), lm.ErrNonFinite)
			}
			if p == 0 {
				continue
			}
			drawn[i] = esc.Strategy(strategy)
			if sum += p; sum > quantile {
				break
			}
		}
	}
	return drawn, nil
}

func (d *drawnStrategies) close() {
	if d != nil {
		d.planner.Close()
	}
}

// replies answers turns once each and takes the answers apart. A strategy that
// vm is given is the beginning of its message.
func replies(ctx context.Context, s *models.Sampler, role esc.Role, turns []esc.Turn, given []esc.Strategy, tokens func(int)) ([]reply, error) {
	requests := make([]models.Request, len(turns))
	reads := role
	for i, turn := range turns {
		requests[i] = models.Request{Turn: turn, Strategy: esc.NoStrategy, Samples: 1}
		if given == nil {
			continue
		}
		requests[i].Strategy = given[i]
		if role == esc.VM {
			reads = esc.RG
			requests[i].Build = func(context []esc.Message) (esc.Prompt, error) {
				prompt, err := s.Prompts().Prompt(esc.VM, context, esc.NoStrategy)
				prompt.AnswerPrefix = given[i].Bracketed()
				return prompt, err
			}
		}
	}
	texts, err := s.Answer(ctx, requests, tokens)
	if err != nil {
		return nil, err
	}
	answers := make([]reply, len(turns))
	for i := range turns {
		answers[i] = reply{Parsed: esc.ParseAnswer(reads, texts[i][0].Text), cut: texts[i][0].Cut}
	}
	return answers, nil
}
