package openai

import (
	"context"
	"errors"
	"strings"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/judge"
	"github.com/esclab/esclab/judge/prompts"
)

// Paper asks a model by the paper's protocol (section 6.1, appendices C and E):
// the gold reply as reference, one criterion a question, one label for the error
// class, and for mining's filter both sides of a pair at once.
type Paper struct{ *Client }

var (
	_ judge.Judge  = Paper{}
	_ judge.Filter = Paper{}
)

// criterionTask asks about one criterion of Table 8.
func criterionTask(prompt prompts.Task) task[float64] {
	return task[float64]{
		prompt: prompt,
		schema: object([]string{"reason", "score"}, func(name string) map[string]any {
			if name == "reason" {
				return map[string]any{"type": "string"}
			}
			return map[string]any{"type": "integer", "enum": []int{0, 1, 2, 3, 4, 5}}
		}),
		format: `Answer with one JSON object and nothing else: {"reason": "one short sentence", "score": a whole number from 0 to 5}.`,
		read:   readScore,
	}
}

// noError is the label of a reply without an error.
const noError = "none"

// classTask asks for the one class of a reply.
var classTask = task[[]finding]{
	prompt: prompts.Class, schema: labelSchema(esc.PsyErrors()), classes: esc.PsyErrors(),
	format: `Answer with one JSON object and nothing else: ` + labelFormat(esc.PsyErrors()) + `.`,
	read: func(reply []byte) ([]finding, error) {
		f, err := decode(reply, "reason", "error")
		if err != nil {
			return nil, err
		}
		return f.label(esc.PsyErrors())
	},
}

// filtered are the errors that the filter looks for (Figure 15).
var filtered = esc.RouteAll(esc.PsyErrors(), esc.ToGenerator)

// bothLabels are the classes of the two sides of a pair.
type bothLabels struct{ reference, reply []finding }

var filterTask = task[bothLabels]{
	prompt: prompts.Filter, classes: filtered,
	schema: object([]string{"reference", "reply"}, func(string) map[string]any { return labelSchema(filtered) }),
	format: `Answer with one JSON object and nothing else: {"reference": LABEL, "reply": LABEL}, each LABEL an object ` + labelFormat(filtered) + `.`,
	read: func(reply []byte) (both bothLabels, err error) {
		all, err := decode(reply, "reference", "reply")
		if err != nil {
			return both, err
		}
		for key, side := range map[string]*[]finding{"reference": &both.reference, "reply": &both.reply} {
			f, err := all.object(key, "reason", "error")
			if err != nil {
				return both, err
			}
			if *side, err = f.label(filtered); err != nil {
				return both, err
			}
		}
		return both, nil
	},
}

func labelSchema(classes []esc.PsyError) map[string]any {
	return object([]string{"reason", "error"}, func(name string) map[string]any {
		if name == "reason" {
			return map[string]any{"type": "string"}
		}
		return map[string]any{"type": "string", "enum": append([]string{noError}, names(classes)...)}
	})
}

// labels lists what a single label may be.
func labels(classes []esc.PsyError) string {
	return `"` + strings.Join(append([]string{noError}, names(classes)...), `", "`) + `"`
}

func labelFormat(classes []esc.PsyError) string {
	return `{"reason": "one short sentence", "error": one of ` + labels(classes) + `}`
}

func readScore(reply []byte) (float64, error) {
	f, err := decode(reply, "reason", "score")
	if err != nil {
		return 0, err
	}
	if _, err := f.text("reason"); err != nil {
		return 0, err
	}
	n, err := f.whole("score", 5)
	return float64(n), err
}

// label reads a single label: one finding, or none.
func (f fields) label(classes []esc.PsyError) ([]finding, error) {
	reason, err := f.text("reason")
	if err != nil {
		return nil, err
	}
	name, err := f.text("error")
	if err != nil {
		return nil, err
	}
	if name == noError {
		return nil, nil
	}
	for _, class := range classes {
		if class.String() == name {
			return []finding{{class, line(reason), 1}}, nil
		}
	}
	return nil, f.wrong("error", "one of "+labels(classes))
}

// beside gives what a question about an answer beside the gold one holds.
func beside(r judge.Request) (map[string]string, error) {
	if strings.TrimSpace(r.Reference) == "" {
		return nil, errors.New("the paper's protocol judges beside the gold reply, and there is none")
	}
	return map[string]string{
		"context": esc.Transcript(r.Context), "strategy": strategyName(r.Strategy), "response": r.Response, "gold": r.Reference,
	}, nil
}

// Label implements judge.Judge: at most one finding, besides what the comparison
// of the strategies gives.
func (p Paper) Label(ctx context.Context, r judge.Request) (judge.Verdict, error) {
	values, err := beside(r)
	if err != nil {
		return judge.Verdict{}, err
	}
	found, err := ask(ctx, p.Client, classTask, values)
	if err != nil {
		return judge.Verdict{}, err
	}
	return verdict(found, r), nil
}

// Score implements judge.Judge, in four questions.
func (p Paper) Score(ctx context.Context, r judge.Request) (judge.Scores, error) {
	var scores judge.Scores
	for i, criterion := range []prompts.Task{prompts.Fluency, prompts.Professionalism, prompts.Empathy, prompts.Helpfulness} {
		values, err := beside(r)
		if err != nil {
			return judge.Scores{}, err
		}
		if *scores.Fields()[i], err = ask(ctx, p.Client, criterionTask(criterion), values); err != nil {
			return judge.Scores{}, err
		}
	}
	return scores, nil
}

// Filter implements judge.Filter, in one question.
func (p Paper) Filter(ctx context.Context, r judge.Request) (reference, response judge.Verdict, err error) {
	values, err := beside(r)
	if err != nil {
		return reference, response, err
	}
	both, err := ask(ctx, p.Client, filterTask, values)
	if err != nil {
		return reference, response, err
	}
	return verdict(both.reference, judge.Request{Gold: esc.NoStrategy}), verdict(both.reply, r), nil
}
