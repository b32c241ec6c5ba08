// Package lm trains and runs decoder-only language models (Llama, Qwen2) as GoMLX graphs: configuration and
// weights in Hugging Face's layout, LoRA adapters in PEFT's, prefix-tree packing, SFT and preference losses,
// AdamW, a trainer that resumes bit-identically, log-probabilities and generation. Text becomes token ids in lm/tokens.
//
// It knows nothing of where its inputs come from: directories and readers in, typed values and errors out.
// Token ids are int32. Panics of graph code are recovered at one border (program) and returned as errors.
//
// # Training
//
//	engine, err := lm.EngineOptions{}.Open("auto")
//	model, err := lm.LoadModel("base/")                         // or lm.NewModel(config, seed)
//	adapter, err := lm.NewAdapter(model.Config, lm.LoRA{Rank: 16, Alpha: 16, Dropout: 0.05}, seed)
//	data := lm.Dataset{Examples: []lm.Example{
//		{Group: "7", Sequences: []lm.Sequence{{Tokens: ids, LossFrom: k}}},           // SFT: one sequence
//		{Group: "7", Sequences: []lm.Sequence{chosen, rejected}, Reference: refSums}, // DPO: a pair
//	}}
//	trainer, err := lm.NewTrainer(engine, model, adapter, data, lm.TrainConfig{
//		Loss: lm.Loss{Kind: lm.LossSFT}, BatchSize: 32, Epochs: 3, LearningRate: 1e-4,
//		Schedule: lm.ScheduleCosine, WarmupRatio: 0.1, ClipNorm: 1, Seed: 1,
//	})
//	defer trainer.Close()
//	err = trainer.Restore(r)                                    // from a checkpoint, optional
//	for trainer.Step() < trainer.Steps() {
//		metrics, err := trainer.Next(ctx)                       // StepMetrics
//		err = trainer.Save(w)                                   // whenever a checkpoint is due
//	}
//	adapter, err = trainer.Adapter()                            // or trainer.Model() when adapter was nil
//	err = adapter.Save("adapter/", "base/")                     // PEFT's layout; model.Save(dir) for Hugging Face's
//
// Examples of one Group (a dialogue) share prefixes and are packed into one prefix tree; BatchSize counts examples.
//
// adapter.MergeFiles adds an adapter into a model's files, for what loads no adapters; Diverge says what the rounding of
// the sum has cost.
//
// # Log-probabilities
//
//	scores, err := lm.LogProbs(ctx, engine, model, adapter, examples, lm.LogProbsOptions{})
//	sum := scores[i][j].Sum()                                   // of example i, sequence j
//
// computes them by the same graph as training does (NewScorer keeps compiled graphs between calls), so that a
// policy that equals its reference has a preference loss of log 2 at step 0.
//
// # Determinism
//
// On one engine, its version and one machine type, the same inputs give the same bytes, whatever was interrupted in
// between. Randomness (initial weights, order of dialogues, dropout) comes from counters derived from a seed, the
// epoch or step and a name.
package lm
