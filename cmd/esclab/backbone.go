package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/lm"
)

// surveyBackbone says what is in the GGUF file of a plan's backbone. The error is what its stage would fail of.
func surveyBackbone(stages []experiments.Stage, out io.Writer) error {
	i := slices.IndexFunc(stages, func(s experiments.Stage) bool { return s.Kind == experiments.KindBase })
	if i < 0 || !experiments.GGUF(stages[i].Source) || experiments.Remote(stages[i].Source) {
		return nil
	}
	file, err := lm.OpenGGUF(stages[i].Source)
	if err != nil {
		return fmt.Errorf("backbone.path: %w", err)
	}
	fmt.Fprintf(out, "backbone: %s has its tensors as %s; the import dequantizes them to float32\n", filepath.Base(stages[i].Source), file.Quantization())
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
