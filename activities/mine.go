package activities

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/judge"
	"github.com/esclab/esclab/results"
	"github.com/esclab/esclab/workflows"
)

// Mine is Inferential Preference Mining (section 4.1): the SFT model answers
// the train split, and what goes wrong is routed into preference pairs.
func (a *Activities) Mine(ctx context.Context, in workflows.StageInput) (workflows.StageResult, error) {
	return a.execute(ctx, in, a.mine)
}

func (a *Activities) mine(ctx context.Context, t *attempt) (output, error) {
	params, err := experiments.ParamsOf[experiments.MineParams](t.in.Stage)
	if err != nil {
		return output{}, badInput(err)
	}
	role := esc.Role(params.Role)
	k, err := t.loadKernel(ctx, params.Kernel)
	if err != nil {
		return output{}, err
	}
	corpus, err := t.readCorpus(ctx, results.FileTrain)
	if err != nil {
		return output{}, err
	}
	adapter, err := t.adapter(ctx, k, "sft")
	if err != nil {
		return output{}, err
	}
	s, err := k.sampler(role, adapter, params.Sampling, params.Seed)
	if err != nil {
		return output{}, err
	}
	defer s.gen.Close()
	label, judgeName, err := t.labeller(ctx, role, params.Judge)
	if err != nil {
		return output{}, err
	}

	turns := drawDialogues(esc.AllTurns(corpus[results.FileTrain]), params.MaxTurns, params.Seed)
	rows, err := t.rows(ctx, "mine", params.Samples, turns, func(ctx context.Context, turns []esc.Turn, tokens func(int)) ([]any, error) {
		requests := make([]request, len(turns))
		for i, turn := range turns {
			requests[i] = request{turn: turn, strategy: turn.Strategy, samples: params.Samples}
		}
		texts, err := s.answer(ctx, requests, tokens)
		if err != nil {
			return nil, err
		}
		rows := make([]any, len(turns)*params.Samples)
		err = each(ctx, len(rows), func(n int) (err error) {
			i, draw := n/params.Samples, n%params.Samples
			rows[n], err = readSample(ctx, role, turns[i], draw, texts[i][draw], label)
			return err
		})
		return rows, err
	})
	if err != nil {
		return output{}, err
	}
	samples, err := results.DecodeRows[results.MinedSample](rows)
	if err != nil {
		return output{}, err
	}
	if err := t.neverStops(ctx, samples, rows, len(chunk(turns))); err != nil {
		return output{}, err
	}
	faulty, err := faultyGold(ctx, turnsOfPairs(role, turns, samples), label)
	if err != nil {
		return output{}, err
	}
	pairs, found := makePairs(role, turns, samples, faulty, params)
	found.Judge = judgeName
	if i := slices.IndexFunc(samples, func(s results.MinedSample) bool { return s.Unjudged != "" }); i >= 0 {
		example := fmt.Sprintf("dialogue %d, turn %d: %s", samples[i].Dialogue, samples[i].Turn, samples[i].Unjudged)
		if err := t.tooFewVerdicts(found.Unjudged, found.Samples, "samples", example); err != nil {
			return output{}, err
		}
	}
	out, err := t.minedOutput(rows, pairs, found)
	if err != nil {
		return output{}, err
	}
	texts := make([]string, len(samples))
	for i, s := range samples {
		texts[i] = s.Text
	}
	if identical(texts) {
		t.suspicious(out.metrics, "identical", len(texts), "all samples are the same text: the model has collapsed")
	}
	return out, nil
}

// labelFunc labels the psychological errors of a response.
type labelFunc func(ctx context.Context, turn esc.Turn, strategy esc.Strategy, response string) (judge.Verdict, error)

// labeller gives the judge of a role's samples; the planner's need none, its
// error is the strategy itself.
func (t *attempt) labeller(ctx context.Context, role esc.Role, model experiments.JudgeModel) (labelFunc, string, error) {
	if role == esc.SP {
		return nil, "", nil
	}
	j, err := t.judge(ctx, model)
	if err != nil {
		return nil, "", err
	}
	return func(ctx context.Context, turn esc.Turn, strategy esc.Strategy, response string) (judge.Verdict, error) {
		return j.Label(ctx, judge.Request{Context: turn.Context, Gold: turn.Strategy, Strategy: strategy, Response: response})
	}, j.Name(), nil
}

// turnsOfPairs are the turns of which a sample can make a pair: only their gold
// responses have to be judged.
func turnsOfPairs(role esc.Role, turns []esc.Turn, samples []results.MinedSample) []esc.Turn {
	byPlace := make(map[esc.Place][]results.MinedSample, len(turns))
	for _, s := range samples {
		byPlace[s.Place] = append(byPlace[s.Place], s)
	}
	var of []esc.Turn
	for _, turn := range turns {
		if slices.ContainsFunc(byPlace[turn.Place()], func(s results.MinedSample) bool {
			_, ok := s.Pair(role, turn)
			return ok
		}) {
			of = append(of, turn)
		}
	}
	return of
}

