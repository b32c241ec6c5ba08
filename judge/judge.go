// Package judge labels the psychological errors of supporters' answers and
// scores the answers' quality.
package judge

import (
	"context"

	"github.com/esclab/esclab/esc"
)

// Request is one answer in its place.
type Request struct {
	// Context is the chat before the answer, as in esc.Turn: user and
	// assistant in turn, the assistant's messages as "[Strategy] text".
	Context []esc.Message
	// Gold is the strategy that the corpus has at this place, NoStrategy if
	// it is unknown or should not count.
	Gold esc.Strategy
	// Strategy is the one that the answer names or was given, NoStrategy if
	// none could be read.
	Strategy esc.Strategy
	// Response is the answer's text without the strategy.
	Response string
}

// Finding is one psychological error with a reason in one line.
type Finding struct {
	Error  esc.PsyError `json:"error"`
	Reason string       `json:"reason"`
}

// Scores are the paper's four criteria (Table 8), each from 0 to 5.
type Scores struct {
	Fluency         float64 `json:"fluency"`
	Professionalism float64 `json:"professionalism"`
	Empathy         float64 `json:"empathy"`
	Helpfulness     float64 `json:"helpfulness"`
}

// Verdict is what a judge finds. Findings has each class at most once, the
// clearest first; it is empty for an answer without an error.
type Verdict struct {
	Findings []Finding `json:"findings"`
	Scores   Scores    `json:"scores"`
}

// Errors returns the classes found, the clearest first.
func (v Verdict) Errors() []esc.PsyError {
	var classes []esc.PsyError
	for _, f := range v.Findings {
		classes = append(classes, f.Error)
	}
	return classes
}

// Reason returns the reason of the first finding that routes to a destination,
// "" if there is none.
func (v Verdict) Reason(to esc.Destination) string {
	for _, f := range v.Findings {
		if esc.Route(f.Error) == to {
			return f.Reason
		}
	}
	return ""
}

// Judge labels and scores answers. Implementations are safe for concurrent
// use. Name changes whenever verdicts may change: it is part of fingerprints.
type Judge interface {
	Name() string
	Label(ctx context.Context, request Request) (Verdict, error)
}

var _ Judge = (*Offline)(nil)
