package experiments

import (
	"fmt"
	"maps"
	"math"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/esclab/esclab/esc"
)

// Validate checks ranges and what fields demand of each other. It touches no
// file. The error is Problems: everything that is wrong, each with its YAML
// path.
func (e Experiment) Validate() error {
	v := &validator{}
	v.general(e)
	v.corpus(e.Corpus)
	v.backbone(e)
	v.lora(e.LoRA)
	v.sft(e.SFT)
	v.mining(e.Mining)
	v.dpo(e)
	v.sampling("generation", e.Generation.Temperature, e.Generation.TopP, e.Generation.MaxNewTokens, e.Limits)
	v.atLeast("generation.top_k", e.Generation.TopK, 0)
	v.positive("generation.repetition_penalty", e.Generation.RepetitionPenalty, 10)
	v.atLeast("generation.max_turns", e.Generation.MaxTurns, 0)
	oneOf(v, "generation.strategy", e.Generation.Strategy, StrategyChoices())
	v.judge(e)
	v.limits(e)
	return v.problems.err()
}

type validator struct{ problems Problems }

func (v *validator) fail(path, format string, args ...any) {
	v.problems = append(v.problems, Problem{Path: path, Message: fmt.Sprintf(format, args...)})
}

func (v *validator) atLeast(path string, got, least int) {
	if got < least {
		v.fail(path, "is %d; the least is %d", got, least)
	}
}

func (v *validator) between(path string, got, least, most int) {
	if got < least || got > most {
		v.fail(path, "is %d; it lies between %d and %d", got, least, most)
	}
}

// within checks least ≤ got ≤ most; NaN is outside.
func (v *validator) within(path string, got, least, most float64) {
	if !(got >= least && got <= most) {
		v.fail(path, "is %v; it lies between %v and %v", got, least, most)
	}
}

// positive checks 0 < got ≤ most.
func (v *validator) positive(path string, got, most float64) {
	if !(got > 0 && got <= most) {
		v.fail(path, "is %v; it lies above 0 and at most at %v", got, most)
	}
}

// oneOf checks a word against its list.
func oneOf[T ~string](v *validator, path string, got T, all []T) bool {
	if slices.Contains(all, got) {
		return true
	}
	words := make([]string, len(all))
	for i, w := range all {
		words[i] = string(w)
	}
	v.fail(path, "is %q; it is one of %s%s", string(got), strings.Join(words, ", "), didYouMean(string(got), words))
	return false
}

// someOf checks a list of words: not empty, each known, none twice.
func someOf[T ~string](v *validator, path string, got, all []T) {
	if len(got) == 0 {
		v.fail(path, "is empty; it lists at least one of %s", strings.Trim(fmt.Sprint(all), "[]"))
	}
	for i, w := range got {
		at := fmt.Sprintf("%s[%d]", path, i)
		if oneOf(v, at, w, all) && slices.Contains(got[:i], w) {
			v.fail(at, "%q stands in the list twice", string(w))
		}
	}
}

var namePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)

func (v *validator) general(e Experiment) {
	if !namePattern.MatchString(e.Name) {
		v.fail("name", "is %q; a name has up to 63 lower-case letters, digits, '.', '_' or '-' and begins with a letter or digit", e.Name)
	}
	for i, seed := range e.Seeds {
		if slices.Contains(e.Seeds[:i], seed) {
			v.fail(fmt.Sprintf("seeds[%d]", i), "%d stands in the list twice", seed)
		}
	}
	oneOf(v, "engine", e.Engine, Engines())
	oneOf(v, "packing", e.Packing, Packings())
	oneOf(v, "batching", e.Batching, Batchings())
	someOf(v, "paradigms", e.Paradigms, Paradigms())

	someOf(v, "methods", e.Methods, Methods())
	// A paradigm without any of the methods is left out: --set methods=base is
	// to do for every preset. All of them without is a mistake.
	if known := inOrder(Paradigms(), e.Paradigms); len(known) > 0 && len(inOrder(Methods(), e.Methods)) > 0 && len(Systems(known, e.Methods, esc.PairSets())) == 0 {
		v.fail("methods", "there is no system: the methods of %s are %s", known[0], words(known[0].Methods()))
	}
	for i, m := range e.Methods {
		// Each of a reply's texts but the last stands in the prompt of the last.
		if need := m.Texts() * e.Generation.MaxNewTokens; m.Texts() > 1 && need >= e.Limits.MaxTokens {
			v.fail(fmt.Sprintf("methods[%d]", i), "%s writes %d texts of generation.max_new_tokens %d into one sequence: limits.max_tokens %d leaves no room for the context",
				m, m.Texts(), e.Generation.MaxNewTokens, e.Limits.MaxTokens)
		}
	}
	if slices.Contains(e.Methods, MethodDPO) && !slices.Contains(e.Methods, MethodSFT) {
		v.fail("methods", "dpo starts from the SFT model and is measured against it: list sft as well")
	}
}

