package compare

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/esclab/esclab/experiments"
)

func stage(kind experiments.Kind, name, fingerprint, params string, inputs ...string) experiments.Stage {
	s := experiments.Stage{Name: name, Kind: kind, Version: 1, Fingerprint: fingerprint, Params: json.RawMessage(params), Inputs: map[string]string{}}
	for _, in := range inputs {
		s.Inputs[in] = in
	}
	return s
}

// plan is a small DAG with a seed and a beta for each role.
func plan(seed, spBeta, rgBeta string) []experiments.Stage {
	sft := `{"seed":` + seed + `,"lora":{"rank":8}}`
	dpo := func(beta string) string { return `{"seed":` + seed + `,"beta":` + beta + `,"lora":{"rank":8}}` }
	return []experiments.Stage{
		stage(experiments.KindCorpus, "corpus", "c", `{"files":[{"name":"a.json","sha256":"0123456789abcdef","bytes":1}]}`),
		stage(experiments.KindSFT, "sft/sp", "sft-sp-"+seed, sft, "corpus"),
		stage(experiments.KindSFT, "sft/rg", "sft-rg-"+seed, sft, "corpus"),
		stage(experiments.KindDPO, "dpo/sp", "dpo-sp-"+seed+spBeta, dpo(spBeta), "sft/sp"),
		stage(experiments.KindDPO, "dpo/rg", "dpo-rg-"+seed+rgBeta, dpo(rgBeta), "sft/rg"),
		stage(experiments.KindGenerate, "generate/decoupled/dpo", "g-"+seed+spBeta+rgBeta, `{"seed":0}`, "dpo/sp", "dpo/rg"),
	}
}

