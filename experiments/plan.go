package experiments

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/esclab/esclab/esc"
)

// MaxStages is the most stages of a run with several seeds. Its history has about
// seven events a stage (TestRunOfFiftySeeds counts them), and Temporal ends a workflow
// that has 51,200.
const MaxStages = 5000

// Plan lays out the experiment's DAG, in topological order and with
// fingerprints. It plans only what the paradigms and methods need:
//
//	corpus ─► base ─► sft/ROLE ─► mine/ROLE ─► reference/ROLE ─► dpo/ROLE
//	                     └───────────┴──► generate/PARADIGM/METHOD ─► score, judge, bias ─► report
//	                                  └──► strategies/PARADIGM/METHOD ─► report
//
// Besides, anchor/METHOD replies without a system and is scored and judged
// alike, prefer/SYSTEM/vs/SYSTEM compares two systems' replies, and
// quality/rg scores both sides of the response generator's pairs.
//
// The vanilla model is trained once per pair set (dpo/vm/SET) on the log
// probabilities of one reference/vm. generate/vanilla/dpo is the set "all";
// other sets append theirs: generate/vanilla/dpo/nsnr.
//
// An experiment with several seeds has the stages of each, see mergeSeeds, and
// one report over all.
//
// Plan validates the experiment first. Sources whose files are missing are
// planned too, without fingerprints.
func Plan(exp Experiment, sources Sources) ([]Stage, error) {
	if err := exp.Validate(); err != nil {
		return nil, err
	}
	seeds := exp.AllSeeds()
	plans := make([][]Stage, len(seeds))
	for i, seed := range seeds {
		p := &planner{exp: exp, sources: sources}
		p.exp.Seed = seed
		if p.lay(); p.err != nil {
			return nil, p.err
		}
		plans[i] = p.stages
		if n := len(seeds) * len(p.stages); n > MaxStages {
			return nil, fmt.Errorf("%d seeds of %d stages each are %d stages; a run has at most %d: take fewer seeds, or a sweep over them, of which each cell is a run",
				len(seeds), len(p.stages), n, MaxStages)
		}
	}
	p := &planner{exp: exp, sources: sources, stages: mergeSeeds(seeds, plans)}
	p.exp.Seed = seeds[0]
	p.report()
	if p.err != nil {
		return nil, p.err
	}
	if err := Fingerprints(p.stages); err != nil {
		return nil, err
	}
	return p.stages, nil
}

// lay lays out everything of one seed but the report.
func (p *planner) lay() {
	p.corpus()
	p.base()
	for _, role := range p.roles() {
		p.train(role)
	}
	for _, system := range p.systems() {
		p.evaluate(system)
	}
	p.anchors()
	p.compare()
	p.quality()
}

type planner struct {
	exp     Experiment
	sources Sources
	stages  []Stage
	err     error
}

// add adds a stage. With engine auto the worker's best device decides, so a
// stage that runs a model goes where GPUs are; a machine without one serves
// that class as well.
func (p *planner) add(name string, params any, inputs map[string]string) *Stage {
	s, err := NewStage(name, params, inputs)
	if err != nil && p.err == nil {
		p.err = err
	}
	if s.Queue == QueueCPU && (p.exp.Engine == EngineXLACUDA || p.exp.Engine == EngineAuto) {
		s.Queue = QueueGPU
	}
	p.stages = append(p.stages, s)
	return &p.stages[len(p.stages)-1]
}

func (p *planner) corpus() {
	c, src := p.exp.Corpus, p.sources.Corpus
	params := CorpusParams{Layout: LayoutFile, Files: digests(src.Files), MaxDialogues: c.MaxDialogues}
	params.Strategies, params.Consecutive = c.readingParams()
	switch {
	case src.Directory:
		params.Layout = LayoutSplit
	case c.Split.Index != "":
		params.SplitIndex = p.sources.SplitIndex
	default:
		params.SplitSeed, params.SplitRatio = c.Split.Seed, c.Split.Ratio
	}
	s := p.add("corpus", params, nil)
	s.Source = src.Path
	if params.SplitIndex != (FileDigest{}) {
		s.SplitIndexSource = c.Split.Index
	}
}

func (p *planner) base() {
	b := p.exp.Backbone
	if b.Tiny == nil {
		params := BaseParams{Files: digests(p.sources.Checkpoint.Files)}
		s := p.add("base", params, map[string]string{"corpus": "corpus"})
		s.Source, s.Queue = p.sources.Checkpoint.Path, QueueControl // an import runs no model
		return
	}
	params := BaseParams{ModelParams: p.modelParams(), Seed: p.exp.Seed, Files: []FileDigest{}, Tiny: b.Tiny}
	params.BaseType = "" // pretraining is in float32
	p.add("base", params, map[string]string{"corpus": "corpus"})
}

