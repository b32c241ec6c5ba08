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
	"github.com/esclab/esclab/results/models"
)

// runMine is Inferential Preference Mining (section 4.1): the SFT model answers
// the train split, and what goes wrong is routed into preference pairs.
func runMine(ctx context.Context, t *attempt, params experiments.MineParams) (output, error) {
	role := params.Role
	b, err := loadBackbone(ctx, t, params.ModelParams)
	if err != nil {
		return output{}, err
	}
	corpus, err := readCorpus(ctx, t, results.FileTrain)
	if err != nil {
		return output{}, err
	}
	adapter, err := loadAdapter(ctx, t, b, "sft")
	if err != nil {
		return output{}, err
	}
	s, err := b.Sampler(role, adapter, params.Sampling, params.Seed)
	if err != nil {
		return output{}, err
	}
	defer s.Close()
	label, err := newLabeller(ctx, t, role, params.Judge)
	if err != nil {
		return output{}, err
	}

	turns := drawDialogues(esc.AllTurns(corpus[results.FileTrain]), params.MaxTurns, params.Seed)
	rows, err := makeRows(ctx, t, "mine", params.Samples, turns, func(ctx context.Context, turns []esc.Turn, tokens func(int)) ([]results.MinedSample, error) {
		requests := make([]models.Request, len(turns))
		for i, turn := range turns {
			requests[i] = models.Request{Turn: turn, Strategy: turn.Strategy, Samples: params.Samples}
		}
		texts, err := s.Answer(ctx, requests, tokens)
		if err != nil {
			return nil, err
		}
		rows := make([]results.MinedSample, len(turns)*params.Samples)
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
	samples := rows.all
	if err := neverStops(ctx, t, rows, len(chunk(turns))); err != nil {
		return output{}, err
	}
	faulty, err := faultyGold(ctx, turnsOfPairs(role, turns, samples), label)
	if err != nil {
		return output{}, err
	}
	pairs, found := makePairs(role, turns, samples, faulty, params)
	if label != nil {
		found.Judge = label.Name()
	}
	if i := slices.IndexFunc(samples, func(s results.MinedSample) bool { return s.Unjudged != "" }); i >= 0 {
		example := fmt.Sprintf("dialogue %d, turn %d: %s", samples[i].Dialogue, samples[i].Turn, samples[i].Unjudged)
		if err := tooFewVerdicts(t, found.Unjudged, found.Samples, "samples", example); err != nil {
			return output{}, err
		}
	}
	out, err := minedOutput(t, rows, pairs, found)
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

// labeller labels the psychological errors of responses.
type labeller struct{ judge.Judge }

// newLabeller gives the judge of a role's samples; the planner's need none, its
// error is the strategy itself.
func newLabeller(ctx context.Context, t *attempt, role esc.Role, model experiments.JudgeModel) (*labeller, error) {
	if role == esc.SP {
		return nil, nil
	}
	j, err := openJudge(ctx, t, model)
	if err != nil {
		return nil, err
	}
	return &labeller{j}, nil
}

func answerTo(turn esc.Turn, strategy esc.Strategy, response string) judge.Request {
	return judge.Request{Context: turn.Context, Gold: turn.Strategy, Strategy: strategy, Response: response, Reference: turn.Response}
}

// label labels a sample. A judge that filters pairs looks at the gold response
// beside it, and says whether that is faulty.
func (l *labeller) label(ctx context.Context, turn esc.Turn, strategy esc.Strategy, response string) (v judge.Verdict, faultyGold bool, err error) {
	request := answerTo(turn, strategy, response)
	filter, ok := l.Judge.(judge.Filter)
	if !ok {
		v, err = l.Label(ctx, request)
		return v, false, err
	}
	gold, v, err := filter.Filter(ctx, request)
	return v, len(gold.Findings) > 0, err
}

// turnsOfPairs finds the turns for which at least one sample can make a pair. Only
// their gold responses have to be judged.
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
func readSample(ctx context.Context, role esc.Role, turn esc.Turn, draw int, answer models.Answer, label *labeller) (results.MinedSample, error) {
	row := results.MinedSample{Place: turn.Place(), Draw: draw, Text: answer.Text, Strategy: esc.NoStrategy}
	if answer.Cut {
		// A pair would teach an end of turn that the model never wrote.
		row.Problem = cutProblem
		return row, nil
	}
	parsed := esc.ParseAnswer(role, answer.Text)
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
	v, faultyGold, err := label.label(ctx, turn, row.Strategy, row.Response)
	if errors.Is(err, judge.ErrUnusable) {
		row.Unjudged = err.Error()
		return row, nil
	}
	if err != nil {
		return row, fmt.Errorf("judge: dialogue %d, turn %d: %w", turn.Dialogue, turn.Index, err)
	}
	row.Errors, row.Reason, row.FaultyGold = v.Errors(), v.Reason(esc.ToGenerator), faultyGold
	return row, nil
}

// faultyGold finds the turns in whose gold response the same judge finds one of
// the errors, also one of those that make no pair and are only counted. A judge
// that filters pairs has looked at the gold responses with the samples.
func faultyGold(ctx context.Context, turns []esc.Turn, label *labeller) (map[esc.Place]bool, error) {
	faulty := map[esc.Place]bool{}
	if label == nil {
		return faulty, nil
	}
	if _, ok := label.Judge.(judge.Filter); ok {
		return faulty, nil
	}
	var mu sync.Mutex
	err := each(ctx, len(turns), func(i int) error {
		turn := turns[i]
		v, err := label.Label(ctx, answerTo(turn, turn.Strategy, turn.Response))
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
		if ok && (faulty[s.Place] || s.FaultyGold) {
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

func minedOutput(t *attempt, rows *rowFile[results.MinedSample], pairs []esc.Pair, found results.Mined) (output, error) {
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
	if out.files[results.FileSamples], err = t.create(results.FileSamples, rows.write); err != nil {
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
