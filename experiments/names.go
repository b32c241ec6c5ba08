package experiments

import "github.com/esclab/esclab/esc"

// Engine names what computes the GoMLX graphs.
type Engine string

const (
	EngineAuto    Engine = "auto"     // the fastest that is there; a run records which
	EngineGo      Engine = "go"       // GoMLX's Go backend with esclab's kernels
	EngineONNX    Engine = "onnx"     // ONNX Runtime on the CPU
	EngineXLACUDA Engine = "xla:cuda" // XLA on an NVIDIA GPU
	EngineXLACPU  Engine = "xla:cpu"  // XLA on the CPU
)

// Engines lists every engine in the order of the documentation.
func Engines() []Engine {
	return []Engine{EngineAuto, EngineGo, EngineONNX, EngineXLACUDA, EngineXLACPU}
}

// Paradigm says how a reply is produced.
type Paradigm string

const (
	Vanilla   Paradigm = "vanilla"   // one model (VM)
	Decoupled Paradigm = "decoupled" // SP, then RG given SP's strategy
	Gold      Paradigm = "gold"      // RG given the gold strategy, without a planner (Table 4)
)

// Paradigms lists the paradigms: those of Table 3 in its order, then Table 4's.
func Paradigms() []Paradigm { return []Paradigm{Vanilla, Decoupled, Gold} }

// Roles says which trained roles the paradigm's models play.
func (p Paradigm) Roles() []esc.Role {
	switch p {
	case Vanilla:
		return []esc.Role{esc.VM}
	case Decoupled:
		return []esc.Role{esc.SP, esc.RG}
	case Gold:
		return []esc.Role{esc.RG}
	}
	return nil
}

// Methods lists the methods that the paradigm has, in the tables' order.
func (p Paradigm) Methods() []Method {
	switch p {
	case Vanilla:
		return Methods()
	case Decoupled:
		return []Method{MethodBase, MethodSFT, MethodDPO}
	case Gold:
		return []Method{MethodSFT, MethodDPO}
	}
	return nil
}

// Method says how a paradigm's models were obtained.
type Method string

const (
	MethodBase Method = "base" // the backbone as it is
	MethodSFT  Method = "sft"  // supervised fine-tuning with LoRA
	MethodDPO  Method = "dpo"  // preference optimisation on top of SFT

	// The prompt baselines (appendix D.2): the backbone as it is, asked in steps.
	MethodDirectRefine Method = "direct-refine" // it revises its reply
	MethodSelfRefine   Method = "self-refine"   // it gives feedback on its reply, then refines it
	MethodEmotionCoT   Method = "emotion-cot"   // it thinks about the seeker's emotion, then replies
)

// Anchor is the paradigm of rows that are no system, which an experiment does
// not name: every report has them.
const Anchor Paradigm = "anchor"

// The methods of the anchors.
const (
	MethodGold     Method = "gold"     // the reply that was given
	MethodShuffled Method = "shuffled" // the gold reply to a turn of another dialogue
	MethodCanned   Method = "canned"   // one and the same reply everywhere
	MethodTFIDF    Method = "tfidf"    // a planner alone: logistic regression on TF-IDF
)

// CannedReply is the reply of MethodCanned: kind, helpful, and about nothing. One
// of sympathy and advice is harder on a judge than one of sympathy alone.
const CannedReply = "I am sorry to hear that. It might help to talk about it with someone whom you trust."

// Anchors lists the methods of the anchors, in the report's order.
func Anchors() []Method {
	return []Method{MethodGold, MethodShuffled, MethodCanned, MethodTFIDF}
}

// Methods lists the methods in Table 3's order.
func Methods() []Method {
	return []Method{MethodBase, MethodDirectRefine, MethodSelfRefine, MethodEmotionCoT, MethodSFT, MethodDPO}
}

// Texts counts the texts that one model writes for a reply by this method, the
// reply itself among them.
func (m Method) Texts() int {
	switch m {
	case MethodDirectRefine, MethodEmotionCoT:
		return 2
	case MethodSelfRefine:
		return 3
	}
	return 1
}

// Schedule is the shape of the learning rate after the warm-up.
type Schedule string

const (
	ScheduleCosine   Schedule = "cosine"
	ScheduleLinear   Schedule = "linear"
	ScheduleConstant Schedule = "constant"
)

// Schedules lists the schedules.
func Schedules() []Schedule {
	return []Schedule{ScheduleCosine, ScheduleLinear, ScheduleConstant}
}

// DType is a type of numbers.
type DType string

const (
	DTypeFloat32  DType = "float32"
	DTypeBFloat16 DType = "bfloat16" // half the memory; 8 bits of precision
)

