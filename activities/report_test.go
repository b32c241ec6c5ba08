package activities

import (
	"os"
	"strings"
	"testing"

	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/internal/chattest"
	"github.com/esclab/esclab/workflows"
)

// TestOwnSamplingNote: the report names what the backbone's own generation_config.json sets otherwise than the replies
// were sampled with, and nothing where the two agree.
func TestOwnSamplingNote(t *testing.T) {
	l := newLab(t, chattest.New(t), "generation.repetition_penalty=1.1")
	const replies = "generate/vanilla/base"
	for _, c := range []struct{ stage, file, want string }{
		{"sft/vm", `{"repetition_penalty": 1.1, "top_k": 20}`, "The backbone's own generation_config.json has top_k 20 (here 0); "},
		{"sft/rg", `{"repetition_penalty": 1.1}`, ""},
	} { // the artifact of any stage serves as an imported backbone
		l.commit(t, c.stage, experiments.GenerationConfigFile, []byte(c.file))
		r := &reporter{attempt: &attempt{a: l.a, pulse: &pulse{}, dir: t.TempDir(), inputs: map[string]string{}, in: workflows.StageInput{
			Inputs: map[string]string{"base": l.stages[c.stage].Fingerprint, replies: l.stages[replies].Fingerprint}}}}
		if err := r.backbone(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(r.data.Notes, "|"); got != c.want && (c.want == "" || !strings.HasPrefix(got, c.want)) {
			t.Errorf("%s beside replies with a penalty of 1.1: the notes are %q, want %q", c.file, got, c.want)
		}
	}
}

// TestUnfinishedReport: while a run goes on its report has the systems of which
// everything is measured, and no other.
func TestUnfinishedReport(t *testing.T) {
	l := newLab(t, chattest.New(t))
	shown := func() (names []string) {
		t.Helper()
		in := workflows.StageInput{Stage: l.stages["report"], Inputs: map[string]string{}}
		for name, stage := range in.Stage.Inputs {
			in.Inputs[name] = l.stages[stage].Fingerprint
		}
		data, ok, err := l.a.UnfinishedReport(t.Context(), in)
		if err != nil || !ok {
			t.Fatalf("the report is there: %v, %v", ok, err)
		}
		if len(data.Corpus) != 3 {
			t.Errorf("the report counts %d parts of the corpus, want 3", len(data.Corpus))
		}
		for _, row := range data.Systems {
			names = append(names, row.System())
		}
		return names
	}
	if got := shown(); len(got) > 0 {
		t.Errorf("with replies that nobody has measured it shows %v, want nothing", got)
	}
	for _, stage := range []string{"score/vanilla/base", "bias/vanilla/base", "judge/vanilla/base", "score/vanilla/sft", "bias/vanilla/sft"} {
		if _, err := l.run(stage); err != nil {
			t.Fatal(err)
		}
	}
	if got := shown(); len(got) != 1 || got[0] != "vanilla/base" {
		t.Errorf("it shows %v, want vanilla/base, the one system that is judged", got)
	}
	if left, err := os.ReadDir(l.a.Scratch); err != nil || len(left) > 0 {
		t.Errorf("it has left %v behind (%v)", left, err)
	}
}
