package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/report"
	"github.com/esclab/esclab/workflows"
	"github.com/esclab/esclab/workflows/lab"
)

// terminal keeps what a terminal of a width would show of the codes that a board
// writes: cursor up, erase below.
type terminal struct {
	width int
	rows  []string
}

func (t *terminal) Write(p []byte) (int, error) {
	s := string(p)
	for s != "" {
		var up int
		if n, err := fmt.Sscanf(s, "\r\x1b[%dA\x1b[J", &up); n == 1 && err == nil {
			t.rows = t.rows[:max(len(t.rows)-up, 0)]
			s = s[strings.Index(s, "\x1b[J")+3:]
			continue
		}
		line, rest, _ := strings.Cut(s, "\n")
		runes := []rune(line)
		for len(runes) > t.width {
			t.rows, runes = append(t.rows, string(runes[:t.width])), runes[t.width:]
		}
		t.rows, s = append(t.rows, string(runes)), rest
	}
	return len(p), nil
}

// onBoard is a board on a terminal of 24 lines.
func onBoard(width int) (*board, *terminal) {
	t := &terminal{width: width}
	b := newBoard(t)
	b.size = func() (int, int) { return t.width, 24 }
	return b, t
}

func running() lab.RunView {
	stage := func(name string, status workflows.StageStatus) workflows.StageState {
		return workflows.StageState{Name: name, Kind: experiments.KindDPO, Status: status, Result: workflows.StageResult{Digest: "0123456789abcdef", Seconds: 60}}
	}
	return lab.RunView{
		RunState: workflows.RunState{Stages: []workflows.StageState{
			stage("corpus", workflows.StageReused), stage("base", workflows.StageDone), stage("dpo/sp", workflows.StageRunning),
			stage("generate/decoupled/dpo", workflows.StageQueued), stage("report", workflows.StageWaiting),
		}},
		Running: map[string]workflows.Progress{
			"dpo/sp": {Phase: "train", Step: 13, Steps: 156, Loss: 0.4945, Sparkline: "█▄▁", TokensPerSecond: 5529, ETASeconds: 20,
				Attempt: 2, Failure: "the worker was killed " + strings.Repeat("and killed again ", 20)},
			"generate/decoupled/dpo": {Queued: true, Attempt: 1},
		},
	}
}

// TestBoardRepaints: at any width a run's state stands once, whatever is logged
// meanwhile and whatever the last attempt failed of.
func TestBoardRepaints(t *testing.T) {
	for _, width := range []int{40, 60, 80, 118, 200} {
		b, screen := onBoard(width)
		v := &runBoard{board: b, screen: newScreen(screen), left: newTimeLeft(nil), said: map[string]bool{}, last: map[string]workflows.Progress{}}
		for step := range 4 {
			state := running()
			p := state.Running["dpo/sp"]
			p.Step += step
			if step == 3 { // it validates
				p.Phase, p.Loss, p.ETASeconds = "validate", 0, 0
			}
			state.Running["dpo/sp"] = p
			v.update(state)
			if _, err := fmt.Fprintf(b, "log line %d\n", step); err != nil {
				t.Fatal(err)
			}
		}
		got := strings.Join(screen.rows, "\n")
		for _, once := range []string{"2/5 stages", "dpo/sp", "16/156", "loss 0.49", "ETA 20 s", "queued: generate/decoupled/dpo", "base ", "log line 0", "log line 3"} {
			if n := strings.Count(got, once); n != 1 {
				t.Errorf("%d columns: %q stands %d times, want once\n%s", width, once, n, got)
			}
		}
		if strings.Contains(got, "loss 0.494 █▄▁  ETA") != (width >= 60) {
			t.Errorf("%d columns: want the curve of the loss beside it where there is room\n%s", width, got)
		}
		if strings.Contains(got, "killed") {
			t.Errorf("%d columns: the reason of the last attempt is shown beside the work\n%s", width, got)
		}
		if strings.Contains(got, "generate/decoupled/dpo running") || strings.Contains(got, "13/156") {
			t.Errorf("%d columns: what is queued or past is shown as running\n%s", width, got)
		}
		for _, row := range screen.rows {
			if w := text.StringWidth(row); w > width-1 {
				t.Errorf("%d columns: a line has %d: %s", width, w, row)
			}
		}
		b.close()
		if last := screen.rows[len(screen.rows)-1]; last != "log line 3" {
			t.Errorf("%d columns: after the end the last line is %q, want the last log line", width, last)
		}
		ended := running()
		ended.Stages[2].Status = workflows.StageDone
		v.update(ended)
		b.close()
		if last := screen.rows[len(screen.rows)-1]; !strings.HasPrefix(last, "dpo/sp ") || strings.HasSuffix(last, "  loss 0.494 █▄▁") != (width >= 80) {
			t.Errorf("%d columns: %q, want the end of dpo/sp, with its loss and curve where there is room", width, last)
		}
	}
}

