package experiments

import (
	"fmt"

	"github.com/esclab/esclab/esc"
)

// Experiment is one YAML file: what to train, mine, generate and judge, on
// which corpus, with which hyperparameters. Defaults gives every field that
// has one; Validate lists all that is wrong.
type Experiment struct {
	// Name stands in reports and in run names: lower-case letters, digits, '.', '_' and '-'.
	Name string `yaml:"name" json:"name"`
	// Seed is the root of every random counter but the corpus split's.
	Seed uint64 `yaml:"seed" json:"seed"`
	// Seeds runs the whole experiment once with each of these seeds in the place
	// of Seed, under one report; empty: with Seed alone.
	Seeds []uint64 `yaml:"seeds" json:"seeds"`
	// Engine computes the graphs.
	Engine Engine `yaml:"engine" json:"engine"`

	Corpus     Corpus     `yaml:"corpus" json:"corpus"`
	Backbone   Backbone   `yaml:"backbone" json:"backbone"`
	LoRA       LoRA       `yaml:"lora" json:"lora"`
	SFT        SFT        `yaml:"sft" json:"sft"`
	Mining     Mining     `yaml:"mining" json:"mining"`
	DPO        DPO        `yaml:"dpo" json:"dpo"`
	Generation Generation `yaml:"generation" json:"generation"`
	Judge      Judge      `yaml:"judge" json:"judge"`

	// Paradigms and Methods span the rows of Table 3 that are run.
	Paradigms []Paradigm `yaml:"paradigms" json:"paradigms"`
	Methods   []Method   `yaml:"methods" json:"methods"`

	// Packing says how sequences become batches.
	Packing Packing `yaml:"packing" json:"packing"`
	// Batching says which of them come together.
	Batching   Batching   `yaml:"batching" json:"batching"`
	Limits     Limits     `yaml:"limits" json:"limits"`
	Checkpoint Checkpoint `yaml:"checkpoint" json:"checkpoint"`
	// Memory says what a training keeps of its way there for the way back. It changes no result and is no part of any
	// fingerprint.
	Memory Memory `yaml:"memory" json:"memory"`
}

// Corpus says where the dialogues come from and how they are split.
type Corpus struct {
	// Source is "demo", "esconv", a file in ESConv's format (a JSON list or JSON
	// lines), or a directory with train.json, valid.json and test.json. A relative path
	// is relative to the working directory.
	Source string `yaml:"source" json:"source"`
	// Split divides a single file; a directory is already divided.
	Split Split `yaml:"split" json:"split"`
	// MaxDialogues keeps at most this many dialogues of each split, the first
	// ones; 0 keeps all.
	MaxDialogues int `yaml:"max_dialogues" json:"max_dialogues"`
	// Strategies gives names that are none of ESConv's eight one of them, ""
	// for a supporter's utterance without a strategy. Any other name is an error.
	Strategies StrategyMap `yaml:"strategies" json:"strategies"`
	// Consecutive says what becomes of a supporter's consecutive utterances.
	Consecutive Consecutive `yaml:"consecutive" json:"consecutive"`
}

// Split divides the dialogues of one file into train, valid and test.
type Split struct {
	// Seed of the shuffle; apart from the experiment's, so that several seeds
	// train on one split.
	Seed uint64 `yaml:"seed" json:"seed"`
	// Ratio of train : valid : test: the paper's 8:1:1. Any other division
	// comes from Index or from a directory.
	Ratio [3]int `yaml:"ratio" json:"ratio"`
	// Index is a JSON file with the dialogues' indices per split; it replaces
	// Seed and Ratio. Empty: none.
	Index string `yaml:"index" json:"index"`
}

