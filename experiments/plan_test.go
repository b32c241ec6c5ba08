package experiments

import (
	"encoding/json"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/esclab/esclab/esc"
)

// TestPlanStages: what is planned for which paradigms and methods, in order.
func TestPlanStages(t *testing.T) {
	evaluate := func(rows ...string) string {
		var out []string
		for _, r := range rows {
			out = append(out, "generate/"+r)
			if !strings.Contains(r, "refine") {
				out = append(out, "strategies/"+r)
			}
			out = append(out, "score/"+r, "judge/"+r, "bias/"+r)
		}
		return strings.Join(out, " ")
	}
	const anchors = " anchor/gold score/anchor/gold judge/anchor/gold anchor/shuffled score/anchor/shuffled judge/anchor/shuffled" +
		" anchor/canned score/anchor/canned judge/anchor/canned anchor/tfidf bias/anchor/tfidf"
	for _, c := range []struct {
		sets []string
		want string
	}{
		{nil, "corpus base" +
			" sft/vm mine/vm reference/vm dpo/vm/all" +
			" sft/sp mine/sp reference/sp dpo/sp" +
			" sft/rg mine/rg reference/rg dpo/rg " +
			evaluate("vanilla/base", "vanilla/sft", "vanilla/dpo", "decoupled/base", "decoupled/sft", "decoupled/dpo") + anchors +
			" prefer/decoupled/dpo/vs/vanilla/dpo quality/rg report"},
		{[]string{"methods=base"}, "corpus base " + evaluate("vanilla/base", "decoupled/base") + anchors + " report"},
		{[]string{"methods=sft", "paradigms=decoupled"}, "corpus base sft/sp sft/rg " + evaluate("decoupled/sft") + anchors + " report"},
		{[]string{"methods=dpo,sft", "paradigms=vanilla", "dpo.pair_sets=nspr,all,nsnr"},
			"corpus base sft/vm mine/vm reference/vm dpo/vm/all dpo/vm/nsnr dpo/vm/nspr " +
				evaluate("vanilla/sft", "vanilla/dpo", "vanilla/dpo/nsnr", "vanilla/dpo/nspr") + anchors + " report"},
		{[]string{"methods=sft,dpo", "paradigms=decoupled", "dpo.loss=simpo"},
			"corpus base sft/sp mine/sp dpo/sp sft/rg mine/rg dpo/rg " + evaluate("decoupled/sft", "decoupled/dpo") + anchors + " quality/rg report"},
		{[]string{"methods=sft,dpo", "paradigms=decoupled", "dpo.loss=kto"},
			"corpus base sft/sp mine/sp reference/sp dpo/sp sft/rg mine/rg reference/rg dpo/rg " +
				evaluate("decoupled/sft", "decoupled/dpo") + anchors + " quality/rg report"},
		{[]string{"methods=sft,self-refine,direct-refine", "paradigms=gold,vanilla"},
			"corpus base sft/vm sft/rg " + evaluate("vanilla/direct-refine", "vanilla/self-refine", "vanilla/sft") +
				" generate/gold/sft score/gold/sft judge/gold/sft" + anchors + " report"},
	} {
		if got := names(mustPlan(t, "demo", c.sets...)); got != c.want {
			t.Errorf("%v:\ngot  %s\nwant %s", c.sets, got, c.want)
		}
	}
}

