// Package judge labels the psychological errors of supporters' answers, scores
// the answers' quality and compares answers. It holds the offline judge;
// judge/openai has the one that asks a language model.
package judge

import (
	"context"
	"errors"

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
	// Reference is the gold answer's text, which a judge by the paper's protocol
	// is shown; others do not look at it.
	Reference string
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

// Fields points at the four scores, in that order.
func (s *Scores) Fields() [4]*float64 {
	return [4]*float64{&s.Fluency, &s.Professionalism, &s.Empathy, &s.Helpfulness}
}

// Verdict is what a judge finds. Findings has each class at most once, the
// clearest first; it is empty for an answer without an error.
type Verdict struct {
	Findings []Finding `json:"findings"`
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

// Comparison is two answers to the same context.
type Comparison struct {
	Context       []esc.Message // as in Request
	First, Second string        // texts without strategies
}

// Preference is which of two answers a judge prefers, asked in both orders so
// that a liking for the first or the second place cancels out.
type Preference struct {
	// First is the share of the two orders in which the first answer of the
	// Comparison is preferred; a tie counts half: 0, 0.25, … 1.
	First float64 `json:"first"`
	// Reasons are those given in the Comparison's order and in the other.
	Reasons [2]string `json:"reasons"`
}

// Judge labels, scores and compares answers. Implementations are safe for
// concurrent use, and their results depend on the arguments alone. Name changes
// whenever results may change.
//
// An error that wraps ErrUnusable concerns the one answer; any other, all.
type Judge interface {
	Name() string
	// Label finds an answer's psychological errors.
	Label(ctx context.Context, request Request) (Verdict, error)
	// Score grades an answer; the gold strategy does not count.
	Score(ctx context.Context, request Request) (Scores, error)
	// Prefer compares two answers.
	Prefer(ctx context.Context, pair Comparison) (Preference, error)
}

// Filter is a judge that looks at both sides of a preference pair at once, in
// place of labelling each by itself.
type Filter interface {
	// Filter finds of the errors that make response pairs (esc.ToGenerator) the
	// one that the reference makes, and the one that the response makes.
	// As in Label, a gold strategy in the request is compared with the answer's.
	Filter(ctx context.Context, request Request) (reference, response Verdict, err error)
}

// ErrUnusable means that the judge, although asked repeatedly, gave no answer that
// can be used: it declines to judge this text, or does not keep to the format.
var ErrUnusable = errors.New("the judge gave no usable answer")

// Cache keeps the replies of a judge that is paid for, so that no question is
// asked twice. Keys are lower-case hexadecimal SHA-256. Implementations are
// safe for concurrent use.
type Cache interface {
	// Get returns the value under a key; found is false where there is none
	// that is whole.
	Get(ctx context.Context, key string) (value []byte, found bool, err error)
	// Put stores a JSON value under a key unless there is one already, and
	// returns the one that is stored.
	Put(ctx context.Context, key string, value []byte) ([]byte, error)
}

var _ Judge = (*Offline)(nil)