// Backbone is the base language model: a Hugging Face checkpoint (Path) or a
// Llama that is pretrained here (Tiny). Exactly one of the two.
type Backbone struct {
	// Name of the backbone in reports; the paper's names find the paper's figures.
	Name string `yaml:"name" json:"name"`
	// Path of a directory with config.json, tokenizer.json and safetensors, of a
	// GGUF file, or the model's name on the Hugging Face hub, found in the hub's cache: see
	// FindCheckpoint. s3://bucket/prefix names objects in a bucket.
	Path string `yaml:"path" json:"path"`
	// DType is how the base model's matrices are kept: float32 or bfloat16.
	DType DType `yaml:"dtype" json:"dtype"`
	// Tiny describes a Llama to train from nothing on the train split.
	Tiny *Tiny `yaml:"tiny" json:"tiny"`
	// Prompts is the wording of the system prompts, and what the models are given.
	Prompts Prompts `yaml:"prompts" json:"prompts"`
	// HistoryStrategies says whether the planner and the generator see past strategies.
	HistoryStrategies HistoryStrategies `yaml:"history_strategies" json:"history_strategies"`
}

// Tiny is the shape of a small Llama and how it is pretrained.
type Tiny struct {
	VocabSize        int `yaml:"vocab_size" json:"vocab_size"`               // BPE tokens, specials included
	HiddenSize       int `yaml:"hidden_size" json:"hidden_size"`             // width of the residual stream
	Layers           int `yaml:"layers" json:"layers"`                       // transformer blocks
	Heads            int `yaml:"heads" json:"heads"`                         // query heads; head size = hidden_size / heads, even
	KVHeads          int `yaml:"kv_heads" json:"kv_heads"`                   // key and value heads; divides heads
	IntermediateSize int `yaml:"intermediate_size" json:"intermediate_size"` // width of the gated MLP
	MaxPositions     int `yaml:"max_positions" json:"max_positions"`         // longest sequence in tokens

	Pretrain Pretrain `yaml:"pretrain" json:"pretrain"`
}

// Parameters counts the weights of the model, embeddings tied.
func (t Tiny) Parameters() int {
	head := 0
	if t.Heads > 0 {
		head = t.HiddenSize / t.Heads
	}
	attention := 2*t.HiddenSize*t.Heads*head + 2*t.HiddenSize*t.KVHeads*head
	mlp := 3 * t.HiddenSize * t.IntermediateSize
	return t.VocabSize*t.HiddenSize + t.Layers*(attention+mlp+2*t.HiddenSize) + t.HiddenSize
}

// Training is what every training stage says about its optimizer (AdamW).
type Training struct {
	Epochs      int      `yaml:"epochs" json:"epochs"`               // passes over the data
	MaxSteps    int      `yaml:"max_steps" json:"max_steps"`         // stop after so many optimizer steps; 0: after the epochs
	BatchSize   int      `yaml:"batch_size" json:"batch_size"`       // sequences (SFT) or pairs (DPO) per optimizer step
	Schedule    Schedule `yaml:"schedule" json:"schedule"`           // learning rate after the warm-up
	WarmupRatio float64  `yaml:"warmup_ratio" json:"warmup_ratio"`   // share of the steps with a rising learning rate
	WeightDecay float64  `yaml:"weight_decay" json:"weight_decay"`   // decoupled, on matrices alone
	MaxGradNorm float64  `yaml:"max_grad_norm" json:"max_grad_norm"` // global-norm clipping; 0: none
}

// Pretrain trains a tiny backbone's every weight on the train split.
type Pretrain struct {
	Training     `yaml:",inline"`
	LearningRate float64 `yaml:"learning_rate" json:"learning_rate"`
}

// LoRA is the adapter that SFT and DPO train (appendix D.1).
type LoRA struct {
	Rank    int      `yaml:"rank" json:"rank"`
	Alpha   float64  `yaml:"alpha" json:"alpha"`     // scale = alpha / rank, or alpha / sqrt(rank) with rslora
	Dropout float64  `yaml:"dropout" json:"dropout"` // on the adapter's input, while training
	Targets []string `yaml:"targets" json:"targets"` // linear layers by their Hugging Face names
	RSLoRA  bool     `yaml:"rslora" json:"rslora"`
}

