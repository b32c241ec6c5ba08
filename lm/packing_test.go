package lm

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// nestedExamples makes dialogues as turn-level data has them: contexts that contain each other, answers of which some
// share a beginning; with pairs, chosen and rejected after one context.
func nestedExamples(seed uint64, dialogues, turns, vocab int, pairs bool) []Example {
	s := newStream(seed)
	draw := func(n int) []int32 {
		ids := make([]int32, n)
		for i := range ids {
			ids[i] = int32(s.next() % uint64(vocab))
		}
		return ids
	}
	var examples []Example
	for d := range dialogues {
		context := draw(3)
		for range turns {
			context = append(context, draw(1+int(s.next()%4))...)
			answer := draw(1 + int(s.next()%5))
			chosen := Sequence{Tokens: slices.Concat(context, answer), LossFrom: len(context)}
			e := Example{Group: fmt.Sprint(d), Sequences: []Sequence{chosen}}
			if pairs {
				shared := int(s.next() % uint64(len(answer)+1))
				rejected := Sequence{Tokens: slices.Concat(context, answer[:shared], draw(1+int(s.next()%5))), LossFrom: len(context)}
				e.Sequences = append(e.Sequences, rejected)
				e.Reference = []float64{-4 + s.normal(), -4 + s.normal()}
			} else if s.next()%3 == 0 { // weights of its own
				w := make([]float32, len(chosen.Tokens))
				for i := len(context); i < len(w); i++ {
					w[i] = float32(s.next()%3) / 2
				}
				w[len(context)] = 1
				e.Sequences[0].Weights = w
			}
			examples = append(examples, e)
			context = append(context, answer...)
		}
	}
	return examples
}

// gradientOf runs one batch through a trainer's gradient program: loss and gradients by parameter.
func gradientOf(t *testing.T, engine *Engine, m *Model, a *Adapter, data []Example, c TrainConfig) (StepMetrics, [][]float32) {
	t.Helper()
	c.Epochs, c.LearningRate, c.BatchSize = 1, 1e-3, max(c.BatchSize, len(data))
	trainer, err := NewTrainer(engine, m, a, Dataset{Examples: data}, c)
	if err != nil {
		t.Fatal(err)
	}
	return stepGradient(t, trainer)
}

// stepGradient sums the gradients of a trainer's first batch, and closes the trainer.
func stepGradient(t *testing.T, trainer *Trainer) (StepMetrics, [][]float32) {
	t.Helper()
	defer trainer.Close()
	var metrics StepMetrics
	if err := trainer.accumulate(t.Context(), trainer.batch(0), &metrics); err != nil {
		t.Fatal(err)
	}
	var gradients [][]float32
	for _, g := range trainer.sums {
		values, err := floats(g)
		if err != nil {
			t.Fatal(err)
		}
		gradients = append(gradients, values)
	}
	return metrics, gradients
}

// sameGradients compares loss and gradients relative to each parameter's largest gradient.
func sameGradients(t *testing.T, name string, a, b StepMetrics, ga, gb [][]float32) {
	t.Helper()
	if math.Abs(a.Loss-b.Loss) > 1e-6*(1+math.Abs(a.Loss)) {
		t.Errorf("%s: loss %v and %v, want the same", name, a.Loss, b.Loss)
	}
	whole := 0.0 // the gradient's largest element over all parameters
	for i := range ga {
		for j := range ga[i] {
			whole = max(whole, math.Abs(float64(ga[i][j])))
		}
	}
	if whole == 0 {
		t.Fatalf("%s: no gradient at all", name)
	}
	for i := range ga {
		for j := range ga[i] {
			if d := math.Abs(float64(ga[i][j]) - float64(gb[i][j])); d > 1e-6*max(whole, 1) {
				t.Fatalf("%s: parameter %d, element %d: gradient %v and %v (largest %v)", name, i, j, ga[i][j], gb[i][j], whole)
			}
		}
	}
}

