package experiments

import (
	"fmt"
	"reflect"
	"slices"

	"github.com/esclab/esclab/esc"
)

// Kind is what a stage does.
type Kind string

const (
	KindCorpus     Kind = "corpus"     // read, check and split the dialogues
	KindBase       Kind = "base"       // import a checkpoint, or train tokenizer and tiny model
	KindSFT        Kind = "sft"        // train one role's adapter
	KindMine       Kind = "mine"       // sample from the SFT model, route errors into pairs
	KindReference  Kind = "reference"  // the SFT model's log-probabilities of the pairs
	KindDPO        Kind = "dpo"        // train the adapter on the pairs
	KindGenerate   Kind = "generate"   // reply to the test turns
	KindStrategies Kind = "strategies" // the exact probabilities of the eight strategies
	KindAnchor     Kind = "anchor"     // replies that no system wrote, to measure the measures by
	KindScore      Kind = "score"      // distinct-1, BLEU-1, F1, ROUGE-L
	KindJudge      Kind = "judge"      // fluency, professionalism, empathy, helpfulness
	KindBias       Kind = "bias"       // preference bias, weighted and macro F1
	KindPrefer     Kind = "prefer"     // which of two systems' replies the judge prefers
	KindQuality    Kind = "quality"    // the judge's scores of chosen and rejected responses
	KindReport     Kind = "report"     // Table 3 beside the paper's
)

// kindRow is a row of the table of kinds.
type kindRow struct {
	kind Kind
	// version of the kind's code. It is part of every fingerprint of the kind,
	// so raising it makes finished results of that kind, and of all that follows
	// from them, be computed anew. Raise it when the same parameters and inputs
	// would now give other bytes in the artifact: a fixed bug, another default
	// of the code, another file layout. Leave it for what changes no byte:
	// speed, logging, checkpoint cadence, refactoring.
	version int
	// queue is the class of worker that the kind needs. Kinds that run a model
	// have QueueCPU here, and QueueGPU in the plan of an experiment whose engine
	// wants one.
	queue Queue
	// activity is the name under which workers register what executes the kind.
	// Recorded histories have it.
	activity string
	params   any // the zero value of its parameters
	// does says in a few words what a stage of the kind does; ROLE stands for the
	// model that the stage's name names.
	does string
}

// kinds is the table of kinds, in the order of the DAG. The comments say what
// raises a version.
func kinds() []kindRow {
	return []kindRow{
		// reading, cleaning or splitting dialogues
		{KindCorpus, 1, QueueControl, "Corpus", CorpusParams{}, "read and split the dialogues"},
		// tokenizer training, initial weights, pretraining, import
		{KindBase, 2, QueueCPU, "Base", BaseParams{}, "the backbone"},
		// prompts, labels, optimizer, order of the data, adapter layout
		{KindSFT, 2, QueueCPU, "SFT", SFTParams{}, "fine-tune ROLE"},
		// sampling, routing, the offline judge's labels, pair layout
		{KindMine, 4, QueueCPU, "Mine", MineParams{}, "mine preference pairs from ROLE"},
		// log-probabilities and their layout
		{KindReference, 2, QueueCPU, "Reference", ReferenceParams{}, "reference log-probabilities of ROLE"},
		// losses, optimizer, order of the pairs, adapter layout
		{KindDPO, 2, QueueCPU, "DPO", DPOParams{}, "preference-optimize ROLE"},
		// decoding, parsing of strategies, prediction layout
		{KindGenerate, 2, QueueCPU, "Generate", GenerateParams{}, "reply to the test turns"},
		// prompts, how names are written, layout
		{KindStrategies, 1, QueueCPU, "Strategies", StrategiesParams{}, "probabilities of the strategies"},
		// how gold replies change places, the regression
		{KindAnchor, 1, QueueControl, "Anchor", AnchorParams{}, "replies that no system wrote"},
		// automatic metrics
		{KindScore, 1, QueueControl, "Score", ScoreParams{}, "D-1, B-1, F1, ROUGE-L"},
		// the judge's rules or prompts
		{KindJudge, 4, QueueControl, "Judge", JudgeParams{}, "fluency, professionalism, empathy, helpfulness"},
		// preference bias and strategy F1
		{KindBias, 1, QueueControl, "Bias", BiasParams{}, "preference bias B, weighted and macro F1"},
		// the judge's rules or prompt for preferences, how they are counted
		{KindPrefer, 2, QueueControl, "Prefer", PreferParams{}, "whose replies the judge prefers"},
		// the judge's rules or prompts for scores, which pairs are drawn
		{KindQuality, 2, QueueControl, "Quality", QualityParams{}, "chosen and rejected responses of ROLE"},
		// anything a reader of the report would see
		{KindReport, 7, QueueControl, "Report", ReportParams{}, "tables and figures"},
	}
}

