package esc

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

func sampleDialogue() Dialogue {
	return Dialogue{Index: 7, Utterances: []Utterance{
		{Supporter, Others, "Welcome."},
		{Seeker, NoStrategy, "I lost my job."},
		{Seeker, NoStrategy, "And I am scared."},
		{Supporter, Reflection, "That sounds frightening."},
		{Supporter, Question, "When did it happen?"},
		{Seeker, NoStrategy, "Last week."},
		{Supporter, Affirmation, "You are strong."},
		{Seeker, NoStrategy, "Thanks, bye."},
	}}
}

func TestTurns(t *testing.T) {
	d := sampleDialogue()
	want := []Message{
		{"user", "Hi"}, {"assistant", "[Others] Welcome."},
		{"user", "I lost my job.\nAnd I am scared."}, {"assistant", "[Reflection of feelings] That sounds frightening."},
		{"user", " "}, {"assistant", "[Question] When did it happen?"},
		{"user", "Last week."}, {"assistant", "[Affirmation and Reassurance] You are strong."},
	}
	if got := Chat(d); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	turns := Turns(d)
	if len(turns) != 4 {
		t.Fatalf("%d turns", len(turns))
	}
	for i, turn := range turns {
		if turn.Dialogue != 7 || turn.Index != i || !slices.Equal(turn.Context, want[:2*i+1]) ||
			turn.Strategy.Bracketed()+" "+turn.Response != want[2*i+1].Content {
			t.Errorf("turn %d: %+v", i, turn)
		}
	}
	_ = append(turns[0].Context, Message{"assistant", "something else"})
	if turns[1].Context[1] != want[1] {
		t.Error("appending to a context changes the next one")
	}
}

// For every role, a turn's messages continue those of the turn before, and the
// whole assistant message is what the next turn's history shows.
func TestPromptsAreNestedPrefixes(t *testing.T) {
	turns := Turns(sampleDialogue())
	for _, set := range PromptSets() {
		prompts, err := BuiltinPrompts(set)
		if err != nil {
			t.Fatal(err)
		}
		for _, role := range Roles() {
			if set == "paper" && role != VM {
				continue // TestPaperPrompts
			}
			var before Example
			for i, turn := range turns {
				example, err := prompts.Example(role, turn)
				if err != nil {
					t.Fatal(err)
				}
				if i > 0 {
					n := len(before.Messages)
					if !slices.Equal(example.Messages[:n], before.Messages) {
						t.Errorf("%s, %s: the history changed at turn %d", set, role, i)
					}
					shown := example.Messages[n].Content
					if written := before.AnswerPrefix + before.Answer; role != SP && written != shown || !strings.HasPrefix(shown, written) {
						t.Errorf("%s, %s: turn %d writes %q, the history shows %q", set, role, i-1, written, shown)
					}
				}
				before = example
			}
			if got := ParseAnswer(role, before.Answer); !got.OK || role != RG && got.Strategy != Affirmation || role != SP && got.Response != "You are strong." {
				t.Errorf("%s: the answer %q parses as %+v", role, before.Answer, got)
			}
		}
		if set == "full" {
			for _, role := range Roles() {
				for _, s := range Strategies() {
					if !strings.Contains(prompts.System(role), s.Bracketed()+": "+s.Definition()) {
						t.Errorf("%s of %s does not define %s", role, set, s)
					}
				}
			}
		}
	}
}

