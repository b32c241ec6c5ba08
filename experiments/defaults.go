package experiments

import "github.com/esclab/esclab/esc"

// Defaults is the experiment a YAML file is read onto: the paper's values
// (section 6.1, appendix D.1, Table 7 for Qwen2.5-7B) where it gives them.
// Name, corpus.source and the backbone have no default.
func Defaults() Experiment {
	training := Training{
		Epochs: 3, BatchSize: 32,
		Schedule: ScheduleCosine, WarmupRatio: 0.1, MaxGradNorm: 1,
	}
	dpo := training
	dpo.Epochs = 1
	return Experiment{
		Seed:   42,
		Seeds:  []uint64{},
		Engine: EngineAuto,
		Corpus: Corpus{
			Split:      Split{Seed: 42, Ratio: [3]int{8, 1, 1}},
			Strategies: StrategyMap{}, Consecutive: ConsecutiveKeep,
		},
		Backbone: Backbone{
			DType:   DTypeFloat32,
			Prompts: PromptsFull, HistoryStrategies: HistoryKeep,
		},
		LoRA: LoRA{Rank: 16, Alpha: 16, Dropout: 0.05, Targets: LoRATargets()},
		SFT:  SFT{Training: training, LearningRate: 1e-5},
		Mining: Mining{
			Temperature: 0.7, TopP: 0.95, MaxNewTokens: 128,
			Samples: Samples{VM: 1, SP: 1, RG: 4},
		},
		DPO: DPO{
			Training: dpo,
			Loss:     LossDPO,
			// Of kto: both sides count alike, as in TRL. Learning rates and betas are the loss's own: see losses.
			DesirableWeight: 1, UndesirableWeight: 1,
			PairSets: []esc.PairSet{esc.PairsAll},
		},
		Generation: Generation{Temperature: 0.7, TopP: 0.95, RepetitionPenalty: 1, MaxNewTokens: 128, Strategy: StrategyFree},
		Judge:      Judge{Judging: defaultJudging(), Compare: [][2]string{{"decoupled/dpo", "vanilla/dpo"}}, Also: []NamedJudge{}},
		Paradigms:  []Paradigm{Vanilla, Decoupled},
		Methods:    []Method{MethodBase, MethodSFT, MethodDPO},
		Packing:    PackTree,
		Batching:   BatchNeighbours,
		Limits:     Limits{MaxTokens: 2048, Longer: LongerTrim, PackTokens: 4096, DecodeBatch: 16},
		Checkpoint: Checkpoint{EverySteps: 50, EverySeconds: 60, Keep: 2},
		Memory:     MemoryAuto,
	}
}

// defaultJudging fills what a judge's section leaves out.
func defaultJudging() Judging {
	return Judging{Kind: JudgeOffline, Protocol: ProtocolJoint, JudgeAccess: JudgeAccess{
		Concurrency: 4, TimeoutSeconds: 120, Repairs: 2, MaxUnjudged: 0.01,
	}}
}

// defaultTiny fills what a `tiny:` block leaves out.
func defaultTiny() Tiny {
	return Tiny{
		VocabSize: 4096, HiddenSize: 128, Layers: 4, Heads: 4, KVHeads: 2,
		IntermediateSize: 344, MaxPositions: 512,
		Pretrain: Pretrain{
			Training: Training{
				Epochs: 3, BatchSize: 16,
				Schedule: ScheduleCosine, WarmupRatio: 0.05, WeightDecay: 0.1, MaxGradNorm: 1,
			},
			LearningRate: 2e-3,
		},
	}
}