// TestPackingExact: prefix trees give the loss and the gradients of plain sequences, in every layout.
func TestPackingExact(t *testing.T) {
	engine := testEngine(t)
	for _, loss := range []Loss{{Kind: LossSFT}, {Kind: LossDPO, Beta: 0.3}, {Kind: LossDPO, Beta: 0.3, LabelSmoothing: 0.1, SFTWeight: 0.5},
		{Kind: LossIPO, Beta: 0.3}, {Kind: LossSimPO, Beta: 2, Gamma: 0.5}, {Kind: LossKTOPair, Beta: 0.3},
		{Kind: LossKTO, Beta: 0.3, Desirable: 1.25, Undesirable: 0.75}} {
		for seed := range uint64(2) {
			config := tinyConfig()
			if seed == 1 {
				config.ModelType, config.TieWordEmbeddings = "qwen2", false
			}
			model := tinyModel(t, config)
			data := nestedExamples(seed, 3, 4, config.VocabSize, loss.preference())
			if loss.kto() {
				nearReference(t, engine, model, data)
			}
			none, gn := gradientOf(t, engine, model, nil, data, TrainConfig{Loss: loss, Packing: PackNone, MicroBatchTokens: 1 << 20})
			for _, c := range []TrainConfig{{}, {RowTokens: 20}, {RowTokens: 20, MicroBatchTokens: 50}, {MaxShapes: 1}, {Checkpointing: true},
				{Packing: PackNone, MicroBatchTokens: 64}} {
				c.Loss = loss
				tree, gt := gradientOf(t, engine, model, nil, data, c)
				name := fmt.Sprintf("%v, seed %d, %+v", loss, seed, c)
				sameGradients(t, name, none, tree, gn, gt)
				if c.Packing == "" && tree.Tokens >= none.Tokens {
					t.Errorf("%s: %d tokens computed, %d without sharing", name, tree.Tokens, none.Tokens)
				}
				if tree.TokensUnpacked != none.TokensUnpacked || tree.Labels != none.Labels {
					t.Errorf("%s: %d labels of %d tokens, want %d of %d", name, tree.Labels, tree.TokensUnpacked, none.Labels, none.TokensUnpacked)
				}
			}
		}
	}
}

// TestPackingExactBlocks is the same for rows so long that attention runs block by block.
func TestPackingExactBlocks(t *testing.T) {
	engine := testEngine(t)
	config := tinyConfig()
	config.MaxPositionEmbeddings = 1024
	model := tinyModel(t, config)
	data := nestedExamples(11, 2, 60, config.VocabSize, false)
	data = slices.DeleteFunc(data, func(e Example) bool { return len(e.Sequences[0].Tokens)%5 != 0 })
	c := TrainConfig{Loss: Loss{Kind: LossSFT}}
	tree, gt := gradientOf(t, engine, model, nil, data, c)
	if tree.TokensPadded < 2*blockTokens || tree.Tokens < 500 {
		t.Fatalf("%d tokens: too few for blocks", tree.Tokens)
	}
	c.Packing, c.RowTokens, c.MicroBatchTokens = PackNone, 1, 1 // rows as short as their sequences
	none, gn := gradientOf(t, engine, model, nil, data, c)
	sameGradients(t, "blocks", none, tree, gn, gt)
}

// TestPackingExactLoRA is the same for an adapter, whose B is not zero any more.
func TestPackingExactLoRA(t *testing.T) {
	engine := testEngine(t)
	model := tinyModel(t, tinyConfig())
	adapter := trainedAdapter(t, model.Config, LoRA{Rank: 3, Alpha: 6, RSLoRA: true})
	data := nestedExamples(5, 3, 4, 50, true)
	c := TrainConfig{Loss: Loss{Kind: LossDPO, Beta: 0.2}}
	tree, gt := gradientOf(t, engine, model, adapter, data, c)
	c.Packing = PackNone
	none, gn := gradientOf(t, engine, model, adapter, data, c)
	sameGradients(t, "lora", none, tree, gn, gt)
}

// trainedAdapter is an adapter with both matrices random.
func trainedAdapter(t testing.TB, config Config, lora LoRA) *Adapter {
	t.Helper()
	a, err := NewAdapter(config, lora, 3)
	if err != nil {
		t.Fatal(err)
	}
	for name, w := range a.weights {
		tensors.MustMutableFlatData(w, func(flat []float32) {
			s := newStream(7, named(name))
			for i := range flat {
				flat[i] = float32(0.2 * s.normal())
			}
		})
	}
	return a
}