// With the set paper, and without past strategies, the models are given what the
// paper's are: the planner one message of speakers and texts, to which it answers
// with a bare name; the generator the strategy in its system message.
func TestPaperPrompts(t *testing.T) {
	paper, err := BuiltinPrompts("paper")
	if err != nil {
		t.Fatal(err)
	}
	turn := Turns(sampleDialogue())[3]
	example := func(prompts Prompts, role Role) Example {
		t.Helper()
		e, err := prompts.Example(role, turn)
		if err != nil || e.AnswerPrefix != "" {
			t.Fatalf("%s: %v, the answer begins with %q, want no given beginning", role, err, e.AnswerPrefix)
		}
		if strings.Contains(fmt.Sprint(e.Messages), "{{") {
			t.Errorf("%s: a placeholder is left in %q", role, e.Messages)
		}
		return e
	}
	stripped := paper.WithoutPastStrategies()
	sp := example(stripped, SP)
	if want := "Seeker: Hi\nSupporter: Welcome.\nSeeker: I lost my job.\nAnd I am scared.\nSupporter: That sounds frightening.\nSupporter: When did it happen?\nSeeker: Last week."; len(sp.Messages) != 2 || sp.Messages[1] != (Message{UserRole, want}) || sp.Answer != "Affirmation and Reassurance" {
		t.Errorf("the planner is given %q and answers %q, want one user message %q and the bare name", sp.Messages, sp.Answer, want)
	}
	if got := ParseAnswer(SP, sp.Answer); got.Strategy != Affirmation {
		t.Errorf("the planner's answer parses as %+v", got)
	}
	rg := example(stripped, RG)
	if system := rg.Messages[0].Content; !strings.Contains(system, "Affirmation and Reassurance") || !strings.Contains(system, Affirmation.Definition()) || strings.Contains(system, Question.String()) {
		t.Errorf("the generator's system message is %q, want its strategy alone", system)
	}
	if rg.Messages[2] != (Message{AssistantRole, "Welcome."}) || rg.Answer != "You are strong." {
		t.Errorf("the generator sees %q and writes %q, want texts without strategies", rg.Messages[2], rg.Answer)
	}
	vm := example(stripped, VM)
	if vm.Messages[2].Content != "[Others] Welcome." || vm.Answer != "[Affirmation and Reassurance] You are strong." {
		t.Errorf("the vanilla model sees %q and writes %q, want strategies in both", vm.Messages[2].Content, vm.Answer)
	}
	if kept := example(paper, SP).Messages[1].Content; !strings.Contains(kept, "Supporter: [Others] Welcome.") {
		t.Errorf("with past strategies the planner is given %q", kept)
	}
	for _, set := range []string{"full", "tiny"} { // the axis by itself
		prompts, err := BuiltinPrompts(set)
		if err != nil {
			t.Fatal(err)
		}
		p, err := prompts.WithoutPastStrategies().Prompt(SP, turn.Context, NoStrategy)
		if err != nil || p.Messages[2].Content != "Welcome." {
			t.Errorf("%s: the planner sees %q (%v), want the text alone", set, p.Messages[2].Content, err)
		}
	}
	if turn.Context[1].Content != "[Others] Welcome." {
		t.Errorf("the turn's own context was changed to %q", turn.Context[1].Content)
	}
	pair := Pair{Dialogue: turn.Dialogue, Turn: turn.Index, Role: SP, Gold: turn.Strategy, Strategy: Question}
	if chosen, rejected, err := paper.Examples(pair, turn); err != nil || chosen.Answer != turn.Strategy.String() || rejected.Answer != "Question" {
		t.Errorf("a pair's sides are %q and %q (%v), want bare names", chosen.Answer, rejected.Answer, err)
	}
}

