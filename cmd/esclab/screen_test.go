package main

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/results/compare"
	"github.com/esclab/esclab/results/pairs"
	"github.com/esclab/esclab/workflows"
	"github.com/esclab/esclab/workflows/lab"
)

// coloured are outputs that have colours on a terminal.
func coloured() map[string]func(io.Writer) error {
	return map[string]func(io.Writer) error{
		"a failed stage of a run": func(out io.Writer) error {
			newLines(out).update(lab.RunView{RunState: workflows.RunState{Stages: []workflows.StageState{{Name: "sft/sp", Status: workflows.StageFailed, Error: "no memory"}}}})
			return nil
		},
		"pairs": func(out io.Writer) error {
			return printPairs(out, []pairs.Pair{{Pair: esc.Pair{Role: esc.SP, Strategy: esc.Others}}}, 1, 2)
		},
		"a comparison": func(out io.Writer) error {
			var runs []compare.Run
			for i, name := range []string{"a", "b"} {
				values := map[string]compare.Value{experiments.Table3()[0].Name: {Value: float64(i)}}
				runs = append(runs, compare.Run{Name: name, Systems: []compare.System{{Name: "vanilla/sft", Values: values}}})
			}
			printComparison(out, compare.New(runs), experiments.Table3()[:1])
			return nil
		},
	}
}