// SFT is supervised fine-tuning, the loss on the assistant's tokens alone
// (equations 3 and 4).
type SFT struct {
	Training     `yaml:",inline"`
	LearningRate float64  `yaml:"learning_rate" json:"learning_rate"`
	Roles        SFTRoles `yaml:"roles" json:"roles"`
}

// SFTRoles holds what differs per role.
type SFTRoles struct {
	VM SFTOverride `yaml:"vm" json:"vm"`
	SP SFTOverride `yaml:"sp" json:"sp"`
	RG SFTOverride `yaml:"rg" json:"rg"`
}

// SFTOverride replaces SFT's values for one role; 0 keeps them.
type SFTOverride struct {
	Epochs       int     `yaml:"epochs" json:"epochs"`
	LearningRate float64 `yaml:"learning_rate" json:"learning_rate"`
	BatchSize    int     `yaml:"batch_size" json:"batch_size"`
}

// For resolves a role's overrides: the result has none left.
func (s SFT) For(r esc.Role) SFT {
	var o SFTOverride
	switch r {
	case esc.VM:
		o = s.Roles.VM
	case esc.SP:
		o = s.Roles.SP
	case esc.RG:
		o = s.Roles.RG
	}
	s.Roles = SFTRoles{}
	if o.Epochs != 0 {
		s.Epochs = o.Epochs
	}
	if o.LearningRate != 0 {
		s.LearningRate = o.LearningRate
	}
	if o.BatchSize != 0 {
		s.BatchSize = o.BatchSize
	}
	return s
}

// Mining is Inferential Preference Mining (section 4.1): the SFT models answer
// the train split, and what goes wrong becomes the rejected side of a pair.
type Mining struct {
	Temperature  float64 `yaml:"temperature" json:"temperature"`
	TopP         float64 `yaml:"top_p" json:"top_p"`
	MaxNewTokens int     `yaml:"max_new_tokens" json:"max_new_tokens"`
	// Samples drawn per turn and role.
	Samples Samples `yaml:"samples" json:"samples"`
	// MaxTurns mines at most this many train turns, whole dialogues drawn by the
	// seed; 0: all.
	MaxTurns int `yaml:"max_turns" json:"max_turns"`
	// Caps keep at most so many pairs.
	Caps ErrorCaps `yaml:"caps" json:"caps"`
	// Judge labels the samples and filters the pairs; nil: the experiment's judge.
	Judge *Judging `yaml:"judge" json:"judge,omitempty"`
}

// Samples counts the samples per turn of each role.
type Samples struct {
	VM int `yaml:"vm" json:"vm"`
	SP int `yaml:"sp" json:"sp"`
	RG int `yaml:"rg" json:"rg"`
}

// For gives the role's number.
func (s Samples) For(r esc.Role) int {
	switch r {
	case esc.VM:
		return s.VM
	case esc.SP:
		return s.SP
	case esc.RG:
		return s.RG
	}
	return 0
}

// ErrorCaps bounds the pairs of a turn, and of each psychological error that
// makes pairs (emotion misread is counted alone); 0 is no bound.
type ErrorCaps struct {
	PerTurn           int `yaml:"per_turn" json:"per_turn"`
	StrategyMismatch  int `yaml:"strategy_mismatch" json:"strategy_mismatch"`
	LackOfEmpathy     int `yaml:"lack_of_empathy" json:"lack_of_empathy"`
	EarlyEmotionShift int `yaml:"early_emotion_shift" json:"early_emotion_shift"`
	TemplateResponse  int `yaml:"template_response" json:"template_response"`
}