// TestLeaderboard: all runs on lines of 80 columns, with what differs and the best of
// each experiment marked.
func TestLeaderboard(t *testing.T) {
	long := strings.Repeat("long-", 12) + "name/0da221080876"
	all := []*standing{
		{Run: "demo/0da221080876", Experiment: "demo", Status: "running", Done: 41, Stages: 58, Differs: []differing{{"dpo/sp.beta", "0.3"}, {"seed", "2"}}},
		{Run: "demo/5c1f0e9a7b31", Experiment: "demo", Status: "done", Done: 58, Stages: 58, Metrics: map[string]float64{"preference_bias": 0.75, "weighted_f1": 23.1, "macro_f1": 18.2, "rouge_l": 14.02}},
		{Run: "demo/7c1f0e9a7b31", Experiment: "demo", Status: "done", Done: 58, Stages: 58, Metrics: map[string]float64{"preference_bias": 0.5, "weighted_f1": 22.1, "macro_f1": 18.2, "rouge_l": 114.02}},
		{Run: long, Experiment: "long", Status: "failed", Done: 3, Stages: 158, Metrics: map[string]float64{"preference_bias": 0.1}},
	}
	var out strings.Builder
	printStandings(&out, all)
	got := out.String()
	for line := range strings.Lines(got) {
		if w := text.StringWidth(strings.TrimRight(line, "\n")); w > 79 {
			t.Errorf("a line has %d columns: %s", w, line)
		}
	}
	for _, want := range []string{
		" stages              B      Qw       Q     R-L\n",
		" 41/58 running      –       –       –       –\n    dpo/sp.beta 0.3, seed 2\n",
		" 58/58 done      0.75   23.10*  18.20*  14.02\n",
		" 58/58 done      0.50*  22.10   18.20* 114.02*\n",
		" 3/158 failed    0.10       –       –       –\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("want %q in\n%s", want, got)
		}
	}
	if err := sortStandings(all, "b"); err != nil || all[0].Run != long || all[1].Metrics["preference_bias"] != 0.5 || all[3].Done != 41 {
		t.Errorf("sorted by B: %v, %+v; want the smallest first and the run without a number last", err, all)
	}
	if err := sortStandings(all, "charm"); err == nil || !strings.Contains(err.Error(), "--sort charm") {
		t.Errorf("sorted by charm: %v, want an error that names the flag", err)
	}
}

