package workflows

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/esclab/esclab/experiments"
)

func TestRunDetails(t *testing.T) {
	got := runDetails(Facts{}, RunState{Experiment: "demo", Stages: []StageState{
		{Name: "corpus", Status: StageReused, Result: StageResult{Digest: "0123456789abcdef", Seconds: 3}},
		{Name: "sft/vm", Status: StageDone, Result: StageResult{Digest: "feed", Seconds: 16.24, Sparkline: "█▂▁"}},
		{Name: "sft/sp", Status: StageFailed, Error: "stage sft/sp: loss NaN | at\n`step` 3", WorkflowID: "stage/sft/sp/0123456789ab"},
		{Name: "mine/rg", Status: StageFailed, Error: "disk full"},
		{Name: "judge/rg", Status: StageFailed, Error: "stage judge/rg: loss NaN | at\n`step` 3"},
		{Name: "dpo/sp", Status: StageSkipped, WorkflowID: "stage/dpo/sp/0123456789ab"},
		{Name: "sft/rg", Status: StageRunning},
		{Name: "mine/rg", Status: StageRunning, Joined: true},
		{Name: "mine/sp", Status: StageCancelled},
		{Name: "dpo/rg", Status: StageWaiting},
		{Name: "report", Status: StageWaiting},
	}})
	want := "**demo**: 11 stages, 1 done, 1 reused, 2 queued or running, 2 waiting, 3 failed, 1 cancelled, 1 skipped\n\n" +
		"- **sft/sp, judge/rg** failed: loss NaN \\| at \\`step\\` 3\n- **mine/rg** failed: `disk full`\n" + `
| stage | state | seconds | artifact |
|:--|:--|--:|:--|
| corpus | ↺ reused |  | ` + "`0123456789ab`" + ` |
| sft/vm | ✓ done █▂▁ | 16.2 | ` + "`feed`" + ` |
| [sft/sp](/namespaces/{namespace}/workflows/stage%2Fsft%2Fsp%2F0123456789ab) | ✗ failed |  |  |
| mine/rg | ✗ failed |  |  |
| judge/rg | ✗ failed |  |  |
| dpo/sp | – skipped |  |  |
| sft/rg | ▶ queued or running |  |  |
| mine/rg | ▶ queued or running, begun by another run |  |  |
| mine/sp | ■ cancelled |  |  |
| dpo/rg | · waiting |  |  |
| report | · waiting |  |  |
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestStageDetails(t *testing.T) {
	made := StageResult{Digest: "feed", Fingerprint: "f00d", Seconds: 16.24, Engine: "go avx2", Sparkline: "█▅▂▁",
		Metrics: map[string]float64{"steps": 156, "tokens_unpacked": 537336, "loss": 0.576800649985671}}
	want := "**sft/vm** ran in 16.2 s\n\n| what | value |\n|:--|:--|\n| loss | 0.576801 |\n| steps | 156 |\n| tokens unpacked | 537336 |\n" +
		"| loss, first to last step | █▅▂▁ |\n| engine | go avx2 |\n| artifact | `feed` |\n| fingerprint | `f00d` |\n"
	if got := resultDetails("sft/vm", made); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	made.Reused = true
	if got := resultDetails("sft/vm", made); !strings.HasPrefix(got, "**sft/vm** was in the store and is reused\n") {
		t.Errorf("reused: %s", got)
	}
	in := StageInput{Queues: Queues{Control: "c", CPU: "esclab-cpu", GPU: "g"}}
	in.Stage.Name, in.Stage.Queue = "sft/vm", "cpu"
	if got := runningDetails(in, "not in the store"); !strings.HasPrefix(got, "**sft/vm** runs on the queue `esclab-cpu`: `not in the store`\n") {
		t.Errorf("running: %s", got)
	}
	if got := failedDetails(in, errors.New("disk full")); got != "**sft/vm** ended without an artifact: `disk full`\n" {
		t.Errorf("failed: %s", got)
	}
}

// Vanilla beside decoupled, as far as they are evaluated, the best in bold.
func TestSystemsTable(t *testing.T) {
	stages := []StageState{
		{Name: "generate/vanilla/dpo", Kind: experiments.KindGenerate, Result: StageResult{Metrics: map[string]float64{"turns": 3}}},
		{Name: "score/vanilla/dpo", Kind: experiments.KindScore, Result: StageResult{Metrics: map[string]float64{"distinct_1": 90.123, "rouge_l": 15}}},
		{Name: "bias/vanilla/dpo", Kind: experiments.KindBias, Result: StageResult{Metrics: map[string]float64{"preference_bias": 0.9, "macro_f1": 20}}},
		{Name: "score/decoupled/dpo", Kind: experiments.KindScore, Result: StageResult{Metrics: map[string]float64{"distinct_1": 89, "rouge_l": 15}}},
		{Name: "bias/decoupled/dpo", Kind: experiments.KindBias, Result: StageResult{Metrics: map[string]float64{"preference_bias": 0.19, "macro_f1": 21.5}}},
		{Name: "judge/decoupled/dpo", Kind: experiments.KindJudge, Result: StageResult{Metrics: map[string]float64{"fluency": 3.5}}},
	}
	want := `
| system | D-1 | B-1 | F1 | R-L | B | Qw | Q |
|:--|--:|--:|--:|--:|--:|--:|--:|
| vanilla/dpo | **90.12** | – | – | **15.00** | 0.90 | – | 20.00 |
| decoupled/dpo | 89.00 | – | – | **15.00** | **0.19** | – | **21.50** |

| system | Flu. | Pro. | Emp. | Hel. |
|:--|--:|--:|--:|--:|
| vanilla/dpo | – | – | – | – |
| decoupled/dpo | **3.50** | – | – | – |
`
	if got := systemsTable(stages); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	_, rows := systemMetrics([]StageState{
		{Name: "bias/vanilla/sft@1", Kind: experiments.KindBias, Result: StageResult{Metrics: map[string]float64{"preference_bias": 0.5}}},
		{Name: "bias/vanilla/sft@2", Kind: experiments.KindBias, Result: StageResult{Metrics: map[string]float64{"preference_bias": 1}}},
		{Name: "bias/vanilla/sft@3", Kind: experiments.KindBias},
	})
	if got := rows[experiments.System{Paradigm: experiments.Vanilla, Method: experiments.MethodSFT}]["preference_bias"]; got != 0.75 {
		t.Errorf("mean over seeds %v, want 0.75", got)
	}
	if got := systemsTable(stages[:1]); got != "" {
		t.Errorf("before the first number: %s", got)
	}
}

// No name or message can change the table that it stands in.
func TestDetailsEscape(t *testing.T) {
	got := runDetails(Facts{}, RunState{Experiment: "a|b*c*\n# <b>", Stages: []StageState{{Name: "x|y", Status: StageFailed, Error: "bad `code` | x\n| y |"}}})
	want := "**a\\|b\\*c\\* \\# \\<b\\>**: 1 stages, 1 failed\n\n- **x\\|y** failed: bad \\`code\\` \\| x \\| y \\|\n\n" +
		"| stage | state | seconds | artifact |\n|:--|:--|--:|:--|\n| x\\|y | ✗ failed |  |  |\n"
	if got != want {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
}

func TestRunSummary(t *testing.T) {
	in := RunInput{Experiment: "demo", Facts: Facts{Backbone: "tiny-llama", Seed: 3, Sweep: "betas", Cell: "7"}}
	if got, want := in.Summary(), "demo on tiny-llama, seed 3, sweep betas, cell 7"; got != want {
		t.Errorf("the run's summary is %q, want %q", got, want)
	}
	in.Facts.Backbone, in.Facts.Cell = `<img src=x onerror=alert(1)>`, "[beta](javascript:alert(1))"
	want := `demo on \<img src=x onerror=alert(1)\>, seed 3, sweep betas, cell \[beta\](javascript:alert(1))`
	if got := in.Summary(); got != want {
		t.Errorf("the summary of a run with hostile names is %q, want %q", got, want)
	}
}

// What a workflow is started with leads to what belongs to it, whatever its name.
func TestStaticDetails(t *testing.T) {
	report := experiments.Stage{Name: "report", Kind: experiments.KindReport, Fingerprint: strings.Repeat("ab", 32),
		Inputs: map[string]string{"score/vanilla/dpo": "score/vanilla/dpo"}}
	score := experiments.Stage{Name: "score/vanilla/dpo", Kind: experiments.KindScore, Fingerprint: strings.Repeat("cd", 32), Inputs: map[string]string{"generate": "generate@2"}}
	in := RunInput{Experiment: "it's", Stages: []experiments.Stage{report}, Facts: Facts{Sweep: "b)[x", Attributes: all()}}
	for _, want := range []string{
		"- [Its stages](/namespaces/{namespace}/workflows?query=ParentWorkflowId%20%3D%20%27{workflowId}%27): 1,",
		"The final comparison of its systems: in the run's result, and on the page of [its report](/namespaces/{namespace}/workflows/stage%2Freport%2Fabababababab)",
		"Sweep%20%3D%20%27b%29%5Bx%27)", `All runs of it's](`, "Experiment%20%3D%20%27it%5C%27s%27)",
	} {
		if got := in.Details(); !strings.Contains(got, want) {
			t.Errorf("the run's details do not have %s:\n%s", want, got)
		}
	}
	if got, want := in.Planned("run/it/1", "plan.json", "00").Details(), in.Details(); got != want {
		t.Errorf("the details of a run whose plan lies in the store are\n%s\nwant those of any other\n%s", got, want)
	}
	in.Facts.FilesPath = "/files/"
	if got, want := in.Details(), "[report.html](/files/"+report.Fingerprint+"/report.html)"; !strings.Contains(got, want) {
		t.Errorf("the run's details do not have %s:\n%s", want, got)
	}
	if got, want := runDetails(in.Facts, RunState{Stages: []StageState{{Name: "a", Fingerprint: "f00d", Status: StageReused, Result: StageResult{Digest: "feed"}}}}),
		"| a | ↺ reused |  | [`feed`](/files/f00d/) |"; !strings.Contains(got, want) {
		t.Errorf("a stage that is done does not lead to its files, %s:\n%s", want, got)
	}
	in.Facts.Attributes = nil
	if got := in.Details(); strings.Contains(got, "Experiment%20") {
		t.Errorf("a query by an attribute that the namespace does not have:\n%s", got)
	}
	r := &run{index: map[string]int{"generate@2": 0, "score/vanilla/dpo": 1}, state: RunState{Stages: []StageState{
		{Name: "generate@2", WorkflowID: "stage/generate/0"},
		{Name: "score/vanilla/dpo", Kind: experiments.KindScore, WorkflowID: "stage/score/1", Result: StageResult{Metrics: map[string]float64{"rouge_l": 15}}},
	}}}
	of := wanter{"run/demo/1", "r"}
	if got, want := r.stageDetails(of, StageInput{Stage: score}), "- Of [run/demo/1](/namespaces/{namespace}/workflows/run%2Fdemo%2F1/r/user-metadata)\n"+
		"- Reads from [generate@2](/namespaces/{namespace}/workflows/stage%2Fgenerate%2F0)\n"; strings.ReplaceAll(got, `\@`, "@") != want {
		t.Errorf("a stage's details are\n%s\nwant\n%s", got, want)
	}
	if got := r.stageDetails(of, StageInput{Stage: report}); !strings.Contains(got, "| vanilla/dpo | – | – | – | 15.00 |") || strings.Contains(got, "Reads from") {
		t.Errorf("the report's details have no comparison of the systems:\n%s", got)
	}
	long := CompareInput{Table: strings.Repeat("| a | b |\n", 10_000)}.Details()
	if raw, err := json.Marshal(long); err != nil || len(raw) > 20_000 || !strings.HasSuffix(long, "|\n\n…\n") {
		t.Errorf("a long comparison has %d bytes (%v), want what Temporal takes, to the end of a line: …%q", len(raw), err, long[len(long)-20:])
	}
}

