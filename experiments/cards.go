package experiments

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// A Card is a GPU by its maker's figures: operations a second in bfloat16 with sums in float32 (dense), bytes a second and
// bytes of its memory.
type Card struct {
	Name                     string
	FLOPS, Bandwidth, Memory float64
}

// cards are those that an estimate can be asked for, from NVIDIA's data sheets.
var cards = []Card{
	{"h100", 989e12, 3.35e12, 80e9},
	{"h200", 989e12, 4.8e12, 141e9},
	{"a100-80", 312e12, 2.039e12, 80e9},
	{"4090", 165.2e12, 1.008e12, 24e9},
}

// FindCard is the card of a name.
func FindCard(name string) (Card, error) {
	var known []string
	for _, c := range cards {
		if strings.EqualFold(c.Name, name) {
			return c, nil
		}
		known = append(known, c.Name)
	}
	return Card{}, fmt.Errorf("--card %s: it must be one of %s", name, strings.Join(known, ", "))
}

// CardOf is the card of a model's name as its driver gives it ("NVIDIA H100 80GB HBM3").
func CardOf(model string) (c Card, known bool) {
	model = strings.ToLower(model)
	i := slices.IndexFunc(cards, func(c Card) bool {
		for part := range strings.SplitSeq(c.Name, "-") {
			if !strings.Contains(model, part) {
				return false
			}
		}
		return true
	})
	if i < 0 {
		return Card{}, false
	}
	return cards[i], true
}

// Shape is what of a decoder its time and memory follow from.
type Shape struct {
	Parameters                   float64
	Layers, Hidden, Intermediate int
	KeyValue                     int // heads of keys times their size
}

// shapes are those of the presets' backbones, for plans that are made where the weights are not.
var shapes = map[string]Shape{
	"Qwen/Qwen2.5-7B-Instruct":         {7.616e9, 28, 3584, 18944, 512},
	"meta-llama/Llama-3.1-8B-Instruct": {8.030e9, 32, 4096, 14336, 1024},
}

// KnownShape is the shape of a model by its name on the hub.
func KnownShape(name string) (Shape, bool) {
	s, ok := shapes[name]
	return s, ok
}

// ESConvTurns are the supporter's turns of ESConv by split, of at most so many dialogues each (0: all).
func ESConvTurns(dialogues int) Turns {
	const turns, train, test = 14763.0 / 1040, 1040, 130 // a dialogue; dialogues
	return Turns{Train: turns * atMost(train, dialogues), Valid: turns * atMost(test, dialogues), Test: turns * atMost(test, dialogues)}
}

// What an estimate for a card takes for granted; Assumptions says it to people.
const (
	trainedShare   = 0.35    // of the card's operations, in training and in prompts
	decodedShare   = 0.5     // of its bandwidth, in reading the weights for each token
	usableMemory   = 0.92    // of its memory
	savedBytes     = 50      // a token, layer and hidden number, kept for the way back: what TestGraphBudget counts
	logitBytes     = 3 << 28 // of logits, in training
	nodesPerRow    = 2048    // of a row of the cache, for 8 samples, beside their new tokens
	adapterCopies  = 2 * 16  // bytes of an adapter's number: weight, gradient and moments, twice in a step
	samplesPerRow  = 8
	roomForSamples = samplesPerRow * 48
)

// Forecast guesses time and memory of a plan's stages that are to be computed on the card, with a base in bfloat16. It
// rests on the card's data sheet and on assumptions, not on measurements.
func (c Card) Forecast(plan []PlannedStage, e *Experiment, s Shape, turns Turns) (Forecast, error) {
	weights := 2 * s.Parameters
	passes := 4 * s.Parameters // operations a token: there, and the gradient of what comes in
	tokens, across := float64(e.Limits.PackTokens), float64(s.Layers*s.Hidden)
	saved := tokens * savedBytes * across
	if e.Memory == MemoryRecompute {
		passes += 2 * s.Parameters
		saved = tokens * (4*across + savedBytes*float64(s.Hidden))
	}
	d, kv, wide := float64(s.Hidden), float64(s.KeyValue), float64(s.Intermediate)
	adapter := float64(e.LoRA.Rank*s.Layers) * (4*d + 2*(d+kv) + 3*(d+wide))
	training := weights + adapter*adapterCopies + saved + logitBytes

	slots := float64(e.Limits.DecodeBatch)
	rows := (e.Limits.DecodeBatch + samplesPerRow - 1) / samplesPerRow
	nodes := max(nodesPerRow, e.Limits.MaxTokens) + max(e.Generation.MaxNewTokens, roomForSamples)
	cache := float64(rows*nodes) * 2 * 2 * float64(s.Layers) * kv // keys and values, bfloat16
	r := Rates{
		Parameters:  s.Parameters,
		Train:       trainedShare * c.FLOPS / passes / (turnTokens + replyTokens),
		Pairs:       trainedShare * c.FLOPS / passes / (turnTokens + 2*replyTokens),
		Decode:      slots * decodedShare * c.Bandwidth / weights,
		Prefill:     trainedShare * c.FLOPS / (2 * s.Parameters),
		SFTBytes:    training,
		DPOBytes:    training,
		DecodeBytes: weights + cache,
		// Nothing is kept for a way back: one layer's activations and the logits.
		ReferenceBytes: weights + tokens*savedBytes*d + logitBytes,
	}
	return r.Forecast(plan, s.Parameters, turns)
}

// WriteStages writes a line for each stage, its time and its memory, and says whether
// one needs more than so many bytes; 0 is any.
func (f Forecast) WriteStages(out io.Writer, most float64) (tight bool, err error) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, s := range f.Stages {
		memory := ""
		if s.Bytes > 0 {
			memory = fmt.Sprintf("%.0f GB", s.Bytes/1e9)
			if most > 0 && s.Bytes > most {
				memory, tight = memory+", too much", true
			}
		}
		took := inWords(s.Seconds)
		if s.Seconds < 60 {
			took = fmt.Sprintf("%.0f s", s.Seconds)
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\n", s.Name, took, memory)
	}
	return tight, w.Flush()
}

// WriteCardForecast writes what a run takes on a card, stage by stage, and what that rests on.
func WriteCardForecast(out io.Writer, c Card, f Forecast, e *Experiment) error {
	fmt.Fprintf(out, "on one %s (%.0f GB), an estimate that no card has confirmed: about %s of computing, one stage after the other\n",
		c.Name, c.Memory/1e9, inWords(f.Total()))
	tight, err := f.WriteStages(out, usableMemory*c.Memory)
	if err != nil {
		return err
	}
	if tight {
		fmt.Fprintf(out, "less memory: memory: recompute, or a smaller limits.pack_tokens (%d) and limits.decode_batch (%d)\n",
			e.Limits.PackTokens, e.Limits.DecodeBatch)
	}
	_, err = fmt.Fprintf(out, "assumed: %.0f %% of %.0f TFLOP/s in training and prompts; in decoding the weights read once a token of %d replies side by side, "+
		"at %.0f %% of %.2f TB/s; a turn adds %d tokens, a reply has %d; of a training step %d tokens' activations at %d bytes a layer and hidden number are kept "+
		"(memory: recompute keeps a tenth); loading, compiling and judging come on top\n",
		100*trainedShare, c.FLOPS/1e12, e.Limits.DecodeBatch, 100*decodedShare, c.Bandwidth/1e12, turnTokens, replyTokens, e.Limits.PackTokens, savedBytes)
	return err
}