// DPO is preference optimisation; the reference is always the SFT model.
type DPO struct {
	Training `yaml:",inline"`
	Loss     Loss `yaml:"loss" json:"loss"`
	// LabelSmoothing is the assumed share of swapped pairs (loss dpo alone), below 0.5.
	LabelSmoothing float64 `yaml:"label_smoothing" json:"label_smoothing"`
	// SFTWeight adds so much of the chosen answer's mean negative log-probability a token to its pair's loss.
	SFTWeight float64 `yaml:"sft_weight" json:"sft_weight"`
	// SimPOGamma is the target margin of loss simpo; nil: half of beta.
	SimPOGamma *float64 `yaml:"simpo_gamma" json:"simpo_gamma"`
	// DesirableWeight and UndesirableWeight weigh the chosen and the rejected answers of loss kto.
	DesirableWeight   float64 `yaml:"desirable_weight" json:"desirable_weight"`
	UndesirableWeight float64 `yaml:"undesirable_weight" json:"undesirable_weight"`
	// Roles holds each role's learning rate and beta (Table 7); 0 is the loss's own, see DPO.For.
	Roles DPORoles `yaml:"roles" json:"roles"`
	// PairSets trains the vanilla model once on each of these sets (Table 5).
	PairSets []esc.PairSet `yaml:"pair_sets" json:"pair_sets"`
}

// DPORoles holds what Table 7 gives per role.
type DPORoles struct {
	VM DPORole `yaml:"vm" json:"vm"`
	SP DPORole `yaml:"sp" json:"sp"`
	RG DPORole `yaml:"rg" json:"rg"`
}

// For gives the role's values.
func (d DPORoles) For(r esc.Role) DPORole {
	switch r {
	case esc.VM:
		return d.VM
	case esc.SP:
		return d.SP
	case esc.RG:
		return d.RG
	}
	return DPORole{}
}

// DPORole is one row of Table 7.
type DPORole struct {
	LearningRate float64 `yaml:"learning_rate" json:"learning_rate"`
	Beta         float64 `yaml:"beta" json:"beta"` // strength of the tie to the reference
}

// Generation writes one reply per turn of the test split.
type Generation struct {
	Greedy      bool    `yaml:"greedy" json:"greedy"` // the likeliest token; temperature, top_p and top_k are then unused
	Temperature float64 `yaml:"temperature" json:"temperature"`
	TopP        float64 `yaml:"top_p" json:"top_p"`
	TopK        int     `yaml:"top_k" json:"top_k"` // the so many likeliest tokens; 0: all
	// RepetitionPenalty makes tokens of the prompt and the reply less likely, as in transformers; 1: none.
	RepetitionPenalty float64 `yaml:"repetition_penalty" json:"repetition_penalty"`
	MaxNewTokens      int     `yaml:"max_new_tokens" json:"max_new_tokens"`
	MaxTurns          int     `yaml:"max_turns" json:"max_turns"` // at most this many test turns, drawn by the seed; 0: all
	// Strategy says how a reply comes by its strategy.
	Strategy StrategyChoice `yaml:"strategy" json:"strategy"`
}

// Judge scores replies and labels their psychological errors; in mining, too,
// unless Mining has a judge of its own.
type Judge struct {
	Judging `yaml:",inline"`
	// Samples judged per generation, compared per comparison and, of the mined
	// pairs, scored, drawn by the seed; 0: all.
	Samples int `yaml:"samples" json:"samples"`
	// Compare lists pairs of systems by their names; the judge says whose reply
	// to a turn it prefers. Pairs of which one is not run are left out.
	Compare [][2]string `yaml:"compare" json:"compare"`
	// Also judge the same replies and pairs, side by side with the judge.
	Also []NamedJudge `yaml:"also" json:"also,omitempty"`
}

// NamedJudge is a judge besides the experiment's own.
type NamedJudge struct {
	Name    string `yaml:"name" json:"name"` // of its stages, and in the report
	Judging `yaml:",inline"`
}