// TestLinesOfARun: without a terminal the same states are plain lines, said once.
func TestLinesOfARun(t *testing.T) {
	var out strings.Builder
	l := newLines(&out)
	l.update(running())
	l.update(running())
	end := running()
	end.Running["base"] = workflows.Progress{Loss: 0.5, Sparkline: "█▄▁"}
	end.Stages[1].Status = workflows.StageReused // as a finished run's status has it
	end.Stages[2].Status, end.Stages[2].Joined = workflows.StageDone, true
	end.Stages[3].Joined = true
	end.Stages[4].Status = workflows.StageCancelled
	l.update(end)
	if want := "\nbase                       reused   0123456789ab  loss 0.500 █▄▁\n"; !strings.Contains(out.String(), want) {
		t.Errorf("want a finished training's curve, %q, in\n%s", want, out.String())
	}
	want := `corpus                     reused   0123456789ab
base                       done     0123456789ab in 60.0 s
dpo/sp                     attempt 2, after: the worker was killed `
	if got := out.String(); !strings.HasPrefix(got, want) || strings.Count(got, "attempt 2, after") != 1 || strings.Contains(got, "\x1b") ||
		!strings.Contains(got, "\ngenerate/decoupled/dpo     queued\n") || !strings.HasSuffix(got, `
dpo/sp                     done     0123456789ab in 60.0 s, begun by another run
generate/decoupled/dpo     queued, begun by another run
report                     cancelled
`) {
		t.Errorf("got\n%swant it to begin\n%s", got, want)
	}
}

// TestTimeLeft: what is known of stages like these adds up; what is unknown is said.
func TestTimeLeft(t *testing.T) {
	v := running()
	var stages []experiments.Stage
	for _, s := range v.Stages {
		stages = append(stages, experiments.Stage{Name: s.Name, Kind: s.Kind, Params: json.RawMessage("{}")})
	}
	left := newTimeLeft(stages)
	if got := left.of(v); got != "more than 20 s left" {
		t.Errorf("with nothing learnt: %q, want the running stage's own 20 s", got)
	}
	left.learnStage(v.Stages[1])
	if got := left.of(v); got != "about 2 min left" { // 20 s, and a minute each
		t.Errorf("with a stage of the kind: %q, want 20 s and a minute each of two", got)
	}
}

// TestAnswer: the last lines of a run are its effects, its report and what shows more.
func TestAnswer(t *testing.T) {
	var data report.Data
	for _, c := range report.Headline([]string{"vanilla/dpo", "decoupled/dpo"}) {
		e := report.Effect{Contrast: c}
		e.Difference, e.Low, e.High, e.P, e.Turns, e.Dialogues = report.Value(-0.5), report.Value(-0.75), report.Value(-0.25), report.Value(0.01), 80, 8
		data.Headline = append(data.Headline, e)
	}
	var out strings.Builder
	printAnswer(data, "/data/reports/demo/0/report.html", "esclab compare demo/0", &out)
	want := `
decoupled/dpo against vanilla/dpo, 80 test turns of 8 dialogues:
 preference bias  -0.500  [-0.750, -0.250]  better
 strategy F1        -0.5  [-0.8, -0.2]      worse
 quality          -0.500  [-0.750, -0.250]  worse
95 % intervals; a difference is shown where it also passes a test (p < 0.05).

report  /data/reports/demo/0/report.html
more    esclab compare demo/0
`
	if got := out.String(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	on := screen{colours: true}
	if got := on.file("/a b"); got != "\x1b]8;;file:///a%20b\x1b\\/a b\x1b]8;;\x1b\\" {
		t.Errorf("on a terminal the path is %q, want a link", got)
	}
}

// TestTable3FitsATerminal: eleven columns in 80.
func TestTable3FitsATerminal(t *testing.T) {
	row := report.Row{Paradigm: experiments.Vanilla, Method: experiments.MethodDPO, Pairs: "nsnr"}
	for i, c := range experiments.Table3() {
		row.Columns[i] = report.Value(92.45)
		if c.Judged() || c.Name == experiments.ColumnBias {
			row.Columns[i] = report.Value(3.86)
		}
	}
	var out strings.Builder
	printResults(report.Data{Systems: []report.Row{row}}, &out)
	for line := range strings.Lines(out.String()) {
		if w := text.StringWidth(strings.TrimRight(line, "\n ")); w > 80 {
			t.Errorf("a line has %d columns: %s", w, line)
		}
	}
}
