package openai

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/judge"
	"github.com/esclab/esclab/judge/prompts"
)

// task is a question: its prompt, the form of its answer, and how the answer
// is read. read's errors are told to the model.
type task[T any] struct {
	prompt prompts.Task
	schema map[string]any
	format string // the schema in words, for {{format}}
	// classes are the errors that the question is about, for {{definitions}}.
	classes []esc.PsyError
	read    func(reply []byte) (T, error)
}

// maxReason bounds a reason in runes; longer ones are cut.
const maxReason = 240

var errorsTask = task[[]finding]{
	prompt: prompts.Errors,
	schema: object(names(esc.PsyErrors()), func(string) map[string]any {
		return object([]string{"reason", "degree"}, func(name string) map[string]any {
			if name == "reason" {
				return map[string]any{"type": "string"}
			}
			return map[string]any{"type": "integer", "enum": []int{0, 1, 2}}
		})
	}),
	format: `Answer with one JSON object and nothing else: a key for each of ` + strings.Join(names(esc.PsyErrors()), ", ") +
		`, and for each an object {"reason": "one short sentence", "degree": 0, 1 or 2}.`,
	classes: esc.PsyErrors(),
	read:    readErrors,
}

var scoresTask = task[judge.Scores]{
	prompt: prompts.Scores,
	schema: object(criteria, func(string) map[string]any {
		return object([]string{"reason", "score"}, func(name string) map[string]any {
			if name == "reason" {
				return map[string]any{"type": "string"}
			}
			return map[string]any{"type": "integer", "enum": []int{0, 1, 2, 3, 4, 5}}
		})
	}),
	format: `Answer with one JSON object and nothing else: a key for each of ` + strings.Join(criteria, ", ") +
		`, and for each an object {"reason": "one short sentence", "score": a whole number from 0 to 5}.`,
	read: readScores,
}

var preferenceTask = task[preferred]{
	prompt: prompts.Preference,
	schema: object([]string{"reason", "preferred"}, func(name string) map[string]any {
		if name == "reason" {
			return map[string]any{"type": "string"}
		}
		return map[string]any{"type": "string", "enum": []string{"first", "second", "tie"}}
	}),
	format: `Answer with one JSON object and nothing else: {"reason": "one short sentence", "preferred": "first", "second" or "tie"}.`,
	read:   readPreferred,
}

var criteria = []string{"fluency", "professionalism", "empathy", "helpfulness"}

func names(classes []esc.PsyError) []string {
	var all []string
	for _, e := range classes {
		all = append(all, e.String())
	}
	return all
}

// object is the JSON schema of an object with exactly these keys, in the form
// that strict structured outputs ask for.
func object(keys []string, of func(key string) map[string]any) map[string]any {
	properties := map[string]any{}
	for _, key := range keys {
		properties[key] = of(key)
	}
	return map[string]any{"type": "object", "properties": properties, "required": keys, "additionalProperties": false}
}

// finding is one class as the model sees it.
type finding struct {
	class  esc.PsyError
	reason string
	degree int
}

func readErrors(reply []byte) ([]finding, error) {
	grades, err := readGrades(reply, names(esc.PsyErrors()), "degree", 2)
	if err != nil {
		return nil, err
	}
	var found []finding
	for i, class := range esc.PsyErrors() {
		if g := grades[i]; g.n > 0 {
			found = append(found, finding{class, g.reason, g.n})
		}
	}
	return found, nil
}

func readScores(reply []byte) (judge.Scores, error) {
	grades, err := readGrades(reply, criteria, "score", 5)
	if err != nil {
		return judge.Scores{}, err
	}
	score := func(i int) float64 { return float64(grades[i].n) }
	return judge.Scores{Fluency: score(0), Professionalism: score(1), Empathy: score(2), Helpfulness: score(3)}, nil
}

// preferred is a preference in one order: 1 for the first reply, 0.5 for a tie.
type preferred struct {
	share  float64
	reason string
}

func readPreferred(reply []byte) (preferred, error) {
	f, err := decode(reply, "reason", "preferred")
	if err != nil {
		return preferred{}, err
	}
	reason, err := f.text("reason")
	if err != nil {
		return preferred{}, err
	}
	which, err := f.text("preferred")
	if err != nil {
		return preferred{}, err
	}
	share, ok := map[string]float64{"first": 1, "tie": 0.5, "second": 0}[which]
	if !ok {
		return preferred{}, f.wrong("preferred", `"first", "second" or "tie"`)
	}
	return preferred{share, line(reason)}, nil
}

// grade is what the model says of one class or criterion.
type grade struct {
	reason string
	n      int
}

// readGrades reads an object with exactly these keys, in their order: of each a
// reason, and under the name a whole number from 0 to most.
func readGrades(reply []byte, keys []string, name string, most int) ([]grade, error) {
	all, err := decode(reply, keys...)
	if err != nil {
		return nil, err
	}
	grades := make([]grade, len(keys))
	for i, key := range keys {
		f, err := all.object(key, "reason", name)
		if err != nil {
			return nil, err
		}
		reason, err := f.text("reason")
		if err != nil {
			return nil, err
		}
		if grades[i].n, err = f.whole(name, most); err != nil {
			return nil, err
		}
		grades[i].reason = line(reason)
	}
	return grades, nil
}

// verdict turns the model's findings into a verdict: graver ones first, then
// in the classes' order.
func verdict(found []finding, r judge.Request) judge.Verdict {
	found = slices.Clone(found)
	if r.Gold.Valid() {
		found = slices.DeleteFunc(found, func(f finding) bool { return f.class == esc.StrategyMismatch })
		if r.Strategy.Valid() && r.Strategy != r.Gold {
			found = append(found, finding{esc.StrategyMismatch, judge.WrongStrategy(r), 2})
		}
	}
	slices.SortFunc(found, func(a, b finding) int {
		return cmp.Or(cmp.Compare(b.degree, a.degree), cmp.Compare(a.class, b.class))
	})
	var v judge.Verdict
	for _, f := range found {
		v.Findings = append(v.Findings, judge.Finding{Error: f.class, Reason: f.reason})
	}
	return v
}

func strategyName(s esc.Strategy) string {
	if !s.Valid() {
		return "none"
	}
	return s.String()
}

// strategies and definitions are what the placeholders of these names hold.
func strategies() string {
	var b strings.Builder
	for _, s := range esc.Strategies() {
		fmt.Fprintf(&b, "- %s: %s\n", s, s.Definition())
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func definitions(classes []esc.PsyError) string {
	var b strings.Builder
	for _, e := range classes {
		fmt.Fprintf(&b, "- %s: %s\n", e, e.Definition())
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// line makes one line of a model's reason, within bounds.
func line(s string) string { return cut(strings.Join(strings.Fields(s), " "), maxReason) }

// cut bounds a text in runes.
func cut(s string, most int) string {
	if r := []rune(strings.ToValidUTF8(s, "\uFFFD")); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
