package openai

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/internal/chattest"
	"github.com/esclab/esclab/judge"
	"github.com/esclab/esclab/judge/prompts"
)

func newPaper(t *testing.T, s *chattest.Server) Paper {
	t.Helper()
	set, err := prompts.Builtin(prompts.Paper)
	if err != nil {
		t.Fatal(err)
	}
	c, _ := newClient(t, s, func(o *Options) { o.Prompts = set })
	return Paper{c}
}

// By the paper's protocol a reply is scored in four questions of one criterion
// each beside the gold reply, labelled in one question with one label, and
// filtered in one question that shows both sides.
func TestPaperProtocol(t *testing.T) {
	s := chattest.New(t)
	p := newPaper(t, s)
	r := requestOf(3)
	r.Reference = "Five nights without sleep would wear anybody out."
	contains := func(request chattest.Request, text string) bool {
		return strings.Contains(request.Question(), text)
	}
	asked := func(what string, n int) []chattest.Request {
		t.Helper()
		all := s.Requests()
		if len(all) != n {
			t.Fatalf("%s took %d questions, want %d", what, len(all), n)
		}
		s.Set(nil)
		return all
	}

	scores, err := p.Score(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	criteria := []string{"fluency", "professionalism", "empathy", "helpfulness"}
	for i, request := range asked("scoring", 4) {
		if !contains(request, "<reference>\n"+r.Reference) || !contains(request, "<reply>\n"+r.Response) {
			t.Errorf("the question about %s shows not both the gold reply and the reply: %s", criteria[i], request.Messages[1].Content)
		}
		for j, criterion := range criteria {
			if grades := contains(request, criterion+": "); grades != (i == j) {
				t.Errorf("question %d asks about %s: %v, want one criterion a question", i, criterion, grades)
			}
		}
		if format := string(request.Format); strings.Count(format, `"score"`) != 2 { // a property, and required
			t.Errorf("the form of question %d is %s, want one score", i, format)
		}
	}
	for i, v := range scores.Fields() {
		if *v < 0 || *v > 5 {
			t.Errorf("%s is %v, want 0 to 5", criteria[i], *v)
		}
	}

	verdict, err := p.Label(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	label := asked("labelling", 1)[0]
	if len(verdict.Findings) > 1 || !strings.Contains(string(label.Format), `"none","strategy_mismatch","lack_of_empathy","early_emotion_shift","template_response","emotion_misread"`) {
		t.Errorf("%d findings by a question of form %s, want a single label of the five or none", len(verdict.Findings), label.Format)
	}

	if _, _, err := p.Filter(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	filter := asked("filtering", 1)[0]
	if !contains(filter, "<reference>\n"+r.Reference) || !contains(filter, "<reply>\n"+r.Response) {
		t.Errorf("the filter shows not both sides: %s", filter.Messages[1].Content)
	}
	for _, class := range esc.PsyErrors() {
		want := esc.Route(class) == esc.ToGenerator
		if got := strings.Contains(string(filter.Format), class.String()) && contains(filter, "- "+class.String()+": "); got != want {
			t.Errorf("the filter looks for %s: %v, want %v", class, got, want)
		}
	}

	r.Reference = " "
	if _, err := p.Score(t.Context(), r); err == nil || !strings.Contains(err.Error(), "beside the gold reply") {
		t.Errorf("without a gold reply: %v, want an error", err)
	}
	if !strings.Contains(p.Name(), "the paper's protocol") {
		t.Errorf("the judge is called %s, want its protocol in the name", p.Name())
	}
}

// What a model answers becomes a verdict; a label that is none of the classes is
// asked for again.
func TestPaperReadsLabels(t *testing.T) {
	s := chattest.New(t)
	p := newPaper(t, s)
	for i, c := range []struct {
		reply     string
		gold      esc.Strategy
		reference []esc.PsyError
		response  []esc.PsyError
		fails     bool
	}{
		{`{"reference":{"reason":"a","error":"none"},"reply":{"reason":"b","error":"template_response"}}`, esc.NoStrategy, nil, []esc.PsyError{esc.TemplateResponse}, false},
		{`{"reference":{"reason":"a","error":"lack_of_empathy"},"reply":{"reason":"b","error":"none"}}`, esc.NoStrategy, []esc.PsyError{esc.LackOfEmpathy}, nil, false},
		{`{"reference":{"reason":"a","error":"none"},"reply":{"reason":"b","error":"early_emotion_shift"}}`, esc.Others, nil, []esc.PsyError{esc.StrategyMismatch, esc.EarlyEmotionShift}, false},
		{`{"reference":{"reason":"a","error":"none"},"reply":{"reason":"b","error":"emotion_misread"}}`, esc.NoStrategy, nil, nil, true},
		{`{"reference":{"reason":"a","error":"none"}}`, esc.NoStrategy, nil, nil, true},
	} {
		s.Respond(func(chattest.Request, string) *chattest.Response {
			return chattest.Completion(fmt.Sprintf(`{"role":"assistant","content":%q}`, c.reply), `"stop"`)
		})
		r := requestOf(i)
		r.Reference, r.Gold, r.Strategy = "Go on.", c.gold, esc.Question
		reference, response, err := p.Filter(t.Context(), r)
		if c.fails {
			if !errors.Is(err, judge.ErrUnusable) || len(s.Requests()) != 4 {
				t.Errorf("%s: %v after %d questions, want no usable answer after 4", c.reply, err, len(s.Requests()))
			}
			continue
		}
		if err != nil || !slices.Equal(reference.Errors(), c.reference) || !slices.Equal(response.Errors(), c.response) {
			t.Errorf("%s: %v and %v (%v), want %v and %v", c.reply, reference.Errors(), response.Errors(), err, c.reference, c.response)
		}
	}
}

// Faults change no result of the paper's protocol either.
func TestPaperUnderFaults(t *testing.T) {
	s := chattest.New(t)
	ask := func() (all [6]judge.Scores, labels [6]judge.Verdict) {
		p := newPaper(t, s)
		for i := range all {
			r := requestOf(i)
			r.Reference = "Go on."
			var err error
			if all[i], err = p.Score(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			if labels[i], err = p.Label(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
		return all, labels
	}
	scores, labels := ask()
	s.Set(func(r chattest.Request, nth int) chattest.Fault {
		if nth < 2 {
			return []chattest.Fault{chattest.Malformed, chattest.OutOfRange, chattest.WrongShape, chattest.Broken}[(len(r.Question())+nth)%4]
		}
		return chattest.None
	})
	again, labelsAgain := ask()
	if again != scores || fmt.Sprint(labelsAgain) != fmt.Sprint(labels) {
		t.Errorf("faults changed the verdicts: %v %v, without %v %v", again, labelsAgain, scores, labels)
	}
}
