package activities

import (
	"fmt"
	"strings"
	"testing"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/internal/chattest"
	"github.com/esclab/esclab/judge/openai"
	"github.com/esclab/esclab/judge/prompts"
	"github.com/esclab/esclab/results"
	"github.com/esclab/esclab/results/models"
)

// By the paper's protocol a judge stage asks five questions a reply: four show
// the gold reply and ask for one criterion each, one asks for one label.
func TestJudgeStageByThePapersProtocol(t *testing.T) {
	s := chattest.New(t)
	l := newLab(t, s, "judge.protocol=paper")
	result := l.judge(t)
	if result.Metrics["judged"] != judgedReplies {
		t.Errorf("the metrics are %v, want %d judged replies", result.Metrics, judgedReplies)
	}
	var gold []string
	for _, p := range decoded[results.Prediction](t, l.read(t, "generate/vanilla/base", results.FilePredictions)) {
		gold = append(gold, p.GoldResponse)
	}
	asked := map[string]int{}
	for _, r := range s.Requests() {
		question, what := r.Question(), "label"
		for _, criterion := range []string{"fluency", "professionalism", "empathy", "helpfulness"} {
			if !strings.Contains(question, "grade its "+criterion+", and nothing else") {
				continue
			}
			what = criterion
			_, reference, _ := strings.Cut(question, "<reference>\n")
			reference, _, _ = strings.Cut(reference, "\n</reference>")
			known := false
			for _, one := range gold {
				known = known || strings.TrimSpace(one) == reference
			}
			if !known {
				t.Errorf("the reference of a question about %s is %q, which is no gold reply", criterion, reference)
			}
		}
		asked[what]++
	}
	for _, what := range []string{"fluency", "professionalism", "empathy", "helpfulness", "label"} {
		if asked[what] != judgedReplies {
			t.Errorf("%d questions for %s, want one of each of %d replies", asked[what], what, judgedReplies)
		}
	}
	for _, row := range l.rows(t) {
		if len(row.Findings) > 1 {
			t.Errorf("reply %+v has %d labels, want one at most", row.Place, len(row.Findings))
		}
	}
	var verdict results.Verdict
	from, err := results.Open(t.Context(), l.a.Store, l.stages[judgeStage].Fingerprint)
	if err != nil {
		t.Fatal(err)
	}
	if err := results.ReadJSON(from, results.FileVerdict, &verdict); err != nil || verdict.Protocol != "paper" {
		t.Errorf("the verdict's protocol is %q (%v), want paper", verdict.Protocol, err)
	}
}

// Mining by the paper's protocol asks one question a sample, about both sides; a
// pair whose gold response has an error there is dropped.
func TestMiningByThePapersProtocol(t *testing.T) {
	s := chattest.New(t)
	set, err := prompts.Builtin(prompts.Paper)
	if err != nil {
		t.Fatal(err)
	}
	client, err := openai.New(openai.Options{BaseURL: s.URL, Model: "test", Prompts: set})
	if err != nil {
		t.Fatal(err)
	}
	label := &labeller{openai.Paper{Client: client}}
	s.Respond(func(r chattest.Request, _ string) *chattest.Response {
		side := func(text string) string {
			class := "none"
			if strings.Contains(r.Messages[1].Content, text) {
				class = "template_response"
			}
			return fmt.Sprintf(`{"reason":"because","error":%q}`, class)
		}
		return chattest.Completion(fmt.Sprintf(`{"content":%q}`, `{"reference":`+side("<reference>\nOk.")+`,"reply":`+side("<reply>\nI see.")+`}`), `"stop"`)
	})
	turns := []esc.Turn{
		{Dialogue: 0, Strategy: esc.Question, Response: "How long?", Context: []esc.Message{{Role: esc.UserRole, Content: "I lost my job."}}},
		{Dialogue: 1, Strategy: esc.Question, Response: "Ok.", Context: []esc.Message{{Role: esc.UserRole, Content: "I lost my cat."}}},
	}
	var samples []results.MinedSample
	for _, turn := range turns {
		for draw, text := range []string{"I see.", "When was that?"} {
			row, err := readSample(t.Context(), esc.RG, turn, draw, models.Answer{Text: text}, label)
			if err != nil {
				t.Fatal(err)
			}
			samples = append(samples, row)
		}
	}
	faulty, err := faultyGold(t.Context(), turnsOfPairs(esc.RG, turns, samples), label)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(s.Requests()); n != len(samples) {
		t.Errorf("%d questions for %d samples, want one each and none about gold responses alone", n, len(samples))
	}
	pairs, found := makePairs(esc.RG, turns, samples, faulty, experiments.MineParams{})
	if len(pairs) != 1 || pairs[0].Dialogue != 0 || pairs[0].Rejected != "I see." || found.FaultyChosen != 1 || found.Errors[esc.TemplateResponse] != 2 {
		t.Errorf("pairs %+v, found %+v; want the pair of dialogue 0, and that of dialogue 1 dropped for its gold response", pairs, found)
	}
}
