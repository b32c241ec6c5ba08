package activities

import (
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
		r := &reporter{attempt: &attempt{a: l.a, dir: t.TempDir(), inputs: map[string]string{}, in: workflows.StageInput{
			Inputs: map[string]string{"base": l.stages[c.stage].Fingerprint, replies: l.stages[replies].Fingerprint}}}}
		if err := r.backbone(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(r.data.Notes, "|"); got != c.want && (c.want == "" || !strings.HasPrefix(got, c.want)) {
			t.Errorf("%s beside replies with a penalty of 1.1: the notes are %q, want %q", c.file, got, c.want)
		}
	}
}
