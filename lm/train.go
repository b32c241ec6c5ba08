package lm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// Dataset is what a Trainer learns from.
type Dataset struct {
	Examples   []Example
	Validation []Example // optional
}

// StepMetrics describes one optimizer step.
type StepMetrics struct {
	Step           int     // finished steps, this one included
	Epoch          float64 // finished passes over the data
	Loss           float64 // of the batch, before the update
	LearningRate   float64
	GradNorm       float64 // before clipping
	Samples        int     // examples of the batch
	Labels         int     // labelled tokens
	Tokens         int     // computed, each shared prefix once, without padding
	TokensPadded   int     // computed, padding included
	TokensUnpacked int     // of the sequences as they are
	MicroBatches   int
	Preference     *PreferenceMetrics // nil for sft
}

// ErrNonFinite says that a loss or gradient is NaN or infinite. The trainer stops there: its last checkpoint is good.
var ErrNonFinite = errors.New("not a finite number")

// ErrExploded says that the norm of a step's gradients is beyond any that a training recovers from.
var ErrExploded = errors.New("the gradients explode")

// explodedNorm is the gradient norm from which on a training counts as lost: losses are means over tokens or pairs,
// whose gradients have norms of up to a few thousand in the worst of healthy trainings. Clipping hides such a norm but
// keeps nothing of its direction.
const explodedNorm = 1e6

// DivergedError says at which step a training's numbers went wrong, of what, and on which examples. It wraps
// ErrNonFinite or ErrExploded.
type DivergedError struct {
	Metrics StepMetrics // of the step, as far as it came; Loss or GradNorm may be no number
	Batch   []int       // the step's examples
	Intact  bool        // the weights are those before the step, and Save still works
	Err     error
}

func (e *DivergedError) Error() string { return e.Err.Error() }
func (e *DivergedError) Unwrap() error { return e.Err }

// Trainer fine-tunes an adapter, or a whole model, on a data set. It is not safe for concurrent use. Everything it
// does is a function of its inputs and the step: two trainers made alike, or one restored from the other's state,
// take bit-identical steps on one engine and machine type.
type Trainer struct {
	engine  *Engine
	model   *Model
	adapter *Adapter // nil: all weights are trained
	config  TrainConfig
	data    Dataset

	planner   planner // of the training examples
	validator planner
	digest    string // of everything that decides the steps

	gradient, update, forward *program

	operands  operands // names in the order programs take them; tensors of the frozen ones
	trainable []int    // which operands are trained
	weights   []*tensors.Tensor
	first     []*tensors.Tensor // AdamW's moments
	second    []*tensors.Tensor
	sums      []*tensors.Tensor // gradients summed over micro-batches, zero between steps

	step     int
	epoch    int     // whose batches are cached
	order    [][]int // that epoch's batches
	perEpoch int
	failed   error
	intact   bool // whatever failed left the weights as they were before the step
}

// NewTrainer checks the inputs, plans the shapes of all steps and places the trained weights. With a nil adapter all
// the model's weights are trained (on a copy).
func NewTrainer(engine *Engine, model *Model, adapter *Adapter, data Dataset, config TrainConfig) (*Trainer, error) {
	config.MaxShapes = cmp.Or(config.MaxShapes, engine.mostShapes())
	if err := config.complete(); err != nil {
		return nil, err
	}
	if len(data.Examples) == 0 {
		return nil, errors.New("no training examples")
	}
	for _, part := range []struct {
		name     string
		examples []Example
	}{{"training", data.Examples}, {"validation", data.Validation}} {
		if err := checkExamples(part.examples, &model.Config); err != nil {
			return nil, fmt.Errorf("%s data: %w", part.name, err)
		}
		if err := config.Loss.check(part.examples); err != nil {
			return nil, fmt.Errorf("%s data: %w", part.name, err)
		}
	}
	t := &Trainer{engine: engine, model: model, adapter: adapter, config: config, data: data, epoch: -1}
	t.planner = t.newPlanner(data.Examples, true)
	if err := t.plan(&t.planner, config.Epochs); err != nil {
		return nil, err
	}
	if len(data.Validation) > 0 {
		t.validator = t.newPlanner(data.Validation, false)
		if err := t.plan(&t.validator, 1); err != nil {
			return nil, err
		}
	}
	t.perEpoch = (len(data.Examples) + config.BatchSize - 1) / config.BatchSize
	t.digest = t.inputDigest()
	if err := t.place(); err != nil {
		return nil, err
	}
	t.gradient = newProgram(engine, "gradient", t.buildGradient)
	t.update = newProgram(engine, "update", func(nodes []*graph.Node) []*graph.Node {
		return adamW(t.trainedNames(), config.WeightDecay, config.ClipNorm, nodes)
	})
	t.forward = newProgram(engine, "validation", t.buildForward)
	return t, t.fitMemory()
}

