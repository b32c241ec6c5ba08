package workflows

import (
	"errors"
	"strings"
	"testing"

	"github.com/esclab/esclab/experiments"
)

func TestRunDetails(t *testing.T) {
	got := runDetails(RunState{Experiment: "demo", Stages: []StageState{
		{Name: "corpus", Status: StageReused, Result: StageResult{Digest: "0123456789abcdef", Seconds: 3}},
		{Name: "sft/vm", Status: StageDone, Result: StageResult{Digest: "feed", Seconds: 16.24}},
		{Name: "sft/sp", Status: StageFailed, Error: "loss NaN | at\n`step` 3"},
		{Name: "dpo/sp", Status: StageSkipped},
		{Name: "sft/rg", Status: StageRunning},
		{Name: "mine/rg", Status: StageRunning, Joined: true},
		{Name: "mine/sp", Status: StageCancelled},
		{Name: "dpo/rg", Status: StageWaiting},
		{Name: "report", Status: StageWaiting},
	}})
	want := "**demo**: 9 stages, 1 done, 1 reused, 2 queued or running, 2 waiting, 1 failed, 1 cancelled, 1 skipped\n\n" +
		"- **sft/sp** failed: loss NaN \\| at \\`step\\` 3\n" + `
| stage | state | seconds | artifact |
|:--|:--|--:|:--|
| corpus | ↺ reused |  | ` + "`0123456789ab`" + ` |
| sft/vm | ✓ done | 16.2 | ` + "`feed`" + ` |
| sft/sp | ✗ failed |  |  |
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
	made := StageResult{Digest: "feed", Fingerprint: "f00d", Seconds: 16.24, Engine: "go avx2",
		Metrics: map[string]float64{"steps": 156, "tokens_unpacked": 537336, "loss": 0.576800649985671}}
	want := "**sft/vm** ran in 16.2 s\n\n| what | value |\n|:--|:--|\n| loss | 0.576801 |\n| steps | 156 |\n| tokens unpacked | 537336 |\n" +
		"| engine | go avx2 |\n| artifact | `feed` |\n| fingerprint | `f00d` |\n"
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
	got := runDetails(RunState{Experiment: "a|b*c*\n# <b>", Stages: []StageState{{Name: "x|y", Status: StageFailed, Error: "bad `code` | x\n| y |"}}})
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