// Judging says who judges, and how it is asked.
type Judging struct {
	Kind JudgeKind `yaml:"kind" json:"kind"`
	// All that follows belongs to kind openai.
	Protocol Protocol `yaml:"protocol" json:"protocol"`
	Model    string   `yaml:"model" json:"model"`
	BaseURL  string   `yaml:"base_url" json:"base_url"`
	// APIKeyEnv proposes the environment variable with the endpoint's key, never
	// the key. A worker sends what its own settings pair with the endpoint; this
	// name goes no further than the settings of whoever starts the run.
	APIKeyEnv   string  `yaml:"api_key_env" json:"-"`
	Temperature float64 `yaml:"temperature" json:"temperature"`
	// Prompts is a directory with prompts of one's own; empty: those of the
	// program. A relative path is relative to the working directory.
	Prompts string `yaml:"prompts" json:"prompts"`

	JudgeAccess `yaml:",inline"`
}

// JudgeAt is a judge of an experiment with the YAML path of its section.
type JudgeAt struct {
	Path string
	Judging
}

// Judges lists the experiment's judges: its own, mining's where that is another,
// and those that judge besides.
func (e Experiment) Judges() []JudgeAt {
	all := []JudgeAt{{"judge", e.Judge.Judging}}
	if e.Mining.Judge != nil {
		all = append(all, JudgeAt{"mining.judge", *e.Mining.Judge})
	}
	for i, j := range e.Judge.Also {
		all = append(all, JudgeAt{fmt.Sprintf("judge.also[%d]", i), j.Judging})
	}
	return all
}

// JudgeAccess says how the judge's endpoint is asked. It changes no result and
// is no part of any fingerprint.
type JudgeAccess struct {
	Concurrency       int `yaml:"concurrency" json:"concurrency"`                 // requests in flight
	RequestsPerMinute int `yaml:"requests_per_minute" json:"requests_per_minute"` // 0: no limit
	TokensPerMinute   int `yaml:"tokens_per_minute" json:"tokens_per_minute"`     // 0: no limit
	TimeoutSeconds    int `yaml:"timeout_seconds" json:"timeout_seconds"`         // of one request
	Repairs           int `yaml:"repairs" json:"repairs"`                         // how often a reply out of form is asked for again
	// MaxUnjudged is the share of a stage's texts that may stay without a
	// verdict, because the model declines or keeps to no form; more fail it.
	MaxUnjudged float64     `yaml:"max_unjudged" json:"max_unjudged"`
	Budget      JudgeBudget `yaml:"budget" json:"budget"`
	Price       JudgePrice  `yaml:"price" json:"price"`
}

// JudgeBudget bounds what one stage spends; 0 is no bound.
type JudgeBudget struct {
	Calls  int     `yaml:"calls" json:"calls"`   // requests, those that failed included
	Tokens int     `yaml:"tokens" json:"tokens"` // of prompts and replies
	Money  float64 `yaml:"money" json:"money"`   // in the prices' currency
}

// JudgePrice is what a million tokens cost.
type JudgePrice struct {
	Input  float64 `yaml:"input" json:"input"`
	Output float64 `yaml:"output" json:"output"`
}

// Limits bound sequences and batches.
type Limits struct {
	// MaxTokens of one sequence, answer included.
	MaxTokens int `yaml:"max_tokens" json:"max_tokens"`
	// Longer says what happens to a longer one.
	Longer Longer `yaml:"longer" json:"longer"`
	// PackTokens bounds the tokens of one packed batch, and with it the
	// memory; an optimizer step adds up as many as it needs.
	PackTokens int `yaml:"pack_tokens" json:"pack_tokens"`
	// DecodeBatch is how many replies are decoded side by side.
	DecodeBatch int `yaml:"decode_batch" json:"decode_batch"`
}

// Checkpoint says how often an unfinished stage saves its state. It changes no
// result and is no part of any fingerprint.
type Checkpoint struct {
	EverySteps   int `yaml:"every_steps" json:"every_steps"`     // 0: not by steps
	EverySeconds int `yaml:"every_seconds" json:"every_seconds"` // 0: not by time
	Keep         int `yaml:"keep" json:"keep"`                   // newest checkpoints kept per stage
}