// plan chooses the shapes of all batches, and of kto's mismatched ones.
func (t *Trainer) plan(p *planner, epochs int) error {
	if t.config.Loss.Kind == LossKTO {
		mismatch := *p
		p.mismatch = &mismatch
		split := func(batch []int) []microBatch { _, micros := p.mismatched(batch); return micros }
		if err := p.mismatch.plan(context.Background(), epochs, t.config.MaxShapes, split); err != nil {
			return err
		}
	}
	return p.plan(context.Background(), epochs, t.config.MaxShapes, p.split)
}

func (t *Trainer) newPlanner(examples []Example, shuffle bool) planner {
	share := t.config.Packing == PackTree
	return planner{
		packer: packer{share: share, rowLimit: rowLimitOf(examples, t.config.RowTokens, share),
			maxTokens: t.config.MicroBatchTokens, cost: newCostModel(&t.model.Config)},
		examples: examples, batchSize: t.config.BatchSize, seed: t.config.Seed, shuffle: shuffle, batching: t.config.Batching,
		positions: t.model.Config.MaxPositionEmbeddings,
	}
}

// place copies the weights to be trained and makes room for moments and gradients.
func (t *Trainer) place() (err error) {
	parameters, base := t.model.Config.parameters(), t.engine
	if t.adapter != nil {
		parameters = t.adapter.Config.parameters(&t.model.Config)
	} else {
		base = nil // every weight is trained by itself
	}
	if t.operands, err = operandsOf(base, t.model, t.adapter); err != nil {
		return err
	}
	offset := len(t.operands.names) - len(parameters) // after the rope tables and what is not trained
	for i, p := range parameters {
		values, err := floats(t.operands.tensors[offset+i])
		if err != nil {
			return fmt.Errorf("weight %s: %w", p.name, err)
		}
		t.trainable = append(t.trainable, offset+i)
		t.weights = append(t.weights, tensors.FromFlatDataAndDimensions(values, p.shape...))
		t.first, t.second, t.sums = append(t.first, zeros(p.shape)), append(t.second, zeros(p.shape)), append(t.sums, zeros(p.shape))
	}
	return nil
}

// trainedNames lists the trained parameters.
func (t *Trainer) trainedNames() []string {
	names := make([]string, len(t.trainable))
	for i, o := range t.trainable {
		names[i] = t.operands.names[o]
	}
	return names
}

// Steps is the number of steps of the whole training.
func (t *Trainer) Steps() int {
	n := t.perEpoch * t.config.Epochs
	if t.config.MaxSteps > 0 {
		n = min(n, t.config.MaxSteps)
	}
	return n
}

// Engine is what the training runs on.
func (t *Trainer) Engine() *Engine { return t.engine }

// Step is the number of finished steps.
func (t *Trainer) Step() int { return t.step }

// Group is the group (the dialogue) of a training example.
func (t *Trainer) Group(example int) string { return t.data.Examples[example].Group }

// Shapes lists the shapes planned for all steps, and how many micro-batches use each.
func (t *Trainer) Shapes() []ShapeCount { return t.planner.report() }

// CompiledShapes is the number of graphs compiled so far.
func (t *Trainer) CompiledShapes() int {
	return t.gradient.shapes() + t.update.shapes() + t.forward.shapes()
}

// Close releases compiled graphs and the trainer's tensors.
func (t *Trainer) Close() {
	t.gradient.close()
	t.update.close()
	t.forward.close()
	for _, list := range [][]*tensors.Tensor{t.weights, t.first, t.second, t.sums} {
		release(list...)
	}
	t.failed, t.intact = errors.New("the trainer is closed"), false
}

// batch lists the examples of a step.
func (t *Trainer) batch(step int) []int {
	if epoch := step / t.perEpoch; epoch != t.epoch {
		t.epoch, t.order = epoch, t.planner.batches(epoch)
	}
	return t.order[step%t.perEpoch]
}

// inputs are all operands with the current trained weights among them.
func (t *Trainer) inputs() []input {
	list := slices.Clone(t.operands.tensors)
	for i, o := range t.trainable {
		list[o] = t.weights[i]
	}
	return keep(list...)
}

// Next takes one step: gradients summed over the batch's micro-batches, then one update. Cancelling ctx stops it
// before the next micro-batch, with the weights as they were.
func (t *Trainer) Next(ctx context.Context) (StepMetrics, error) {
	if t.failed != nil {
		return StepMetrics{}, t.failed
	}
	if t.step >= t.Steps() {
		return StepMetrics{}, fmt.Errorf("all %d steps are done", t.Steps())
	}
	m, err := t.next(ctx)
	if err != nil {
		err = fmt.Errorf("training step %d: %w", t.step+1, err)
		if errors.Is(err, ErrNonFinite) || errors.Is(err, ErrExploded) {
			err = &DivergedError{Metrics: m, Batch: t.batch(t.step), Intact: t.intact, Err: err}
		}
		if ctx.Err() == nil {
			t.failed = err
		}
	}
	return m, err
}