// TestColoursStayOnTerminals: whether there are colours is decided by the stream
// that is written to, whatever the environment makes the library believe.
func TestColoursStayOnTerminals(t *testing.T) {
	t.Setenv("TERM", "xterm-256color")
	t.Setenv("NO_COLOR", "")
	text.EnableColors()
	terminal := func() *os.File {
		f, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
		if err != nil {
			t.Skipf("no terminal can be opened here: %v", err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	for name, print := range coloured() {
		var plain strings.Builder
		if err := print(&plain); err != nil || plain.Len() == 0 || strings.Contains(plain.String(), "\x1b") {
			t.Errorf("%s, into a pipe: %v, %q; want text without colours", name, err, plain.String())
		}
		path := filepath.Join(t.TempDir(), "out.txt")
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := print(f); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != plain.String() {
			t.Errorf("%s, into a file: %v, %q; want %q", name, err, got, plain.String())
		}
	}
	red := text.Colors{text.FgRed}
	if got := newScreen(terminal()).paint(red, "x"); got != "\x1b[31mx\x1b[0m" {
		t.Errorf("on a terminal: %q, want x in red", got)
	}
	for key, value := range map[string]string{"NO_COLOR": "1", "TERM": "dumb"} {
		t.Run(key, func(t *testing.T) {
			t.Setenv(key, value)
			if got := newScreen(terminal()).paint(red, "x"); got != "x" {
				t.Errorf("on a terminal with %s=%s: %q, want plain text", key, value, got)
			}
		})
	}
	t.Run("NO_COLOR=0", func(t *testing.T) { // any value, as no-color.org has it
		t.Setenv("NO_COLOR", "0")
		if got := newScreen(terminal()).paint(red, "x"); got != "x" {
			t.Errorf("on a terminal with NO_COLOR=0: %q, want plain text", got)
		}
	})
}

// TestSurveyOfACorpus: what --plan says of a corpus.
func TestSurveyOfACorpus(t *testing.T) {
	dialogue := func(strategies ...string) string {
		var turns []string
		for _, s := range strategies {
			turns = append(turns, `{"speaker":"listener","content":"Hm.","annotation":{"strategy":"`+s+`"}}`)
		}
		return `{"survey_score":{"seeker":{"initial_emotion_intensity":"4"}},"dialog":[{"speaker":"speaker","content":"Hi."},` + strings.Join(turns, ",") + `]}`
	}
	path := filepath.Join(t.TempDir(), "c.jsonl")
	if err := os.WriteFile(path, []byte("\ufeff"+dialogue("Ask", "Ask", "Question")+"\r\n\r\n"+dialogue("Chat", "")+"\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	stage := func(p experiments.CorpusParams) experiments.Stage {
		p.Files = []experiments.FileDigest{{Name: "c.jsonl", SHA256: "00"}}
		s, err := experiments.NewStage("corpus", p, nil)
		if err != nil {
			t.Fatal(err)
		}
		s.Source = path
		return s
	}
	var out strings.Builder
	_, err := surveyCorpus(stage(experiments.CorpusParams{}), &out)
	if err == nil || !strings.Contains(err.Error(), `c.jsonl: dialogue 0, turn 1 (counted from 0), line 1`) {
		t.Errorf("got %v, want a refusal", err)
	}
	want := `corpus: 2 dialogues, 2 utterances of the seeker, 5 of the supporter
corpus: 4 strategies unmapped: "Ask" 2, "" 1, "Chat" 1
corpus: emotion intensity before: mean 4.00 of 2 dialogues, missing in 0
`
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
	out.Reset()
	_, err = surveyCorpus(stage(experiments.CorpusParams{Strategies: map[string]string{"ask": "Question", "chat": "Others", "": "Others"}, Consecutive: "merge"}), &out)
	if err != nil || !strings.Contains(out.String(), `corpus: 4 strategies mapped: "Ask" 2, "" 1, "Chat" 1`) || !strings.Contains(out.String(), "3 utterances of the supporter follow another one, 0 of them with another strategy (corpus.consecutive: merge)") {
		t.Errorf("mapped: got %v and\n%s", err, out.String())
	}
}

// What comes from elsewhere moves no cursor of a terminal and sets no title; what the
// program writes itself passes.
func TestTerminalShowsWhatIsPrintable(t *testing.T) {
	var got strings.Builder
	out := &printer{out: &got, columns: func() int { return 0 }}
	evil := "demo\x1b]0;title\x07\x1b[2J\x1b[1A\x9b5m\u009b8m\r\x1b[8mhidden\x1b]8;;javascript:x\x1b\\"
	v := lab.RunView{RunState: workflows.RunState{Stages: []workflows.StageState{{Name: evil, Status: workflows.StageRunning}}},
		Running: map[string]workflows.Progress{evil: {Attempt: 2, Failure: evil, Phase: evil}}}
	newLines(out).update(v)
	if err := printExecutions(out, "run", func(yield func(lab.Execution, error) bool) { yield(lab.Execution{ID: "run/" + evil}, nil) }); err != nil {
		t.Fatal(err)
	}
	newBoard(out).paint(func(int) []string { return []string{evil} })
	if n := strings.Count(got.String(), "demo"); n < 4 {
		t.Errorf("%d of the 4 names are shown: %q", n, got.String())
	}
	if strings.ContainsFunc(got.String(), func(r rune) bool { return unicode.IsControl(r) && r != '\n' }) {
		t.Errorf("a terminal gets %q", got.String())
	}
	got.Reset()
	ours := text.Colors{text.FgRed, text.Bold}.Sprint("red") + text.Hyperlink("http://127.0.0.1:8233/x", "link") + "\x1b[36m>\x1b[0m\n"
	if n, err := io.WriteString(out, ours); err != nil || n != len(ours) || got.String() != ours {
		t.Errorf("%q arrives as %q (%d bytes, %v)", ours, got.String(), n, err)
	}
}

// TestLinesBreakBetweenWords: what is wider than a terminal breaks between words, and
// stays one line for whoever copies it; what ends no line stays as it is.
func TestLinesBreakBetweenWords(t *testing.T) {
	for _, width := range []int{40, 80, 120} {
		var got strings.Builder
		out := &printer{out: &got, columns: func() int { return width }}
		for _, line := range []string{
			"run it first: esclab run testdata/micro.yaml --set sft.epochs=7 --set dpo.roles.sp.beta=0.3 --set seed=7",
			strings.Repeat("1234567 ", 12), strings.Repeat("123456789 ", 12) + "x",
			"at http://127.0.0.1/" + strings.Repeat("x", 2*width) + " (a browser is let in) by what is typed here and there",
			text.Colors{text.FgRed}.Sprint("dpo/sp  failed  no memory is left for the model") + " " + text.Hyperlink("http://127.0.0.1:8233/"+strings.Repeat("x", 99), "the web UI") + " and elsewhere, they say",
		} {
			got.Reset()
			if _, err := io.WriteString(out, line+"\n"); err != nil {
				t.Fatal(err)
			}
			screen := &terminal{width: width}
			io.WriteString(screen, ownSequences.ReplaceAllString(got.String(), ""))
			words := strings.Fields(ownSequences.ReplaceAllString(line, ""))
			if strings.Count(got.String(), "\n") != 1 || !slices.Equal(strings.Fields(strings.Join(screen.rows, "")), words) {
				t.Errorf("%d columns: %q, want the words of %q in one line", width, got.String(), line)
			}
			words = slices.DeleteFunc(words, func(word string) bool { return len(word) > width })
			for i, word := range strings.Fields(strings.Join(screen.rows, "\n")) {
				if !strings.Contains(word, "xxx") && !slices.Contains(words, word) {
					t.Errorf("%d columns: word %d is torn in\n%s", width, i, strings.Join(screen.rows, "\n"))
				}
			}
		}
		got.Reset()
		prompt := strings.Repeat("a word ", 40)
		if _, err := io.WriteString(out, prompt); err != nil || got.String() != prompt {
			t.Errorf("%d columns: what ends no line is written as %q (%v)", width, got.String(), err)
		}
	}
}

// Every command writes by stdout and stderr, which know what a terminal may get.
func TestCommandsWriteByTerminal(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) < 40 {
		t.Fatalf("%d files (%v), want the program's", len(files), err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"os.Std" + "out", "os.Std" + "err"} {
			if file != "terminal.go" && !strings.HasSuffix(file, "_test.go") && strings.Contains(string(raw), name) {
				t.Errorf("%s writes to %s, want what terminal.go makes of it", file, name)
			}
		}
	}
}