func TestPlanInputs(t *testing.T) {
	stages := mustPlan(t, "demo", "dpo.pair_sets=all,nsnr")
	for name, want := range map[string]string{
		"corpus":                   "",
		"base":                     "corpus=corpus",
		"sft/sp":                   "base=base corpus=corpus",
		"mine/sp":                  "base=base corpus=corpus sft=sft/sp",
		"reference/vm":             "base=base corpus=corpus mine=mine/vm sft=sft/vm",
		"dpo/vm/nsnr":              "base=base corpus=corpus mine=mine/vm reference=reference/vm sft=sft/vm",
		"generate/vanilla/base":    "base=base corpus=corpus",
		"generate/vanilla/sft":     "base=base corpus=corpus vm=sft/vm",
		"generate/decoupled/dpo":   "base=base corpus=corpus rg=dpo/rg sp=dpo/sp",
		"strategies/vanilla/dpo":   "base=base corpus=corpus vm=dpo/vm/all",
		"strategies/decoupled/dpo": "base=base corpus=corpus sp=dpo/sp",
		"score/vanilla/dpo/nsnr":   "generate=generate/vanilla/dpo/nsnr",
		"judge/decoupled/base":     "corpus=corpus generate=generate/decoupled/base",
		"bias/decoupled/base":      "generate=generate/decoupled/base",
		"quality/rg":               "corpus=corpus mine=mine/rg",
		"anchor/shuffled":          "corpus=corpus",
		"judge/anchor/shuffled":    "corpus=corpus generate=anchor/shuffled",
		"bias/anchor/tfidf":        "generate=anchor/tfidf",

		"prefer/decoupled/dpo/vs/vanilla/dpo": "corpus=corpus first=generate/decoupled/dpo second=generate/vanilla/dpo",
	} {
		var got []string
		for input, stage := range find(t, stages, name).Inputs {
			got = append(got, input+"="+stage)
		}
		slices.Sort(got)
		if strings.Join(got, " ") != want {
			t.Errorf("%s: got %v, want %s", name, got, want)
		}
	}
	if report := find(t, stages, "report"); len(report.Inputs) != len(stages)-1-3 { // itself, three references
		t.Errorf("the report reads %d of %d stages", len(report.Inputs), len(stages))
	}
	seen := map[string]bool{}
	for _, s := range stages {
		for _, in := range s.Inputs {
			if !seen[in] {
				t.Errorf("%s comes before its input %s", s.Name, in)
			}
		}
		if seen[s.Name] {
			t.Errorf("%s is planned twice", s.Name)
		}
		seen[s.Name] = true
		if s.Version < 1 || len(s.Fingerprint) != 64 {
			t.Errorf("%s: version %d, fingerprint %q", s.Name, s.Version, s.Fingerprint)
		}
	}
}

// TestParams: the typed parameters say what the experiment said.
func TestParams(t *testing.T) {
	stages := mustPlan(t, "demo", "sft.roles.sp.epochs=9", "generation.greedy=true", "dpo.pair_sets=psnr", "seed=5")
	sft, err := ParamsOf[SFTParams](find(t, stages, "sft/sp"))
	if err != nil || sft.Epochs != 9 || sft.Role != esc.SP || sft.LoRA.Rank != 16 || sft.Seed != 5 {
		t.Errorf("sft/sp has %+v (%v), want the role's own epochs, rank 16 and seed 5", sft, err)
	}
	dpo, err := ParamsOf[DPOParams](find(t, stages, "dpo/vm/psnr"))
	if err != nil || dpo.Beta != 0.2 || dpo.PairSet != esc.PairsPsNr || dpo.Loss != LossDPO || dpo.Epochs != 1 {
		t.Errorf("dpo/vm/psnr has %+v (%v), want its pair set, loss, beta and epochs", dpo, err)
	}
	gen, err := ParamsOf[GenerateParams](find(t, stages, "generate/vanilla/dpo/psnr"))
	if err != nil || gen.Temperature != 0 || gen.TopP != 0 || gen.Seed != 0 || !gen.Greedy || gen.PairSet != esc.PairsPsNr {
		t.Errorf("greedy generation still has what it does not use: %+v, %v", gen, err)
	}
	mine, err := ParamsOf[MineParams](find(t, stages, "mine/sp"))
	if err != nil || !reflect.DeepEqual(mine.Judge, JudgeModel{}) || mine.Temperature != 0.7 || mine.Samples != 2 {
		t.Errorf("mine/sp has %+v (%v), want no judge, temperature 0.7 and 2 samples", mine, err)
	}
	if _, err := ParamsOf[DPOParams](find(t, stages, "sft/sp")); err == nil {
		t.Error("an sft stage gave dpo parameters")
	}
	other := find(t, stages, "sft/sp")
	other.Params = []byte(`{"role":"sp","momentum":0.9}`)
	if _, err := ParamsOf[SFTParams](other); err == nil || !strings.Contains(err.Error(), "momentum") {
		t.Errorf("an unknown parameter went unnoticed: %v", err)
	}
}

