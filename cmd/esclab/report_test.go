package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/esclab/esclab/metrics"
	"github.com/esclab/esclab/report"
	"github.com/esclab/esclab/results/human"
)

// TestRatingsInTheReport: what esclab human import prints goes into the report
// of the run whose replies were rated, and of no other.
func TestRatingsInTheReport(t *testing.T) {
	agreement := 0.5
	interval := func(v float64) *metrics.Interval { return &metrics.Interval{Estimate: v, Low: v - 0.1, High: v + 0.1} }
	results := human.Results{
		Systems: [2]human.System{{Run: "demo", Name: "decoupled/dpo", Digest: "d1"}, {Run: "demo", Name: "vanilla/dpo", Digest: "d2"}},
		Samples: 20, Raters: []human.Rater{{Name: "anna", Answers: 80}, {Name: "ben", Answers: 80}}, Statistic: "Cohen's kappa",
		Questions: []human.Result{{Question: "empathy", Answers: 40, Win: interval(0.6), Tie: interval(0.3), Loss: interval(0.1), Agreement: &agreement}},
	}
	path := filepath.Join(t.TempDir(), "figure6.json")
	raw, err := json.Marshal(results)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	read, err := readRatings(path)
	if err != nil {
		t.Fatal(err)
	}
	data := report.Data{Run: report.Run{Experiment: "demo"}, Provenance: []report.Stage{{Name: "generate/decoupled/dpo", Kind: "generate", Digest: "d1"}},
		Samples: []report.Sample{{Response: "secret words"}}}
	if err := addRatings(&data, read); err != nil {
		t.Fatal(err)
	}
	data.WithoutSamples, data.Samples = true, nil
	out := t.TempDir()
	files, err := report.Files(data)
	if err != nil {
		t.Fatal(err)
	}
	if err := writeFiles(files, out); err != nil {
		t.Fatal(err)
	}
	md, err := os.ReadFile(filepath.Join(out, "report.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"decoupled/dpo against vanilla/dpo by people (2 raters), 20 samples",
		"| empathy | 40 | 60.0 \\[50.0, 70.0\\] | 30.0 \\[20.0, 40.0\\] | 10.0 \\[0.0, 20.0\\] | 0.50 |",
		"Sample dialogues: left out of this copy",
	} {
		if !strings.Contains(string(md), want) {
			t.Errorf("no %q in\n%s", want, md)
		}
	}
	if strings.Contains(string(md), "secret words") {
		t.Error("a sample is in a report without samples")
	}
	other := report.Data{Provenance: []report.Stage{{Digest: "d3"}}}
	if err := addRatings(&other, read); err == nil || !strings.Contains(err.Error(), "not this run's") {
		t.Errorf("another run's ratings: %v", err)
	}
	if err := os.WriteFile(path, []byte(`{"surprise": 1}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readRatings(path); err == nil || !strings.Contains(err.Error(), "esclab human import") {
		t.Errorf("another file: %v", err)
	}
}