// Kinds lists the kinds in the order of the DAG.
func Kinds() []Kind {
	var all []Kind
	for _, row := range kinds() {
		all = append(all, row.kind)
	}
	return all
}

// row is the kind's row of the table; the zero row for an unknown kind.
func (k Kind) row() kindRow {
	for _, row := range kinds() {
		if row.kind == k {
			return row
		}
	}
	return kindRow{}
}

// Version is the current code version of the kind; 0 for an unknown kind.
func (k Kind) Version() int { return k.row().version }

// Activity is the name of the activity that executes stages of the kind; "" for
// an unknown kind.
func (k Kind) Activity() string { return k.row().activity }

// kindOf finds the kind whose parameters p are.
func kindOf(p any) (kindRow, error) {
	table := kinds()
	i := slices.IndexFunc(table, func(row kindRow) bool { return reflect.TypeOf(row.params) == reflect.TypeOf(p) })
	if i < 0 {
		return kindRow{}, fmt.Errorf("no kind of stage has parameters of type %T", p)
	}
	return table[i], nil
}

// The parameters of each kind: what a stage needs to know besides its inputs.
// Only what influences the stage's result is in here; what does not apply is
// zeroed, so that it cannot change a fingerprint.

// FileDigest names one source file by content.
type FileDigest struct {
	Name   string `json:"name"`   // base name, not the path: moved data are the same data
	SHA256 string `json:"sha256"` // lower-case hex; empty: the file was not there when planned
	Bytes  int64  `json:"bytes"`
}

// CorpusLayout says how a corpus' files are to be read.
type CorpusLayout string

const (
	LayoutFile  CorpusLayout = "file"  // one ESConv JSON file, to be split
	LayoutSplit CorpusLayout = "split" // train.json, valid.json and test.json
)

// CorpusParams: dialogues in, splits out.
type CorpusParams struct {
	Layout CorpusLayout `json:"layout"`
	Files  []FileDigest `json:"files"` // sorted by name
	// SplitIndex is the digest of the index file; zero: none.
	SplitIndex FileDigest `json:"split_index"`
	// SplitSeed and SplitRatio are zero where the files or the index decide.
	SplitSeed    uint64 `json:"split_seed"`
	SplitRatio   [3]int `json:"split_ratio"`
	MaxDialogues int    `json:"max_dialogues"` // of each split; 0: all
	// Strategies and Consecutive: see Corpus; absent for ESConv's own way.
	Strategies  map[string]string `json:"strategies,omitempty"`
	Consecutive Consecutive       `json:"consecutive,omitempty"`
}

// ModelParams is what every stage that runs a model has in common.
type ModelParams struct {
	Engine     Engine  `json:"engine"` // as spelled in the experiment
	Prompts    Prompts `json:"prompts"`
	Packing    Packing `json:"packing"`
	MaxTokens  int     `json:"max_tokens"`
	Longer     Longer  `json:"longer"`
	PackTokens int     `json:"pack_tokens"`
	// BaseType is how the base model is kept; "" is float32, so that stages
	// from before there was a choice keep their fingerprints.
	BaseType DType `json:"base_type,omitempty"`
	// HistoryStrategies is strip where a planner or a generator is run without past
	// strategies; absent elsewhere.
	HistoryStrategies HistoryStrategies `json:"history_strategies,omitempty"`
}