func (t *Trainer) next(ctx context.Context) (StepMetrics, error) {
	batch := t.batch(t.step)
	m := StepMetrics{Step: t.step + 1, Epoch: float64(t.step+1) / float64(t.perEpoch), Samples: len(batch),
		LearningRate: t.config.learningRate(t.step, t.Steps())}
	if err := t.accumulate(ctx, batch, &m); err != nil {
		t.clearSums()
		t.intact = true
		return m, err
	}
	t.intact = false
	n := len(t.weights)
	hyper := tensors.FromFlatDataAndDimensions(t.config.hyper(t.step, t.Steps()), 3)
	inputs := slices.Concat(donate(t.weights...), donate(t.first...), donate(t.second...), donate(t.sums...), keep(hyper))
	out, err := t.update.run(inputs)
	if err != nil {
		return m, err
	}
	t.weights, t.first, t.second, t.sums = out[1:1+n], out[1+n:1+2*n], out[1+2*n:1+3*n], out[1+3*n:]
	if m.GradNorm, err = scalar(out[0]); err != nil {
		return m, err
	}
	release(hyper, out[0])
	if !finite(m.GradNorm) {
		return m, fmt.Errorf("gradient norm %v: %w", m.GradNorm, ErrNonFinite)
	}
	if m.GradNorm > explodedNorm {
		return m, fmt.Errorf("gradient norm %.3g, more than %.0e: %w", m.GradNorm, float64(explodedNorm), ErrExploded)
	}
	t.step++
	return m, nil
}

// accumulate sums the gradients of a batch's micro-batches and fills the metrics in.
func (t *Trainer) accumulate(ctx context.Context, batch []int, m *StepMetrics) error {
	scale := batchScale(t.config.Loss, t.data.Examples, batch)
	micros := t.planner.split(batch)
	kl, err := t.batchKL(ctx, &t.planner, batch, micros)
	if err != nil {
		return err
	}
	var preference PreferenceMetrics
	preference.addKL(t.config.Loss, kl, 1)
	for i, micro := range micros {
		if err := ctx.Err(); err != nil {
			return err
		}
		p := micro.fill(t.planner.fit(&micro))
		given := append(p.tensors(), t.extras(p, t.data.Examples, scale, kl)...)
		if t.drops() {
			given = append(given, t.dropoutInput(p, derive(t.config.Seed, purposeDropout, uint64(t.step), uint64(i))))
		}
		out, err := t.gradient.run(slices.Concat(t.inputs(), keep(given...), donate(t.sums...)))
		if err != nil {
			return err
		}
		head := len(out) - len(t.sums)
		t.sums = out[head:]
		loss, err := t.readLoss(out[:head], p, t.data.Examples, &preference)
		release(given...)
		release(out[:head]...)
		if err != nil {
			return err
		}
		m.Loss += loss
		if !finite(m.Loss) {
			return fmt.Errorf("loss %v: %w", m.Loss, ErrNonFinite)
		}
		m.MicroBatches++
		m.TokensPadded += p.rows * p.length
		for _, row := range micro.rows {
			for _, tree := range row {
				m.Tokens += len(tree.tokens)
				m.TokensUnpacked += tree.unpacked
				m.Labels += len(tree.edges)
			}
		}
	}
	if t.config.Loss.preference() {
		preference.mean(len(batch))
		m.Preference = &preference
	}
	return nil
}

// clearSums forgets a half-summed batch.
func (t *Trainer) clearSums() {
	release(t.sums...)
	t.sums = nil
	for _, o := range t.trainable {
		t.sums = append(t.sums, zeros(t.operands.tensors[o].Shape().Dimensions))
	}
}

// drops reports whether training uses dropout. Preference losses do not, like TRL (disable_dropout), so that the
// policy starts at its reference.
func (t *Trainer) drops() bool {
	return t.adapter != nil && t.adapter.Config.Dropout > 0 && !t.config.Loss.preference()
}

// dropoutInput is what decides which inputs of adapters are dropped in a micro-batch: numbers for all of them, or what
// the graph computes those from.
func (t *Trainer) dropoutInput(p *packed, seed uint64) *tensors.Tensor {
	if halved(t.engine.Backend, t.model.baseDType()) {
		return dropoutSeed(seed)
	}
	return dropoutNoise(p.rows*p.length, dropoutWidth(&t.model.Config), seed)
}

// dropoutNoise draws [tokens, width] int32 from one counter-derived seed.
func dropoutNoise(tokens, width int, seed uint64) *tensors.Tensor {
	noise := tensors.FromShape(shapes.Make(dtypes.Int32, tokens, width))
	tensors.MustMutableFlatData(noise, func(flat []int32) {
		s := stream{seed}
		for i := 0; i+1 < len(flat); i += 2 {
			z := s.next()
			flat[i], flat[i+1] = int32(z), int32(z>>32)
		}
		if len(flat)%2 == 1 {
			flat[len(flat)-1] = int32(s.next())
		}
	})
	return noise
}

// batchScale is what makes a sum over the batch a mean: over labelled tokens (their weights) or pairs.
func batchScale(loss Loss, examples []Example, batch []int) float32 {
	total := 0.0
	for _, i := range batch {
		if loss.preference() {
			total++
			continue
		}
		s := &examples[i].Sequences[0]
		for j := range s.Tokens {
			total += float64(s.weight(j))
		}
	}
	return float32(1 / total)
}
