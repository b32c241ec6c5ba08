package experiments

import (
	"errors"
	"strings"
	"testing"
)

func TestPresetsAreValid(t *testing.T) {
	for _, name := range Presets() {
		exp, err := Load(name)
		if err != nil {
			t.Error(err)
			continue
		}
		if exp.Name != name {
			t.Errorf("preset %s calls itself %s", name, exp.Name)
		}
	}
	entries, err := presetFiles.ReadDir("presets")
	if err != nil || len(entries) != len(Presets()) {
		t.Errorf("%d files and %d presets (%v)", len(entries), len(Presets()), err)
	}
}

// TestValidate: every rule fails with the path it belongs to.
func TestValidate(t *testing.T) {
	for _, c := range []struct{ set, want string }{
		{"name=Demo Run", "name: is \"Demo Run\""},
		{"name=", "name: is \"\""},
		{"seeds=1,2,1", "seeds[2]: 1 stands in the list twice"},
		{"engine=xla:gpu", `engine: is "xla:gpu"; it is one of auto, go, onnx, xla:cuda, xla:cpu; did you mean "xla:cpu"?`},
		{"packing=three", `packing: is "three"; it is one of tree, none; did you mean "tree"?`},
		{"paradigms=[]", "paradigms: is empty"},
		{"paradigms=vanilla,vanilla", "paradigms[1]: \"vanilla\" stands in the list twice"},
		{"methods=base,dpo", "methods: dpo starts from the SFT model"},
		{"methods=base,rlhf", "methods[1]: is \"rlhf\"; it is one of base, direct-refine, self-refine, emotion-cot, sft, dpo"},
		{"corpus.source=", "corpus.source: is missing"},
		{"corpus.split.ratio=7,2,1", "corpus.split.ratio: is [7 2 1]"},
		{"corpus.max_dialogues=-1", "corpus.max_dialogues: is -1; the least is 0"},
		{"corpus.consecutive=join", `corpus.consecutive: is "join"; it is one of keep, merge`},
		{"corpus.strategies.Questions=Qestion", `corpus.strategies.Questions: is "Qestion"; it is one of the eight: Question, Restatement or Paraphrasing, `},
		{"corpus.strategies.Other=Othres", `did you mean "Others"?`},
		{"corpus.strategies.Other=", `corpus.strategies.Other: is ""`},
		{"corpus.strategies={other: Others, Other: Question}", `corpus.strategies.other: stands in the map twice, as "Other" too`},
		{"corpus.strategies.information=Others", "corpus.strategies.information: Information is one of the eight strategies itself"},
		{"backbone.path=somewhere", "backbone: has both path and tiny"},
		{"backbone.tiny=null", "backbone: has neither path"},
		{"backbone.name=", "backbone.name: is missing"},
		{"backbone.prompts=short", "backbone.prompts: is \"short\""},
		{"backbone.tiny.kv_heads=3", "backbone.tiny.kv_heads: is 3 and does not divide heads 4"},
		{"backbone.tiny.heads=6", "backbone.tiny.heads: is 6 and does not divide hidden_size 128"},
		{"backbone.tiny.hidden_size=36", "backbone.tiny.heads: makes heads of 9 values"},
		{"backbone.tiny.heads=0", "backbone.tiny.heads: is 0"},
		{"backbone.tiny.vocab_size=100", "backbone.tiny.vocab_size: is 100"},
		{"backbone.tiny.max_positions=64", "more than backbone.tiny.max_positions 64"},
		{"backbone.tiny.pretrain.epochs=0", "backbone.tiny.pretrain.epochs: is 0"},
		{"lora.rank=0", "lora.rank: is 0; it lies between 1 and 1024"},
		{"lora.dropout=1", "lora.dropout: is 1; it lies between 0 and 0.9"},
		{"lora.targets=q_proj,w_proj", `lora.targets[1]: is "w_proj"`},
		{"lora.targets=[]", "lora.targets: is empty"},
		{"sft.learning_rate=0", "sft.learning_rate: is 0; it lies above 0"},
		{"sft.schedule=cosin", `did you mean "cosine"?`},
		{"sft.roles.sp.epochs=-1", "sft.roles.sp.epochs: is -1"},
		{"sft.warmup_ratio=2", "sft.warmup_ratio: is 2"},
		{"mining.temperature=0", "mining.temperature: is 0: every sample"},
		{"mining.top_p=0", "mining.top_p: is 0"},
		{"mining.samples.rg=0", "mining.samples.rg: is 0"},
		{"mining.max_new_tokens=4000", "mining.max_new_tokens: is 4000 and leaves no room"},
		{"mining.caps.per_turn=-2", "mining.caps.per_turn: is -2"},
		{"dpo.loss=ppo", `dpo.loss: is "ppo"; it is one of dpo, ipo, simpo, kto, kto_pair; did you mean "dpo"?`},
		{"dpo.label_smoothing=0.5", "dpo.label_smoothing: is 0.5"},
		{"dpo.sft_weight=-1", "dpo.sft_weight: is -1"},
		{"dpo.simpo_gamma=1", "dpo.simpo_gamma: is 1; only loss simpo has it"},
		{"dpo.desirable_weight=2", "dpo.desirable_weight: is 2; only loss kto has it"},
		{"dpo.undesirable_weight=0", "dpo.undesirable_weight: is 0"},
		{"dpo.roles.rg.beta=-1", "dpo.roles.rg.beta: is -1"},
		{"dpo.pair_sets=nsnr,pspr", `dpo.pair_sets[1]: is "pspr"`},
		{"generation.max_new_tokens=0", "generation.max_new_tokens: is 0"},
		{"generation.top_k=-1", "generation.top_k: is -1"},
		{"generation.repetition_penalty=0", "generation.repetition_penalty: is 0"},
		{"generation.max_turns=-1", "generation.max_turns: is -1"},
		{"judge.kind=openai", "judge.model: is missing"},
		{"judge.concurrency=0", "judge.concurrency: is 0"},
		{"judge.timeout_seconds=0", "judge.timeout_seconds: is 0"},
		{"judge.repairs=11", "judge.repairs: is 11"},
		{"judge.max_unjudged=2", "judge.max_unjudged: is 2"},
		{"judge.budget.calls=-1", "judge.budget.calls: is -1"},
		{"judge.budget.money=1", "judge.budget.money: is 1 without judge.price"},
		{"limits.max_tokens=8", "limits.max_tokens: is 8"},
		{"limits.pack_tokens=100", "limits.pack_tokens: is 100, less than one sequence"},
		{"limits.longer=cut", "limits.longer: is \"cut\""},
		{"checkpoint.keep=0", "checkpoint.keep: is 0"},
	} {
		_, err := Load("demo", c.set)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("--set %s: want %q in\n%v", c.set, c.want, err)
		}
	}
}