// RolePrompts are the prompts of the roles' models.
func (m ModelParams) RolePrompts() (esc.Prompts, error) {
	p, err := esc.BuiltinPrompts(string(m.Prompts))
	if err == nil && m.HistoryStrategies == HistoryStrip {
		p = p.WithoutPastStrategies()
	}
	return p, err
}

// BaseParams: a checkpoint to import (Files) or a tiny model to pretrain (Tiny).
// ModelParams and Seed are zero for an import.
type BaseParams struct {
	ModelParams
	Seed  uint64       `json:"seed"`
	Files []FileDigest `json:"files"` // sorted by name; empty with Tiny
	Tiny  *Tiny        `json:"tiny"`
}

// SFTParams trains one role's adapter.
type SFTParams struct {
	ModelParams
	Training
	Role         esc.Role `json:"role"`
	Seed         uint64   `json:"seed"`
	LearningRate float64  `json:"learning_rate"`
	LoRA         LoRA     `json:"lora"`
	Batching     Batching `json:"batching,omitempty"` // "" is neighbours
}

// Sampling says how replies are decoded.
type Sampling struct {
	Greedy      bool    `json:"greedy"`
	Temperature float64 `json:"temperature"` // zero when greedy
	TopP        float64 `json:"top_p"`       // zero when greedy
	TopK        int     `json:"top_k,omitempty"`
	// RepetitionPenalty is zero for none, which is 1.
	RepetitionPenalty float64 `json:"repetition_penalty,omitempty"`
	MaxNewTokens      int     `json:"max_new_tokens"`
	DecodeBatch       int     `json:"decode_batch"`
}

// planLimit bounds the tokens of the planner's answer: a strategy and no more.
const planLimit = 16

// Planning is how the planner of a decoupled system is sampled.
func (s Sampling) Planning() Sampling {
	s.MaxNewTokens = min(s.MaxNewTokens, planLimit)
	return s
}

// JudgeModel is who judges; all but Judge is zero for the offline judge.
type JudgeModel struct {
	Judge       JudgeKind `json:"judge"`
	Model       string    `json:"model"`
	BaseURL     string    `json:"base_url"`
	Temperature float64   `json:"temperature"`
	Protocol    Protocol  `json:"protocol,omitempty"` // absent: joint
	// Prompts are the texts of judge.prompts by their files' names; absent for
	// the program's own, for which BuiltinPrompts stands. An empty text is
	// one that was not there when planned.
	Prompts map[string]string `json:"prompts,omitempty"`
	// BuiltinPrompts is JudgePromptsVersion where the program's own prompts are asked.
	BuiltinPrompts int `json:"builtin_prompts,omitempty"`
}

// JudgePromptsVersion is the version of the program's own prompts for language
// models that judge. Raising it has all be judged anew that they judge, and
// nothing that the offline judge or prompts of a user's own do.
const JudgePromptsVersion = 1

// MineParams draws samples from one role's SFT model on the train split and
// routes what went wrong into pairs.
type MineParams struct {
	ModelParams
	Sampling
	Role     esc.Role   `json:"role"`
	Seed     uint64     `json:"seed"`
	Samples  int        `json:"samples"`   // per turn
	MaxTurns int        `json:"max_turns"` // 0: all
	Caps     ErrorCaps  `json:"caps"`
	Judge    JudgeModel `json:"label_by"` // labels psychological errors; zero for sp, whose error is the strategy itself
}

// ReferenceParams computes the SFT model's log-probabilities of every mined
// pair of one role, once for all losses, betas and pair sets.
type ReferenceParams struct {
	ModelParams
	Role esc.Role `json:"role"`
}

