package judge

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/esclab/esclab/esc"
)

// OfflineName names the offline judge and its version.
const OfflineName = "offline-lexical-v3"

// Offline is a deterministic judge without a language model: word lists, hashed
// words with fitted weights, and, where fitted, n-gram counts of a corpus.
//
// For each of the five classes it collects evidence, each piece with points
// for or against. A logistic regression over these points, other signs and
// hashed words, fitted to an LLM's labels of FailedESConv, decides; evidence
// beyond doubt decides by itself. Quality rests on merit: whether an answer
// belongs to its place, and has more to it than the canned ones of the fit.
// It sees surfaces, not meanings: irony, indirect empathy and facts escape it.
// How far it agrees with an LLM's labels is measured in this package's tests.
type Offline struct {
	usage  *Usage
	tables *tables
}

// NewOffline returns the offline judge. usage, counted on the train split by
// FitUsage, lets it recognise stock answers and unusual word order; without it
// (nil) it relies on its own list.
func NewOffline(usage *Usage) *Offline { return &Offline{usage, fitted()} }

// Name implements Judge.
func (*Offline) Name() string { return OfflineName }

// Label implements Judge; it fails only when ctx is done.
func (o *Offline) Label(ctx context.Context, request Request) (Verdict, error) {
	if err := ctx.Err(); err != nil {
		return Verdict{}, fmt.Errorf("offline judge: %w", err)
	}
	return o.tables.label(o.observe(request)), nil
}

// Score implements Judge; it fails only when ctx is done.
func (o *Offline) Score(ctx context.Context, request Request) (Scores, error) {
	if err := ctx.Err(); err != nil {
		return Scores{}, fmt.Errorf("offline judge: %w", err)
	}
	request.Gold = esc.NoStrategy
	s := o.observe(request)
	return score(s, o.tables.label(s).Errors()), nil
}

// Prefer implements Judge by the sums of the scores, which do not depend on the
// order of the answers. A difference of less than one of the twenty points is a
// tie.
func (o *Offline) Prefer(ctx context.Context, pair Comparison) (Preference, error) {
	var sums [2]float64
	for i, response := range []string{pair.First, pair.Second} {
		s, err := o.Score(ctx, Request{Context: pair.Context, Gold: esc.NoStrategy, Strategy: esc.NoStrategy, Response: response})
		if err != nil {
			return Preference{}, err
		}
		sums[i] = s.Fluency + s.Professionalism + s.Empathy + s.Helpfulness
	}
	reason := fmt.Sprintf("scores sum to %.2f and %.2f", sums[0], sums[1])
	p := Preference{First: 0.5, Reasons: [2]string{reason, reason}}
	switch d := sums[0] - sums[1]; {
	case d >= 1:
		p.First = 1
	case d <= -1:
		p.First = 0
	}
	return p, nil
}

// pointsOf sums each class' evidence.
func pointsOf(s signs) (points [esc.NumPsyErrors]int) {
	// The classifier knows the strategy's evidence without a gold strategy.
	s.request.Gold = esc.NoStrategy
	for class := range points {
		points[class] = classes[class].evidence(s).total
	}
	return points
}

// decided says whether a class is reported, by its points and the classifier's
// margin.
func decided(class esc.PsyError, points int, margin float64) bool {
	c := classes[class]
	return points >= c.certain || points >= c.least && margin >= 0
}

// label reports the classes that the classifier finds, and those whose evidence
// is beyond doubt. With a gold strategy in the request the strategies alone
// decide about a mismatch.
func (t *tables) label(s signs) Verdict {
	type scored struct {
		Finding
		margin float64
	}
	points := pointsOf(s)
	x := t.labelFeatures(s, points)
	var found []scored
	for _, class := range esc.PsyErrors() {
		sum := classes[class].evidence(s)
		margin := t.margin(class, x)
		holds := decided(class, points[class], margin)
		if class == esc.StrategyMismatch && s.request.Gold.Valid() {
			holds = sum.total > 0
		}
		if holds {
			reason := sum.reason()
			if reason == "" {
				reason = class.Definition()
			}
			found = append(found, scored{Finding{class, reason}, max(margin, 0)})
		}
	}
	slices.SortStableFunc(found, func(a, b scored) int { return cmp.Compare(b.margin, a.margin) })
	var v Verdict
	for _, f := range found {
		v.Findings = append(v.Findings, f.Finding)
	}
	return v
}

