package activities

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/lm"
	"github.com/esclab/esclab/results"
	"github.com/esclab/esclab/workflows"
)

// number is a float that JSON can hold whatever it is: what is not finite
// becomes a string.
type number float64

// MarshalJSON implements json.Marshaler.
func (n number) MarshalJSON() ([]byte, error) {
	if f := float64(n); math.IsNaN(f) || math.IsInf(f, 0) {
		return json.Marshal(strconv.FormatFloat(f, 'g', -1, 64))
	}
	return json.Marshal(float64(n))
}

// failure is what a stage leaves behind whose numbers went wrong: where, on
// which examples, and the checkpoint from which the same steps lead there
// again. It holds places in the data and numbers, no text of a dialogue.
type failure struct {
	Stage       string    `json:"stage"`
	Kind        string    `json:"kind"`
	Fingerprint string    `json:"fingerprint"`
	Problem     string    `json:"problem"`
	Engine      string    `json:"engine,omitempty"`
	Worker      string    `json:"worker,omitempty"`
	Time        time.Time `json:"time"`

	Step         int            `json:"step,omitempty"`  // that went wrong, counted from 1
	Steps        int            `json:"steps,omitempty"` // of the whole training
	Loss         *number        `json:"loss,omitempty"`
	GradNorm     *number        `json:"grad_norm,omitempty"`
	LearningRate float64        `json:"learning_rate,omitempty"`
	Batch        []failedSample `json:"batch,omitempty"`
	// Last are the steps before, the newest last.
	Last []results.Step `json:"last,omitempty"`
	// Checkpoint is the newest state of the training that is in the store.
	Checkpoint *failedState `json:"checkpoint,omitempty"`
	// Counts say what became of the samples of a stage that generates.
	Counts map[string]int `json:"counts,omitempty"`
}

// failedSample is an example of the batch: its place in the training data, and
// the dialogue that it comes from.
type failedSample struct {
	Example  int    `json:"example"`
	Dialogue string `json:"dialogue"`
}

type failedState struct {
	Step  int64                    `json:"step"`
	Files map[string]artifacts.Ref `json:"files"`
}

// keptSteps is how many steps before the one that went wrong are kept.
const keptSteps = 20

// keepFailedTraining leaves what led to numbers that are no use, and names it
// in the error; other errors pass unchanged.
func (t *attempt) keepFailedTraining(ctx context.Context, trainer *lm.Trainer, record *trainingRecord, err error) error {
	if !errors.Is(err, lm.ErrNonFinite) && !errors.Is(err, lm.ErrExploded) {
		return err
	}
	f := failure{Step: trainer.Step() + 1, Steps: trainer.Steps()}
	f.Last = record.steps[max(0, len(record.steps)-keptSteps):]
	var diverged *lm.DivergedError
	if errors.As(err, &diverged) {
		m := diverged.Metrics
		f.Loss, f.LearningRate = new(number(m.Loss)), m.LearningRate
		if m.GradNorm != 0 {
			f.GradNorm = new(number(m.GradNorm))
		}
		for _, i := range diverged.Batch {
			f.Batch = append(f.Batch, failedSample{i, trainer.Group(i)})
		}
		if diverged.Intact && trainer.Step() > 0 {
			if saveErr := t.saveTraining(ctx, trainer, record); saveErr != nil {
				t.a.Log.Error().Err(saveErr).Str("stage", t.in.Stage.Name).Msg("the state before the failed step could not be saved")
			}
		}
	}
	if c, _ := t.checkpoint(ctx); c != nil {
		f.Checkpoint = &failedState{Step: c.Step, Files: c.Files}
	}
	return t.keepFailure(ctx, f, err)
}

// cutProblem is why a sample that reached the limit of new tokens makes no pair.
const cutProblem = "cut at mining.max_new_tokens"