// train adds sft, mine, reference and dpo of one role, as far as the methods go.
func (p *planner) train(role esc.Role) {
	if !p.has(MethodSFT) && !p.has(MethodDPO) {
		return
	}
	sft := p.exp.SFT.For(role)
	from := map[string]string{"corpus": "corpus", "base": "base"}
	p.add(stageName(KindSFT, string(role)), SFTParams{
		ModelParams: p.modelParams(role), Training: sft.Training, Role: role, Seed: p.exp.Seed,
		LearningRate: sft.LearningRate, LoRA: p.exp.LoRA, Batching: p.batching(),
	}, from)
	if !p.has(MethodDPO) {
		return
	}

	from = with(from, "sft", stageName(KindSFT, string(role)))
	m := p.exp.Mining
	mine := MineParams{
		ModelParams: p.modelParams(role), Role: role, Seed: p.exp.Seed,
		Sampling: Sampling{Temperature: m.Temperature, TopP: m.TopP, MaxNewTokens: m.MaxNewTokens, DecodeBatch: p.exp.Limits.DecodeBatch},
		Samples:  m.Samples.For(role), MaxTurns: m.MaxTurns,
	}
	mine.Caps = m.Caps
	labels := p.exp.Judge.Judging
	if m.Judge != nil {
		labels = *m.Judge
	}
	switch role {
	case esc.SP: // its only error is the strategy itself: nothing to judge
		mine.Caps = ErrorCaps{PerTurn: m.Caps.PerTurn, StrategyMismatch: m.Caps.StrategyMismatch}
	case esc.RG: // it is given the gold strategy
		mine.Caps.StrategyMismatch = 0
		mine.Judge = p.modelOf(labels)
	case esc.VM:
		mine.Judge = p.modelOf(labels)
	}
	stage := p.add(stageName(KindMine, string(role)), mine, from)
	if m.Judge != nil {
		stage.JudgeAccess = &labels.JudgeAccess
	}

	from = with(from, "mine", stageName(KindMine, string(role)))
	d := p.exp.DPO
	if d.Loss.NeedsReference() {
		p.add(stageName(KindReference, string(role)), ReferenceParams{ModelParams: p.modelParams(role), Role: role}, from)
		from = with(from, "reference", stageName(KindReference, string(role)))
	}
	for _, set := range p.pairSets(role) {
		params := DPOParams{
			ModelParams: p.modelParams(role), Training: d.Training, Role: role, PairSet: set, Seed: p.exp.Seed,
			LearningRate: d.For(role).LearningRate, Beta: d.For(role).Beta,
			Loss: d.Loss, LabelSmoothing: d.LabelSmoothing, SFTWeight: d.SFTWeight, LoRA: p.exp.LoRA, Batching: p.batching(),
		}
		switch d.Loss {
		case LossSimPO:
			params.SimPOGamma = d.gamma(params.Beta)
		case LossKTO:
			params.DesirableWeight, params.UndesirableWeight = d.DesirableWeight, d.UndesirableWeight
		}
		p.add(dpoName(role, set), params, from)
	}
}

// evaluate adds a system's generation and what scores it.
func (p *planner) evaluate(system System) {
	from := map[string]string{"corpus": "corpus", "base": "base"}
	for _, role := range system.Paradigm.Roles() {
		switch system.Method {
		case MethodSFT:
			from[string(role)] = stageName(KindSFT, string(role))
		case MethodDPO:
			from[string(role)] = dpoName(role, cmp.Or(system.PairSet, esc.PairsAll))
		}
	}
	row := system.Name()
	generate := stageName(KindGenerate, row)
	g := p.exp.Generation
	params := GenerateParams{
		ModelParams: p.modelParams(system.Paradigm.Roles()...), Paradigm: system.Paradigm, Method: system.Method, PairSet: system.PairSet, MaxTurns: g.MaxTurns,
		Sampling: g.sampling(p.exp.Limits.DecodeBatch),
	}
	if !g.Greedy || g.MaxTurns > 0 {
		params.Seed = p.exp.Seed
	}
	if g.Strategy != StrategyFree && system.Paradigm != Gold && system.Method.Texts() == 1 {
		params.Strategy = g.Strategy
	}
	p.add(generate, params, from)
	p.strategies(system, from)
	p.scores(row, generate)
	if system.Paradigm != Gold { // its strategies are the gold ones
		p.add(stageName(KindBias, row), BiasParams{}, map[string]string{"generate": generate})
	}
}

