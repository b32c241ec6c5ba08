package experiments

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// What a benchmark measures anew, besides a list of kinds.
const (
	FreshAll  = "all"
	FreshNone = "none"
)

// FreshKinds reads what is to be measured anew: "all", "none", or kinds with
// commas between them, like "dpo,generate".
func FreshKinds(what string) ([]Kind, error) {
	switch what {
	case FreshAll:
		return Kinds(), nil
	case FreshNone:
		return nil, nil
	}
	var kinds []Kind
	for name := range strings.SplitSeq(what, ",") {
		kind := Kind(strings.TrimSpace(name))
		if !slices.Contains(Kinds(), kind) {
			var known []string
			for _, k := range Kinds() {
				known = append(known, string(k))
			}
			return nil, fmt.Errorf("%q: all, none, or kinds of stages with commas between them (%s)", what, strings.Join(known, ", "))
		}
		kinds = append(kinds, kind)
	}
	return kinds, nil
}

// Freshen gives the stages of the kinds, and with them all that follows from
// them, fingerprints of their own by a salt: parameters, seeds and so the bytes
// of the results stay what they are, but the results in the store are not
// taken for them. Stages planned with the same salt share their results.
func Freshen(stages []Stage, kinds []Kind, salt string) error {
	for i := range stages {
		if slices.Contains(kinds, stages[i].Kind) {
			stages[i].Fresh = salt
		}
	}
	return Fingerprints(stages)
}

// Setup is the SHA-256 of the stages' names, kinds, parameters and inputs: what
// an experiment asks for, whatever the code makes of it. Unlike a fingerprint
// it does not change with the code's versions and with Freshen.
func Setup(stages []Stage) (string, error) {
	type stage struct {
		Name   string            `json:"name"`
		Kind   Kind              `json:"kind"`
		Params any               `json:"params"`
		Inputs map[string]string `json:"inputs"`
	}
	all := make([]stage, len(stages))
	for i, s := range stages {
		all[i] = stage{s.Name, s.Kind, s.Params, s.Inputs}
	}
	raw, err := Canonical(all)
	if err != nil {
		return "", fmt.Errorf("set-up of %d stages: %w", len(stages), err)
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:]), nil
}

// AbsoluteSources makes the places of the stages' source files absolute: the
// worker that reads them may have another working directory.
func AbsoluteSources(stages []Stage) error {
	for i := range stages {
		for _, path := range []*string{&stages[i].Source, &stages[i].SplitIndexSource} {
			if err := absolute(path, SourceDemo); err != nil {
				return err
			}
		}
	}
	return nil
}

// AbsolutePaths makes the experiment's own paths absolute, so that it means the
// same files wherever it is planned. Names (demo, esconv, a model on the hub)
// stay.
func (e *Experiment) AbsolutePaths(exists func(path string) bool) error {
	if err := absolute(&e.Corpus.Source, SourceDemo, SourceESConv); err != nil {
		return err
	}
	if err := absolute(&e.Corpus.Split.Index); err != nil {
		return err
	}
	if err := absolute(&e.Judge.Prompts); err != nil {
		return err
	}
	if e.Backbone.Path != "" && exists(e.Backbone.Path) {
		return absolute(&e.Backbone.Path)
	}
	return nil
}

func absolute(path *string, names ...string) error {
	if *path == "" || slices.Contains(names, *path) || Remote(*path) {
		return nil
	}
	abs, err := filepath.Abs(*path)
	if err != nil {
		return fmt.Errorf("%s: %w", *path, err)
	}
	*path = abs
	return nil
}
