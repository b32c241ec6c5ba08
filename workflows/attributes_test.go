package workflows

import (
	"math"
	"reflect"
	"slices"
	"testing"

	"github.com/stretchr/testify/mock"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"github.com/esclab/esclab/experiments"
)

// values lays search attributes open by name.
func values(sa temporal.SearchAttributes) map[string]any {
	out := map[string]any{}
	for k, v := range sa.GetUntypedValues() {
		out[k.GetName()] = v
	}
	return out
}

// demoPlan is the evaluation part of a plan with both paradigms.
func demoPlan() []experiments.Stage {
	stage := func(kind experiments.Kind, name string, inputs ...string) experiments.Stage {
		s := experiments.Stage{Name: name, Kind: kind, Fingerprint: "fp-" + name, Inputs: map[string]string{}}
		for _, in := range inputs {
			s.Inputs[in] = in
		}
		return s
	}
	stages := []experiments.Stage{
		stage(experiments.KindCorpus, "corpus"), stage(experiments.KindSFT, "sft/vm", "corpus"), stage(experiments.KindDPO, "dpo/vm/nsnr", "sft/vm"),
	}
	for _, row := range []string{"vanilla/sft", "vanilla/dpo", "vanilla/dpo/nsnr", "decoupled/sft", "decoupled/dpo"} {
		stages = append(stages, stage(experiments.KindGenerate, "generate/"+row, "corpus"),
			stage(experiments.KindScore, "score/"+row, "generate/"+row), stage(experiments.KindBias, "bias/"+row, "generate/"+row))
	}
	return stages
}

func all() []string { return UsableAttributes(AttributeTypes(), "") }

func TestHeadline(t *testing.T) {
	plan := demoPlan()
	if sys, ok := experiments.Headline(plan); !ok || sys.Name() != "decoupled/dpo" {
		t.Errorf("headline %v, %v", sys, ok)
	}
	vanilla := slices.DeleteFunc(plan, func(s experiments.Stage) bool {
		sys, ok := experiments.SystemOf(s)
		return ok && sys.Paradigm == experiments.Decoupled
	})
	if sys, _ := experiments.Headline(vanilla); sys.Name() != "vanilla/dpo" {
		t.Errorf("headline of vanilla systems: %v", sys)
	}
	if _, ok := experiments.Headline(vanilla[:3]); ok {
		t.Error("a plan without an evaluation has a headline")
	}
}

// A cell's score is that of its headline system, wherever its plan lies.
func TestScore(t *testing.T) {
	whole := RunInput{Experiment: "demo", Stages: demoPlan()}
	result := RunResult{Stages: []StageResult{
		{Stage: "score/vanilla/dpo", Metrics: map[string]float64{"rouge_l": 15}},
		{Stage: "score/decoupled/dpo", Metrics: map[string]float64{"rouge_l": 14, "distinct_1": 90}},
		{Stage: "bias/decoupled/dpo", Metrics: map[string]float64{"preference_bias": 0.5}},
	}}
	want := &CellScore{System: "decoupled/dpo", Metrics: map[string]float64{"rouge_l": 14, "preference_bias": 0.5}}
	for what, in := range map[string]RunInput{"with its stages": whole, "with its plan in the store": whole.Planned("run/demo/1", "plan.json", "00")} {
		if got := in.score(result); !reflect.DeepEqual(got, want) {
			t.Errorf("a run %s scores %+v, want %+v", what, got, want)
		}
		if got := in.score(RunResult{Stages: result.Stages[:2]}); got != nil {
			t.Errorf("a run %s whose headline system has no bias scores %+v, want nothing", what, got)
		}
	}
}