// strategies adds the exact probabilities of a system's strategies, where it names
// one first: not where it is given the gold one, nor where it replies in steps.
func (p *planner) strategies(system System, from map[string]string) {
	if system.Paradigm == Gold || system.Method.Texts() > 1 {
		return
	}
	role := system.Paradigm.Roles()[0]
	params := StrategiesParams{ModelParams: p.modelParams(role), Role: role, MaxTurns: p.exp.Generation.MaxTurns}
	if params.MaxTurns > 0 {
		params.Seed = p.exp.Seed
	}
	inputs := map[string]string{"corpus": "corpus", "base": "base"}
	if trained, ok := from[string(role)]; ok {
		inputs[string(role)] = trained
	}
	p.add(stageName(KindStrategies, system.Name()), params, inputs)
}

// scores adds the stages that score and judge the replies of a stage.
func (p *planner) scores(row, replies string) {
	scored := map[string]string{"generate": replies}
	p.add(stageName(KindScore, row), ScoreParams{}, scored)
	samples, seed := p.judged()
	// Besides the replies: the contexts they answer, and the train split's
	// wording, by which the offline judge knows stock phrases.
	p.judge(KindJudge, row, with(scored, "corpus", "corpus"), func(j JudgeModel) any {
		return JudgeParams{JudgeModel: j, Samples: samples, Seed: seed}
	})
}

// judge adds a stage of the experiment's own judge, and the same of each of
// judge.also.
func (p *planner) judge(kind Kind, row string, from map[string]string, params func(JudgeModel) any) {
	p.add(JudgedBy(kind, "", row), params(p.modelOf(p.exp.Judge.Judging)), from)
	for _, also := range p.exp.Judge.Also {
		p.add(JudgedBy(kind, also.Name, row), params(p.modelOf(also.Judging)), from).JudgeAccess = &also.JudgeAccess
	}
}

// anchors adds what no system wrote, scored and judged on the systems' turns: a
// judge that does not tell gold replies from shuffled ones tells nothing.
func (p *planner) anchors() {
	for _, method := range Anchors() {
		params := AnchorParams{Method: method, MaxTurns: p.exp.Generation.MaxTurns}
		if params.MaxTurns > 0 || method == MethodShuffled {
			params.Seed = p.exp.Seed
		}
		if method == MethodCanned {
			params.Reply = CannedReply
		}
		name := stageName(KindAnchor, string(method))
		p.add(name, params, map[string]string{"corpus": "corpus"})
		if method == MethodTFIDF { // it plans, and writes nothing
			p.add(stageName(KindBias, name), BiasParams{}, map[string]string{"generate": name})
			continue
		}
		p.scores(name, name)
	}
}

// compare adds the comparisons of systems that are both run.
func (p *planner) compare() {
	run := map[string]bool{}
	for _, system := range p.systems() {
		run[system.Name()] = true
	}
	for _, pair := range p.exp.Judge.Compare {
		first, second := pair[0], pair[1]
		if !run[first] || !run[second] {
			continue
		}
		samples, seed := p.judged()
		p.judge(KindPrefer, Against(first, second), map[string]string{
			"corpus": "corpus", "first": stageName(KindGenerate, first), "second": stageName(KindGenerate, second),
		}, func(j JudgeModel) any {
			return PreferParams{JudgeModel: j, First: first, Second: second, Samples: samples, Seed: seed}
		})
	}
}

// quality adds the scores of the response generator's pairs.
func (p *planner) quality() {
	if !p.has(MethodDPO) || !slices.Contains(p.roles(), esc.RG) {
		return
	}
	samples, seed := p.judged()
	p.judge(KindQuality, string(esc.RG), map[string]string{
		"corpus": "corpus", "mine": stageName(KindMine, string(esc.RG)),
	}, func(j JudgeModel) any {
		return QualityParams{JudgeModel: j, Role: esc.RG, Samples: samples, Seed: seed}
	})
}

// judged is how many samples a stage judges, and the seed that draws them: zero
// where all are judged.
func (p *planner) judged() (samples int, seed uint64) {
	if samples = p.exp.Judge.Samples; samples > 0 {
		seed = p.exp.Seed
	}
	return samples, seed
}