// TestValidateCollects: one call names everything.
func TestValidateCollects(t *testing.T) {
	_, err := Load("demo", "lora.rank=0", "dpo.roles.sp.beta=-1", "engine=cpu")
	var ps Problems
	if !errors.As(err, &ps) || len(ps) != 3 {
		t.Fatalf("want three problems, have %v", err)
	}
	for _, p := range ps {
		if p.File != "--set" {
			t.Errorf("%s: the override is to blame, not %q", p.Path, p.File)
		}
	}
}

func TestJudgeOpenAI(t *testing.T) {
	ok := []string{"judge.kind=openai", "judge.model=m", "judge.base_url=http://127.0.0.1:8080/v1", "judge.api_key_env=KEY"}
	mustLoad(t, "demo", ok...)
	for _, c := range []struct{ set, want string }{
		{"judge.base_url=api.openai.com", "judge.base_url: is \"api.openai.com\""},
		{"judge.base_url=ftp://x/y", "judge.base_url"},
		{"judge.base_url=https://user:secret@host/v1", "judge.base_url: holds a user name"},
		{"judge.base_url=https://host/v1#part", "judge.base_url: is \"https://host/v1#part\"; what stands after #"},
		{"judge.base_url=https://host/v1/chat/completions", "judge.base_url: ends in /chat/completions"},
		{"judge.base_url=https://host/v1?a=1;b=2", "judge.base_url: is \"https://host/v1?a=1;b=2\", whose query"},
		{"judge.base_url=https://host/v1?api-version=1&subscription-key=x", "judge.base_url: holds a key in its query (subscription-key)"},
		{"judge.base_url=https://host/v1?apiKey=x", "(apiKey)"},
		{"judge.api_key_env=sk-123", "judge.api_key_env: is not the name"},
		{"judge.temperature=3", "judge.temperature: is 3"},
	} {
		_, err := Load("demo", append(ok, c.set)...)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: want %q, have %v", c.set, c.want, err)
		} else if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "sk-123") {
			t.Errorf("%s: the error shows a secret: %v", c.set, err)
		}
	}
}
