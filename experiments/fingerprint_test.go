package experiments

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/fingerprints.txt anew")

// TestGoldenFingerprints: the presets' fingerprints on made-up sources. A
// difference means that finished stages out there would run again: where that
// is intended, `go test ./experiments -run Golden -update`.
func TestGoldenFingerprints(t *testing.T) {
	const file = "testdata/fingerprints.txt"
	var got bytes.Buffer
	for _, name := range Presets() {
		for _, s := range mustPlan(t, name) {
			fmt.Fprintf(&got, "%-12s %-26s %s\n", name, s.Name, s.Fingerprint)
		}
	}
	if *update {
		if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	gotLines, wantLines := strings.Split(got.String(), "\n"), strings.Split(string(want), "\n")
	for i := range max(len(gotLines), len(wantLines)) {
		g, w := at(gotLines, i), at(wantLines, i)
		if g != w {
			t.Fatalf("line %d is\n%s\nand was\n%s\nIf finished stages shall run again: go test ./experiments -run Golden -update", i+1, g, w)
		}
	}
}

func at(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return "(nothing)"
}

// TestWhatChangesWhat changes every key of an experiment once and compares the
// stages whose fingerprints change with those named here (a name, or a prefix
// that ends in "/") and what follows from them. Nothing else may change.
func TestWhatChangesWhat(t *testing.T) {
	kernel := []string{"base", "sft/", "mine/", "reference/", "dpo/", "generate/", "strategies/"}
	loaded := []string{"sft/", "mine/", "reference/", "dpo/", "generate/", "strategies/"} // not the base itself
	seeded := []string{"base", "sft/", "mine/", "dpo/", "generate/", "anchor/shuffled", "judge/", "prefer/", "quality/", "report"}
	adapter := []string{"sft/", "dpo/"}
	judging := []string{"judge/", "prefer/", "quality/"}
	labelled := append([]string{"mine/vm", "mine/rg"}, judging...)
	cases := map[string]struct {
		value   string
		changes []string
	}{
		"name":                            {"other", []string{"report"}},
		"seed":                            {"7", seeded},
		"seeds":                           {"7", seeded}, // one of them is that seed; several: TestSeeds
		"engine":                          {"go", append(kernel, "report")},
		"corpus.source":                   {"other.json", []string{"corpus"}},
		"corpus.split.seed":               {"7", []string{"corpus"}},
		"corpus.split.index":              {"index.json", []string{"corpus"}},
		"corpus.split.ratio":              {"", nil}, // one value alone is valid
		"corpus.max_dialogues":            {"5", []string{"corpus"}},
		"corpus.strategies":               {"Other: Others", []string{"corpus"}},
		"corpus.consecutive":              {"merge", []string{"corpus"}},
		"backbone.name":                   {"my-llama", []string{"report"}},
		"backbone.path":                   {"", nil}, // excludes tiny: TestCheckpointSources
		"backbone.dtype":                  {"bfloat16", loaded},
		"backbone.prompts":                {"full", kernel},
		"backbone.history_strategies":     {"strip", []string{"sft/sp", "sft/rg", "mine/sp", "mine/rg", "reference/sp", "reference/rg", "dpo/sp", "dpo/rg", "generate/decoupled/base", "generate/decoupled/sft", "generate/decoupled/dpo", "strategies/decoupled/base", "strategies/decoupled/sft", "strategies/decoupled/dpo"}},
		"lora.rank":                       {"8", adapter},
		"lora.alpha":                      {"32", adapter},
		"lora.dropout":                    {"0", adapter},
		"lora.targets":                    {"q_proj,v_proj", adapter},
		"lora.rslora":                     {"true", adapter},
		"sft.roles.vm.epochs":             {"9", []string{"sft/vm"}},
		"sft.roles.sp.learning_rate":      {"0.5", []string{"sft/sp"}},
		"sft.roles.rg.batch_size":         {"5", []string{"sft/rg"}},
		"mining.temperature":              {"0.9", []string{"mine/"}},
		"mining.top_p":                    {"0.5", []string{"mine/"}},
		"mining.max_new_tokens":           {"7", []string{"mine/"}},
		"mining.samples.vm":               {"9", []string{"mine/vm"}},
		"mining.samples.sp":               {"9", []string{"mine/sp"}},
		"mining.samples.rg":               {"9", []string{"mine/rg"}},
		"mining.max_turns":                {"77", []string{"mine/"}},
		"mining.caps.per_turn":            {"3", []string{"mine/"}},
		"mining.caps.strategy_mismatch":   {"3", []string{"mine/vm", "mine/sp"}},
		"mining.caps.lack_of_empathy":     {"3", []string{"mine/vm", "mine/rg"}},
		"mining.caps.template_response":   {"3", []string{"mine/vm", "mine/rg"}},
		"dpo.loss":                        {"ipo", []string{"dpo/"}},
		"dpo.label_smoothing":             {"0.1", []string{"dpo/"}},
		"dpo.sft_weight":                  {"0.5", []string{"dpo/"}},
		"dpo.simpo_gamma":                 {"", nil}, // with loss simpo: TestSimPO
		"dpo.desirable_weight":            {"", nil}, // with loss kto: TestLossDefaults
		"dpo.undesirable_weight":          {"", nil},
		"dpo.roles.vm.beta":               {"0.7", []string{"dpo/vm/all"}},
		"dpo.roles.sp.beta":               {"0.7", []string{"dpo/sp"}},
		"dpo.roles.rg.beta":               {"0.7", []string{"dpo/rg"}},
		"dpo.roles.vm.learning_rate":      {"0.7", []string{"dpo/vm/all"}},
		"dpo.pair_sets":                   {"", nil}, // other stages: TestPlanStages
		"generation.greedy":               {"true", []string{"generate/"}},
		"generation.temperature":          {"0.1", []string{"generate/"}},
		"generation.top_p":                {"0.1", []string{"generate/"}},
		"generation.top_k":                {"20", []string{"generate/"}},
		"generation.repetition_penalty":   {"1.05", []string{"generate/"}},
		"generation.max_new_tokens":       {"9", []string{"generate/"}},
		"generation.max_turns":            {"9", []string{"generate/", "strategies/", "anchor/"}},
		"generation.strategy":             {"constrained", []string{"generate/"}},
		"judge.kind":                      {"offline", labelled},
		"judge.also":                      {"", nil}, // other stages: TestSeveralJudges
		"judge.samples":                   {"9", judging},
		"judge.compare":                   {"", nil}, // other stages: TestPlanComparisons
		"judge.protocol":                  {"paper", labelled},
		"judge.model":                     {"other", labelled},
		"judge.base_url":                  {"http://elsewhere/v1", labelled},
		"judge.temperature":               {"0.5", labelled},
		"judge.api_key_env":               {"OTHER", nil},
		"judge.prompts":                   {"prompts", labelled},
		"judge.concurrency":               {"9", nil},
		"judge.requests_per_minute":       {"9", nil},
		"judge.tokens_per_minute":         {"9", nil},
		"judge.timeout_seconds":           {"9", nil},
		"judge.repairs":                   {"9", nil},
		"judge.max_unjudged":              {"0.5", nil},
		"judge.budget.calls":              {"9", nil},
		"judge.budget.tokens":             {"9", nil},
		"judge.budget.money":              {"9", nil},
		"judge.price.input":               {"9", nil},
		"judge.price.output":              {"9", nil},
		"paradigms":                       {"", nil}, // other stages: TestPlanStages
		"methods":                         {"", nil},
		"batching":                        {"shuffled", adapter},
		"packing":                         {"none", kernel},
		"limits.max_tokens":               {"500", kernel},
		"limits.longer":                   {"skip", kernel},
		"limits.pack_tokens":              {"9999", kernel},
		"limits.decode_batch":             {"3", []string{"mine/", "generate/"}},
		"checkpoint.every_steps":          {"3", nil},
		"checkpoint.every_seconds":        {"3", nil},
		"checkpoint.keep":                 {"3", nil},
		"memory":                          {"recompute", nil},
		"backbone.tiny.layers":            {"2", []string{"base"}},
		"backbone.tiny.heads":             {"8", []string{"base"}},
		"backbone.tiny.kv_heads":          {"4", []string{"base"}},
		"mining.caps.early_emotion_shift": {"3", []string{"mine/vm", "mine/rg"}},
	}
	training := map[string]string{"epochs": "11", "max_steps": "11", "batch_size": "11", "schedule": "linear",
		"warmup_ratio": "0.33", "weight_decay": "0.33", "max_grad_norm": "0.33", "learning_rate": "0.33"}

	judged := []string{"judge.kind=openai", "judge.model=m", "judge.base_url=https://a.example/v1", "judge.samples=50", "judge.price.input=1"}
	host := paperHost()
	extra := fakeHost(map[string]string{"other.json": "other", "index.json": "{}", "prompts/scores.txt": "x"}, nil)
	host.Open, host.Stat, host.ReadDir = extra.Open, extra.Stat, extra.ReadDir
	plan := func(sets ...string) map[string]Stage {
		exp := mustLoad(t, "demo", append(slices.Clone(judged), sets...)...)
		sources, err := SourceDigests(exp, host)
		if err != nil {
			t.Fatal(err)
		}
		stages, err := Plan(exp, sources)
		if err != nil {
			t.Fatal(err)
		}
		byName := map[string]Stage{}
		for _, s := range stages {
			byName[s.Name] = s
		}
		return byName
	}
	before := plan()

	for _, key := range Keys() {
		c, ok := cases[key]
		if !ok { // the shared training block, and whatever of tiny is not listed
			block, last := key[:strings.LastIndex(key, ".")+1], key[strings.LastIndex(key, ".")+1:]
			switch {
			case block == "sft.":
				c.changes = []string{"sft/"}
			case block == "dpo.":
				c.changes = []string{"dpo/"}
			case strings.HasPrefix(key, "backbone.tiny."):
				c.changes = []string{"base"}
			case strings.HasPrefix(key, "mining.judge."): // any of them gives mining a judge of its own
				c.changes, c.value = []string{"mine/vm", "mine/rg"}, cases[strings.TrimPrefix(key, "mining.")].value
			case strings.HasPrefix(key, "sft.roles."), strings.HasPrefix(key, "dpo.roles."):
				role := strings.Split(key, ".")[2]
				c.changes = []string{strings.Split(key, ".")[0] + "/" + role}
				if role == "vm" && strings.HasPrefix(key, "dpo.") {
					c.changes = []string{"dpo/vm/all"}
				}
			default:
				t.Errorf("nothing says what %s changes", key)
				continue
			}
			if c.value == "" {
				c.value = training[last]
			}
			if strings.HasPrefix(key, "backbone.tiny.") && c.value == "" {
				c.value = "640"
			}
		}
		if c.value == "" {
			continue
		}
		sets := []string{key + "=" + c.value}
		if strings.HasPrefix(key, "mining.judge.") {
			sets = append(sets, "mining.judge.price.input=9")
		}
		after := plan(sets...)
		if len(after) != len(before) {
			t.Errorf("%s: %d stages became %d", key, len(before), len(after))
			continue
		}
		for name, s := range before {
			want := changes(before, name, c.changes)
			if got := s.Fingerprint != after[name].Fingerprint; got != want {
				t.Errorf("%s=%s: %s changed: %v, want %v", key, c.value, name, got, want)
			}
		}
	}
}

// changes says whether a stage is among those named or rests on one.
func changes(stages map[string]Stage, name string, named []string) bool {
	for _, n := range named {
		if name == n || strings.HasSuffix(n, "/") && strings.HasPrefix(name, n) {
			return true
		}
	}
	for _, in := range stages[name].Inputs {
		if changes(stages, in, named) {
			return true
		}
	}
	return false
}

// TestSharedAcrossExperiments: what two experiments have in common has one
// fingerprint, whatever else they run and in whatever order they list it.
func TestSharedAcrossExperiments(t *testing.T) {
	all := mustPlan(t, "demo")
	part := mustPlan(t, "demo", "name=other", "methods=dpo,sft", "paradigms=decoupled")
	shared := 0
	for _, s := range part {
		if s.Name != "report" && s.Fingerprint != find(t, all, s.Name).Fingerprint {
			t.Errorf("%s is not shared", s.Name)
		}
		shared++
	}
	if shared < 15 {
		t.Errorf("only %d stages", shared)
	}
	reordered := mustPlan(t, "demo", "methods=dpo,base,sft", "paradigms=decoupled,vanilla")
	for i, s := range all {
		if s.Fingerprint != reordered[i].Fingerprint {
			t.Errorf("the order of the lists changed %s", s.Name)
		}
	}
}

// TestVersionCounts: a higher code version of a kind changes that kind and what
// follows, nothing before it.
func TestVersionCounts(t *testing.T) {
	stages := mustPlan(t, "demo", "paradigms=decoupled", "methods=sft,dpo")
	bumped := slices.Clone(stages)
	for i := range bumped {
		if bumped[i].Kind == KindMine {
			bumped[i].Version++
		}
	}
	if err := Fingerprints(bumped); err != nil {
		t.Fatal(err)
	}
	for i, s := range stages {
		want := strings.HasPrefix(s.Name, "mine") || strings.HasPrefix(s.Name, "reference") || strings.HasPrefix(s.Name, "dpo") ||
			strings.HasSuffix(s.Name, "decoupled/dpo") || s.Name == "quality/rg" || s.Name == "report"
		if got := s.Fingerprint != bumped[i].Fingerprint; got != want {
			t.Errorf("%s changed: %v, want %v", s.Name, got, want)
		}
	}
	for _, k := range Kinds() {
		if k.Version() < 1 {
			t.Errorf("%s has no version", k)
		}
	}
}

func TestSimPO(t *testing.T) {
	a := mustPlan(t, "demo", "dpo.loss=simpo", "dpo.simpo_gamma=0.5")
	b := mustPlan(t, "demo", "dpo.loss=simpo", "dpo.simpo_gamma=0.6")
	if find(t, a, "dpo/sp").Fingerprint == find(t, b, "dpo/sp").Fingerprint {
		t.Error("simpo_gamma changes nothing")
	}
	if find(t, a, "mine/sp").Fingerprint != find(t, b, "mine/sp").Fingerprint {
		t.Error("simpo_gamma changes mining")
	}
}

// TestLossDefaults: what an experiment leaves out, or gives as 0, is the loss's own, and has the fingerprint of the same
// value given; a loss's weights count with that loss alone.
func TestLossDefaults(t *testing.T) {
	zero := []string{"methods=sft,dpo", "paradigms=decoupled", "dpo.roles.*.beta=0", "dpo.roles.*.learning_rate=0"}
	for _, c := range []struct {
		loss   Loss
		sp, rg DPORole
		gamma  float64
	}{
		{LossDPO, DPORole{5e-8, 0.5}, DPORole{7e-7, 0.2}, 0},
		{LossIPO, DPORole{1e-6, 0.1}, DPORole{1e-6, 0.1}, 0},
		{LossSimPO, DPORole{1e-6, 2}, DPORole{1e-6, 2}, 1},
		{LossKTO, DPORole{1e-6, 0.1}, DPORole{1e-6, 0.1}, 0},
		{LossKTOPair, DPORole{1e-6, 0.1}, DPORole{1e-6, 0.1}, 0},
	} {
		sets := append(slices.Clone(zero), "dpo.loss="+string(c.loss))
		plan := mustPlan(t, "demo", sets...)
		for role, want := range map[string]DPORole{"sp": c.sp, "rg": c.rg} {
			got, err := ParamsOf[DPOParams](find(t, plan, "dpo/"+role))
			if err != nil {
				t.Fatal(err)
			}
			if (DPORole{got.LearningRate, got.Beta}) != want || got.SimPOGamma != c.gamma {
				t.Errorf("%s: role %s has learning rate %v, beta %v, gamma %v; want %+v and %v", c.loss, role, got.LearningRate, got.Beta, got.SimPOGamma, want, c.gamma)
			}
			if weighted := got.DesirableWeight == 1 && got.UndesirableWeight == 1; weighted != (c.loss == LossKTO) {
				t.Errorf("%s: weights %v and %v; kto alone has them", c.loss, got.DesirableWeight, got.UndesirableWeight)
			}
		}
		given := mustPlan(t, "demo", append(sets, fmt.Sprintf("dpo.roles.rg={learning_rate: %v, beta: %v}", c.rg.LearningRate, c.rg.Beta))...)
		if find(t, plan, "dpo/rg").Fingerprint != find(t, given, "dpo/rg").Fingerprint {
			t.Errorf("%s: its own learning rate and beta, given, change the fingerprint", c.loss)
		}
	}
	kto := []string{"dpo.loss=kto", "methods=sft,dpo", "paradigms=decoupled"}
	for _, key := range []string{"dpo.desirable_weight", "dpo.undesirable_weight"} {
		a, b := find(t, mustPlan(t, "demo", kto...), "dpo/sp"), find(t, mustPlan(t, "demo", append(kto, key+"=1.2")...), "dpo/sp")
		if a.Fingerprint == b.Fingerprint {
			t.Errorf("%s changes nothing", key)
		}
	}
}

// TestFingerprintsRefuse: a list that is no DAG in topological order.
func TestFingerprintsRefuse(t *testing.T) {
	stages := mustPlan(t, "demo", "methods=base")
	slices.Reverse(stages)
	if err := Fingerprints(stages); !errors.Is(err, errNoStage) {
		t.Errorf("out of order: %v", err)
	}
	twice := mustPlan(t, "demo", "methods=base")
	if err := Fingerprints(append(twice, twice[0])); err == nil {
		t.Error("a stage may be planned twice")
	}
}

// TestCanonical: one byte sequence per value.
func TestCanonical(t *testing.T) {
	got, err := Canonical(struct {
		B uint64            `json:"b"`
		A map[string]string `json:"a"`
		C float64
		D []string
	}{18446744073709551615, map[string]string{"z": "<&>", "y": ""}, 5e-8, []string{}})
	if want := `{"C":5e-8,"D":[],"a":{"y":"","z":"<&>"},"b":18446744073709551615}`; err != nil || string(got) != want {
		t.Errorf("got %s (%v), want %s", got, err, want)
	}
}