func (v *validator) corpus(c Corpus) {
	if strings.TrimSpace(c.Source) == "" {
		v.fail("corpus.source", "is missing; it is \"demo\", \"esconv\", a file in ESConv's format, or a directory with train.json, valid.json and test.json")
	}
	if c.Split.Ratio != [3]int{8, 1, 1} {
		v.fail("corpus.split.ratio", "is %v; files are split 8:1:1 as in the paper, anything else by corpus.split.index or a directory", c.Split.Ratio)
	}
	v.atLeast("corpus.max_dialogues", c.MaxDialogues, 0)
	v.strategies("corpus.strategies", c.Strategies)
	oneOf(v, "corpus.consecutive", c.Consecutive, Consecutives())
}

func (v *validator) backbone(e Experiment) {
	b := e.Backbone
	if strings.TrimSpace(b.Name) == "" {
		v.fail("backbone.name", "is missing; it names the backbone in reports")
	}
	oneOf(v, "backbone.dtype", b.DType, DTypes())
	if b.DType == DTypeBFloat16 && e.Engine == EngineONNX {
		v.fail("backbone.dtype", "is bfloat16, which engine onnx does not have: use float32 or another engine")
	}
	oneOf(v, "backbone.prompts", b.Prompts, PromptSets())
	oneOf(v, "backbone.history_strategies", b.HistoryStrategies, HistoryStrategiesChoices())
	switch {
	case b.Tiny == nil && b.Path == "":
		v.fail("backbone", "has neither path (a Hugging Face checkpoint) nor tiny (a model to pretrain)")
	case b.Tiny != nil && b.Path != "":
		v.fail("backbone", "has both path and tiny; it is one or the other")
	}
	if b.Tiny != nil {
		v.tiny(*b.Tiny)
		if b.Tiny.MaxPositions < e.Limits.MaxTokens {
			v.fail("limits.max_tokens", "is %d, more than backbone.tiny.max_positions %d", e.Limits.MaxTokens, b.Tiny.MaxPositions)
		}
	}
}

func (v *validator) tiny(t Tiny) {
	const at = "backbone.tiny."
	v.between(at+"vocab_size", t.VocabSize, 300, 200_000) // 256 bytes and the special tokens come first
	v.between(at+"hidden_size", t.HiddenSize, 8, 8192)
	v.between(at+"layers", t.Layers, 1, 128)
	v.between(at+"heads", t.Heads, 1, 128)
	v.between(at+"kv_heads", t.KVHeads, 1, 128)
	v.between(at+"intermediate_size", t.IntermediateSize, 8, 65_536)
	v.between(at+"max_positions", t.MaxPositions, 32, 131_072)
	if t.Heads > 0 && t.KVHeads > 0 {
		if t.Heads%t.KVHeads != 0 {
			v.fail(at+"kv_heads", "is %d and does not divide heads %d", t.KVHeads, t.Heads)
		}
		if t.HiddenSize%t.Heads != 0 {
			v.fail(at+"heads", "is %d and does not divide hidden_size %d", t.Heads, t.HiddenSize)
		} else if t.HiddenSize/t.Heads%2 != 0 {
			v.fail(at+"heads", "makes heads of %d values; rotary positions want an even number", t.HiddenSize/t.Heads)
		}
	}
	v.training(at+"pretrain", t.Pretrain.Training)
	v.positive(at+"pretrain.learning_rate", t.Pretrain.LearningRate, 1)
}

func (v *validator) training(path string, t Training) {
	v.between(path+".epochs", t.Epochs, 1, 1000)
	v.atLeast(path+".max_steps", t.MaxSteps, 0)
	v.between(path+".batch_size", t.BatchSize, 1, 65_536)
	oneOf(v, path+".schedule", t.Schedule, Schedules())
	v.within(path+".warmup_ratio", t.WarmupRatio, 0, 0.9)
	v.within(path+".weight_decay", t.WeightDecay, 0, 1)
	v.within(path+".max_grad_norm", t.MaxGradNorm, 0, 1e6)
}

func (v *validator) lora(l LoRA) {
	v.between("lora.rank", l.Rank, 1, 1024)
	v.positive("lora.alpha", l.Alpha, 4096)
	v.within("lora.dropout", l.Dropout, 0, 0.9)
	someOf(v, "lora.targets", l.Targets, LoRATargets())
}