func TestSweepDetails(t *testing.T) {
	score := func(cell int, bias float64) CellScore {
		return CellScore{Cell: cell, Name: fmt.Sprintf("c%d", cell), WorkflowID: fmt.Sprintf("run/c%d", cell), System: "decoupled/dpo",
			Metrics: map[string]float64{"preference_bias": bias, "rouge_l": 15}}
	}
	var best []CellScore
	for cell, bias := range []float64{0.9, 0.3, 0.5, 0.8, 0.7, 0.6, 0.2} {
		best = better(best, score(cell, bias))
	}
	best = better(best, score(1, 0.55)) // it ran again
	got := sweepDetails(SweepState{Name: "betas", Parallel: 2, Priority: 3, Marks: "ddddddfffw", Best: best, ETASeconds: 90.4, Ends: []CellEnd{
		{7, "c7", CellFailed, "disk full"}, {8, "c8", CellFailed, "disk full"}, {9, "c9", CellCancelled, "disk full"},
	}})
	want := "**betas**: 10 cells, 6 done, 1 waiting, 3 failed\n\n2 at a time, priority 3, about 1m30s left\n\n" + `| best so far | system | R-L | B | Qw | Q |
|:--|:--|--:|--:|--:|--:|
| [c6](/namespaces/{namespace}/workflows/run%2Fc6) | decoupled/dpo | 15.00 | 0.20 | – | – |
| [c2](/namespaces/{namespace}/workflows/run%2Fc2) | decoupled/dpo | 15.00 | 0.50 | – | – |
| [c1](/namespaces/{namespace}/workflows/run%2Fc1) | decoupled/dpo | 15.00 | 0.55 | – | – |
| [c5](/namespaces/{namespace}/workflows/run%2Fc5) | decoupled/dpo | 15.00 | 0.60 | – | – |
| [c4](/namespaces/{namespace}/workflows/run%2Fc4) | decoupled/dpo | 15.00 | 0.70 | – | – |

- **c7, c8** failed: ` + "`disk full`\n- **c9** cancelled: `disk full`\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