func TestParameters(t *testing.T) {
	for _, test := range []struct {
		about string
		runs  []Run
		want  map[string][]string
	}{
		{"the same", []Run{{Stages: plan("1", "0.1", "0.2")}, {Stages: plan("1", "0.1", "0.2")}}, map[string][]string{}},
		{"a seed everywhere, and nowhere where it is not used", []Run{{Stages: plan("1", "0.1", "0.2")}, {Stages: plan("2", "0.1", "0.2")}},
			map[string][]string{"seed": {"1", "2"}}},
		{"one stage's", []Run{{Stages: plan("1", "0.1", "0.2")}, {Stages: plan("1", "0.3", "0.2")}}, map[string][]string{"dpo/sp.beta": {"0.1", "0.3"}}},
		{"a kind's", []Run{{Stages: plan("1", "0.1", "0.1")}, {Stages: plan("1", "0.3", "0.3")}, {Stages: plan("1", "0.1", "0.1")}},
			map[string][]string{"beta": {"0.1", "0.3", "0.1"}}},
		{"a run without the stage has no value", []Run{{Stages: plan("1", "0.1", "0.2")}, {Stages: plan("1", "0.1", "0.2")[:3]}, {Stages: plan("1", "0.1", "0.5")}},
			map[string][]string{"dpo/rg.beta": {"0.2", "", "0.5"}}},
	} {
		got := map[string][]string{}
		for _, p := range Parameters(test.runs) {
			got[p.Name] = p.Values
		}
		if !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: got %v, want %v", test.about, got, test.want)
		}
	}
	other := plan("1", "0.1", "0.2")
	other[0] = stage(experiments.KindCorpus, "corpus", "d", `{"files":[{"name":"a.json","sha256":"ff23456789abcdef","bytes":1}],"index":{"x":true}}`)
	other[1].Version = 2
	got := Parameters([]Run{{Stages: plan("1", "0.1", "0.2")}, {Stages: other}})
	want := []Parameter{{"sft/sp.code version", []string{"1", "2"}}, {"files", []string{"a.json@01234567", "a.json@ff234567"}}, {"index.x", []string{absent, "true"}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestDiffer(t *testing.T) {
	a, b := plan("1", "0.1", "0.2"), plan("1", "0.3", "0.2")
	b = append(b, stage(experiments.KindBias, "bias/decoupled/dpo", "b", `{}`, "generate/decoupled/dpo"))
	got := Differ(a, b)
	want := DAGs{
		Shared: []string{"corpus", "sft/sp", "sft/rg", "dpo/rg"}, Follows: []string{"generate/decoupled/dpo"},
		Parts: []Part{{Stage: "dpo/sp", Reasons: []string{"beta: 0.1, 0.3"}, A: "dpo-sp-10.1", B: "dpo-sp-10.3"}},
		OnlyA: []string{}, OnlyB: []string{"bias/decoupled/dpo"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	b[1].Inputs["base"] = "base"
	b[1].Fingerprint, b[1].Version = "other", 3
	if got := Differ(a, b).Parts[0]; !reflect.DeepEqual(got.Reasons, []string{"code version: 1, 3", "input base: the second alone"}) {
		t.Errorf("reasons %q", got.Reasons)
	}
}

func at(v float64) *float64 { return &v }

// compared is two runs, the first without one metric, the second's name made
// to break tables.
func compared() Table {
	return New([]Run{
		{Name: "one", ID: "run/one/1", Stages: plan("1", "0.10", "0.2"), Systems: []System{
			{"vanilla/dpo", map[string]Value{"rouge_l": {Value: 15}, "preference_bias": {Value: 0.9}}},
			{"decoupled/dpo", map[string]Value{"rouge_l": {Value: 14.5, Low: at(14), High: at(15.25)}, "preference_bias": {Value: 0.25}, "macro_f1": {Value: 20}}},
		}},
		{Name: "two|*", State: "failed", Stages: plan("1", "0.3", "0.2"), Systems: []System{
			{"decoupled/dpo", map[string]Value{"rouge_l": {Value: 15}, "macro_f1": {Value: 21.5}}},
		}},
	})
}

func TestMarkdown(t *testing.T) {
	table := compared()
	table.Paired = []Paired{{Run: "two", System: "decoupled/dpo", AgainstRun: "one", AgainstSystem: "decoupled/dpo", Turns: 12, Dialogues: 3,
		Differences: map[string]Difference{"rouge_l": {0.5, 0.25, 0.75, 0.000999}, "macro_f1": {1.5, -1, 4, 0.31}}}}
	table.Notes = []string{"a_b"}
	var b strings.Builder
	var columns []experiments.Column
	for _, name := range []string{"rouge_l", "B", "q"} {
		c, ok := experiments.FindColumn(name)
		if !ok {
			t.Fatal(name)
		}
		columns = append(columns, c)
	}
	if err := table.Markdown(&b, columns); err != nil {
		t.Fatal(err)
	}
	want := `**Systems**

| run | dpo/sp.beta | system | R-L | B ↓ | Q | state |
|:--|:--|:--|--:|--:|--:|:--|
| one | 0.10 | vanilla/dpo | **15.00** | 0.90 | – |  |
| one | 0.10 | decoupled/dpo | 14.50 [14.00, 15.25] | **0.25** | 20.00 |  |
| two\|\* | 0.3 | decoupled/dpo | **15.00** | – | **21.50** | failed |

**Paired differences on the same test turns (p takes the trained models as given)**

| difference | turns | R-L | B | Q |
|:--|--:|--:|--:|--:|
| decoupled/dpo: two − one | 12 | **+0.50** [+0.25, +0.75] p 0.001 | – | +1.50 [-1.00, +4.00] p 0.31 |

a_b
`
	if got := b.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestSort(t *testing.T) {
	order := func(by string) string {
		table := compared()
		if err := table.Sort(by); err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, r := range table.Rows {
			names = append(names, r.Run[:1]+r.System[:1])
		}
		return strings.Join(names, " ")
	}
	for by, want := range map[string]string{
		"": "ov od td", "B": "od ov td", "Q": "td od ov", "R-L": "ov td od", "dpo/sp.beta": "ov od td", "system": "od td ov", "run": "ov od td",
	} {
		if got := order(by); got != want {
			t.Errorf("by %q: %s, want %s", by, got, want)
		}
	}
	table := compared()
	if err := table.Sort("quality"); err == nil || !strings.Contains(err.Error(), "dpo/sp.beta") {
		t.Errorf("an unknown column: %v", err)
	}
}

func TestCSVAndJSON(t *testing.T) {
	var b strings.Builder
	if err := compared().CSV(&b); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(b.String(), "\n")
	if len(lines) != 5 || !strings.HasPrefix(lines[0], "run,id,system,dpo/sp.beta,distinct_1,distinct_1_low") || !strings.Contains(lines[2], "14.5,14,15.25") || !strings.HasSuffix(lines[3], ",failed") {
		t.Errorf("%s", b.String())
	}
	b.Reset()
	if err := compared().JSON(&b); err != nil {
		t.Fatal(err)
	}
	var back Table
	if err := json.Unmarshal([]byte(b.String()), &back); err != nil || len(back.Rows) != 3 || !back.Rows[2].Scores["macro_f1"].Best || back.Rows[2].Values["dpo/sp.beta"] != "0.3" {
		t.Errorf("%v, %+v", err, back)
	}
}

// Many parameters stand in a table of their own.
func TestManyParameters(t *testing.T) {
	a, b := plan("1", "0.1", "0.2"), plan("2", "0.3", "0.4")
	a[0].Params, b[0].Params = json.RawMessage(`{"p":1,"q":2,"r":3}`), json.RawMessage(`{"p":2,"q":3,"r":4}`)
	table := New([]Run{{Name: "a", Stages: a}, {Name: "b", Stages: b}})
	grids := table.Grids(Format{Best: strings.ToUpper, Text: strings.TrimSpace})
	if len(grids) != 2 || grids[0].Title != "What differs" || len(grids[0].Rows) != 6 || len(grids[1].Rows) != 2 {
		t.Errorf("%+v", grids)
	}
	// So do few, on a narrow page.
	var page strings.Builder
	if err := compared().Page(&page, experiments.Table3()[3:4]); err != nil || !strings.Contains(page.String(), "| dpo/sp.beta | 0.10 | 0.3 |") || !strings.Contains(page.String(), "| run | system | R-L | state |") {
		t.Errorf("%v, %s", err, page.String())
	}
}