func (v *validator) sft(s SFT) {
	v.training("sft", s.Training)
	v.positive("sft.learning_rate", s.LearningRate, 1)
	for _, r := range []struct {
		role esc.Role
		o    SFTOverride
	}{{esc.VM, s.Roles.VM}, {esc.SP, s.Roles.SP}, {esc.RG, s.Roles.RG}} {
		at := "sft.roles." + string(r.role)
		v.between(at+".epochs", r.o.Epochs, 0, 1000)
		v.within(at+".learning_rate", r.o.LearningRate, 0, 1)
		v.between(at+".batch_size", r.o.BatchSize, 0, 65_536)
	}
}

func (v *validator) mining(m Mining) {
	if m.Temperature == 0 {
		v.fail("mining.temperature", "is 0: every sample of a turn would be the same")
	}
	v.atLeast("mining.max_turns", m.MaxTurns, 0)
	for _, r := range esc.Roles() {
		v.between("mining.samples."+string(r), m.Samples.For(r), 1, 256)
	}
	v.atLeast("mining.caps.strategy_mismatch", m.Caps.StrategyMismatch, 0)
	v.atLeast("mining.caps.lack_of_empathy", m.Caps.LackOfEmpathy, 0)
	v.atLeast("mining.caps.early_emotion_shift", m.Caps.EarlyEmotionShift, 0)
	v.atLeast("mining.caps.template_response", m.Caps.TemplateResponse, 0)
	v.atLeast("mining.caps.per_turn", m.Caps.PerTurn, 0)
}

// sampling checks what mining and generation share.
func (v *validator) sampling(path string, temperature, topP float64, maxNewTokens int, l Limits) {
	v.within(path+".temperature", temperature, 0, 10)
	v.positive(path+".top_p", topP, 1)
	v.atLeast(path+".max_new_tokens", maxNewTokens, 1)
	if maxNewTokens >= l.MaxTokens {
		v.fail(path+".max_new_tokens", "is %d and leaves no room for the context within limits.max_tokens %d", maxNewTokens, l.MaxTokens)
	}
}

func (v *validator) dpo(e Experiment) {
	d := e.DPO
	v.training("dpo", d.Training)
	oneOf(v, "dpo.loss", d.Loss, Losses())
	if !(d.LabelSmoothing >= 0 && d.LabelSmoothing < 0.5) {
		v.fail("dpo.label_smoothing", "is %v; it lies between 0 and 0.5, 0.5 excluded", d.LabelSmoothing)
	}
	if d.LabelSmoothing != 0 && d.Loss != LossDPO {
		v.fail("dpo.label_smoothing", "is %v; only loss dpo has it", d.LabelSmoothing)
	}
	v.within("dpo.sft_weight", d.SFTWeight, 0, 100)
	if gamma := d.SimPOGamma; gamma != nil {
		v.within("dpo.simpo_gamma", *gamma, 0, 100)
		if *gamma != 0 && d.Loss != LossSimPO {
			v.fail("dpo.simpo_gamma", "is %v; only loss simpo has it", *gamma)
		}
	}
	for _, w := range []struct {
		path   string
		weight float64
	}{{"dpo.desirable_weight", d.DesirableWeight}, {"dpo.undesirable_weight", d.UndesirableWeight}} {
		v.positive(w.path, w.weight, 100)
		if w.weight != 1 && d.Loss != LossKTO {
			v.fail(w.path, "is %v; only loss kto has it", w.weight)
		}
	}
	for _, r := range esc.Roles() { // 0 is the loss's own
		v.within("dpo.roles."+string(r)+".learning_rate", d.Roles.For(r).LearningRate, 0, 1)
		v.within("dpo.roles."+string(r)+".beta", d.Roles.For(r).Beta, 0, 100)
	}
	someOf(v, "dpo.pair_sets", d.PairSets, esc.PairSets())
	v.sampling("mining", e.Mining.Temperature, e.Mining.TopP, e.Mining.MaxNewTokens, e.Limits)
}

func (v *validator) judge(e Experiment) {
	v.atLeast("judge.samples", e.Judge.Samples, 0)
	v.compare(e.Judge.Compare)
	names := map[string]bool{}
	for i, also := range e.Judge.Also {
		at := fmt.Sprintf("judge.also[%d].name", i)
		if !judgeName.MatchString(also.Name) {
			v.fail(at, "is %q; a judge's name has up to 31 lower-case letters, digits, '.', '_' or '-' and begins with a letter or digit", also.Name)
		}
		if names[also.Name] {
			v.fail(at, "%q stands in the list twice", also.Name)
		}
		names[also.Name] = true
	}
	for _, j := range e.Judges() {
		v.judging(j.Path+".", j.Judging)
	}
}

