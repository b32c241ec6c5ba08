package metrics

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/esclab/esclab/internal/jsonerror"
)

// MaxLine is the longest line in bytes that ReadPredictions takes.
const MaxLine = 1 << 20

// ReadPredictions reads JSON lines, one predicted turn each:
//
//	{"gold_strategy": "Question", "gold_response": "...", "strategy": "Question", "response": "..."}
//
// with optional "dialogue" (string or number) and "turn". Other keys are
// ignored and so are empty lines. The strategies go through parse. A predicted
// strategy that is null or that parse refuses becomes Unparsed; a gold one is
// an error, and so is text that is not UTF-8. Errors begin with name:line.
func ReadPredictions(r io.Reader, name string, parse func(string) (int, error)) ([]Prediction, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), MaxLine)
	var out []Prediction
	n := 0
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
			return nil, fmt.Errorf("%s:%d: %w", name, n, err)
		}
		out = append(out, p)
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return nil, fmt.Errorf("%s:%d: the line is longer than %d bytes: write one JSON object per line", name, n+1, MaxLine)
	} else if err != nil {
		return nil, fmt.Errorf("%s:%d: %w", name, n+1, err)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s: %w", name, ErrNoSamples)
	}
	return out, nil
}

func parsePrediction(line []byte, parse func(string) (int, error)) (Prediction, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(line, &fields); err != nil {
		return Prediction{}, fmt.Errorf("not a JSON object: %w", jsonerror.Plain(err))
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
	if p.GoldStrategy, err = parse(goldStrategy); err != nil {
		return Prediction{}, fmt.Errorf(`"gold_strategy": %w`, err)
	}
	p.Strategy = Unparsed
	if strategy != nil {
		if s, err := parse(*strategy); err == nil {
			p.Strategy = s
		}
	}
	return p, nil
}
