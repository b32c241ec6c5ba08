package openai

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
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
	read   func(reply []byte) (T, error)
}

// maxReason bounds a reason in runes; longer ones are cut.
const maxReason = 240

var errorsTask = task[[]finding]{
	prompt: prompts.Errors,
	schema: object(errorNames(), func(string) map[string]any {
		return object([]string{"reason", "degree"}, func(name string) map[string]any {
			if name == "reason" {
				return map[string]any{"type": "string"}
			}
			return map[string]any{"type": "integer", "enum": []int{0, 1, 2}}
		})
	}),
	format: `Answer with one JSON object and nothing else: a key for each of ` + strings.Join(errorNames(), ", ") +
		`, and for each an object {"reason": "one short sentence", "degree": 0, 1 or 2}.`,
	read: readErrors,
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

var preferenceTask = task[choice]{
	prompt: prompts.Preference,
	schema: object([]string{"reason", "preferred"}, func(name string) map[string]any {
		if name == "reason" {
			return map[string]any{"type": "string"}
		}
		return map[string]any{"type": "string", "enum": []string{"first", "second", "tie"}}
	}),
	format: `Answer with one JSON object and nothing else: {"reason": "one short sentence", "preferred": "first", "second" or "tie"}.`,
	read:   readChoice,
}

var criteria = []string{"fluency", "professionalism", "empathy", "helpfulness"}

func errorNames() []string {
	var names []string
	for _, e := range esc.PsyErrors() {
		names = append(names, e.String())
	}
	return names
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

// graded is what the model says of one class or criterion.
type graded struct {
	Reason *string      `json:"reason"`
	Degree *json.Number `json:"degree"`
	Score  *json.Number `json:"score"`
}

func readErrors(reply []byte) ([]finding, error) {
	grades, err := readGrades(reply, errorNames())
	if err != nil {
		return nil, err
	}
	var found []finding
	for i, class := range esc.PsyErrors() {
		g := grades[i]
		degree, err := whole(class.String()+".degree", g.Degree, 2)
		if err != nil {
			return nil, err
		}
		if g.Score != nil {
			return nil, fmt.Errorf("%s has a score; it has reason and degree", class)
		}
		if degree > 0 {
			found = append(found, finding{class, line(*g.Reason), degree})
		}
	}
	return found, nil
}

func readScores(reply []byte) (judge.Scores, error) {
	grades, err := readGrades(reply, criteria)
	if err != nil {
		return judge.Scores{}, err
	}
	var scores [4]float64
	for i, name := range criteria {
		score, err := whole(name+".score", grades[i].Score, 5)
		if err != nil {
			return judge.Scores{}, err
		}
		if grades[i].Degree != nil {
			return judge.Scores{}, fmt.Errorf("%s has a degree; it has reason and score", name)
		}
		scores[i] = float64(score)
	}
	return judge.Scores{Fluency: scores[0], Professionalism: scores[1], Empathy: scores[2], Helpfulness: scores[3]}, nil
}

// choice is a preference in one order: 1 for the first reply, 0.5 for a tie.
type choice struct {
	share  float64
	reason string
}

func readChoice(reply []byte) (choice, error) {
	var c struct {
		Reason    *string `json:"reason"`
		Preferred string  `json:"preferred"`
	}
	if err := decode(reply, &c); err != nil {
		return choice{}, err
	}
	if c.Reason == nil {
		return choice{}, errors.New("reason is missing")
	}
	share, ok := map[string]float64{"first": 1, "tie": 0.5, "second": 0}[c.Preferred]
	if !ok {
		return choice{}, fmt.Errorf("preferred is %q; it is \"first\", \"second\" or \"tie\"", cut(c.Preferred, 40))
	}
	return choice{share, line(*c.Reason)}, nil
}

// readGrades reads an object with exactly these keys, in their order.
func readGrades(reply []byte, keys []string) ([]graded, error) {
	var all map[string]*graded
	if err := decode(reply, &all); err != nil {
		return nil, err
	}
	grades := make([]graded, len(keys))
	for i, key := range keys {
		g := all[key]
		switch {
		case g == nil:
			return nil, fmt.Errorf("%s is missing", key)
		case g.Reason == nil:
			return nil, fmt.Errorf("%s.reason is missing", key)
		}
		grades[i] = *g
	}
	if len(all) != len(keys) {
		return nil, fmt.Errorf("there are keys besides %s", strings.Join(keys, ", "))
	}
	return grades, nil
}

// whole reads a whole number from 0 to most.
func whole(name string, n *json.Number, most int) (int, error) {
	if n == nil {
		return 0, fmt.Errorf("%s is missing", name)
	}
	f, err := n.Float64()
	if err != nil || f != math.Trunc(f) || f < 0 || f > float64(most) {
		return 0, fmt.Errorf("%s is %s; it is a whole number from 0 to %d", name, cut(n.String(), 20), most)
	}
	return int(f), nil
}

// decode reads one JSON object, strictly. Models without constrained output
// like to put it into a code fence.
func decode(reply []byte, into any) error {
	reply = unfence(reply)
	d := json.NewDecoder(bytes.NewReader(reply))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("not the JSON object that was asked for: %s", cut(err.Error(), 160))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is text after the JSON object")
	}
	return nil
}

func unfence(reply []byte) []byte {
	reply = bytes.TrimSpace(reply)
	if inner, ok := bytes.CutPrefix(reply, []byte("```")); ok {
		if inner, ok = bytes.CutSuffix(inner, []byte("```")); ok {
			return bytes.TrimSpace(bytes.TrimPrefix(inner, []byte("json")))
		}
	}
	return reply
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

// transcript writes a context as lines. The user's " " between two answers of
// the supporter says nothing.
func transcript(context []esc.Message) string {
	var b strings.Builder
	for _, m := range context {
		text := strings.TrimSpace(m.Content)
		if text == "" {
			continue
		}
		who := "Seeker"
		if m.Role == esc.AssistantRole {
			who = "Supporter"
		}
		fmt.Fprintf(&b, "%s: %s\n", who, text)
	}
	return strings.TrimSuffix(b.String(), "\n")
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

func definitions() string {
	var b strings.Builder
	for _, e := range esc.PsyErrors() {
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
