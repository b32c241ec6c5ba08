package activities

import (
	"cmp"
	"context"
	"fmt"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
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
type vanillaSystem struct{ vm *models.Sampler }

func loadVanilla(ctx context.Context, t *attempt, b *models.Backbone, p experiments.GenerateParams) (system, error) {
	adapter, err := loadAdapter(ctx, t, b, string(esc.VM))
	if err != nil {
		return nil, err
	}
	vm, err := b.Sampler(esc.VM, adapter, p.Sampling, p.Seed)
	return &vanillaSystem{vm}, err
}

func (s *vanillaSystem) reply(ctx context.Context, turns []esc.Turn, tokens func(int)) ([]reply, error) {
	return replies(ctx, s.vm, esc.VM, turns, nil, tokens)
}

func (s *vanillaSystem) texts() int { return 1 }
func (s *vanillaSystem) close()     { s.vm.Close() }

// decoupledSystem plans a strategy, then generates the response under it.
type decoupledSystem struct{ sp, rg *models.Sampler }

// plannerTokens bound the planner's answer: a bracketed strategy and no more.
const plannerTokens = 16

func loadDecoupled(ctx context.Context, t *attempt, b *models.Backbone, p experiments.GenerateParams) (system, error) {
	spAdapter, err := loadAdapter(ctx, t, b, string(esc.SP))
	if err != nil {
		return nil, err
	}
	rgAdapter, err := loadAdapter(ctx, t, b, string(esc.RG))
	if err != nil {
		return nil, err
	}
	planning := p.Sampling
	planning.MaxNewTokens = min(planning.MaxNewTokens, plannerTokens)
	sp, err := b.Sampler(esc.SP, spAdapter, planning, p.Seed)
	if err != nil {
		return nil, err
	}
	rg, err := b.Sampler(esc.RG, rgAdapter, p.Sampling, p.Seed)
	if err != nil {
		sp.Close()
		return nil, err
	}
	return &decoupledSystem{sp, rg}, nil
}

func (s *decoupledSystem) reply(ctx context.Context, turns []esc.Turn, tokens func(int)) ([]reply, error) {
	plans, err := replies(ctx, s.sp, esc.SP, turns, nil, tokens)
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

func (s *decoupledSystem) texts() int { return 2 }

func (s *decoupledSystem) close() {
	s.sp.Close()
	s.rg.Close()
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

// replies answers turns once each and takes the answers apart.
func replies(ctx context.Context, s *models.Sampler, role esc.Role, turns []esc.Turn, given []esc.Strategy, tokens func(int)) ([]reply, error) {
	requests := make([]models.Request, len(turns))
	for i, turn := range turns {
		requests[i] = models.Request{Turn: turn, Strategy: esc.NoStrategy, Samples: 1}
		if given != nil {
			requests[i].Strategy = given[i]
		}
	}
	texts, err := s.Answer(ctx, requests, tokens)
	if err != nil {
		return nil, err
	}
	answers := make([]reply, len(turns))
	for i := range turns {
		answers[i] = reply{Parsed: esc.ParseAnswer(role, texts[i][0].Text), cut: texts[i][0].Cut}
	}
	return answers, nil
}
