package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/lm"
	"github.com/esclab/esclab/lm/engines"
)

// surveyBackbone says what is in the GGUF file of a plan's backbone, and the shape of an imported one; without
// parameters where it is none. The error is what its stage would fail of.
func surveyBackbone(stages []experiments.Stage, out io.Writer) (shape experiments.Shape, err error) {
	i := slices.IndexFunc(stages, func(s experiments.Stage) bool { return s.Kind == experiments.KindBase })
	if i < 0 || stages[i].Source == "" || experiments.Remote(stages[i].Source) {
		return shape, nil
	}
	source := stages[i].Source
	if !experiments.GGUF(source) {
		config, err := lm.ReadConfig(source)
		if err != nil {
			return shape, fmt.Errorf("backbone.path: %w", err)
		}
		return shapeOf(config), nil
	}
	file, err := lm.OpenGGUF(source)
	if err != nil {
		return shape, fmt.Errorf("backbone.path: %w", err)
	}
	fmt.Fprintf(out, "backbone: %s has its tensors as %s; the import dequantizes them to float32\n", filepath.Base(source), file.Quantization())
	return shapeOf(file.Config), nil
}

func shapeOf(c lm.Config) experiments.Shape {
	return experiments.Shape{Parameters: float64(c.Parameters()), Layers: c.NumHiddenLayers, Hidden: c.HiddenSize,
		Intermediate: c.IntermediateSize, KeyValue: c.NumKeyValueHeads * c.HeadDim}
}

// sayForecast says about how long the stages that a plan would run take: on a card, where one is asked for or found and
// the engine may use it, stage by stage, else on a machine without a GPU, stage by stage with each.
func sayForecast(planned []experiments.PlannedStage, exp *experiments.Experiment, corpus esc.Survey, shape experiments.Shape, card string, each bool, out io.Writer) error {
	if done, err := sayCardForecast(planned, exp, corpus, shape, card, out); done || err != nil {
		return err
	}
	if engine := exp.Engine; shape.Parameters == 0 || corpus.Dialogues == 0 || engine != "auto" && engine != "go" {
		return nil
	}
	f, err := experiments.TwoCores.Forecast(planned, shape.Parameters, turnsOf(exp, corpus))
	if err != nil || f.Total() == 0 {
		return err
	}
	fmt.Fprintf(out, "on two quiet cores without a GPU, by what was measured with SmolLM2-135M: %s\n", f)
	if each {
		_, err = f.WriteStages(out, 0)
	}
	return err
}

// sayCardForecast says what a plan takes on a card. done is false where there is none to speak of.
func sayCardForecast(planned []experiments.PlannedStage, exp *experiments.Experiment, corpus esc.Survey, shape experiments.Shape, name string, out io.Writer) (done bool, err error) {
	var card experiments.Card
	switch found := false; {
	case name != "":
		if card, err = experiments.FindCard(name); err != nil {
			return false, err
		}
	case exp.Engine != "auto" && exp.Engine != "xla:cuda":
		return false, nil
	default:
		for _, model := range engines.DeviceModels() {
			if card, found = experiments.CardOf(model); found {
				break
			}
		}
		if !found {
			if exp.Engine == "xla:cuda" {
				fmt.Fprintln(out, "no card that is known was found here: --card h100 estimates time and memory for one")
			}
			return false, nil
		}
	}
	if exp.Backbone.DType != experiments.DTypeBFloat16 {
		if name == "" && exp.Engine == "auto" {
			return false, nil
		}
		fmt.Fprintf(out, "backbone.dtype is %s: time and memory on a card are estimated for bfloat16 alone\n", exp.Backbone.DType)
		return true, nil
	}
	if shape.Parameters == 0 {
		if shape, done = experiments.KnownShape(exp.Backbone.Path); !done {
			fmt.Fprintf(out, "the backbone is not here and its shape is not known: no estimate for a card\n")
			return true, nil
		}
	}
	turns := turnsOf(exp, corpus)
	if corpus.Dialogues == 0 {
		fmt.Fprintln(out, "the corpus is not here: the estimate takes it to be ESConv, as in the paper")
		turns = experiments.ESConvTurns(exp.Corpus.MaxDialogues)
	}
	f, err := card.Forecast(planned, exp, shape, turns)
	if err != nil || f.Total() == 0 {
		return true, err
	}
	return true, experiments.WriteCardForecast(out, card, f, exp)
}

// turnsOf are the supporter's turns of a corpus by split; a directory's may be others.
func turnsOf(exp *experiments.Experiment, corpus esc.Survey) experiments.Turns {
	of := func(share float64) float64 {
		n := share * float64(corpus.Dialogues)
		if limit := float64(exp.Corpus.MaxDialogues); limit > 0 {
			n = min(n, limit)
		}
		return n * float64(corpus.Supporter) / float64(corpus.Dialogues)
	}
	return experiments.Turns{Train: of(0.8), Valid: of(0.1), Test: of(0.1)}
}

// openCheckpoint finds the model that a flag names, and where that is a GGUF file writes what write makes of it into a
// temporary directory. remove has to be called when the directory has been read.
func openCheckpoint(path string, write func(file *lm.GGUF, dir string) error) (dir string, remove func(), err error) {
	keep := func() {}
	path, err = experiments.FindCheckpoint(path, experiments.OS(nil))
	if err != nil || !experiments.GGUF(path) {
		return path, keep, err
	}
	file, err := lm.OpenGGUF(path)
	if err != nil {
		return "", keep, err
	}
	if dir, err = os.MkdirTemp("", "esclab-gguf-*"); err != nil {
		return "", keep, err
	}
	remove = func() { _ = os.RemoveAll(dir) } // a temporary directory
	if err := write(file, dir); err != nil {
		remove()
		return "", keep, err
	}
	return dir, remove, nil
}
