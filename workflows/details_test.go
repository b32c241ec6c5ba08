package workflows

import (
	"errors"
	"strings"
	"testing"
)

func TestRunDetails(t *testing.T) {
	got := runDetails(RunState{Experiment: "demo", Stages: []StageState{
		{Name: "corpus", Status: StageReused, Result: StageResult{Digest: "0123456789abcdef", Seconds: 3}},
		{Name: "sft/vm", Status: StageDone, Result: StageResult{Digest: "feed", Seconds: 16.24}},
		{Name: "sft/sp", Status: StageFailed, Error: "loss NaN | at\n`step` 3"},
		{Name: "dpo/sp", Status: StageSkipped},
		{Name: "sft/rg", Status: StageRunning},
		{Name: "dpo/rg", Status: StageWaiting},
		{Name: "report", Status: StageWaiting},
	}})
	want := "**demo**: 7 stages, 1 done, 1 reused, 1 running, 2 waiting, 1 failed, 1 skipped\n\n" +
		"- **sft/sp** failed: `loss NaN | at 'step' 3`\n" + `
| stage | state | seconds | artifact |
|:--|:--|--:|:--|
| corpus | ↺ reused |  | ` + "`0123456789ab`" + ` |
| sft/vm | ✓ done | 16.2 | ` + "`feed`" + ` |
| sft/sp | ✗ failed |  |  |
| dpo/sp | – skipped |  |  |
| sft/rg | ▶ running |  |  |
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
