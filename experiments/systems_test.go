package experiments

import (
	"slices"
	"strings"
	"testing"

	"github.com/esclab/esclab/esc"
)

// Every system of a plan has a name that is read back as the same system.
func TestSystemNames(t *testing.T) {
	var names []string
	for _, s := range Systems(Paradigms(), Methods(), esc.PairSets()) {
		back, err := ParseSystem(s.Name())
		if err != nil || back != s {
			t.Errorf("%+v is called %s, which is %+v (%v)", s, s.Name(), back, err)
		}
		names = append(names, s.Name())
	}
	want := strings.Fields("vanilla/base vanilla/direct-refine vanilla/self-refine vanilla/emotion-cot vanilla/sft" +
		" vanilla/dpo vanilla/dpo/nsnr vanilla/dpo/psnr vanilla/dpo/nspr decoupled/base decoupled/sft decoupled/dpo gold/sft gold/dpo")
	if !slices.Equal(names, want) {
		t.Errorf("the systems are %v, want %v", names, want)
	}
}

// TestValidateSystems: what paradigms, methods and comparisons demand of each other.
func TestValidateSystems(t *testing.T) {
	for _, c := range []struct {
		sets []string
		want string
	}{
		{[]string{"paradigms=gold", "methods=base"}, "methods: there is no system: the methods of gold are sft, dpo"},
		{[]string{"paradigms=decoupled", "methods=emotion-cot"}, "methods: there is no system: the methods of decoupled are base, sft, dpo"},
		{[]string{"methods=base,self-refine", "generation.max_new_tokens=171"}, "methods[1]: self-refine writes 3 texts of generation.max_new_tokens 171 into one sequence: limits.max_tokens 512"},
		{[]string{"judge.compare=[[decoupled/dpo]]"}, "judge.compare[0]: wants 2 values, has 1"},
		{[]string{"judge.compare=[[decoupled/dpo,decoupled/dpo]]"}, "judge.compare[0]: compares decoupled/dpo with itself"},
		{[]string{"judge.compare=[[decoupled/dpo,vanilla/sft],[vanilla/sft,decoupled/dpo]]"}, "judge.compare[1]: vanilla/sft and decoupled/dpo are compared twice"},
		{[]string{"judge.compare=[[decoupled/dpo,vanilla]]"}, "judge.compare[0]: \"vanilla\" is no system; one is named like decoupled/dpo"},
		{[]string{"judge.compare=[[decoupled/dpo,coupled/dpo]]"}, "its paradigm is one of vanilla, decoupled, gold"},
		{[]string{"judge.compare=[[decoupled/self-refine,gold/dpo]]"}, "the methods of decoupled are base, sft, dpo"},
		{[]string{"judge.compare=[[vanilla/dpo/all,gold/dpo]]"}, "vanilla/dpo alone has pair sets, nsnr, psnr, nspr"},
	} {
		if _, err := Load("demo", c.sets...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: want %q, have %v", c.sets, c.want, err)
		}
	}
	mustLoad(t, "demo", "paradigms=vanilla,gold", "methods=base")
	mustLoad(t, "demo", "judge.compare=[]")
	mustLoad(t, "demo", "judge.compare=[[vanilla/dpo/nsnr, gold/sft], [vanilla/self-refine, decoupled/base]]")
}

// Comparisons are planned where both systems are; the prompt baselines are the
// vanilla base's, and the gold strategies have no bias.
func TestPlanComparisons(t *testing.T) {
	has := func(stages []Stage, name string) bool {
		return slices.ContainsFunc(stages, func(s Stage) bool { return s.Name == name })
	}
	const usual = "prefer/decoupled/dpo/vs/vanilla/dpo"
	if !has(mustPlan(t, "demo"), usual) || has(mustPlan(t, "demo", "methods=sft"), usual) || has(mustPlan(t, "demo", "judge.compare=[]"), usual) {
		t.Errorf("%s belongs where both systems are run", usual)
	}
	stages := mustPlan(t, "tiny-esconv", "judge.samples=9", "judge.compare=[[gold/dpo, vanilla/self-refine]]")
	p, err := ParamsOf[PreferParams](find(t, stages, "prefer/gold/dpo/vs/vanilla/self-refine"))
	if err != nil || p.First != "gold/dpo" || p.Second != "vanilla/self-refine" || p.Samples != 9 || p.Seed != 42 || p.Judge != JudgeOffline {
		t.Errorf("the comparison has %+v (%v), want both systems, 9 samples, seed 42 and the offline judge", p, err)
	}
	q, err := ParamsOf[QualityParams](find(t, stages, "quality/rg"))
	if err != nil || q.Role != esc.RG || q.Samples != 9 || q.Seed != 42 {
		t.Errorf("the pairs' scores have %+v (%v), want role rg, 9 samples and seed 42", q, err)
	}
	for name, want := range map[string]bool{
		"generate/vanilla/emotion-cot": true, "generate/decoupled/emotion-cot": false, "judge/gold/dpo": true, "score/gold/sft": true,
		"bias/gold/sft": false, "generate/gold/base": false, "quality/sp": false,
	} {
		if has(stages, name) != want {
			t.Errorf("%s planned: %v", name, !want)
		}
	}
	r, err := ParamsOf[ReportParams](find(t, stages, "report"))
	if err != nil || len(r.Systems()) != 11 {
		t.Errorf("the report shows %v, %v", r.Systems(), err)
	}
}

func TestSystemOf(t *testing.T) {
	for name, want := range map[string]string{
		"corpus": "", "base": "", "sft/vm": "vanilla/sft", "dpo/vm/nsnr": "vanilla/dpo/nsnr", "dpo/vm/all": "vanilla/dpo",
		"mine/sp": "decoupled/dpo", "mine/vm": "vanilla/dpo", "bias/decoupled/dpo": "decoupled/dpo", "bias/decoupled/dpo@2": "decoupled/dpo",
		"dpo/vm/nsnr@2": "vanilla/dpo/nsnr", "score/vanilla/dpo/psnr": "vanilla/dpo/psnr", "score/odd": "",
	} {
		kind, _, _ := strings.Cut(name, "/")
		sys, ok := SystemOf(Stage{Name: name, Kind: Kind(kind)})
		if ok != (want != "") || ok && sys.Name() != want {
			t.Errorf("%s: %v, %v; want %q", name, sys, ok, want)
		}
		if parsed, err := ParseSystem(want); ok && (err != nil || parsed != sys) {
			t.Errorf("%s is %+v, and %s reads as %+v, %v", name, sys, want, parsed, err)
		}
	}
}
