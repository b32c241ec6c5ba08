package experiments

import (
	"slices"
	"strings"
	"testing"
)

// TestSeeds: every stage of every seed has the fingerprint that it has in the
// experiment with that seed alone; what no seed touches is there once.
func TestSeeds(t *testing.T) {
	for _, preset := range []struct{ name, shared string }{
		{"demo", "corpus anchor/gold score/anchor/gold judge/anchor/gold anchor/canned score/anchor/canned judge/anchor/canned" +
			" anchor/tfidf bias/anchor/tfidf"},
		// An imported base; the judge judges a sample, which the seed draws.
		{"qwen2.5-7b", "corpus base strategies/vanilla/base strategies/decoupled/base anchor/gold score/anchor/gold anchor/canned score/anchor/canned anchor/tfidf bias/anchor/tfidf"},
	} {
		merged := mustPlan(t, preset.name, "seeds=1,2,3")
		seen := map[string]bool{"report": true}
		var shared []string
		for _, seed := range []string{"1", "2", "3"} {
			alone := mustPlan(t, preset.name, "seed="+seed)
			if one := mustPlan(t, preset.name, "seeds="+seed); !slices.EqualFunc(one, alone, sameStage) {
				t.Errorf("%s: one seed in a list differs from that seed", preset.name)
			}
			for _, want := range alone {
				if want.Name == "report" {
					continue
				}
				name := want.Name + "@" + seed
				if !slices.ContainsFunc(merged, func(s Stage) bool { return s.Name == name }) {
					name = want.Name
					if seed == "1" {
						shared = append(shared, name)
					}
				}
				seen[name] = true
				got := find(t, merged, name)
				if got.Fingerprint == "" || got.Fingerprint != want.Fingerprint {
					t.Errorf("%s: %s has fingerprint %q, alone %q", preset.name, name, got.Fingerprint, want.Fingerprint)
				}
				if got.Source != want.Source || got.Queue != want.Queue {
					t.Errorf("%s: %s: %+v, alone %+v", preset.name, name, got, want)
				}
			}
		}
		if len(seen) != len(merged) {
			t.Errorf("%s: %d stages, %d of them belong to a seed", preset.name, len(merged), len(seen))
		}
		if got := strings.Join(shared, " "); got != preset.shared {
			t.Errorf("%s: %s stand there once, want %s", preset.name, got, preset.shared)
		}
	}
}

func sameStage(a, b Stage) bool { return a.Name == b.Name && a.Fingerprint == b.Fingerprint }

// TestSeedsReport: one report, at the end, over the stages of all seeds.
func TestSeedsReport(t *testing.T) {
	stages := mustPlan(t, "demo", "seeds=2,1", "methods=sft", "paradigms=vanilla")
	report := stages[len(stages)-1]
	if report.Kind != KindReport || report.Inputs["sft/vm@1"] != "sft/vm@1" || report.Inputs["corpus"] != "corpus" || len(report.Inputs) != len(stages)-1 {
		t.Errorf("the last stage is %+v, want a report over every other stage", report)
	}
	params, err := ParamsOf[ReportParams](report)
	if err != nil || params.Seed != 2 || !slices.Equal(params.Seeds, []uint64{2, 1}) {
		t.Errorf("%+v (%v)", params, err)
	}
	if got, want := needs(find(t, stages, "sft/vm@1")), "base@1 corpus"; got != want {
		t.Errorf("sft/vm@1 needs %s, not %s", got, want)
	}
	for _, s := range stages {
		if got := WithoutSeed(s.Name); strings.Contains(got, "@") || !strings.HasPrefix(s.Name, got) {
			t.Errorf("%s without its seed: %s", s.Name, got)
		}
	}
	if AtSeed("sft/sp", 2) != "sft/sp@2" {
		t.Error(AtSeed("sft/sp", 2))
	}
}