// DPOParams trains one role's adapter further on its pairs.
type DPOParams struct {
	ModelParams
	Training
	Role           esc.Role    `json:"role"`
	PairSet        esc.PairSet `json:"pair_set"` // "all" for sp and rg
	Seed           uint64      `json:"seed"`
	LearningRate   float64     `json:"learning_rate"`
	Loss           Loss        `json:"loss"`
	Beta           float64     `json:"beta"`
	LabelSmoothing float64     `json:"label_smoothing"`
	SimPOGamma     float64     `json:"simpo_gamma"` // zero unless loss is simpo
	// Of loss kto alone, and never zero there: "kto" without them is what is
	// kto_pair now.
	DesirableWeight   float64  `json:"desirable_weight,omitempty"`
	UndesirableWeight float64  `json:"undesirable_weight,omitempty"`
	SFTWeight         float64  `json:"sft_weight,omitempty"`
	Batching          Batching `json:"batching,omitempty"` // "" is neighbours
	LoRA              LoRA     `json:"lora"`
}

// GenerateParams writes a reply for each test turn with one system of Table 3.
type GenerateParams struct {
	ModelParams
	Sampling
	Paradigm Paradigm    `json:"paradigm"`
	Method   Method      `json:"method"`
	PairSet  esc.PairSet `json:"pair_set"` // of the vanilla model's dpo; "" elsewhere
	Seed     uint64      `json:"seed"`     // zero when greedy and every turn is taken
	MaxTurns int         `json:"max_turns"`
	// Strategy is constrained, or absent: where it is free, given, or found by a prompt baseline in steps.
	Strategy StrategyChoice `json:"strategy,omitempty"`
}

// StrategiesParams scores the eight strategies at the test turns that a system
// replies to, by the model that chooses them.
type StrategiesParams struct {
	ModelParams
	Role     esc.Role `json:"role"`      // vm or sp
	Seed     uint64   `json:"seed"`      // zero when every turn is taken
	MaxTurns int      `json:"max_turns"` // as in GenerateParams
}

// AnchorParams replies to the test turns that the systems reply to, without a
// system.
type AnchorParams struct {
	Reply    string `json:"reply,omitempty"` // of MethodCanned
	Method   Method `json:"method"`          // one of Anchors
	Seed     uint64 `json:"seed"`            // zero where nothing is drawn
	MaxTurns int    `json:"max_turns"`       // as in GenerateParams
}

// ScoreParams: automatic metrics have none.
type ScoreParams struct{}

// JudgeParams scores a generation's replies.
type JudgeParams struct {
	JudgeModel
	Samples int    `json:"samples"` // 0: all
	Seed    uint64 `json:"seed"`    // zero when all are judged
}

// BiasParams: preference bias and strategy F1 have none.
type BiasParams struct{}

// PreferParams asks the judge which of two systems' replies it prefers.
type PreferParams struct {
	JudgeModel
	First   string `json:"first"` // names of the systems, which the result carries
	Second  string `json:"second"`
	Samples int    `json:"samples"` // turns; 0: all
	Seed    uint64 `json:"seed"`    // zero when all are compared
}

// QualityParams scores the chosen and the rejected responses of a role's pairs
// (Table 2).
type QualityParams struct {
	JudgeModel
	Role    esc.Role `json:"role"`
	Samples int      `json:"samples"` // pairs; 0: all
	Seed    uint64   `json:"seed"`    // zero when all are scored
}

// ReportParams puts the results beside the paper's; only here does the
// experiment's name count.
type ReportParams struct {
	Name      string        `json:"name"`
	Backbone  string        `json:"backbone"`
	Seed      uint64        `json:"seed"`
	Engine    Engine        `json:"engine"`
	Paradigms []Paradigm    `json:"paradigms"` // in the tables' order
	Methods   []Method      `json:"methods"`   // in Table 3's order; Systems says which paradigm has which
	PairSets  []esc.PairSet `json:"pair_sets"` // of the vanilla model's dpo; empty without
	// Seeds are those of an experiment with several, Seed being the first of
	// them; absent for one, so that its report keeps its fingerprint.
	Seeds []uint64 `json:"seeds,omitempty"`
	// AlsoJudged names the judges of judge.also.
	AlsoJudged []string `json:"also_judged,omitempty"`
}