func TestRunAttributes(t *testing.T) {
	in := RunInput{Experiment: "demo", Stages: demoPlan(), Facts: Facts{
		Experiment: "demo", Backbone: "tiny-llama", Sweep: "betas", Cell: "3", Seed: 7, Revision: "0123456789ab", Attributes: all(),
	}}
	want := map[string]any{
		"Experiment": "demo", "Backbone": "tiny-llama", "Sweep": "betas", "Cell": "3", "Seed": int64(7), "Revision": "0123456789ab",
		"Paradigm": "decoupled", "Method": "dpo", "Paradigms": []string{"vanilla", "decoupled"}, "Methods": []string{"sft", "dpo"},
	}
	if got := values(in.SearchAttributes()); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	in.Facts.Attributes = []string{"Seed"}
	if got := values(in.SearchAttributes()); !reflect.DeepEqual(got, map[string]any{"Seed": int64(7)}) {
		t.Errorf("where the namespace has Seed alone: %v", got)
	}
	if got := UsableAttributes(map[string]string{"Seed": "Keyword", "MacroF1": "Double", "Other": "Int"}, ""); !slices.Equal(got, []string{"MacroF1"}) {
		t.Errorf("usable: %v", got)
	}
}

// In a namespace that others share, every attribute has its prefix.
func TestAttributePrefix(t *testing.T) {
	have := map[string]string{"lab_Seed": "Int", "lab_Methods": "KeywordList", "lab_MacroF1": "Double", "lab_Sweep": "Keyword", "Backbone": "Keyword"}
	f := Facts{Sweep: "s", Seed: 7, Backbone: "b", Attributes: UsableAttributes(have, "lab_")}
	updates := append(f.updates(), AttrMethods.ValueSet([]string{"dpo"}), AttrMacroF1.ValueSet(0.5))
	got := values(temporal.NewSearchAttributes(f.Usable(updates...)...))
	want := map[string]any{"lab_Seed": int64(7), "lab_Methods": []string{"dpo"}, "lab_MacroF1": 0.5, "lab_Sweep": "s"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v: those that the namespace has, under its names", got, want)
	}
}

// A run carries the numbers of its headline system, its stages their own.
func TestRunRecordsItsHeadline(t *testing.T) {
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestWorkflowEnvironment()
	metrics := func(in StageInput) map[string]float64 {
		sys, _ := experiments.SystemOf(in.Stage)
		x := map[string]float64{"vanilla/sft": 1, "vanilla/dpo": 2, "vanilla/dpo/nsnr": 3, "decoupled/sft": 4, "decoupled/dpo": 5}[sys.Name()]
		switch in.Stage.Kind {
		case experiments.KindScore:
			return map[string]float64{"rouge_l": 10.004 + x}
		case experiments.KindBias:
			return map[string]float64{"preference_bias": x/10 + 0.004, "weighted_f1": math.NaN(), "macro_f1": 20 + x}
		}
		return nil
	}
	emptyStore(env)
	env.RegisterWorkflowWithOptions(func(_ workflow.Context, in StageInput) (StageResult, error) {
		m := metrics(in)
		delete(m, "weighted_f1") // JSON holds no NaN
		return StageResult{Stage: in.Stage.Name, Metrics: m}, nil
	}, workflow.RegisterOptions{Name: StageName})
	got := map[string]any{}
	env.OnUpsertTypedSearchAttributes(mock.Anything).Run(func(args mock.Arguments) {
		for k, v := range values(args.Get(0).(temporal.SearchAttributes)) {
			got[k] = v
		}
	}).Return(nil)
	env.ExecuteWorkflow(Run, RunInput{Experiment: "demo", Stages: demoPlan(), HeartbeatSeconds: 10, Facts: Facts{Attributes: all()}})
	if err := env.GetWorkflowError(); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"PreferenceBias": 0.5, "MacroF1": 25.0, "RougeLBasisPoints": int64(1500), "RougeL": "15.00"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if updates := (Facts{Attributes: all()}).Usable(measured(map[string]float64{"weighted_f1": math.NaN(), "steps": 3})...); len(updates) != 0 {
		t.Errorf("%d attributes of what is no number", len(updates))
	}
}
