package report

import (
	"strings"
	"testing"

	"github.com/esclab/esclab/esc"
)

// severalSeeds is example's run with two seeds.
func severalSeeds() Data {
	d := example()
	d.Run.Seeds = []uint64{17, 18}
	a, b := d.Systems[1].Columns, d.Systems[1].Columns
	a[1], b[1] = Value(9), Value(11) // bleu_1
	d.Systems[1].Columns = MeanColumns([]Columns{a, b})
	d.Systems[1].Seeds = []SeedColumns{{17, a}, {18, b}}
	d.Questions[0].Effects[0].Seeds = []SeedDifference{{17, Value(-0.2)}, {18, Value(0)}}
	one, two := uint64(17), uint64(18)
	d.Pairs = []Pairs{
		{Role: esc.RG, Seed: &one, Mined: esc.Mined{Pairs: 10, PerError: map[esc.PsyError]int{esc.LackOfEmpathy: 10}}},
		{Role: esc.RG, Seed: &two, Mined: esc.Mined{Pairs: 30, PerError: map[esc.PsyError]int{esc.TemplateResponse: 30}}},
	}
	points := []Point{{Step: 1, Loss: Value(2), Validation: Value(2.5)}, {Step: 2, Loss: Value(1)}}
	d.Training = []Training{{Stage: "sft/vm@17", Kind: "sft", Curve: points}, {Stage: "sft/vm@18", Kind: "sft", Curve: points}}
	return d
}

// TestSeveralSeeds: means, what each seed gave, and their spread.
func TestSeveralSeeds(t *testing.T) {
	md := rendered(t, Markdown, severalSeeds())
	for _, want := range []string{
		"- Seeds: 17, 18",
		"Means over 2 seeds.",
		"of the seeds by Student's t",
		"| vanilla/sft | 17 | 91.23 | 9.00 |",
		"|  | 18 | 91.23 | 11.00 |",
		"|  | SD | 0.00 | 1.41 |",
		"seed 17 -0.200, seed 18 0.000 with a standard deviation of 0.141 between seeds",
		"one degree of freedom fewer",
		"| RQ1 | cannot tell | preference bias B | vanilla/dpo | vanilla/sft | -0.100 | -0.150 … -0.050 | 0.0010 | 9 | -0.200 | 0.000 | 0.141 |",
		"| Response pairs (rg) | 20<br><sub>6041 (−6021)</sub> |",
		"| response pairs (rg), seed 18 | 0 | 30 |",
		"| response pairs (rg) | 0 (0.0 %) | 10 (25.0 %)<br><sub>37.9 % (−12.9)</sub> |",
		"The replies are those of the first seed, 17.",
	} {
		if !strings.Contains(md, want) {
			t.Errorf("no %q in\n%s", want, md)
		}
	}
	if strings.Contains(md, "do not cover how training varies") {
		t.Error("the rule of one seed is there")
	}
	f, ok, err := curves()[0].draw("sft/vm", severalSeeds().Training)
	if err != nil || !ok || len(f.Legend) != 3 || f.Legend[0].Name != "seed 17" || f.Legend[2].Name != "seed 18" {
		t.Errorf("the seeds' losses: %+v, %v, %v", f.Legend, ok, err)
	}
}

func TestMeanColumns(t *testing.T) {
	a, b := ColumnsOf(map[string]float64{"f1": 1, "bleu_1": 3}), ColumnsOf(map[string]float64{"f1": 2})
	m := MeanColumns([]Columns{a, b})
	if *m.Of("f1") != 1.5 || m.Of("bleu_1") != nil || m.Of("rouge_l") != nil {
		t.Errorf("%+v", m)
	}
	if m := MeanColumns(nil); m.Of("f1") != nil {
		t.Errorf("the mean of nothing: %v", *m.Of("f1"))
	}
}

// TestWhatIsNotThere: a part without input is left out and named.
func TestWhatIsNotThere(t *testing.T) {
	d := example()
	d.Given, d.Wins, d.Quality, d.Pairs = nil, nil, nil, nil
	d.WithoutSamples = true
	for name, page := range map[string]string{"report.md": rendered(t, Markdown, d), "report.html": rendered(t, HTML, d)} {
		for _, want := range []string{"Not in this report", "Table 4 is of the response generator", "esclab report --human", "nothing was mined", "left out of this copy"} {
			if !strings.Contains(page, want) {
				t.Errorf("%s does not say %q", name, want)
			}
		}
		if strings.Contains(page, "I am") {
			t.Errorf("%s quotes a dialogue", name)
		}
	}
}