// TestTree checks the layout itself on a small case: ab→c, ab→d, a→x.
func TestTree(t *testing.T) {
	examples := []Example{
		{Sequences: []Sequence{{Tokens: []int32{1, 2, 3, 9}, LossFrom: 2}}},
		{Sequences: []Sequence{{Tokens: []int32{1, 5, 6}, LossFrom: 2}}},
		{Sequences: []Sequence{{Tokens: []int32{1, 2, 4, 9}, LossFrom: 3}}},
	}
	trees := growTrees(examples, []int{0, 1, 2}, true, 100)
	if len(trees) != 1 {
		t.Fatalf("%d trees", len(trees))
	}
	tr := trees[0]
	if want := []int32{1, 2, 3, 4, 5}; !slices.Equal(tr.tokens, want) {
		t.Errorf("tokens %v, want %v", tr.tokens, want)
	}
	if want := []int32{0, 1, 2, 2, 1}; !slices.Equal(tr.depth, want) {
		t.Errorf("depth %v, want %v", tr.depth, want)
	}
	if want := []int32{5, 4, 3, 4, 5}; !slices.Equal(tr.exit, want) {
		t.Errorf("exit %v, want %v", tr.exit, want)
	}
	if want := []edge{{1, 3, 0, 1}, {2, 9, 0, 1}, {4, 6, 1, 1}, {3, 9, 2, 1}}; !slices.Equal(tr.edges, want) || tr.sources != 4 {
		t.Errorf("edges %v of %d sources, want %v", tr.edges, tr.sources, want)
	}
	if small := growTrees(examples, []int{0, 1, 2}, true, 4); len(small) != 2 || len(small[0].tokens) != 4 || len(small[1].tokens) != 3 {
		t.Errorf("with at most 4 nodes: %d trees", len(small))
	}
	// Undoing an insertion leaves no trace.
	b := newTreeBuilder(true)
	b.add(0, &examples[0], 3)
	if b.add(1, &examples[1], 3) {
		t.Error("a tree of 4 nodes passed a limit of 3")
	}
	if got, want := b.finish(), growTrees(examples, []int{0}, true, 3)[0]; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("after undoing: %v, want %v", got, want)
	}
}

// TestPlan: few shapes, every batch full, every dialogue but those at a border whole, every example once an epoch.
func TestPlan(t *testing.T) {
	data := nestedExamples(1, 40, 5, 50, false)
	config := tinyConfig()
	p := planner{packer: packer{share: true, rowLimit: 64, maxTokens: 128, cost: newCostModel(&config)}, examples: data, batchSize: 12, seed: 3, shuffle: true}
	if err := p.plan(t.Context(), 3, 4, p.split); err != nil {
		t.Fatal(err)
	}
	if len(p.shapes) > 4 {
		t.Errorf("%d shapes, want at most 4", len(p.shapes))
	}
	first := p.batches(0)
	if fmt.Sprint(first) == fmt.Sprint(p.batches(1)) || fmt.Sprint(first) != fmt.Sprint(p.batches(0)) {
		t.Error("the order is not a function of the epoch alone")
	}
	seen := map[int]int{}
	cuts := 0
	for i, batch := range first {
		if len(batch) != 12 && i != len(first)-1 {
			t.Errorf("batch %d has %d examples", i, len(batch))
		}
		for j, e := range batch {
			seen[e]++
			if j == 0 && i > 0 && data[e].Group == data[first[i-1][len(first[i-1])-1]].Group {
				cuts++
			}
		}
		for _, m := range p.split(batch) {
			if s := p.fit(&m); !slices.Contains(p.shapes, s) {
				t.Errorf("batch %d has shape %v, which is not planned", i, s)
			}
		}
	}
	if len(seen) != len(data) || cuts >= len(first) {
		t.Errorf("%d of %d examples, %d dialogues cut by %d batches", len(seen), len(data), cuts, len(first))
	}
	for _, n := range seen {
		if n != 1 {
			t.Error("an example comes twice")
		}
	}
}