func TestLoadPrompts(t *testing.T) {
	files := fstest.MapFS{"vm.txt": {Data: []byte("One of {{strategies}}.\n")}, "sp.txt": {Data: []byte("\n")}, "rg.txt": {Data: []byte("x")}}
	for _, i := range Instructions() {
		files[string(i)+".txt"] = &fstest.MapFile{Data: []byte("Please " + i)}
	}
	prompts, err := loadFiles(files)
	if err != nil {
		t.Fatal(err)
	}
	if got := prompts.System(VM); !strings.HasPrefix(got, "One of [Question], [Restatement or Paraphrasing], ") || !strings.HasSuffix(got, "[Others].") {
		t.Errorf("got %q", got)
	}
	turn := Turns(sampleDialogue())[0]
	if got, err := prompts.Prompt(SP, turn.Context, NoStrategy); err != nil || got.Messages[0].Role != UserRole {
		t.Errorf("an empty file should give no system message: %v, %v", got, err)
	}
	if _, err := prompts.Prompt(RG, turn.Context, NoStrategy); err == nil {
		t.Error("rg without a strategy was accepted")
	}
	if _, err := prompts.Prompt(VM, Chat(sampleDialogue()), Question); err == nil {
		t.Error("a context that ends with the assistant was accepted")
	}
	if _, err := prompts.Prompt("xx", turn.Context, Question); err == nil {
		t.Error("an unknown role was accepted")
	}
	for _, text := range []string{"{{conversation}}", "x\n---\ny", "{{conversation}}\n---\n{{conversation}}"} {
		files["sp.txt"] = &fstest.MapFile{Data: []byte(text)}
		if _, err := loadFiles(files); err == nil || !strings.Contains(err.Error(), "sp.txt: {{conversation}} stands in the user message") {
			t.Errorf("sp.txt %q: %v, want where {{conversation}} stands", text, err)
		}
	}
	files["sp.txt"] = &fstest.MapFile{Data: []byte("x")}
	files["rg.txt"] = &fstest.MapFile{Data: []byte("{{strategys}}")}
	if _, err := loadFiles(files); err == nil || !strings.Contains(err.Error(), "rg.txt") {
		t.Errorf("an unknown placeholder was accepted: %v", err)
	}
	files["rg.txt"] = &fstest.MapFile{}
	files["revise.txt"] = &fstest.MapFile{Data: []byte(" \n")}
	if _, err := loadFiles(files); err == nil || !strings.Contains(err.Error(), "revise.txt is empty") {
		t.Errorf("an empty instruction was accepted: %v", err)
	}
	files["revise.txt"] = &fstest.MapFile{Data: []byte("x")}
	if _, err := loadFiles(files); err != nil {
		t.Error(err)
	}
	delete(files, "sp.txt")
	if _, err := loadFiles(files); err == nil {
		t.Error("a missing file was accepted")
	}
	if _, err := BuiltinPrompts("huge"); err == nil {
		t.Error("an unknown set was accepted")
	}
}

func TestParseAnswer(t *testing.T) {
	for _, c := range []struct {
		text     string
		strategy Strategy
		response string
		ok       bool
	}{
		{"[Question] How are you?", Question, "How are you?", true},
		{"  [reflection of FEELINGS]That hurts.", Reflection, "That hurts.", true},
		{"[Question How are you?", Question, "How are you?", true},
		{"Question] How are you?", Question, "How are you?", true},
		{"Question: How are you?", Question, "How are you?", true},
		{"**[Question]** How are you?", Question, "How are you?", true},
		{"**Question**: How are you?", Question, "How are you?", true},
		{"Strategy: [Self-disclosure]\nI know that.", SelfDisclosure, "I know that.", true},
		{"[Strategy: Information] See a doctor.", Information, "See a doctor.", true},
		{"Providing Suggestions\nTry a walk.", Suggestions, "Try a walk.", true},
		{"[Suggestions] Try a walk.", Suggestions, "Try a walk.", true},
		{"[Others] :) good", Others, ":) good", true},
		{"[Restatement] You lost it.", Restatement, "You lost it.", true},
		{"[Self disclosure] Me too [really].", SelfDisclosure, "Me too [really].", true},
		{"[Question]", Question, "", false},
		{"[Questoin] How?", NoStrategy, "[Questoin] How?", false},
		{"[Empathy] Oh.", NoStrategy, "[Empathy] Oh.", false},
		{"Others may feel that too.", NoStrategy, "Others may feel that too.", false},
		{"Information on that is scarce.", NoStrategy, "Information on that is scarce.", false},
		{"Questionable: why?", NoStrategy, "Questionable: why?", false},
		{"I am sorry.", NoStrategy, "I am sorry.", false},
		{" ", NoStrategy, "", false},
		{"[", NoStrategy, "[", false},
		{"[Question\xff", Question, "\xff", true},
	} {
		got := ParseAnswer(VM, c.text)
		if got.Strategy != c.strategy || got.Response != c.response || got.OK != c.ok || got.OK != (got.Reason == "") {
			t.Errorf("%q: got %+v", c.text, got)
		}
		if sp := ParseAnswer(SP, c.text); sp.Strategy != c.strategy || sp.OK != c.strategy.Valid() {
			t.Errorf("sp %q: got %+v", c.text, sp)
		}
	}
	if got := ParseAnswer(VM, "[Questoin] How?"); !strings.Contains(got.Reason, "Questoin") || !strings.Contains(got.Reason, "Question;") && !strings.HasSuffix(got.Reason, "Question") {
		t.Errorf("reason %q", got.Reason)
	}
	for text, want := range map[string]string{" How are you?": "How are you?", "[Question] How?": "How?", "[really] How?": "[really] How?", "Others: no": "Others: no"} {
		if got := ParseAnswer(RG, text); !got.OK || got.Response != want {
			t.Errorf("rg %q: got %+v", text, got)
		}
	}
	if ParseAnswer(RG, " \n").OK {
		t.Error("an empty response was accepted")
	}
}