// DTypes lists the types a base model may be kept in.
func DTypes() []DType { return []DType{DTypeFloat32, DTypeBFloat16} }

// Memory is what a training keeps for its way back.
type Memory string

const (
	MemoryAuto      Memory = "auto"      // recompute where keeping would not fit into the memory that is free
	MemoryKeep      Memory = "keep"      // every layer's activations
	MemoryRecompute Memory = "recompute" // each layer's input alone: less than half the memory, a third more time
)

// Memories lists what Memory may be.
func Memories() []Memory { return []Memory{MemoryAuto, MemoryKeep, MemoryRecompute} }

// Prompts selects the wording of the system prompts.
type Prompts string

const (
	PromptsPaper Prompts = "paper" // full, but planner and generator are fed as the paper's authors feed them
	PromptsFull  Prompts = "full"  // the paper's definitions in our words, for instruction-tuned backbones
	PromptsTiny  Prompts = "tiny"  // a few words, for models whose context is short
)

// PromptSets lists the prompt wordings.
func PromptSets() []Prompts { return []Prompts{PromptsPaper, PromptsFull, PromptsTiny} }

// StrategyChoice says how a reply comes by its strategy.
type StrategyChoice string

const (
	StrategyFree        StrategyChoice = "free"        // written by the model, token by token, and read from the text
	StrategyConstrained StrategyChoice = "constrained" // drawn from the model's exact probabilities of the eight names
)

// StrategyChoices lists the ways to a strategy.
func StrategyChoices() []StrategyChoice {
	return []StrategyChoice{StrategyFree, StrategyConstrained}
}

// HistoryStrategies says whether the planner and the generator see the strategies
// of earlier replies. The vanilla model always does.
type HistoryStrategies string

const (
	HistoryKeep  HistoryStrategies = "keep"  // "[Strategy] text", as the vanilla model sees them
	HistoryStrip HistoryStrategies = "strip" // the texts alone, as in the paper
)

// HistoryStrategiesChoices lists what the history may show.
func HistoryStrategiesChoices() []HistoryStrategies {
	return []HistoryStrategies{HistoryKeep, HistoryStrip}
}

// Packing says how token sequences become batches.
type Packing string

const (
	PackTree Packing = "tree" // shared prefixes are computed once
	PackNone Packing = "none" // every sequence on its own: the same loss, slower
)

// Packings lists the packings.
func Packings() []Packing { return []Packing{PackTree, PackNone} }

// Batching says which examples come together in a batch of sft and dpo.
type Batching string

const (
	BatchNeighbours Batching = "neighbours" // turns of a dialogue, dialogues in a random order: most prefixes are shared
	BatchShuffled   Batching = "shuffled"   // turns drawn from all dialogues
)

// Batchings lists the batchings.
func Batchings() []Batching { return []Batching{BatchNeighbours, BatchShuffled} }

// Longer says what happens to a sequence of more than limits.max_tokens.
// Generation always trims, because every test turn needs a prediction.
type Longer string

const (
	LongerTrim Longer = "trim" // drop the oldest messages after the system prompt until it fits
	LongerSkip Longer = "skip" // leave the sequence out and count it
	LongerFail Longer = "fail" // stop the stage with an error that names dialogue and turn
)

// Longers lists the treatments of long sequences.
func Longers() []Longer { return []Longer{LongerTrim, LongerSkip, LongerFail} }

// JudgeKind says who scores replies and labels psychological errors.
type JudgeKind string

const (
	JudgeOffline JudgeKind = "offline" // deterministic rules, no network
	JudgeOpenAI  JudgeKind = "openai"  // an OpenAI-compatible endpoint
)

// Protocol says in which questions a language model is asked to judge.
type Protocol string

const (
	ProtocolJoint Protocol = "joint" // the four criteria in one question, the five errors in another
	ProtocolPaper Protocol = "paper" // as in the paper: beside the gold reply, one criterion or one label a question
)

// Protocols lists the judge's protocols.
func Protocols() []Protocol { return []Protocol{ProtocolJoint, ProtocolPaper} }

// JudgeKinds lists the judges.
func JudgeKinds() []JudgeKind { return []JudgeKind{JudgeOffline, JudgeOpenAI} }

// LoRATargets lists the linear layers an adapter can sit on, by their Hugging
// Face names.
func LoRATargets() []string {
	return []string{"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
}

// Values of corpus.source that are not paths.
const (
	SourceDemo   = "demo"   // the sample corpus in the binary
	SourceESConv = "esconv" // the directory or file that $ESCLAB_ESCONV names
)
