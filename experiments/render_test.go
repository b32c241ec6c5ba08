package experiments

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

func TestWritePlan(t *testing.T) {
	stages := mustPlan(t, "demo", "methods=sft", "paradigms=decoupled", "engine=go")
	planned := Planned(stages, map[string]Decision{
		"corpus": {ActionReuse, "its artifact is whole"},
		"sft/rg": {ActionRun, "no artifact"},
	})
	var out bytes.Buffer
	if err := WritePlan(&out, planned, 0); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if len(lines) != len(stages)+2 {
		t.Fatalf("%d lines for %d stages:\n%s", len(lines), len(stages), out.String())
	}
	column := strings.Index(lines[0], "REASON")
	for _, c := range []struct {
		line int
		want string
	}{{1, "its artifact is whole"}, {4, "no artifact"}} {
		if i := strings.Index(lines[c.line], c.want); i != column {
			t.Errorf("line %d: the reason begins in column %d, not %d:\n%s", c.line, i, column, out.String())
		}
	}
	if !strings.HasPrefix(lines[1], "corpus ") || !strings.Contains(lines[1], Short(stages[0].Fingerprint)) || !strings.Contains(lines[4], " run ") {
		t.Errorf("the plan reads\n%s\nwant the corpus first with its fingerprint, and the fourth line to run", out.String())
	}
	if want := "21 stages: 1 to reuse, 20 to run"; lines[len(lines)-1] != want {
		t.Errorf("the last line is %q, not %q", lines[len(lines)-1], want)
	}

	out.Reset()
	planned[4].Reason = "beta: 0.5 -> 0.3; learning_rate: 1e-4 -> 2e-4 since demo/e6399bccb1ae"
	if err := WritePlan(&out, planned, 80); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out.String()) {
		if n := len(strings.TrimRight(line, "\n")); n > 80 {
			t.Errorf("a line has %d columns of 80: %s", n, line)
		}
	}
	if got := strings.Join(strings.Fields(out.String()), " "); !strings.Contains(got, planned[4].Reason) || strings.Contains(got, "FINGERPRINT") {
		t.Errorf("in 80 columns the plan reads\n%s\nwant whole reasons and no fingerprints", out.String())
	}

	out.Reset()
	if err := WritePlanJSON(&out, planned); err != nil {
		t.Fatal(err)
	}
	var back []PlannedStage
	if err := json.Unmarshal(out.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	if back[0].Action != ActionReuse || back[0].Reason != "its artifact is whole" || back[3].Fingerprint != stages[3].Fingerprint || back[1].Action != ActionRun {
		t.Errorf("read back are %+v, want one reused with its reason and one that runs", back[:2])
	}
}
