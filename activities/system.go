package activities

import (
	"cmp"
	"context"
	"fmt"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
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
func loadSystem(ctx context.Context, t *attempt, b *backbone, p experiments.GenerateParams) (system, error) {
	switch {
	case p.Paradigm == experiments.Vanilla && p.Method.Texts() > 1:
		return b.prompted(p)
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
type vanillaSystem struct{ vm *sampler }

func loadVanilla(ctx context.Context, t *attempt, b *backbone, p experiments.GenerateParams) (system, error) {
	adapter, err := loadAdapter(ctx, t, b, string(esc.VM))
	if err != nil {
		return nil, err
	}
	vm, err := b.sampler(esc.VM, adapter, p.Sampling, p.Seed)
	return &vanillaSystem{vm}, err
}

func (s *vanillaSystem) reply(ctx context.Context, turns []esc.Turn, tokens func(int)) ([]reply, error) {
	return replies(ctx, s.vm, esc.VM, turns, nil, tokens)
}

func (s *vanillaSystem) texts() int { return 1 }
func (s *vanillaSystem) close()     { s.vm.gen.Close() }

// decoupledSystem plans a strategy, then generates the response under it.
type decoupledSystem struct{ sp, rg *sampler }

// plannerTokens bound the planner's answer: a bracketed strategy and no more.
const plannerTokens = 16

func loadDecoupled(ctx context.Context, t *attempt, b *backbone, p experiments.GenerateParams) (system, error) {
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
	sp, err := b.sampler(esc.SP, spAdapter, planning, p.Seed)
	if err != nil {
		return nil, err
	}
	rg, err := b.sampler(esc.RG, rgAdapter, p.Sampling, p.Seed)
	if err != nil {
		sp.gen.Close()
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
	s.sp.gen.Close()
	s.rg.gen.Close()
}

// goldSystem generates the response under the gold strategy (Table 4).
type goldSystem struct{ rg *sampler }

func loadGold(ctx context.Context, t *attempt, b *backbone, p experiments.GenerateParams) (system, error) {
	adapter, err := loadAdapter(ctx, t, b, string(esc.RG))
	if err != nil {
		return nil, err
	}
	rg, err := b.sampler(esc.RG, adapter, p.Sampling, p.Seed)
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
func (s *goldSystem) close()     { s.rg.gen.Close() }

// replies answers turns once each and takes the answers apart.
func replies(ctx context.Context, s *sampler, role esc.Role, turns []esc.Turn, given []esc.Strategy, tokens func(int)) ([]reply, error) {
	requests := make([]request, len(turns))
	for i, turn := range turns {
		requests[i] = request{turn: turn, strategy: esc.NoStrategy, samples: 1}
		if given != nil {
			requests[i].strategy = given[i]
		}
	}
	texts, err := s.answer(ctx, requests, tokens)
	if err != nil {
		return nil, err
	}
	answers := make([]reply, len(turns))
	for i := range turns {
		answers[i] = reply{Parsed: esc.ParseAnswer(role, texts[i][0].text), cut: texts[i][0].cut}
	}
	return answers, nil
}