func TestLogProbs(t *testing.T) {
	engine := testEngine(t)
	model := tinyModel(t, tinyConfig())
	// Eight continuations of one context, as for the strategies: they must be a distribution's values.
	context := []int32{1, 2, 3, 4}
	var e Example
	for i := range int32(50) {
		e.Sequences = append(e.Sequences, Sequence{Tokens: append(slices.Clone(context), i), LossFrom: 4})
	}
	scores, err := LogProbs(t.Context(), engine, model, nil, []Example{e}, LogProbsOptions{})
	if err != nil {
		t.Fatal(err)
	}
	total := 0.0
	for i := range scores[0] {
		total += math.Exp(scores[0][i].Sum())
	}
	if math.Abs(total-1) > 1e-5 {
		t.Errorf("the probabilities of all next tokens add up to %v", total)
	}
	data := nestedExamples(4, 4, 4, 50, true)
	tree, err := LogProbs(t.Context(), engine, model, nil, data, LogProbsOptions{RowTokens: 24, MicroBatchTokens: 64})
	if err != nil {
		t.Fatal(err)
	}
	none, err := LogProbs(t.Context(), engine, model, nil, data, LogProbsOptions{Packing: PackNone})
	if err != nil {
		t.Fatal(err)
	}
	for i := range tree {
		for j := range tree[i] {
			s := data[i].Sequences[j]
			if len(tree[i][j].Tokens) != len(s.Tokens)-s.LossFrom || math.Abs(tree[i][j].Sum()-none[i][j].Sum()) > 1e-5 {
				t.Errorf("example %d, sequence %d: %v and %v", i, j, tree[i][j], none[i][j])
			}
		}
	}
}

// TestDropoutNoise: noise is a function of its seed, and a mask drops the rate it is asked for.
func TestDropoutNoise(t *testing.T) {
	noise := dropoutNoise(100, 33, derive(1, 2, 3))
	again := dropoutNoise(100, 33, derive(1, 2, 3))
	other := dropoutNoise(100, 33, derive(1, 2, 4))
	if !noise.Equal(again) || noise.Equal(other) {
		t.Error("noise is not a function of its seed")
	}
	for _, rate := range []float64{0.05, 0.5, 0.9} {
		var kept [2]float64
		both := 0.0
		p := newProgram(testEngine(t), "masks", func(n []*graph.Node) []*graph.Node {
			d := &dropout{rate: rate, noise: n[1]}
			return []*graph.Node{d.apply(n[0], "model.layers.0.mlp.up_proj"), d.apply(n[0], "model.layers.1.mlp.up_proj")}
		})
		const tokens, width = 400, 100
		ones := make([]float32, tokens*width)
		for i := range ones {
			ones[i] = 1
		}
		out, err := p.run(keep(tensors.FromFlatDataAndDimensions(ones, tokens, width), dropoutNoise(tokens, width, 9)))
		if err != nil {
			t.Fatal(err)
		}
		a, _ := floats(out[0])
		b, _ := floats(out[1])
		for i := range a {
			kept[0] += float64(a[i])
			kept[1] += float64(b[i])
			both += float64(a[i] * b[i])
		}
		n := float64(len(a))
		if math.Abs(kept[0]/n-(1-rate)) > 0.01 || math.Abs(kept[1]/n-(1-rate)) > 0.01 {
			t.Errorf("rate %v: kept %v and %v", rate, kept[0]/n, kept[1]/n)
		}
		if want := kept[0] / n * kept[1] / n; math.Abs(both/n-want) > 0.01 { // masks of two modules are independent
			t.Errorf("rate %v: both kept %v, want %v", rate, both/n, want)
		}
	}
	p := newProgram(testEngine(t), "hashed masks", func(n []*graph.Node) []*graph.Node {
		d := &dropout{rate: 0.3, noise: n[1]}
		return []*graph.Node{d.dropped(n[0], "a", nil), d.dropped(n[0], "a", n[0]), d.dropped(n[0], "b", nil)}
	})
	const tokens, width = 300, 101
	ones := slices.Repeat([]float32{1}, tokens*width)
	masks := func(seed uint64) (list [3][]float32) {
		out, err := p.run(keep(tensors.FromFlatDataAndDimensions(ones, tokens, width), dropoutSeed(seed)))
		if err != nil {
			t.Fatal(err)
		}
		for i := range list {
			list[i], _ = floats(out[i])
		}
		return list
	}
	first, second := masks(1), masks(2)
	if !slices.Equal(first[0], first[1]) {
		t.Error("the mask made again on the way back is another")
	}
	for i, pair := range [][2][]float32{{first[0], first[2]}, {first[0], second[0]}, {first[0][1:], first[0]}, {first[0][width:], first[0]}} {
		a, b := pair[0], pair[1][:len(pair[0])]
		n := float64(len(a))
		if kept := dot(a, a) / n; math.Abs(kept-0.7) > 0.01 {
			t.Errorf("pair %d: kept %v, want 0.7", i, kept)
		}
		if both := dot(a, b) / n; math.Abs(both-0.49) > 0.012 { // of modules, seeds, neighbours and tokens: independent
			t.Errorf("pair %d: both kept %v, want 0.49", i, both)
		}
	}
	var b bytes.Buffer
	if err := writeSafetensors(&b, map[string]*tensors.Tensor{"x": noise}, nil); err == nil {
		t.Error("int32 was written as float32")
	}
}

