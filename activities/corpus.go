package activities

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/results"
)

// runCorpus reads, checks and splits the dialogues.
func runCorpus(ctx context.Context, t *attempt, params experiments.CorpusParams) (output, error) {
	path, err := corpusSource(t, params)
	if err != nil {
		return output{}, badInput(err)
	}
	reading, err := params.Reading()
	if err != nil {
		return output{}, badInput(err)
	}
	corpus, err := esc.ReadCorpus(esc.Source{
		Path: path, SplitIndex: t.in.Stage.SplitIndexSource, Seed: params.SplitSeed, Reading: reading,
	})
	if err != nil {
		return output{}, badInput(err)
	}
	corpus = corpus.First(params.MaxDialogues)

	out := output{files: map[string]string{}, metrics: map[string]float64{}}
	for name, part := range map[string][]esc.Dialogue{results.FileTrain: corpus.Train, results.FileValid: corpus.Valid, results.FileTest: corpus.Test} {
		if out.files[name], err = t.create(name, func(f *os.File) error { return esc.WriteDialogues(f, part) }); err != nil {
			return output{}, err
		}
	}
	stats := esc.ComputeStatistics(corpus.Train)
	if out.files[results.FileStats], err = t.createJSON(results.FileStats, stats); err != nil {
		return output{}, err
	}
	out.metrics["train_dialogues"] = float64(len(corpus.Train))
	out.metrics["valid_dialogues"] = float64(len(corpus.Valid))
	out.metrics["test_dialogues"] = float64(len(corpus.Test))
	out.metrics["train_turns"] = float64(len(esc.AllTurns(corpus.Train)))
	return out, nil
}

// corpusSource finds the source files and checks that they are still those
// that the stage was planned with.
func corpusSource(t *attempt, params experiments.CorpusParams) (string, error) {
	source := t.in.Stage.Source
	if source == experiments.SourceDemo {
		path := filepath.Join(t.dir, "demo.json")
		return path, os.WriteFile(path, t.a.DemoCorpus, 0o600)
	}
	for _, f := range params.Files {
		path := source
		if params.Layout == experiments.LayoutSplit {
			path = filepath.Join(source, filepath.Base(f.Name))
		}
		if err := checkDigest(path, f.SHA256); err != nil {
			return "", fmt.Errorf("corpus: %w", err)
		}
	}
	return source, nil
}

// readCorpus loads the dialogues of an input that is a corpus artifact.
func readCorpus(ctx context.Context, t *attempt, parts ...string) (map[string][]esc.Dialogue, error) {
	dir, err := t.input(ctx, "corpus")
	if err != nil {
		return nil, err
	}
	read := make(map[string][]esc.Dialogue, len(parts))
	for _, part := range parts {
		dialogues, err := esc.ReadFile(filepath.Join(dir, part), esc.DefaultLimits())
		if err != nil {
			return nil, err
		}
		read[part] = dialogues
	}
	return read, nil
}
