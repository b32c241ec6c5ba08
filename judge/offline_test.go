package judge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/esc/democorpus"
)

func chat(messages ...string) []esc.Message {
	var list []esc.Message
	for i, m := range messages {
		list = append(list, esc.Message{Role: []string{esc.UserRole, esc.AssistantRole}[i%2], Content: m})
	}
	return list
}

func labelOf(t testing.TB, judge Judge, r Request) Verdict {
	t.Helper()
	v, err := judge.Label(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func scoresOf(t testing.TB, judge Judge, r Request) Scores {
	t.Helper()
	scores, err := judge.Score(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	return scores
}

func TestFindings(t *testing.T) {
	fired := chat("Hi", "[Question] What is on your mind?", "I lost my job last week and I feel so scared about the rent.")
	for _, c := range []struct {
		name    string
		request Request
		want    []esc.PsyError // among the findings
		not     []esc.PsyError
	}{
		{"attentive", requestOf(fired, esc.Reflection, esc.Reflection, "It sounds really frightening to lose a job when the rent is due."),
			nil, []esc.PsyError{esc.StrategyMismatch, esc.LackOfEmpathy, esc.EarlyEmotionShift, esc.TemplateResponse}},
		{"other strategy than gold", requestOf(fired, esc.Reflection, esc.Question, "I am sorry that you lost your job. How long had you worked there?"),
			[]esc.PsyError{esc.StrategyMismatch}, []esc.PsyError{esc.LackOfEmpathy, esc.EarlyEmotionShift, esc.TemplateResponse, esc.EmotionMisread}},
		{"strategy not carried out", requestOf(fired, esc.NoStrategy, esc.SelfDisclosure, "You should look for another job and talk to a friend, what do you think?"),
			[]esc.PsyError{esc.StrategyMismatch}, nil},
		{"curt", requestOf(fired, esc.Others, esc.Others, "Ok."),
			[]esc.PsyError{esc.LackOfEmpathy}, []esc.PsyError{esc.EarlyEmotionShift}},
		{"advice at once", requestOf(fired, esc.Suggestions, esc.Suggestions, "You should write applications every day and make sure to get some sleep."),
			[]esc.PsyError{esc.EarlyEmotionShift}, []esc.PsyError{esc.TemplateResponse}},
		{"advice after the feeling", requestOf(fired, esc.Suggestions, esc.Suggestions, "I am so sorry, that must be frightening. If you like, we could look at the rent together."),
			nil, []esc.PsyError{esc.LackOfEmpathy, esc.TemplateResponse, esc.EmotionMisread}},
		{"said before", requestOf(chat("Hi", "[Affirmation and Reassurance] You are doing so well with all of this.", "I feel sad."), esc.Affirmation, esc.Affirmation, "You are doing so well with all of this."),
			[]esc.PsyError{esc.TemplateResponse}, nil},
		{"stock phrase", requestOf(fired, esc.Reflection, esc.Reflection, "I understand."),
			[]esc.PsyError{esc.TemplateResponse}, nil},
		{"cheerful", requestOf(fired, esc.Others, esc.Others, "Great! I love this time of the year, the parks are full of flowers."),
			[]esc.PsyError{esc.EmotionMisread}, nil},
		{"strange feeling", requestOf(chat("Hi", "[Question] What is on your mind?", "I feel guilty about what I said."), esc.Reflection, esc.Reflection, "You seem very lonely since what you said."),
			[]esc.PsyError{esc.EmotionMisread}, nil},
		{"hostile", requestOf(fired, esc.Others, esc.Others, "That is your fault, get over it."),
			[]esc.PsyError{esc.EmotionMisread}, nil},
		{"not your fault", requestOf(fired, esc.Affirmation, esc.Affirmation, "It is not your fault that you lost the job, and being scared is normal."),
			nil, []esc.PsyError{esc.StrategyMismatch, esc.LackOfEmpathy, esc.EarlyEmotionShift, esc.TemplateResponse}},
		{"greeting", requestOf(chat("Hello"), esc.Question, esc.Question, "Hello, how are you feeling today?"),
			nil, esc.PsyErrors()},
		{"farewell", requestOf(chat("Hi", "[Others] Welcome", "Thank you, goodbye"), esc.Others, esc.Others, "You are very welcome, take care of yourself."),
			nil, []esc.PsyError{esc.LackOfEmpathy, esc.EarlyEmotionShift, esc.EmotionMisread}},
		{"nothing", requestOf(fired, esc.Others, esc.Others, " ... "),
			[]esc.PsyError{esc.LackOfEmpathy}, nil},
		{"no context", requestOf(nil, esc.NoStrategy, esc.NoStrategy, "I am listening to you, tell me more about your week."), nil, esc.PsyErrors()},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := labelOf(t, NewOffline(nil), c.request)
			found := v.Errors()
			for _, e := range c.want {
				if !slices.Contains(found, e) {
					t.Errorf("%s is missing in %v", e, v)
				}
			}
			for _, e := range c.not {
				if slices.Contains(found, e) {
					t.Errorf("%s should not be in %v", e, v)
				}
			}
			for _, f := range v.Findings {
				if f.Reason == "" || strings.Contains(f.Reason, "\n") {
					t.Errorf("%s has the reason %q", f.Error, f.Reason)
				}
			}
		})
	}
}

func TestScores(t *testing.T) {
	context := chat("Hi", "[Question] What is on your mind?", "My girlfriend left me and I feel so lonely in the evenings.")
	scores := func(response string) Scores {
		return scoresOf(t, NewOffline(nil), requestOf(context, esc.NoStrategy, esc.Reflection, response))
	}
	good := scores("I am so sorry. It sounds terribly lonely to spend the evenings without your girlfriend.")
	for name, worse := range map[string]Scores{
		"curt":      scores("ok"),
		"hostile":   scores("Get over it, you are weak, nobody likes a loser like that."),
		"loop":      scores("I am so I am so I am so I am so I am so I am so"),
		"gibberish": scores("xkcd brrrrt dffsd qwrtz hjkl"),
		"elsewhere": scores("The library opens at nine in the morning on weekdays."),
	} {
		if worse.Empathy >= good.Empathy || worse.Helpfulness >= good.Helpfulness {
			t.Errorf("%s: %+v is not below %+v", name, worse, good)
		}
		if name != "hostile" && name != "elsewhere" && worse.Fluency >= good.Fluency {
			t.Errorf("%s: fluency %v is not below %v", name, worse.Fluency, good.Fluency)
		}
	}
	if hostile := scores("That is your fault, you idiot."); hostile.Professionalism > 1.5 || hostile.Empathy > 0.5 {
		t.Errorf("hostile: %+v", hostile)
	}
	if empty := scores("…"); empty != (Scores{}) {
		t.Errorf("an empty answer scores %+v", empty)
	}
}

func TestLabelIsDeterministicAndHeedsItsContext(t *testing.T) {
	done, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := NewOffline(nil).Label(done, Request{Response: "x"}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	dialogues := demo(t)
	one, two := NewOffline(FitUsage(dialogues)), NewOffline(FitUsage(dialogues))
	for _, turn := range esc.AllTurns(dialogues) {
		r := requestOf(turn.Context, turn.Strategy, turn.Strategy, turn.Response)
		if a, b := labelOf(t, one, r), labelOf(t, two, r); !reflect.DeepEqual(a, b) {
			t.Fatalf("%v and %v", a, b)
		}
	}
}

// The offline judge's preference does not depend on the order.
func TestPrefer(t *testing.T) {
	pair := Comparison{chat("I lost my job and I am scared."), "I am so sorry, losing your job must be scary. What worries you most?", "ok"}
	forth, err := NewOffline(nil).Prefer(t.Context(), pair)
	if err != nil {
		t.Fatal(err)
	}
	pair.First, pair.Second = pair.Second, pair.First
	back, err := NewOffline(nil).Prefer(t.Context(), pair)
	if err != nil {
		t.Fatal(err)
	}
	pair.First = pair.Second
	same, err := NewOffline(nil).Prefer(t.Context(), pair)
	if err != nil {
		t.Fatal(err)
	}
	if forth.First != 1 || back.First != 0 || same.First != 0.5 || forth.Reasons[0] == "" {
		t.Errorf("preferred %+v, swapped %+v, equal %+v; want 1, 0 and 0.5 with a reason", forth, back, same)
	}
}

func demo(t testing.TB) []esc.Dialogue {
	t.Helper()
	dialogues, err := esc.ReadDialogues("demo.json", bytes.NewReader(democorpus.JSON()), esc.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	return dialogues
}

func FuzzLabel(f *testing.F) {
	f.Add("I feel sad.", "I am sorry to hear that.", 2)
	f.Add("", "\xff\xfe 🙂 ' ' don't", -1)
	f.Fuzz(func(t *testing.T, last, response string, strategy int) {
		s := esc.Strategy(strategy)
		r := requestOf(chat(last), esc.NoStrategy, s, response)
		labelOf(t, NewOffline(nil), r)
		scores := scoresOf(t, NewOffline(nil), r)
		for _, x := range []float64{scores.Fluency, scores.Professionalism, scores.Empathy, scores.Helpfulness} {
			if !(x >= 0 && x <= 5) {
				t.Fatalf("scores %+v, want each from 0 to 5", scores)
			}
		}
	})
}

// mean judges requests and returns the share that is routed to the generator,
// the rate of each class and the mean scores.
func mean(t testing.TB, judge Judge, requests []Request) (routed float64, rates [esc.NumPsyErrors]float64, scores Scores) {
	n := float64(len(requests))
	for _, r := range requests {
		v := labelOf(t, judge, r)
		for _, e := range v.Errors() {
			rates[e] += 1 / n
		}
		if len(esc.RouteAll(v.Errors(), esc.ToGenerator)) > 0 {
			routed += 1 / n
		}
		one := scoresOf(t, judge, r)
		scores.Fluency += one.Fluency / n
		scores.Professionalism += one.Professionalism / n
		scores.Empathy += one.Empathy / n
		scores.Helpfulness += one.Helpfulness / n
	}
	return routed, rates, scores
}

// Human answers of ESConv should look better than those of the dialogues that
// were filtered out of it, than themselves in a strange place, and than
// themselves with the words in disorder.
func TestGoldLooksBetter(t *testing.T) {
	corpus := readCorpus(t)
	judge := NewOffline(FitUsage(corpus.Train))
	turns := esc.AllTurns(corpus.Test)
	var gold, elsewhere, disorder, failed []Request
	for i, turn := range turns {
		r := requestOf(turn.Context, turn.Strategy, turn.Strategy, turn.Response)
		gold = append(gold, r)
		r.Response = turns[(i+len(turns)/2)%len(turns)].Response
		elsewhere = append(elsewhere, r)
		list := strings.Fields(turn.Response)
		for j, k := 0, len(list)-1; j < k; j, k = j+2, k-2 {
			list[j], list[k] = list[k], list[j]
		}
		r.Response = strings.Join(list, " ")
		disorder = append(disorder, r)
	}
	for _, s := range failedESConv(t) {
		failed = append(failed, s.request)
	}
	show := func(name string, requests []Request) (float64, Scores) {
		routed, rates, scores := mean(t, judge, requests)
		t.Logf("%-30s routed %.3f, rates %.3f, scores %s", name, routed, rates, fmt.Sprintf("%.2f", scores))
		return routed, scores
	}
	goldRouted, goldScores := show("gold", gold)
	_, elsewhereScores := show("gold of another dialogue", elsewhere)
	_, disorderScores := show("gold with words in disorder", disorder)
	failedRouted, failedScores := show("FailedESConv", failed)
	if goldRouted+0.05 > failedRouted {
		t.Errorf("routed: gold %.3f, failed %.3f", goldRouted, failedRouted)
	}
	if failedScores.Fluency > goldScores.Fluency-0.2 || failedScores.Empathy > goldScores.Empathy-0.2 ||
		failedScores.Helpfulness > goldScores.Helpfulness-0.2 || failedScores.Professionalism > goldScores.Professionalism-0.1 {
		t.Errorf("gold %+v, failed %+v", goldScores, failedScores)
	}
	if elsewhereScores.Empathy > goldScores.Empathy-0.05 || elsewhereScores.Helpfulness > goldScores.Helpfulness-0.1 {
		t.Errorf("gold %+v, elsewhere %+v", goldScores, elsewhereScores)
	}
	if disorderScores.Fluency > goldScores.Fluency-1 {
		t.Errorf("fluency: gold %.2f, in disorder %.2f", goldScores.Fluency, disorderScores.Fluency)
	}
}

// On the demo corpus, too, most of the gold answers should pass.
func TestDemoCorpusPasses(t *testing.T) {
	dialogues := demo(t)
	var requests []Request
	for _, turn := range esc.AllTurns(dialogues) {
		requests = append(requests, requestOf(turn.Context, turn.Strategy, turn.Strategy, turn.Response))
	}
	routed, rates, scores := mean(t, NewOffline(FitUsage(dialogues)), requests)
	t.Logf("routed %.3f, rates %.3f, scores %.2f", routed, rates, scores)
	if routed > 0.4 {
		t.Errorf("%.3f of the demo corpus' answers have an error", routed)
	}
}

func requestOf(context []esc.Message, gold, strategy esc.Strategy, response string) Request {
	return Request{Context: context, Gold: gold, Strategy: strategy, Response: response}
}