// report reads everything but the weights: the corpus and pairs for Tables 1
// and 6, the training stages for their curves, the evaluations for Table 3.
func (p *planner) report() {
	from := make(map[string]string)
	for _, s := range p.stages {
		if s.Kind != KindReference {
			from[s.Name] = s.Name
		}
	}
	params := ReportParams{
		Name: p.exp.Name, Backbone: p.exp.Backbone.Name, Seed: p.exp.Seed, Engine: p.exp.Engine,
		Paradigms: p.paradigms(), Methods: p.methods(), PairSets: []esc.PairSet{},
	}
	if p.has(MethodDPO) && slices.Contains(p.exp.Paradigms, Vanilla) {
		params.PairSets = p.pairSets(esc.VM)
	}
	if seeds := p.exp.AllSeeds(); len(seeds) > 1 {
		params.Seeds = seeds
	}
	for _, also := range p.exp.Judge.Also {
		params.AlsoJudged = append(params.AlsoJudged, also.Name)
	}
	p.add("report", params, from)
}

// batching is "" for the default, so that what was computed before there was a choice keeps its fingerprint.
func (p *planner) batching() Batching {
	if p.exp.Batching == BatchNeighbours {
		return ""
	}
	return p.exp.Batching
}

// modelParams are those of a stage that runs these roles' models; none: the base's.
func (p *planner) modelParams(roles ...esc.Role) ModelParams {
	e := p.exp
	m := ModelParams{
		Engine: e.Engine, Prompts: e.Backbone.Prompts, Packing: e.Packing,
		MaxTokens: e.Limits.MaxTokens, Longer: e.Limits.Longer, PackTokens: e.Limits.PackTokens,
	}
	if e.Backbone.DType != DTypeFloat32 {
		m.BaseType = e.Backbone.DType
	}
	if e.Backbone.HistoryStrategies != HistoryKeep && (slices.Contains(roles, esc.SP) || slices.Contains(roles, esc.RG)) {
		m.HistoryStrategies = e.Backbone.HistoryStrategies
	}
	return m
}

func (p *planner) modelOf(j Judging) JudgeModel {
	if j.Kind == JudgeOffline {
		return JudgeModel{Judge: j.Kind}
	}
	m := JudgeModel{Judge: j.Kind, Model: j.Model, BaseURL: j.BaseURL, Temperature: j.Temperature, BuiltinPrompts: JudgePromptsVersion}
	if j.Protocol != ProtocolJoint {
		m.Protocol = j.Protocol
	}
	if j.Prompts != "" {
		m.BuiltinPrompts = 0
		m.Prompts = p.sources.JudgePrompts[j.Prompts]
		if len(m.Prompts) == 0 {
			m.Prompts = map[string]string{"": ""}
		}
	}
	return m
}

func (p *planner) has(m Method) bool { return slices.Contains(p.exp.Methods, m) }

// paradigms, methods, systems, roles and pairSets come in the words' own order, so that
// the order in the YAML file changes nothing.
func (p *planner) paradigms() []Paradigm { return inOrder(Paradigms(), p.exp.Paradigms) }
func (p *planner) methods() []Method     { return inOrder(Methods(), p.exp.Methods) }

func (p *planner) systems() []System {
	return Systems(p.exp.Paradigms, p.exp.Methods, p.exp.DPO.PairSets)
}

func (p *planner) roles() []esc.Role {
	var used []esc.Role
	for _, paradigm := range p.exp.Paradigms {
		used = append(used, paradigm.Roles()...)
	}
	return inOrder(esc.Roles(), used)
}

func (p *planner) pairSets(role esc.Role) []esc.PairSet {
	if role != esc.VM {
		return []esc.PairSet{esc.PairsAll}
	}
	return inOrder(esc.PairSets(), p.exp.DPO.PairSets)
}

func inOrder[T comparable](all, chosen []T) []T {
	out := []T{}
	for _, v := range all {
		if slices.Contains(chosen, v) {
			out = append(out, v)
		}
	}
	return out
}

// JudgedBy names the stage of a kind in which a judge of judge.also, or with "" the
// experiment's own, judges a row: a system, an anchor, two systems (Against), a role.
// No system has such a name as those of judge.also, so that SystemOf tells the stages apart.
func JudgedBy(kind Kind, judge, row string) string {
	if judge != "" {
		row = "by/" + judge + "/" + row
	}
	return stageName(kind, row)
}

// Against names the comparison of two systems.
func Against(first, second string) string { return first + "/vs/" + second }

func stageName(kind Kind, rest string) string { return fmt.Sprintf("%s/%s", kind, rest) }

func dpoName(role esc.Role, set esc.PairSet) string {
	name := stageName(KindDPO, string(role))
	if role == esc.VM {
		name += "/" + string(set)
	}
	return name
}

func with(m map[string]string, key, value string) map[string]string {
	out := make(map[string]string, len(m)+1)
	for k, v := range m {
		out[k] = v
	}
	out[key] = value
	return out
}
