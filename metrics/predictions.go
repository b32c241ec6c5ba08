package metrics

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"unicode/utf8"

	"github.com/esclab/esclab/internal/jsonerror"
)

// MaxLine is the longest line in bytes that Predictions takes.
const MaxLine = 1 << 20

// maxFaults bounds the lines of a file that an error names.
const maxFaults = 20

// Parser understands what the lines of predictions name.
type Parser struct {
	// Strategy gives the class of a strategy's name.
	Strategy func(name string) (int, error)
	// Answer takes a whole answer apart; the strategy is Unparsed where it names
	// none.
	Answer func(text string) (strategy int, response string)
}

// Predictions reads JSON lines, one predicted turn each:
//
//	{"gold_strategy": "Question", "gold_response": "...", "strategy": "Question", "response": "..."}
//
// with optional "dialogue" (string or number) and "turn", or as LLaMA-Factory's
// generated_predictions.jsonl has them, whole answers:
//
//	{"label": "[Question] ...", "predict": "[Question] ..."}
//
// Other keys are ignored and so are empty lines. A predicted strategy that is null
// or that the parser refuses becomes Unparsed; a gold one is an error, and so is
// text that is not UTF-8. An error comes last; it has all bad lines up to maxFaults,
// each of which begins with name:line.
func Predictions(r io.Reader, name string, parse Parser) iter.Seq2[Prediction, error] {
	return func(yield func(Prediction, error) bool) {
		err := eachPrediction(r, name, parse, func(p Prediction) bool { return yield(p, nil) })
		if err != nil {
			yield(Prediction{}, err)
		}
	}
}

// eachPrediction calls take for every prediction up to the first bad line, until it
// wants no more.
func eachPrediction(r io.Reader, name string, parse Parser, take func(Prediction) bool) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), MaxLine)
	var faults []error
	n, bad, good := 0, 0, 0
	for lines.Scan() {
		n++
		line := lines.Bytes()
		if n == 1 {
			line = bytes.TrimPrefix(line, []byte("\ufeff"))
		}
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		p, err := parsePrediction(line, parse)
		if !utf8.Valid(line) { // a JSON reader replaces such bytes without a word: the scores would be of another text
			err = errors.New("not UTF-8 text: save the file as UTF-8")
		}
		if err != nil {
			if bad++; bad <= maxFaults {
				faults = append(faults, fmt.Errorf("%s:%d: %w", name, n, err))
			}
			continue
		}
		if good++; bad == 0 && !take(p) {
			return nil
		}
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		faults = append(faults, fmt.Errorf("%s:%d: the line is longer than %d bytes: write one JSON object per line", name, n+1, MaxLine))
	} else if err != nil {
		faults = append(faults, fmt.Errorf("%s:%d: %w", name, n+1, err))
	}
	if bad > maxFaults {
		faults = append(faults, fmt.Errorf("%s: and %d more bad lines of %d", name, bad-maxFaults, n))
	}
	if len(faults) > 0 {
		return errors.Join(faults...)
	}
	if good == 0 {
		return fmt.Errorf("%s: %w", name, ErrNoSamples)
	}
	return nil
}

func parsePrediction(line []byte, parse Parser) (Prediction, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(line, &fields); err != nil {
		return Prediction{}, fmt.Errorf("not a JSON object: %w", jsonerror.Plain(err))
	}
	if _, own := fields["gold_strategy"]; !own && fields["label"] != nil && fields["predict"] != nil && parse.Answer != nil {
		return parseAnswers(fields, parse)
	}
	var p Prediction
	var goldStrategy string
	var strategy *string
	for _, f := range []struct {
		key  string
		into any
	}{
		{"gold_strategy", &goldStrategy},
		{"gold_response", &p.GoldResponse},
		{"strategy", &strategy},
		{"response", &p.Response},
	} {
		raw, ok := fields[f.key]
		if !ok {
			return Prediction{}, fmt.Errorf("%q is missing: every line needs gold_strategy, gold_response, strategy and response", f.key)
		}
		if f.key != "strategy" && bytes.Equal(raw, []byte("null")) {
			return Prediction{}, fmt.Errorf("%q is null", f.key)
		}
		if err := json.Unmarshal(raw, f.into); err != nil {
			return Prediction{}, fmt.Errorf("%q: %w", f.key, jsonerror.Plain(err))
		}
	}
	if raw, ok := fields["turn"]; ok {
		if err := json.Unmarshal(raw, &p.Turn); err != nil {
			return Prediction{}, fmt.Errorf(`"turn": %w`, jsonerror.Plain(err))
		}
	}
	if raw, ok := fields["dialogue"]; ok {
		if raw[0] != '"' {
			p.Dialogue = string(raw)
		} else if err := json.Unmarshal(raw, &p.Dialogue); err != nil {
			return Prediction{}, fmt.Errorf(`"dialogue": %w`, jsonerror.Plain(err))
		}
	}
	var err error
	if p.GoldStrategy, err = parse.Strategy(goldStrategy); err != nil {
		return Prediction{}, fmt.Errorf(`"gold_strategy": %w`, err)
	}
	p.Strategy = Unparsed
	if strategy != nil {
		if s, err := parse.Strategy(*strategy); err == nil {
			p.Strategy = s
		}
	}
	return p, nil
}

// parseAnswers takes a line of LLaMA-Factory's.
func parseAnswers(fields map[string]json.RawMessage, parse Parser) (Prediction, error) {
	var label, predict *string
	for key, into := range map[string]**string{"label": &label, "predict": &predict} {
		if err := json.Unmarshal(fields[key], into); err != nil {
			return Prediction{}, fmt.Errorf("%q: %w", key, err)
		}
		if *into == nil {
			return Prediction{}, fmt.Errorf("%q is null", key)
		}
	}
	var p Prediction
	if p.GoldStrategy, p.GoldResponse = parse.Answer(*label); p.GoldStrategy == Unparsed {
		return Prediction{}, errors.New(`"label" names no known strategy at its start, as in [Question] How are you?`)
	}
	p.Strategy, p.Response = parse.Answer(*predict)
	return p, nil
}
