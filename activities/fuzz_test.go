package activities

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"testing"

	"github.com/rs/zerolog"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/artifacts/storetest"
	"github.com/esclab/esclab/esc/democorpus"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/workflows"
)

// FuzzStageInput: whatever the JSON that a worker gets as a stage, the attempt ends
// with an error or an artifact, never with a panic. Fingerprints are made to fit, so
// that the parameters behind them are reached; no input of a stage is in the store.
func FuzzStageInput(f *testing.F) {
	p, err := experiments.Prepare("demo", nil, experiments.OS(democorpus.JSON()))
	if err != nil {
		f.Fatal(err)
	}
	seen := map[experiments.Kind]bool{}
	for _, s := range p.Stages {
		if seen[s.Kind] {
			continue
		}
		seen[s.Kind] = true
		raw, err := json.Marshal(workflows.StageInput{Stage: s, Checkpoint: p.Experiment.Checkpoint, Judge: p.Experiment.Judge.JudgeAccess})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	for _, s := range []string{`{}`, `null`, `{"stage":{"kind":"corpus","version":1,"params":null}}`, `{"stage":{"kind":"report","version":-1,"params":{"seeds":[1]}}}`} {
		f.Add([]byte(s))
	}
	dir := f.TempDir()
	a := &Activities{
		Store: storetest.OpenStore(f, dir), Log: zerolog.Nop(), Scratch: filepath.Join(dir, "scratch"), DemoCorpus: democorpus.JSON(),
		JudgeKey: func(string) (string, error) { return "", errors.New("no endpoint is paired") },
	}
	stages := a.Stages()
	f.Fuzz(func(t *testing.T, raw []byte) {
		var in workflows.StageInput
		if json.Unmarshal(raw, &in) != nil {
			return
		}
		of := stages[in.Stage.Kind]
		if source := in.Stage.Source; of == nil || source != "" && source != experiments.SourceDemo || in.Stage.SplitIndexSource != "" {
			return // no file of this machine is read
		}
		if fits, err := in.Stage.FingerprintOf(in.Inputs); err == nil {
			in.Stage.Fingerprint = fits
		}
		workflows.StageWorkflowID(in.Stage.Name, in.Stage.Fingerprint)
		in.Stage.Summary()
		in.SearchAttributes()
		var suite testsuite.WorkflowTestSuite
		suite.SetDisableRegistrationAliasing(true)
		env := suite.NewTestActivityEnvironment()
		env.RegisterActivityWithOptions(of, activity.RegisterOptions{Name: "Stage"})
		value, err := env.ExecuteActivity("Stage", in)
		var panicked *temporal.PanicError
		var result workflows.StageResult
		switch {
		case errors.As(err, &panicked):
			t.Fatalf("%v\n%s", panicked, panicked.StackTrace())
		case err != nil:
			if err.Error() == "" {
				t.Fatal("an error without words")
			}
		case value.Get(&result) != nil || result.Digest == "":
			t.Fatalf("no error and no artifact: %+v", result)
		}
		if _, err := a.Store.Lookup(t.Context(), in.Stage.Fingerprint); err != nil && !errors.Is(err, artifacts.ErrNotFound) && !errors.Is(err, artifacts.ErrInvalidKey) {
			t.Fatalf("it leaves a store in which its artifact %s", err)
		}
	})
}