var judgeName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,30}$`)

func (v *validator) judging(at string, j Judging) {
	oneOf(v, at+"kind", j.Kind, JudgeKinds())
	oneOf(v, at+"protocol", j.Protocol, Protocols())
	v.within(at+"temperature", j.Temperature, 0, 2)
	v.between(at+"concurrency", j.Concurrency, 1, 1024)
	v.atLeast(at+"requests_per_minute", j.RequestsPerMinute, 0)
	v.atLeast(at+"tokens_per_minute", j.TokensPerMinute, 0)
	v.between(at+"timeout_seconds", j.TimeoutSeconds, 1, 480) // a stage is silent for that long
	v.between(at+"repairs", j.Repairs, 0, 10)
	v.within(at+"max_unjudged", j.MaxUnjudged, 0, 1)
	v.atLeast(at+"budget.calls", j.Budget.Calls, 0)
	v.atLeast(at+"budget.tokens", j.Budget.Tokens, 0)
	v.within(at+"budget.money", j.Budget.Money, 0, 1e9)
	v.within(at+"price.input", j.Price.Input, 0, 1e6)
	v.within(at+"price.output", j.Price.Output, 0, 1e6)
	if j.Budget.Money > 0 && j.Price == (JudgePrice{}) {
		v.fail(at+"budget.money", "is %v without %sprice: give the prices of a million tokens, input and output", j.Budget.Money, at)
	}
	if j.Kind != JudgeOpenAI {
		return
	}
	if j.Model == "" {
		v.fail(at+"model", "is missing; kind openai asks for a model by name")
	}
	if wrong := badBaseURL(j.BaseURL); wrong != "" {
		v.fail(at+"base_url", "%s", wrong)
	}
	if j.APIKeyEnv != "" && !envPattern.MatchString(j.APIKeyEnv) {
		v.fail(at+"api_key_env", "is not the name of an environment variable (the key itself never stands in an experiment)")
	}
}

// secretName matches names of parameters that hold a secret.
var secretName = regexp.MustCompile(`(?i)(^|[-_.]|api|access)(key|token|secret|password|sig|signature)$`)

// badBaseURL says why an endpoint cannot be asked, "" where it can. Its query
// goes with every request, and stands in artifacts as the rest does.
func badBaseURL(address string) string {
	u, err := url.Parse(address)
	switch {
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Host == "":
		return fmt.Sprintf("is %q; it is an address like https://api.openai.com/v1", address)
	case u.User != nil:
		return "holds a user name; the key goes into the environment variable that judge.api_key_env names"
	case u.Fragment != "":
		return fmt.Sprintf("is %q; what stands after # is never sent: leave it out", address)
	case strings.HasSuffix(strings.TrimSuffix(u.Path, "/"), "/chat/completions"):
		return "ends in /chat/completions, which is added: leave it out"
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return fmt.Sprintf("is %q, whose query is no list of name=value", address)
	}
	for _, name := range slices.Sorted(maps.Keys(query)) {
		if secretName.MatchString(name) {
			return fmt.Sprintf("holds a key in its query (%s), which would stand in artifacts: it goes into the environment variable that judge.api_key_env names", name)
		}
	}
	return ""
}

// compare checks pairs of systems' names: known, different, none twice.
func (v *validator) compare(pairs [][2]string) {
	seen := map[[2]string]bool{}
	for i, pair := range pairs {
		at := fmt.Sprintf("judge.compare[%d]", i)
		for _, name := range pair {
			if _, err := ParseSystem(name); err != nil {
				v.fail(at, "%s", err)
			}
		}
		switch {
		case pair[0] == pair[1]:
			v.fail(at, "compares %s with itself", pair[0])
		case seen[pair]:
			v.fail(at, "%s and %s are compared twice", pair[0], pair[1])
		}
		seen[pair], seen[[2]string{pair[1], pair[0]}] = true, true
	}
}

var envPattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,63}$`)

func (v *validator) limits(e Experiment) {
	l, c := e.Limits, e.Checkpoint
	v.between("limits.max_tokens", l.MaxTokens, 16, 1<<20)
	oneOf(v, "limits.longer", l.Longer, Longers())
	v.atLeast("limits.pack_tokens", l.PackTokens, 1)
	if l.PackTokens < l.MaxTokens {
		v.fail("limits.pack_tokens", "is %d, less than one sequence of limits.max_tokens %d", l.PackTokens, l.MaxTokens)
	}
	v.between("limits.decode_batch", l.DecodeBatch, 1, 4096)
	v.between("checkpoint.every_steps", c.EverySteps, 0, math.MaxInt32)
	v.between("checkpoint.every_seconds", c.EverySeconds, 0, math.MaxInt32)
	if c.EverySteps == 0 && c.EverySeconds == 0 {
		v.fail("checkpoint", "has neither every_steps nor every_seconds: an interrupted stage would begin anew")
	}
	v.between("checkpoint.keep", c.Keep, 1, 1000)
	oneOf(v, "memory", e.Memory, Memories())
}
