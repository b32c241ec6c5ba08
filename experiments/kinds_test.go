package experiments

import (
	"fmt"
	"strings"
	"testing"
)

// Each row of the table of kinds is whole and differs from the others.
func TestTableOfKinds(t *testing.T) {
	seen := map[string]Kind{}
	for _, row := range kinds() {
		if row.version < 1 || row.activity == "" || row.does == "" || row.queue == "" {
			t.Errorf("the row of kind %q lacks something: %+v", row.kind, row)
		}
		for _, what := range []string{"activity " + row.activity, fmt.Sprintf("parameters %T", row.params)} {
			if other, twice := seen[what]; twice {
				t.Errorf("kinds %s and %s have the same %s", other, row.kind, what)
			}
			seen[what] = row.kind
		}
		stage, err := NewStage("x", row.params, nil)
		if err != nil || stage.Kind != row.kind || stage.Version != row.kind.Version() {
			t.Errorf("a stage of %T has kind %q and version %d (%v), want those of %s", row.params, stage.Kind, stage.Version, err, row.kind)
		}
	}
	if Kind("unheard-of").Version() != 0 || Kind("unheard-of").Activity() != "" {
		t.Error("an unknown kind has a version or an activity")
	}
	if s, err := NewStage("x", 7, nil); err == nil {
		t.Errorf("a number is taken for parameters: %+v", s)
	}
}

func TestStageSummary(t *testing.T) {
	for name, want := range map[string]string{
		"sft/sp": "sft/sp: fine-tune the strategy planner", "dpo/vm/nsnr": "dpo/vm/nsnr: preference-optimize the vanilla model",
		"mine/rg@2": "mine/rg@2: mine preference pairs from the response generator",
		"report":    "report: tables and figures", "odd/1": "odd/1",
	} {
		kind, _, _ := strings.Cut(name, "/")
		if got := (Stage{Name: name, Kind: Kind(kind)}).Summary(); got != want {
			t.Errorf("the summary of stage %s is %q, want %q", name, got, want)
		}
	}
}