// readSample takes an answer apart and has it labelled.
func readSample(ctx context.Context, role esc.Role, turn esc.Turn, draw int, answer answerText, label labelFunc) (results.MinedSample, error) {
	row := results.MinedSample{Place: turn.Place(), Draw: draw, Text: answer.text, Strategy: esc.NoStrategy}
	if answer.cut {
		// A pair would teach an end of turn that the model never wrote.
		row.Problem = cutProblem
		return row, nil
	}
	parsed := esc.ParseAnswer(role, answer.text)
	if !parsed.OK {
		row.Problem = parsed.Reason
		return row, nil
	}
	row.Strategy, row.Response = parsed.Strategy, parsed.Response
	if role == esc.RG {
		row.Strategy = turn.Strategy
	}
	if label == nil {
		return row, nil
	}
	v, err := label(ctx, turn, row.Strategy, row.Response)
	if errors.Is(err, judge.ErrUnusable) {
		row.Unjudged = err.Error()
		return row, nil
	}
	if err != nil {
		return row, fmt.Errorf("judge: dialogue %d, turn %d: %w", turn.Dialogue, turn.Index, err)
	}
	row.Errors, row.Reason = v.Errors(), v.Reason(esc.ToGenerator)
	return row, nil
}

// faultyGold finds the turns whose gold response has, by the same judge, one
// of the errors: those that are counted alone count here too.
func faultyGold(ctx context.Context, turns []esc.Turn, label labelFunc) (map[esc.Place]bool, error) {
	faulty := map[esc.Place]bool{}
	if label == nil {
		return faulty, nil
	}
	var mu sync.Mutex
	err := each(ctx, len(turns), func(i int) error {
		turn := turns[i]
		v, err := label(ctx, turn, turn.Strategy, turn.Response)
		unjudged := errors.Is(err, judge.ErrUnusable) // nobody vouches for it
		if err != nil && !unjudged {
			return fmt.Errorf("judge: gold response of dialogue %d, turn %d: %w", turn.Dialogue, turn.Index, err)
		}
		mu.Lock()
		defer mu.Unlock()
		faulty[turn.Place()] = unjudged || len(v.Findings) > 0
		return nil
	})
	return faulty, err
}

// makePairs routes the samples into pairs and bounds them. The quality filter
// (figure 15): the chosen side of a pair has none of the errors, the rejected
// side at least one, which esc.MakePair sees to. The planner's chosen side is
// the gold strategy itself.
func makePairs(role esc.Role, turns []esc.Turn, samples []results.MinedSample, faulty map[esc.Place]bool, params experiments.MineParams) ([]esc.Pair, results.Mined) {
	byPlace := make(map[esc.Place]esc.Turn, len(turns))
	for _, turn := range turns {
		byPlace[turn.Place()] = turn
	}
	found := results.Mined{Turns: len(turns), Samples: len(samples), Errors: map[esc.PsyError]int{}}
	var candidates []esc.Pair
	for _, s := range samples {
		if s.Problem != "" {
			found.Unparsed++
			continue
		}
		if s.Unjudged != "" {
			found.Unjudged++
			continue
		}
		for _, e := range s.Errors {
			found.Errors[e]++
		}
		pair, ok := s.Pair(role, byPlace[s.Place])
		if ok && faulty[s.Place] {
			found.FaultyChosen++
			continue
		}
		if ok {
			candidates = append(candidates, pair)
		}
	}
	caps := params.Caps
	pairs, counts := esc.Select(candidates, esc.Selection{Seed: params.Seed, PerTurn: caps.PerTurn, PerError: map[esc.PsyError]int{
		esc.StrategyMismatch:  caps.StrategyMismatch,
		esc.LackOfEmpathy:     caps.LackOfEmpathy,
		esc.EarlyEmotionShift: caps.EarlyEmotionShift,
		esc.TemplateResponse:  caps.TemplateResponse,
	}})
	found.Mined = counts
	return pairs, found
}

func (t *attempt) minedOutput(rows []byte, pairs []esc.Pair, found results.Mined) (output, error) {
	out := output{files: map[string]string{}, metrics: map[string]float64{
		"samples": float64(found.Samples), "unparsed": float64(found.Unparsed), "pairs": float64(len(pairs)), "faulty_chosen": float64(found.FaultyChosen),
	}}
	if found.Unjudged > 0 {
		out.metrics["unjudged"] = float64(found.Unjudged)
	}
	for kind, n := range found.PerKind {
		out.metrics["pairs_"+string(kind)] = float64(n)
	}
	var err error
	if out.files[results.FileSamples], err = t.create(results.FileSamples, func(f *os.File) error { _, err := f.Write(rows); return err }); err != nil {
		return output{}, err
	}
	if out.files[results.FilePairs], err = t.create(results.FilePairs, func(f *os.File) error { return esc.WritePairs(f, pairs) }); err != nil {
		return output{}, err
	}
	if out.files[results.FileMined], err = t.createJSON(results.FileMined, found); err != nil {
		return output{}, err
	}
	return out, nil
}