// signs is what the judge observes about an answer.
type signs struct {
	request  Request
	response phrases
	last     phrases  // the seeker's message before the answer
	recent   phrases  // the seeker's last three messages
	previous []string // words of the answer before
	n        int      // words of the response
	answers  int      // supporter's answers before this one

	distress, distressRecent []string // words of feeling and trouble
	feelings                 []string // the response's words of feeling
	acknowledges, directs    string   // first phrase found, or ""
	cheers, presses, hostile string
	dismisses, stock         string
	question                 bool
	several                  bool // the seeker's message has several lines
	asked                    bool // the seeker asked for advice or facts
	closing, opening         bool
	shared                   int  // content words shared with the seeker's recent messages
	content                  int  // content words of the response
	repeated                 bool // said before in this conversation
	usage                    usageOf
	merit                    merit
}

func (o *Offline) observe(request Request) signs {
	said := wordsOf(request.Context)
	var users, assistants [][]string
	last := ""
	for i, m := range request.Context {
		switch m.Role {
		case esc.UserRole:
			users, last = append(users, said[i]), m.Content
		case esc.AssistantRole:
			assistants = append(assistants, said[i])
		}
	}
	recent := users[max(0, len(users)-3):]
	s := signs{
		request:  request,
		response: prepare(request.Response),
		recent:   joined(slices.Concat(recent...)),
		answers:  len(assistants),
		question: strings.Contains(request.Response, "?"),
		several:  strings.Contains(last, "\n"),
		merit:    o.tables.merit(request.Context, said, request.Response),
	}
	if len(users) > 0 {
		s.last = joined(users[len(users)-1])
	}
	if len(assistants) > 0 {
		s.previous = assistants[len(assistants)-1]
	}
	s.n = len(s.response.words)
	s.distress, s.distressRecent = distressOf(s.last), distressOf(s.recent)
	for _, group := range feelingGroups {
		s.feelings = append(s.feelings, s.response.in(group.words)...)
	}
	s.acknowledges = s.response.find(acknowledging)
	s.directs = s.response.find(directive)
	s.cheers = s.response.find(cheering)
	s.presses = s.response.find(pressing)
	if !s.response.has(exonerating) {
		s.hostile = s.response.find(hostile)
	}
	s.dismisses = s.response.find(dismissing)
	s.stock = s.response.find(stock)
	s.asked = s.last.has(asking)
	s.closing = s.last.has(seekerCloses) && s.response.has(closing)
	s.opening = s.answers <= 1 && len(s.distressRecent) == 0
	responseContent := s.response.content()
	s.content = len(responseContent)
	s.shared = common(responseContent, s.recent.content())
	for _, before := range assistants {
		s.repeated = s.repeated || s.n > 0 && slices.Equal(before, s.response.words)
	}
	s.usage = o.usage.of(s.response.words)
	return s
}

func distressOf(p phrases) []string {
	var found []string
	for _, group := range feelingGroups {
		found = append(found, p.in(group.words)...)
	}
	return append(found, p.in(trouble)...)
}

// tally sums evidence and keeps the words of what speaks for the error.
type tally struct {
	total int
	words []string
}

func (t *tally) add(points int, holds bool, why string) {
	if !holds {
		return
	}
	t.total += points
	if points > 0 && why != "" {
		t.words = append(t.words, why)
	}
}

func (t *tally) reason() string { return strings.Join(t.words, "; ") }

func quoted(word string) string { return fmt.Sprintf("%q", word) }
