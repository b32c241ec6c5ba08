package activities

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/rs/zerolog"
	"go.temporal.io/sdk/testsuite"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/artifacts/storetest"
	"github.com/esclab/esclab/esc/democorpus"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/report"
	"github.com/esclab/esclab/results"
	"github.com/esclab/esclab/workflows"
)

// sweepStore is a store with a sweep's plan.
type sweepStore struct {
	a    *Activities
	plan experiments.SweepPlan
	ref  workflows.PlanRef
}

func newSweepStore(t *testing.T, yaml string) *sweepStore {
	t.Helper()
	dir := t.TempDir()
	store := storetest.OpenStore(t, dir)
	sweep, err := experiments.ReadSweep("s.yaml", []byte(yaml), "")
	if err != nil {
		t.Fatal(err)
	}
	s := &sweepStore{a: &Activities{Store: store, Log: zerolog.Nop()}}
	s.plan, err = experiments.PlanSweep(sweep, dir, func(e experiments.Experiment) (experiments.Sources, error) {
		return experiments.SourceDigests(e, experiments.OS(democorpus.JSON()))
	})
	if err != nil {
		t.Fatal(err)
	}
	if s.ref, err = WriteSweepPlan(t.Context(), store, "sweep/s/1", s.plan); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *sweepStore) stage(t *testing.T, cell int, name string) experiments.Stage {
	t.Helper()
	_, stages, err := s.plan.Stages(cell)
	if err != nil {
		t.Fatal(err)
	}
	for _, st := range stages {
		if st.Name == name {
			return st
		}
	}
	t.Fatalf("cell %d has no stage %s", cell, name)
	return experiments.Stage{}
}

func (s *sweepStore) acquire(t *testing.T, st experiments.Stage) *artifacts.Lease {
	t.Helper()
	lease, err := s.a.Store.Acquire(t.Context(), st.Fingerprint, artifacts.Claim{Owner: "test", Keep: 1})
	if err != nil {
		t.Fatal(err)
	}
	return lease
}

// commit makes a stage's artifact with a record of its steps and its figures.
func (s *sweepStore) commit(t *testing.T, st experiments.Stage, record string, metrics map[string]float64) {
	t.Helper()
	ref, err := s.a.Store.PutFunc(t.Context(), artifacts.BytesFile([]byte(record)))
	if err != nil {
		t.Fatal(err)
	}
	m := artifacts.Manifest{Kind: string(st.Kind), Stage: st.Name, Files: map[string]artifacts.Ref{results.FileMetrics: ref}, Metrics: metrics}
	if _, err := s.acquire(t, st).Commit(t.Context(), m, nil); err != nil {
		t.Fatal(err)
	}
}

// validations is a record with these validation losses, one an epoch.
func validations(losses ...float64) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	for i, loss := range losses {
		for _, s := range []results.Step{
			{Step: 2*i + 1, Epoch: float64(i) + 0.5},
			{Step: 2*i + 2, Epoch: float64(i) + 1, Validation: &results.Validation{Loss: loss}},
		} {
			if err := e.Encode(s); err != nil {
				panic(err) // finite numbers
			}
		}
	}
	return b.String()
}

func writes(text string) artifacts.WriteFunc {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, text)
		return err
	}
}

// execute runs an activity as Temporal would.
func execute[In, Out any](t *testing.T, activity any, in In) (Out, error) {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	env.RegisterActivity(activity)
	var out Out
	value, err := env.ExecuteActivity(activity, in)
	if err == nil {
		err = value.Get(&out)
	}
	return out, err
}

// Finished cells are judged by their artifacts, a running one by its checkpoint.
func TestFindHopeless(t *testing.T) {
	s := newSweepStore(t, `
name: s
base: demo
grid: {sft.learning_rate: [1e-4, 2e-4, 3e-4, 4e-4, 5e-4]}
early_stopping: {rule: median, stage: sft/rg, metric: validation_loss, grace: 2, min_cells: 3}
`)
	for cell, record := range []string{validations(3, 2), validations(3, 2.5), validations(3, 2.2)} {
		s.commit(t, s.stage(t, cell, "sft/rg"), record, nil)
	}
	in := workflows.HopelessInput{Plan: s.ref, Marks: "dddrw", Running: []int{3}}
	lease := s.acquire(t, s.stage(t, 3, "sft/rg"))
	for _, c := range []struct {
		step   int64
		record string
		want   string
	}{
		{2, validations(9), ""}, // within its grace
		{4, validations(9, 8), "was 8 at epoch 2, the median of 3 other cells 2.2"},
	} {
		files := map[string]artifacts.WriteFunc{recordFile: writes(c.record), stateFile: writes("state")}
		if _, err := lease.SaveCheckpoint(t.Context(), c.step, files); err != nil {
			t.Fatal(err)
		}
		got, err := execute[workflows.HopelessInput, []experiments.HopelessCell](t, s.a.FindHopeless, in)
		if err != nil || (len(got) == 0) != (c.want == "") {
			t.Fatalf("at step %d: %+v, %v", c.step, got, err)
		}
		for _, h := range got {
			if h.Cell != 3 || !strings.Contains(h.Reason, c.want) {
				t.Errorf("at step %d: %+v", c.step, h)
			}
		}
	}
}

