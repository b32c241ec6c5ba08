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
)

// surveyBackbone says what is in the GGUF file of a plan's backbone, and how many parameters an imported one has; 0:
// it is none. The error is what its stage would fail of.
func surveyBackbone(stages []experiments.Stage, out io.Writer) (parameters int, err error) {
	i := slices.IndexFunc(stages, func(s experiments.Stage) bool { return s.Kind == experiments.KindBase })
	if i < 0 || stages[i].Source == "" || experiments.Remote(stages[i].Source) {
		return 0, nil
	}
	source := stages[i].Source
	if !experiments.GGUF(source) {
		config, err := lm.ReadConfig(source)
		if err != nil {
			return 0, fmt.Errorf("backbone.path: %w", err)
		}
		return config.Parameters(), nil
	}
	file, err := lm.OpenGGUF(source)
	if err != nil {
		return 0, fmt.Errorf("backbone.path: %w", err)
	}
	fmt.Fprintf(out, "backbone: %s has its tensors as %s; the import dequantizes them to float32\n", filepath.Base(source), file.Quantization())
	return file.Config.Parameters(), nil
}

// sayForecast says about how long the stages that a plan would run take on a machine without a GPU.
func sayForecast(planned []experiments.PlannedStage, exp experiments.Experiment, corpus esc.Survey, parameters int, out io.Writer) error {
	if engine := exp.Engine; parameters == 0 || corpus.Dialogues == 0 || engine != "auto" && engine != "go" {
		return nil
	}
	dialogues := func(share float64) float64 { // of a split; a directory's may be others
		n := share * float64(corpus.Dialogues)
		if limit := float64(exp.Corpus.MaxDialogues); limit > 0 {
			n = min(n, limit)
		}
		return n * float64(corpus.Supporter) / float64(corpus.Dialogues)
	}
	f, err := experiments.TwoCores.Forecast(planned, float64(parameters), experiments.Turns{Train: dialogues(0.8), Valid: dialogues(0.1), Test: dialogues(0.1)})
	if err != nil || f.Total() == 0 {
		return err
	}
	fmt.Fprintf(out, "on two quiet cores without a GPU, by what was measured with SmolLM2-135M: %s\n", f)
	return nil
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