func TestQueues(t *testing.T) {
	for engine, want := range map[string]Queue{"auto": QueueGPU, "xla:cuda": QueueGPU, "go": QueueCPU, "onnx": QueueCPU, "xla:cpu": QueueCPU} {
		for _, s := range mustPlan(t, "demo", "engine="+engine) {
			queue := QueueControl
			switch s.Kind {
			case KindBase, KindSFT, KindMine, KindReference, KindDPO, KindGenerate, KindStrategies:
				queue = want
			}
			if s.Queue != queue {
				t.Errorf("engine %s: %s goes to %s, not %s", engine, s.Name, s.Queue, queue)
			}
		}
	}
}

// TestPaperPresets pins the paper's values (section 6.1, appendix D.1, Table 7).
func TestPaperPresets(t *testing.T) {
	for name, table7 := range map[string]DPORoles{
		"qwen2.5-7b":  {VM: DPORole{7e-7, 0.2}, SP: DPORole{5e-8, 0.5}, RG: DPORole{7e-7, 0.2}},
		"llama3.1-8b": {VM: DPORole{5e-7, 0.2}, SP: DPORole{8e-8, 0.5}, RG: DPORole{3e-7, 0.2}},
	} {
		e := mustLoad(t, name)
		if e.DPO.Roles != table7 {
			t.Errorf("%s: Table 7 says %+v, the preset %+v", name, table7, e.DPO.Roles)
		}
		if e.LoRA.Rank != 16 || e.LoRA.Alpha != 16 || e.LoRA.Dropout != 0.05 || e.LoRA.RSLoRA {
			t.Errorf("%s: %+v", name, e.LoRA)
		}
		if e.SFT.Epochs != 3 || e.SFT.LearningRate != 1e-5 || e.SFT.BatchSize != 32 || e.SFT.Roles != (SFTRoles{}) {
			t.Errorf("%s: %+v", name, e.SFT)
		}
		if e.DPO.Epochs != 1 || e.DPO.BatchSize != 32 || e.DPO.Loss != LossDPO || e.DPO.LabelSmoothing != 0 {
			t.Errorf("%s: %+v", name, e.DPO)
		}
		if e.Mining.Temperature != 0.7 || e.Mining.TopP != 0.95 || e.Generation.Temperature != 0.7 || e.Generation.TopP != 0.95 {
			t.Errorf("%s: sampling", name)
		}
		if e.Judge.Model != "gpt-4.1-mini-2025-04-14" || e.Judge.Samples != 100 || e.Corpus.MaxDialogues != 0 || e.Mining.MaxTurns != 0 {
			t.Errorf("%s: %+v", name, e.Judge)
		}
	}
}

// TestTinySizes: the sizes that the presets' headers promise.
func TestTinySizes(t *testing.T) {
	for name, within := range map[string][2]int{"demo": {400_000, 1_000_000}, "tiny-esconv": {1_200_000, 1_400_000}} {
		if n := mustLoad(t, name).Backbone.Tiny.Parameters(); n < within[0] || n > within[1] {
			t.Errorf("%s has %d parameters", name, n)
		}
	}
	// stories260K: dim 64, 5 layers, 8 heads, 4 kv heads, ffn 172, vocabulary 512.
	stories := Tiny{VocabSize: 512, HiddenSize: 64, Layers: 5, Heads: 8, KVHeads: 4, IntermediateSize: 172}
	if n := stories.Parameters(); n != 260_032 {
		t.Errorf("stories260K has 260,032 parameters, not %d", n)
	}
}