// DPO's accuracy is a mean over quarters of an epoch that are over.
func TestAccuracyCurve(t *testing.T) {
	var steps []results.Step
	for i, accuracy := range []float64{0.5, 0.7, 0.8, 1, 0.9, 0.9, 1} { // of eight steps
		steps = append(steps, results.Step{Step: i + 1, Epoch: float64(i+1) / 8, Rewards: &results.Rewards{Accuracy: accuracy}})
	}
	got := curveOf(steps, experiments.MetricAccuracy)
	want := []experiments.CurvePoint{{Epoch: 0.25, Value: 0.6}, {Epoch: 0.5, Value: 0.9}, {Epoch: 0.75, Value: 0.9}}
	if len(got) != len(want) {
		t.Fatalf("%v", got)
	}
	for i := range want {
		if got[i].Epoch != want[i].Epoch || got[i].Value < want[i].Value-1e-9 || got[i].Value > want[i].Value+1e-9 {
			t.Errorf("%v, want %v", got[i], want[i])
		}
	}
}

// What cells share stands once, and a failed cell keeps what it has.
func TestTabulate(t *testing.T) {
	s := newSweepStore(t, "name: s\nbase: demo\nset: {paradigms: [vanilla], methods: [sft, dpo]}\ngrid: {dpo.loss: [dpo, ipo, kto]}\n")
	s.commit(t, s.stage(t, 0, "score/vanilla/sft"), "", map[string]float64{"f1": 10, "rouge_l": 9})
	s.commit(t, s.stage(t, 0, "bias/vanilla/sft"), "", map[string]float64{"preference_bias": 0.5})
	s.commit(t, s.stage(t, 0, "score/vanilla/dpo"), "", map[string]float64{"f1": 12})
	s.commit(t, s.stage(t, 1, "dpo/vm/all"), "", map[string]float64{"loss": 0.6})
	s.commit(t, s.stage(t, 1, "score/vanilla/dpo"), "", map[string]float64{"f1": 11})
	in := workflows.TableInput{Plan: s.ref, Marks: "dfs", Ends: []workflows.CellEnd{
		{Cell: 1, Mark: workflows.CellFailed, Reason: "judge/vanilla/dpo: no key"}, {Cell: 2, Mark: workflows.CellStopped, Reason: "worse than the median"}}}
	made, err := execute[workflows.TableInput, workflows.SweepTable](t, s.a.TabulateSweep, in)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| (all cells) |  | vanilla/sft | – | – | 10.00 | **9.00** |",
		"| loss-dpo | dpo | vanilla/dpo | – | – | **12.00** |",
		"| loss-ipo | ipo | vanilla/dpo | – | – | 11.00 |",
		"failed: judge/vanilla/dpo: no key |",
		"| loss-kto | kto |  | – |",
		"stopped early: worse than the median |",
		"1 cells were stopped early",
	} {
		if !strings.Contains(made.Markdown, want) {
			t.Errorf("the table lacks %q:\n%s", want, made.Markdown)
		}
	}
	raw, err := s.a.Store.GetRunFile(t.Context(), s.ref.Sweep, results.FileSweepJSON)
	if err != nil {
		t.Fatal(err)
	}
	table, err := report.ReadSweep(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	if len(table.Rows) != 4 || table.Rows[2].Training["dpo/vm/all"]["loss"] != 0.6 {
		t.Errorf("%+v", table.Rows)
	}
	csv, err := s.a.Store.GetRunFile(t.Context(), s.ref.Sweep, results.FileSweepCSV)
	if err != nil || !strings.HasPrefix(string(csv), "cell,dpo.loss,system,distinct_1,") || !strings.Contains(string(csv), "\nloss-ipo,ipo,vanilla/dpo,,,11,") {
		t.Errorf("%v\n%s", err, csv)
	}
}

func TestSurveyAndPlanCell(t *testing.T) {
	s := newSweepStore(t, "name: s\nbase: demo\nset: {paradigms: [vanilla], methods: [base]}\ngrid: {judge.samples: [1, 2]}\n")
	_, stages, err := s.plan.Stages(1)
	if err != nil {
		t.Fatal(err)
	}
	for _, st := range stages {
		s.commit(t, st, "x", nil)
	}
	got, err := execute[workflows.CellsInput, workflows.SurveyResult](t, s.a.SurveyCells, workflows.CellsInput{Plan: s.ref, Count: 2})
	if err != nil || got.Marks != "wd" {
		t.Errorf("%+v, %v", got, err)
	}
	cell, err := execute[workflows.CellInput, workflows.CellPlan](t, s.a.PlanCell, workflows.CellInput{Plan: s.ref, Cell: 1, Facts: workflows.Facts{Revision: "r"}})
	if err != nil {
		t.Fatal(err)
	}
	if cell.Name != "samples-2" || !strings.HasPrefix(cell.WorkflowID, "run/s.samples-2/") || len(cell.Run.Stages) != len(stages) ||
		cell.Run.Facts.Cell != "samples-2" || cell.Run.Facts.Sweep != "s" || cell.Run.Facts.Revision != "r" {
		t.Errorf("%+v", cell)
	}
	// A plan that is not the one that was asked for.
	other := s.ref
	other.SHA256 = strings.Repeat("0", 64)
	if _, err := execute[workflows.CellInput, workflows.CellPlan](t, s.a.PlanCell, workflows.CellInput{Plan: other}); errorType(err) != workflows.ErrTypeBadInput {
		t.Errorf("%v", err)
	}
}