func FuzzParseAnswer(f *testing.F) {
	f.Add("[Question] How are you?")
	f.Add("**Strategy**: [self-disclosure] \xff")
	f.Fuzz(func(t *testing.T, text string) {
		for _, role := range Roles() {
			got := ParseAnswer(role, text)
			if got.OK != (got.Reason == "") || len(got.Response) > len(text) || got.OK && role == VM && (got.Response == "" || !got.Strategy.Valid()) {
				t.Fatalf("%s %q: %+v", role, text, got)
			}
		}
	})
}

func TestStrategyNames(t *testing.T) {
	for _, s := range Strategies() {
		text, err := s.MarshalText()
		var back Strategy
		if err != nil || back.UnmarshalText(text) != nil || back != s || s.Definition() == "" {
			t.Errorf("%v: %q, %v, back as %v", s, text, err, back)
		}
		if got := NearestStrategy(s.String()); got != s {
			t.Errorf("nearest to %s is %s", s, got)
		}
	}
	for name, want := range map[string]Strategy{
		"Questions": Question, "Other": Others, "Suggestion": Suggestions, "Self disclosure": SelfDisclosure,
		"reflection": Reflection, "Paraphrasing": Restatement, "Afirmation": Affirmation, "Informations": Information,
	} {
		if got := NearestStrategy(name); got != want {
			t.Errorf("nearest to %q is %s, want %s", name, got, want)
		}
	}
	for _, e := range PsyErrors() {
		text, err := e.MarshalText()
		var back PsyError
		if err != nil || back.UnmarshalText(text) != nil || back != e || e.Definition() == "" {
			t.Errorf("%v: %q, %v, back as %v", e, text, err, back)
		}
	}
}

// TestAuthorsStrategy: where the authors' code and ParseAnswer part.
func TestAuthorsStrategy(t *testing.T) {
	for _, c := range []struct {
		text          string
		authors, ours Strategy
	}{
		{"[Question] Why?", Question, Question},
		{"[question] Why?", Question, Question},
		{"Sure. [Question] Why?", Question, NoStrategy},
		{"[Suggestions] Take a walk.", NoStrategy, Suggestions},
		{"Question: why?", NoStrategy, Question},
		{"[ Question ] Why?", NoStrategy, Question},
		{"[Providing Resources] Here.", NoStrategy, NoStrategy},
		{"a] b [Question]", NoStrategy, NoStrategy},
		{"", NoStrategy, NoStrategy},
	} {
		if got := AuthorsStrategy(c.text); got != c.authors {
			t.Errorf("%q: the authors' code reads %s, want %s", c.text, got, c.authors)
		}
		if got := ParseAnswer(VM, c.text).Strategy; got != c.ours {
			t.Errorf("%q: ours reads %s, want %s", c.text, got, c.ours)
		}
	}
}

// loadFiles loads prompts from files in memory.
func loadFiles(files fs.FS) (Prompts, error) {
	return loadPrompts(func(file string) ([]byte, error) { return fs.ReadFile(files, file) })
}
