package activities

import (
	"cmp"
	"context"
	"fmt"
	"os"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/workflows"
)

// filePredictions has one line per test turn, in the layout that `esclab
// score` reads.
const filePredictions = "predictions.jsonl"

// prediction is one system's reply to a test turn.
type prediction struct {
	Dialogue     int    `json:"dialogue"`
	Turn         int    `json:"turn"`
	GoldStrategy string `json:"gold_strategy"`
	GoldResponse string `json:"gold_response"`
	// Strategy is "" where the model's text names none.
	Strategy string `json:"strategy"`
	Response string `json:"response"`
	// Problem says why the model's text could not be read.
	Problem string `json:"problem,omitempty"`
	// Cut tells that a text of the reply reached the limit of new tokens before
	// the model ended it.
	Cut bool `json:"cut,omitempty"`
}

// Generate replies to the test turns with one system of Table 3.
func (a *Activities) Generate(ctx context.Context, in workflows.StageInput) (workflows.StageResult, error) {
	return a.execute(ctx, in, a.generate)
}

func (a *Activities) generate(ctx context.Context, t *attempt) (output, error) {
	params, err := experiments.ParamsOf[experiments.GenerateParams](t.in.Stage)
	if err != nil {
		return output{}, badInput(err)
	}
	k, err := t.loadKernel(ctx, params.Kernel)
	if err != nil {
		return output{}, err
	}
	corpus, err := t.readCorpus(ctx, fileTest)
	if err != nil {
		return output{}, err
	}
	var system system
	switch params.Paradigm {
	case experiments.Vanilla:
		system, err = t.vanilla(ctx, k, params)
	case experiments.Decoupled:
		system, err = t.decoupled(ctx, k, params)
	default:
		return output{}, badInput(fmt.Errorf("unknown paradigm %q", params.Paradigm))
	}
	if err != nil {
		return output{}, err
	}
	defer system.close()

	turns := drawTurns(esc.AllTurns(corpus[fileTest]), params.MaxTurns, params.Seed)
	if len(turns) == 0 {
		return output{}, badInput(fmt.Errorf("the test split has no supporter turn"))
	}
	rows, err := t.rows(ctx, "generate", len(params.Paradigm.Roles()), turns, func(ctx context.Context, turns []esc.Turn, tokens func(int)) ([]any, error) {
		replies, err := system.reply(ctx, turns, tokens)
		if err != nil {
			return nil, err
		}
		rows := make([]any, len(turns))
		for i, turn := range turns {
			rows[i] = predict(turn, replies[i])
		}
		return rows, nil
	})
	if err != nil {
		return output{}, err
	}
	path, err := t.create(filePredictions, func(f *os.File) error { _, err := f.Write(rows); return err })
	if err != nil {
		return output{}, err
	}
	predictions, err := decodeRows[prediction](rows)
	if err != nil {
		return output{}, err
	}
	unparsed, cut := 0, 0
	for _, p := range predictions {
		if p.Strategy == "" {
			unparsed++
		}
		if p.Cut {
			cut++
		}
	}
	return output{
		files:   map[string]string{filePredictions: path},
		metrics: map[string]float64{"turns": float64(len(predictions)), "unparsed": float64(unparsed), "cut": float64(cut)},
	}, nil
}

// reply is what a system's text says.
type reply struct {
	esc.Parsed
	cut bool
}

func predict(turn esc.Turn, reply reply) prediction {
	p := prediction{
		Dialogue: turn.Dialogue, Turn: turn.Index,
		GoldStrategy: turn.Strategy.String(), GoldResponse: turn.Response,
		Response: reply.Response, Problem: reply.Reason, Cut: reply.cut,
	}
	if reply.Strategy.Valid() {
		p.Strategy = reply.Strategy.String()
	}
	return p
}

// system replies to turns: one model, or a planner and a generator.
type system interface {
	reply(ctx context.Context, turns []esc.Turn, tokens func(int)) ([]reply, error)
	close()
}

// vanillaSystem is one model that writes "[Strategy] response".
type vanillaSystem struct{ vm *sampler }

func (t *attempt) vanilla(ctx context.Context, k *kernel, p experiments.GenerateParams) (system, error) {
	adapter, err := t.adapter(ctx, k, string(esc.VM))
	if err != nil {
		return nil, err
	}
	vm, err := k.sampler(esc.VM, adapter, p.Sampling, p.Seed)
	return &vanillaSystem{vm}, err
}

func (s *vanillaSystem) reply(ctx context.Context, turns []esc.Turn, tokens func(int)) ([]reply, error) {
	return replies(ctx, s.vm, esc.VM, turns, nil, tokens)
}

func (s *vanillaSystem) close() { s.vm.gen.Close() }

// decoupledSystem plans a strategy, then generates the response under it.
type decoupledSystem struct{ sp, rg *sampler }

// plannerTokens bound the planner's answer: a bracketed strategy and no more.
const plannerTokens = 16

func (t *attempt) decoupled(ctx context.Context, k *kernel, p experiments.GenerateParams) (system, error) {
	spAdapter, err := t.adapter(ctx, k, string(esc.SP))
	if err != nil {
		return nil, err
	}
	rgAdapter, err := t.adapter(ctx, k, string(esc.RG))
	if err != nil {
		return nil, err
	}
	planning := p.Sampling
	planning.MaxNewTokens = min(planning.MaxNewTokens, plannerTokens)
	sp, err := k.sampler(esc.SP, spAdapter, planning, p.Seed)
	if err != nil {
		return nil, err
	}
	rg, err := k.sampler(esc.RG, rgAdapter, p.Sampling, p.Seed)
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

func (s *decoupledSystem) close() {
	s.sp.gen.Close()
	s.rg.gen.Close()
}

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
		answers[i] = reply{esc.ParseAnswer(role, texts[i][0].text), texts[i][0].cut}
	}
	return answers, nil
}