// TestBatching: shuffled batches hold every example once an epoch, in another order each epoch, of many dialogues, those
// of one beside each other; loss and gradients of a batch are what they are without shared prefixes.
func TestBatching(t *testing.T) {
	data := nestedExamples(1, 40, 5, 50, false)
	config := tinyConfig()
	dialogues := map[Batching]int{}
	for _, batching := range []Batching{BatchNeighbours, BatchShuffled} {
		p := planner{packer: packer{share: true, rowLimit: 64, maxTokens: 128, cost: newCostModel(&config)}, examples: data, batchSize: 10,
			seed: 3, shuffle: true, batching: batching}
		first := p.batches(0)
		if fmt.Sprint(first) != fmt.Sprint(p.batches(0)) || fmt.Sprint(first) == fmt.Sprint(p.batches(1)) {
			t.Errorf("%s: the order is not a function of the epoch alone", batching)
		}
		if all := slices.Sorted(slices.Values(slices.Concat(first...))); len(all) != len(data) || len(slices.Compact(all)) != len(data) {
			t.Errorf("%s: an epoch has %d examples, %d of them different; want each of %d once", batching, len(all), len(slices.Compact(all)), len(data))
		}
		for _, batch := range first {
			groups, runs := map[string]bool{}, 0
			for j, i := range batch {
				if groups[data[i].Group] = true; j == 0 || data[i].Group != data[batch[j-1]].Group {
					runs++
				}
			}
			if runs != len(groups) {
				t.Errorf("%s: the examples of a batch's %d dialogues stand in %d runs, want those of one beside each other", batching, len(groups), runs)
			}
			dialogues[batching] += len(groups)
		}
	}
	if dialogues[BatchNeighbours] > 3*20 || dialogues[BatchShuffled] < 7*20 {
		t.Errorf("20 batches of 10 turns have %v dialogues, want at most 3 in one of neighbours and at least 7 in a shuffled one", dialogues)
	}
	engine := testEngine(t)
	model := tinyModel(t, config)
	c := TrainConfig{Loss: Loss{Kind: LossSFT}, Batching: BatchShuffled, Epochs: 1, BatchSize: 10, LearningRate: 1e-3}
	var metrics [2]StepMetrics
	var gradients [2][][]float32
	for i, packing := range []Packing{PackTree, PackNone} {
		c.Packing = packing
		trainer, err := NewTrainer(engine, model, nil, Dataset{Examples: data}, c)
		if err != nil {
			t.Fatal(err)
		}
		metrics[i], gradients[i] = stepGradient(t, trainer)
	}
	sameGradients(t, "shuffled", metrics[0], metrics[1], gradients[0], gradients[1])
}
