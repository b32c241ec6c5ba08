package experiments

import (
	"math"
	"slices"
	"strings"
	"testing"
)

func mustSweep(t *testing.T, yaml string) Sweep {
	t.Helper()
	s, err := ReadSweep("s.yaml", []byte(yaml), "")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mustExpand(t *testing.T, yaml string) []Cell {
	t.Helper()
	cells, err := mustSweep(t, yaml).Expand()
	if err != nil {
		t.Fatal(err)
	}
	return cells
}

func cellNames(cells []Cell) string {
	out := make([]string, len(cells))
	for i, c := range cells {
		out[i] = c.Name
	}
	return strings.Join(out, " ")
}

func TestExpandGrid(t *testing.T) {
	for _, c := range []struct{ name, yaml, want string }{
		{"list", "grid: {dpo.loss: [dpo, ipo]}", "loss-dpo loss-ipo"},
		{"product, the first axis slowest", "grid: {dpo.loss: [dpo, ipo], sft.epochs: [1, 2]}",
			"loss-dpo_epochs-1 loss-dpo_epochs-2 loss-ipo_epochs-1 loss-ipo_epochs-2"},
		{"step", "grid: {lora.dropout: {from: 0, to: 0.3, step: 0.1}}", "dropout-0 dropout-0.1 dropout-0.2 dropout-0.3"},
		{"factor", "grid: {sft.learning_rate: {from: 1e-4, to: 1e-2, factor: 10}}", "learning-rate-0.0001 learning-rate-0.001 learning-rate-0.01"},
		{"log points", "grid: {sft.learning_rate: {from: 1e-5, to: 1e-3, points: 3, scale: log}}", "learning-rate-1e-05 learning-rate-0.0001 learning-rate-0.001"},
		{"points", "grid: {mining.temperature: {from: 0.5, to: 1, points: 3}}", "temperature-0.5 temperature-0.75 temperature-1"},
		{"wildcard", "grid: {dpo.roles.*.beta: [0.1, 0.3]}", "beta-0.1 beta-0.3"},
		{"names as short as they can be", "grid: {dpo.roles.sp.beta: [0.1], dpo.roles.rg.beta: [0.3], sft.epochs: [2]}", "sp.beta-0.1_rg.beta-0.3_epochs-2"},
		{"whole blocks", "grid: {lora: [{rank: 4, alpha: 8}, {rank: 8, alpha: 8}]}", "lora-rank-4-alpha-8 lora-rank-8-alpha-8"},
		{"lists as values", "grid: {methods: [[sft], [sft, dpo]]}", "methods-sft methods-sft-dpo"},
		{"seeds", "grid: {dpo.loss: [dpo, ipo]}\nseeds: [1, 2]", "loss-dpo_seed-1 loss-dpo_seed-2 loss-ipo_seed-1 loss-ipo_seed-2"},
		{"seeds alone", "seeds: [1, 2]", "seed-1 seed-2"},
		{"cells", "cells:\n  - {dpo.loss: kto}\n  - {dpo.loss: dpo, dpo.label_smoothing: 0.1}", "loss-kto loss-dpo_label-smoothing-0.1"},
		{"exclude", "grid: {dpo.loss: [dpo, simpo], sft.epochs: [1, 2]}\nexclude:\n  - {dpo.loss: simpo, sft.epochs: 2}",
			"loss-dpo_epochs-1 loss-dpo_epochs-2 loss-simpo_epochs-1"},
		{"exclude by the base's own value", "grid: {dpo.loss: [dpo, simpo]}\nexclude: [{dpo.loss: simpo, seed: 42}]", "loss-dpo"},
		{"what is there already is left out", "grid: {dpo.loss: [dpo, ipo]}\ncells: [{dpo.loss: ipo, sft.epochs: 4}]", "loss-dpo loss-ipo"},
	} {
		if got := cellNames(mustExpand(t, "name: s\nbase: demo\n"+c.yaml)); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// TestPaperPromptsWarning: the paper's prompts without the paper's history are warned
// of, where there is a planner or a generator to see it.
func TestPaperPromptsWarning(t *testing.T) {
	for _, c := range []struct {
		sets []string
		want int
	}{
		{[]string{"backbone.prompts=paper"}, 1},
		{[]string{"backbone.prompts=paper", "methods=base"}, 1},
		{[]string{"backbone.prompts=paper", "backbone.history_strategies=strip"}, 0},
		{[]string{"backbone.prompts=paper", "paradigms=vanilla"}, 0},
		{[]string{"backbone.history_strategies=strip"}, 0},
	} {
		w := mustLoad(t, "demo", c.sets...).Warnings()
		if len(w) != c.want || c.want > 0 && !strings.Contains(w[0], "strip hides them") {
			t.Errorf("%v: warnings %q, want %d", c.sets, w, c.want)
		}
	}
}

// TestWarnings: a beta of another loss is warned of, in a run and in a sweep, where its own betas are not.
func TestWarnings(t *testing.T) {
	for _, name := range Presets() {
		if w := mustLoad(t, name).Warnings(); len(w) > 0 {
			t.Errorf("preset %s: warnings %q, want none", name, w)
		}
	}
	for _, c := range []struct {
		set  string
		want string // how the first of the three roles' warnings begins
	}{
		{"dpo.loss=simpo", "dpo.roles.vm.beta: is 0.2 with loss simpo, whose betas lie between 1 and 10: it is another loss's; 0 takes the loss's own, 2"},
		{"dpo.roles.*.beta=2.5", "dpo.roles.vm.beta: is 2.5 with loss dpo, whose betas lie between 0.01 and 1: it is another loss's; 0 takes the loss's own, 0.2"},
	} {
		w := mustLoad(t, "demo", c.set).Warnings()
		if len(w) != 3 || w[0] != c.want {
			t.Errorf("%s: warnings %q; want three, the first %q", c.set, w, c.want)
		}
		if w := mustLoad(t, "demo", c.set, "methods=base").Warnings(); len(w) > 0 {
			t.Errorf("%s without dpo: warnings %q, want none", c.set, w)
		}
	}
	host := paperHost()
	prepared := func(yaml string) PreparedSweep {
		s := mustSweep(t, yaml)
		plan, err := PlanSweep(s, "", func(e Experiment) (Sources, error) { return SourceDigests(e, host) })
		if err != nil {
			t.Fatal(err)
		}
		return PreparedSweep{Sweep: s, Plan: plan}
	}
	w := prepared("name: s\nbase: demo\nset: {paradigms: [vanilla]}\ngrid: {dpo.loss: [dpo, simpo], dpo.roles.*.beta: [0.1, 0.2]}\n").Warnings()
	if len(w) != 2 || !strings.HasSuffix(w[0], "0 takes the loss's own, 2 (1 of 4 cells, the first is loss-simpo_beta-0.1)") {
		t.Errorf("a grid that crosses simpo with dpo's betas: warnings %q; want one for each of them, with its cells", w)
	}
	content, err := SweepPresetYAML("demo-sweep")
	if err != nil {
		t.Fatal(err)
	}
	if w := prepared(string(content)).Warnings(); len(w) > 0 {
		t.Errorf("demo-sweep: warnings %q, want none", w)
	}
}

// A cell's values reach its experiment, and names are what experiments may have.
func TestExpandedExperiments(t *testing.T) {
	s := mustSweep(t, "name: s\nbase: demo\nset: {methods: [sft, dpo]}\ngrid: {dpo.roles.*.beta: [0.1], corpus.source: [/data/a very long path/that no name can hold/because names have sixty-three letters.json]}")
	cells, err := s.Expand()
	if err != nil {
		t.Fatal(err)
	}
	exp, err := s.experiment(cells[0])
	if err != nil {
		t.Fatal(err)
	}
	exp.Name = CellExperiment(s.Name, cells[0].Name)
	if err := exp.Validate(); err != nil {
		t.Error(err)
	}
	if len(exp.Name) > maxName || !strings.HasPrefix(cells[0].Name, "beta-0.1_source-data-a-very") {
		t.Errorf("name %q", exp.Name)
	}
	if exp.DPO.Roles.VM.Beta != 0.1 || exp.DPO.Roles.RG.Beta != 0.1 || exp.DPO.Roles.SP.Beta != 0.1 || len(exp.Methods) != 2 {
		t.Errorf("the roles have %+v, want beta 0.1 for each, and two methods", exp.DPO.Roles)
	}
}

// Names do not depend on what else is in the sweep along the same axes.
func TestCellNamesAreStable(t *testing.T) {
	few := mustExpand(t, "name: s\nbase: demo\ngrid: {dpo.loss: [ipo], sft.epochs: [2]}")
	many := mustExpand(t, "name: s\nbase: demo\ngrid: {dpo.loss: [dpo, ipo], sft.epochs: [1, 2, 3]}\nexclude: [{dpo.loss: dpo, sft.epochs: 1}]")
	if !strings.Contains(cellNames(many), few[0].Name) {
		t.Errorf("%s is not in %s", few[0].Name, cellNames(many))
	}
}

func TestReadSweepProblems(t *testing.T) {
	const head = "name: s\nbase: demo\n"
	for _, c := range []struct{ name, yaml, want string }{
		{"empty", "", "s.yaml: the file is empty"},
		{"misspelt key", head + "gird: {}\n", `s.yaml:3: unknown key "gird"; did you mean "grid"?`},
		{"a field at the top", head + "dpo.loss: [dpo]\n", `s.yaml:3: unknown key "dpo.loss"; a field of the experiment goes under set:`},
		{"no base", "name: s\ngrid: {seed: [1]}\n", "s.yaml: base: is missing"},
		{"unknown base", "name: s\nbase: dmeo\ngrid: {seed: [1]}\n", `s.yaml:2: base: no preset "dmeo"; did you mean "demo"?`},
		{"no grid", head, "grid: is missing"},
		{"unknown field", head + "grid:\n  dpo.rolls.sp.beta: [1]\n", `s.yaml:4: grid.dpo.rolls.sp.beta: unknown key "rolls"; did you mean "roles"?`},
		{"wrong type", head + "grid:\n  sft.epochs: [1, two]\n", `s.yaml:4: grid.sft.epochs: wants a whole number, has "two"`},
		{"out of range", head + "grid:\n  lora.dropout: [0.1, 3]\n", "s.yaml:4: lora.dropout"},
		{"one value", head + "grid:\n  dpo.loss: dpo\n", "wants a list of values or a range"},
		{"no values", head + "grid:\n  dpo.loss: []\n", "is an empty list"},
		{"twice", head + "grid:\n  dpo.loss: [dpo, dpo]\n", "s.yaml:4: grid.dpo.loss: has the value dpo twice"},
		{"backwards", head + "grid:\n  lora.dropout: {from: 1, to: 0, step: 0.1}\n", "to is not above from"},
		{"log of zero", head + "grid:\n  lora.dropout: {from: 0, to: 1, factor: 2}\n", "a logarithmic range begins above 0"},
		{"two ways", head + "grid:\n  lora.dropout: {from: 0, to: 1, step: 0.1, points: 3}\n", "one of step, factor and points"},
		{"unknown range key", head + "grid:\n  lora.dropout: {from: 0, until: 1, step: 0.1}\n", `unknown key "until"`},
		{"endless", head + "grid:\n  lora.dropout: {from: 0, to: 1, step: 1e-9}\n", "more than 10000 values"},
		{"too many", head + "grid: {seed: {from: 1, to: 200, step: 1}, sft.epochs: {from: 1, to: 200, step: 1}}\n", "more than 10000"},
		{"name is not varied", head + "grid: {name: [a, b]}\n", "named after the sweep and the cell"},
		{"excludes nothing", head + "grid: {dpo.loss: [dpo]}\nexclude:\n  - {dpo.loss: kto}\n", "s.yaml:5: exclude: dpo.loss=kto matches no cell"},
		{"excludes all", head + "grid: {dpo.loss: [dpo]}\nexclude: [{dpo.loss: dpo}]\n", "has no cells"},
		{"bad set", head + "set: {sft.epoch: 3}\ngrid: {seed: [1]}\n", `s.yaml:3: set.sft.epoch: unknown key "epoch"; did you mean "epochs"?`},
		{"parallel", head + "grid: {seed: [1]}\nparallel: 0\n", "s.yaml:4: parallel: is 0"},
		{"priority", head + "grid: {seed: [1]}\npriority: 9\n", "s.yaml:4: priority: is 9"},
		{"seed twice", head + "grid: {seed: [1]}\nseeds: [1]\n", "seeds: the grid varies seed already"},
		{"stop rule", head + "grid: {seed: [1]}\nearly_stopping: {rule: mean}\n", `early_stopping.rule: is "mean"`},
		{"stop stage", head + "grid: {seed: [1]}\nearly_stopping: {rule: median, stage: dpo/sp}\n", "validation_loss is measured in base and sft/ROLE"},
		{"an anchor", head + "grid:\n  dpo.loss: [&a dpo]\n", "anchors"},
	} {
		s, err := ReadSweep("s.yaml", []byte(c.yaml), "")
		if err == nil {
			_, err = s.Expand()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v\n  want %s", c.name, err, c.want)
		}
	}
}

func planned(t *testing.T, yaml string) SweepPlan {
	t.Helper()
	p, err := PlanSweep(mustSweep(t, yaml), "/here", func(e Experiment) (Sources, error) { return SourceDigests(e, paperHost()) })
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Cells that differ in DPO alone share everything before it.
func TestSweepSharesStages(t *testing.T) {
	content, err := SweepPresetYAML("demo-sweep")
	if err != nil {
		t.Fatal(err)
	}
	p := planned(t, string(content))
	if len(p.Cells) != 24 {
		t.Fatalf("%d cells, want 24: %v", len(p.Cells), p.Cells)
	}
	fingerprints := map[Kind]map[string]bool{}
	for i := range p.Cells {
		exp, stages, err := p.Stages(i)
		if err != nil {
			t.Fatal(err)
		}
		if exp.Name != "demo-sweep."+p.Cells[i].Name {
			t.Errorf("experiment %s of cell %s", exp.Name, p.Cells[i].Name)
		}
		for _, s := range stages {
			if fingerprints[s.Kind] == nil {
				fingerprints[s.Kind] = map[string]bool{}
			}
			fingerprints[s.Kind][s.Fingerprint] = true
		}
	}
	for kind, want := range map[Kind]int{KindCorpus: 1, KindBase: 1, KindSFT: 3, KindMine: 3, KindReference: 3, KindDPO: 72, KindGenerate: 2 + 48, KindReport: 24} {
		if got := len(fingerprints[kind]); got != want {
			t.Errorf("%d stages of kind %s, want %d", got, kind, want)
		}
	}
}

func TestSweepPlanDocument(t *testing.T) {
	p := planned(t, "name: s\nbase: demo\ngrid: {dpo.loss: [dpo, ipo], dpo.roles.*.beta: [0.1, 0.2]}")
	data, err := p.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	got, err := ReadSweepPlan(data)
	if err != nil {
		t.Fatal(err)
	}
	for i := range got.Cells {
		if _, _, err := got.Stages(i); err != nil {
			t.Error(err)
		}
	}
	if got.Identity() != p.Identity() {
		t.Error("the identity changes on the way")
	}
	if v := got.Values(3); !slices.Equal(v, []string{"ipo", "0.2"}) || !slices.Equal(got.ShortNames(), []string{"loss", "beta"}) {
		t.Errorf("values %v of %v", v, got.ShortNames())
	}

	// More cells keep the places and names of those that are there.
	before := cellNames([]Cell{got.Cells[0].Cell, got.Cells[1].Cell})
	n, err := got.Extend(planned(t, "name: s\nbase: demo\ngrid: {dpo.loss: [dpo, kto], dpo.roles.*.beta: [0.1, 0.2]}\nseeds: [42]"))
	if err != nil || n != 2 || len(got.Cells) != 6 || cellNames([]Cell{got.Cells[0].Cell, got.Cells[1].Cell}) != before {
		t.Errorf("%d added, %d cells, %v", n, len(got.Cells), err)
	}
	if _, _, err := got.Stages(5); err != nil {
		t.Error(err)
	}
	if _, err := got.Extend(planned(t, "name: s\nbase: demo\nset: {sft.epochs: 1}\nseeds: [3]")); err == nil {
		t.Error("cells of another base were taken")
	}
	got.Cells[0].Fingerprint = strings.Repeat("0", 64)
	if _, _, err := got.Stages(0); err == nil || !strings.Contains(err.Error(), "different versions") {
		t.Errorf("a plan of another version: %v", err)
	}
}

func TestHopeless(t *testing.T) {
	curve := func(values ...float64) []CurvePoint {
		var out []CurvePoint
		for i, v := range values {
			out = append(out, CurvePoint{Epoch: float64(i + 1), Value: v})
		}
		return out
	}
	curves := map[int][]CurvePoint{0: curve(3, 2, 1), 1: curve(3, 2.5, 2), 2: curve(4, 4), 3: curve(2.9), 4: curve(math.NaN())}
	for _, c := range []struct {
		name    string
		e       EarlyStopping
		running []int
		want    []int
	}{
		{"never", EarlyStopping{Rule: StopNever}, []int{2}, nil},
		{"worse than the median", EarlyStopping{Rule: StopMedian, Grace: 1, MinCells: 3}, []int{2, 3}, []int{2}},
		{"too few to compare with", EarlyStopping{Rule: StopMedian, Grace: 1, MinCells: 5}, []int{2, 3}, nil},
		{"too early", EarlyStopping{Rule: StopMedian, Grace: 2, MinCells: 1}, []int{3, 4}, nil},
		{"after the grace", EarlyStopping{Rule: StopMedian, Grace: 2, MinCells: 2}, []int{1, 2}, []int{2}},
		{"not a number", EarlyStopping{Rule: StopMedian, Grace: 1, MinCells: 2}, []int{4}, []int{4}},
		{"only who runs", EarlyStopping{Rule: StopMedian, Grace: 1, MinCells: 2}, []int{0}, nil},
		{"the better half goes on", EarlyStopping{Rule: StopHalving, Grace: 1, MinCells: 2, Factor: 2}, []int{0, 1, 2, 3, 4}, []int{2, 4}},
		{"the best quarter at the second rung", EarlyStopping{Rule: StopHalving, Grace: 2, MinCells: 2, Factor: 4}, []int{0, 1, 2}, []int{1, 2}},
		{"more is better", EarlyStopping{Rule: StopMedian, Metric: MetricAccuracy, Grace: 1, MinCells: 3}, []int{2, 3}, []int{3}},
	} {
		var got []int
		for _, h := range c.e.Hopeless(curves, c.running) {
			got = append(got, h.Cell)
			if h.Reason == "" {
				t.Errorf("%s: no reason", c.name)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// TestReadEarlierSweepPlan: a plan from before a field was there has the field's default, and so the same cells.
func TestReadEarlierSweepPlan(t *testing.T) {
	plan := planned(t, "name: s\nbase: demo\ngrid: {dpo.loss: [dpo, ipo]}")
	data, err := plan.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	earlier := string(data)
	for _, field := range []string{`"batching":"neighbours",`, `"desirable_weight":1,`, `"undesirable_weight":1,`, `"repetition_penalty":1,`} {
		if !strings.Contains(earlier, field) {
			t.Fatalf("the plan has no %s to leave out", field)
		}
		earlier = strings.Replace(earlier, field, "", 1)
	}
	read, err := ReadSweepPlan([]byte(earlier))
	if err != nil {
		t.Fatal(err)
	}
	for cell := range read.Cells {
		if _, _, err := read.Stages(cell); err != nil {
			t.Errorf("cell %d of a plan without fields that are newer: %v", cell, err)
		}
	}
}