// neverStops ends a mine stage of whose samples none ended by itself: a pair
// would teach an end that the model never wrote, and the next stage had nothing
// to train on. The samples are kept as the stage's checkpoint.
func (t *attempt) neverStops(ctx context.Context, samples []results.MinedSample, rows []byte, chunks int) error {
	cut := 0
	for _, s := range samples {
		if s.Problem == cutProblem {
			cut++
		}
	}
	if cut < len(samples) || cut == 0 {
		return nil
	}
	err := fmt.Errorf("none of %d samples ended before mining.max_new_tokens: the model does not know where a turn ends; train it longer (sft.epochs), or raise mining.max_new_tokens", cut)
	f := failure{Counts: map[string]int{"samples": len(samples), "cut": cut}}
	c, saveErr := t.lease.SaveCheckpoint(ctx, int64(chunks), map[string]artifacts.WriteFunc{rowsFile: artifacts.BytesFile(rows)})
	if saveErr != nil {
		t.a.Log.Error().Err(saveErr).Str("stage", t.in.Stage.Name).Msg("the samples could not be kept")
	} else {
		f.Checkpoint = &failedState{Step: c.Step, Files: c.Files}
	}
	return &permanentError{workflows.ErrTypeNeverStops, t.keepFailure(ctx, f, err)}
}

// fewestTexts is from how many texts on their being all the same counts as a
// sign of a collapsed model and not of chance.
const fewestTexts = 5

// identical tells that there are enough texts and all of them are the same.
func identical(texts []string) bool {
	if len(texts) < fewestTexts {
		return false
	}
	for _, text := range texts[1:] {
		if text != texts[0] {
			return false
		}
	}
	return true
}

// suspicious notes numbers that end no stage and yet tell of a model that is of
// no use: all of its texts the same, or none that ends. The stage's metrics have
// them, so that they stand in the artifact, in the web UI and in the report.
func (t *attempt) suspicious(metrics map[string]float64, name string, count int, what string) {
	metrics[name] = float64(count)
	t.a.Log.Warn().Str("stage", t.in.Stage.Name).Int(name, count).Msg(what)
}

// noPairs says why there is nothing to train on: what became of the samples.
func (t *attempt) noPairs(ctx context.Context, set experiments.PairSet, pairs int) error {
	err := fmt.Errorf("there is no %s pair to train on: mining found none", set)
	f := failure{Counts: map[string]int{"pairs": pairs}}
	if dir, inputErr := t.input(ctx, "mine"); inputErr == nil {
		var found results.Mined
		if raw, readErr := os.ReadFile(filepath.Join(dir, results.FileMined)); readErr == nil && json.Unmarshal(raw, &found) == nil {
			f.Counts["samples"], f.Counts["unparsed"] = found.Samples, found.Unparsed
			f.Counts["faulty_chosen"], f.Counts["unjudged"] = found.FaultyChosen, found.Unjudged
			err = fmt.Errorf("%w (%d samples, %d of them not to be read, %d beside a faulty gold response, %d pairs of other kinds or too long)",
				err, found.Samples, found.Unparsed, found.FaultyChosen, pairs)
		}
	}
	err = fmt.Errorf("%w; mine more turns or samples (mining.max_turns, mining.samples)", err)
	return &permanentError{workflows.ErrTypeNoPairs, t.keepFailure(ctx, f, err)}
}

// contrast counts the examples whose chosen and rejected sides differ.
func contrast(data lm.Dataset) int {
	n := 0
	for _, e := range data.Examples {
		if len(e.Sequences) == 2 && !slices.Equal(e.Sequences[0].Tokens, e.Sequences[1].Tokens) {
			n++
		}
	}
	return n
}

// oneClass tells that a planner's pairs all want the same strategy: it can
// learn nothing from them but to plan that one.
func oneClass(role esc.Role, pairs []esc.Pair, set experiments.PairSet) bool {
	if role == esc.RG {
		return false // the strategy is given
	}
	var texts []string
	for _, p := range pairs {
		if set == experiments.PairsAll || string(p.Kind) == string(set) {
			texts = append(texts, p.Gold.String())
		}
	}
	return identical(texts)
}

// keepFailure writes the document and names its key in the error. A document
// that cannot be written takes nothing away from the error.
func (t *attempt) keepFailure(ctx context.Context, f failure, err error) error {
	f.Stage, f.Kind, f.Fingerprint = t.in.Stage.Name, string(t.in.Stage.Kind), t.in.Stage.Fingerprint
	f.Problem, f.Engine, f.Worker, f.Time = err.Error(), t.engine, t.a.Identity, time.Now().UTC()
	key, saveErr := t.lease.KeepFailure(ctx, f)
	if saveErr != nil {
		t.a.Log.Error().Err(saveErr).Str("stage", t.in.Stage.Name).Msg("what led to the failure could not be kept")
		return err
	}
	t.a.Log.Warn().Str("stage", t.in.Stage.Name).Str("key", key).Msg("what led to the failure is kept")
	return fmt.Errorf("%w (what led there: %s in the store)", err, key)
}