// TestSeveralJudges: mining's own judge changes what it labels alone, judges
// besides add their stages and change no other, and how they are asked is theirs.
func TestSeveralJudges(t *testing.T) {
	const other = "{kind: openai, model: m, base_url: https://a.example/v1, concurrency: 9}"
	plain := mustPlan(t, "demo")
	mining := mustPlan(t, "demo", "mining.judge="+other)
	for i, s := range mining {
		labels := s.Name == "mine/vm" || s.Name == "mine/rg"
		params, _ := ParamsOf[MineParams](s)
		if labels != (params.Judge.Model == "m") {
			t.Errorf("%s is labelled by %+v; want the judge of mining in mine/vm and mine/rg alone", s.Name, params.Judge)
		}
		if s.Name == "judge/vanilla/sft" && s.Fingerprint != plain[i].Fingerprint {
			t.Errorf("the judge of mining changes %s", s.Name)
		}
		if labels && (s.JudgeAccess == nil || s.JudgeAccess.Concurrency != 9 || s.JudgeAccess.Repairs != 2) {
			t.Errorf("%s asks its judge by %+v, want concurrency 9 and the default repairs", s.Name, s.JudgeAccess)
		}
	}
	access := mustPlan(t, "demo", "mining.judge="+strings.Replace(other, "9", "3", 1))
	if find(t, access, "mine/vm").Fingerprint != find(t, mining, "mine/vm").Fingerprint {
		t.Error("how the judge of mining is asked changes what it labels")
	}

	also := mustPlan(t, "demo", "judge.also=[{name: second, "+other[1:]+"]")
	for _, s := range plain {
		if same := find(t, also, s.Name).Fingerprint == s.Fingerprint; same != (s.Name != "report") {
			t.Errorf("a judge besides leaves %s as it is: %v", s.Name, same)
		}
	}
	added := map[Kind]int{}
	for _, s := range also {
		own, row, besides := strings.Cut(s.Name, "/by/second/")
		if !besides {
			continue
		}
		added[s.Kind]++
		var params, same struct{ JudgeModel }
		twin := find(t, plain, own+"/"+row)
		if err := errors.Join(json.Unmarshal(s.Params, &params), json.Unmarshal(twin.Params, &same)); err != nil {
			t.Fatal(err)
		}
		if params.Model != "m" || s.JudgeAccess == nil || s.JudgeAccess.Concurrency != 9 {
			t.Errorf("%s judges by %+v, asked by %+v; want model m and concurrency 9", s.Name, params.JudgeModel, s.JudgeAccess)
		}
		if same.Judge != JudgeOffline || !maps.Equal(s.Inputs, twin.Inputs) || s.Kind != twin.Kind {
			t.Errorf("%s is a %s of %v, that of the experiment's judge a %s of %v", s.Name, s.Kind, s.Inputs, twin.Kind, twin.Inputs)
		}
		if sys, ok := SystemOf(s); ok {
			t.Errorf("%s counts as the evaluation of %s", s.Name, sys.Name())
		}
		if find(t, also, "report").Inputs[s.Name] != s.Name {
			t.Errorf("the report does not read %s", s.Name)
		}
	}
	// Six systems and three anchors with replies, one comparison, one role's pairs.
	if want := map[Kind]int{KindJudge: 9, KindPrefer: 1, KindQuality: 1}; !maps.Equal(added, want) || len(also)-len(plain) != 11 {
		t.Errorf("%v stages judge besides, of %d more; want %v", added, len(also)-len(plain), want)
	}
	for _, c := range []struct{ set, want string }{
		{"judge.also=[{kind: offline}]", "judge.also[0].name: is \"\""},
		{"judge.also=[{name: a}, {name: a}]", "judge.also[1].name: \"a\" stands in the list twice"},
		{"judge.also=[{name: a, kind: openai}]", "judge.also[0].model: is missing"},
		{"mining.judge.kind=openai", "mining.judge.model: is missing"},
	} {
		if _, err := Load("demo", c.set); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.set, err, c.want)
		}
	}
}
