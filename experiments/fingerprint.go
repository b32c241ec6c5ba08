package experiments

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
)

// Fingerprints fills Stage.Fingerprint for stages in topological order.
//
// A fingerprint is the SHA-256 of the canonical JSON of kind, version,
// parameters and the fingerprints of the inputs by name. An input's
// fingerprint stands for the digest of its artifact: a stage is a pure
// function, so the one determines the other, and in exchange the whole plan is
// known before anything has run, which is what lets a run say beforehand what
// it will reuse, and lets two runs share a stage neither has begun.
//
// A stage that rests on a source file that was not there has no fingerprint,
// and neither has what follows from it.
func Fingerprints(stages []Stage) error {
	done := make(map[string]string, len(stages))
	for i := range stages {
		s := &stages[i]
		s.Fingerprint = ""
		inputs := make(map[string]string, len(s.Inputs))
		known := sourcesKnown(*s)
		for input, name := range s.Inputs {
			f, ok := done[name]
			if !ok {
				return fmt.Errorf("stage %s: input %s is %q: %w", s.Name, input, name, errNoStage)
			}
			known = known && f != ""
			inputs[input] = f
		}
		if _, twice := done[s.Name]; twice {
			return fmt.Errorf("stage %s: planned twice", s.Name)
		}
		if known {
			f, err := s.FingerprintOf(inputs)
			if err != nil {
				return fmt.Errorf("stage %s: fingerprint: %w", s.Name, err)
			}
			s.Fingerprint = f
		}
		done[s.Name] = s.Fingerprint
	}
	return nil
}

// FingerprintOf computes the fingerprint of the stage on inputs with these
// fingerprints, by their names.
func (s Stage) FingerprintOf(inputs map[string]string) (string, error) {
	if inputs == nil {
		inputs = map[string]string{}
	}
	raw, err := Canonical(struct {
		Kind    Kind              `json:"kind"`
		Version int               `json:"version"`
		Params  json.RawMessage   `json:"params"`
		Inputs  map[string]string `json:"inputs"`
		Fresh   string            `json:"fresh,omitempty"`
	}{s.Kind, s.Version, s.Params, inputs, s.Fresh})
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:]), nil
}

// CheckFingerprint says whether the stage's fingerprint is that of what it would
// compute from inputs with these fingerprints, by the code of this program or of
// an older one. A plan that comes from outside may claim any.
func (s Stage) CheckFingerprint(inputs map[string]string) error {
	if current := s.Kind.Version(); s.Version > current {
		return fmt.Errorf("stage %s: kind %s has version %d there and %d here: it was planned by another version of esclab; update this one", s.Name, s.Kind, s.Version, current)
	}
	switch want, err := s.FingerprintOf(inputs); {
	case err != nil:
		return fmt.Errorf("stage %s: fingerprint: %w", s.Name, err)
	case s.Fingerprint == "" || s.Fingerprint != want:
		return fmt.Errorf("stage %s: its fingerprint %.12s is not that of its kind, parameters and inputs, %.12s: start the run again with esclab run", s.Name, s.Fingerprint, want)
	}
	return nil
}

// Content is the SHA-256 of the stage's kind and parameters: what its manifest
// has to say, too.
func (s Stage) Content() (string, error) {
	raw, err := Canonical([]any{s.Kind, s.Params})
	if err != nil {
		return "", fmt.Errorf("stage %s: parameters: %w", s.Name, err)
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:]), nil
}

// sourcesKnown says whether every source file of the stage was there.
func sourcesKnown(s Stage) bool {
	switch s.Kind {
	case KindCorpus, KindBase:
		var p struct {
			Files      []FileDigest `json:"files"`
			SplitIndex *FileDigest  `json:"split_index"`
		}
		if err := json.Unmarshal(s.Params, &p); err != nil {
			return false
		}
		files := p.Files
		if p.SplitIndex != nil && p.SplitIndex.Name != "" {
			files = append(files, *p.SplitIndex)
		}
		return !slices.ContainsFunc(files, func(f FileDigest) bool { return f.SHA256 == "" })
	case KindMine:
		p, err := ParamsOf[MineParams](s)
		return err == nil && p.Judge.promptsKnown()
	case KindJudge:
		p, err := ParamsOf[JudgeParams](s)
		return err == nil && p.promptsKnown()
	case KindPrefer:
		p, err := ParamsOf[PreferParams](s)
		return err == nil && p.promptsKnown()
	case KindQuality:
		p, err := ParamsOf[QualityParams](s)
		return err == nil && p.promptsKnown()
	}
	return true
}

func (m JudgeModel) promptsKnown() bool {
	for _, text := range m.Prompts {
		if text == "" {
			return false
		}
	}
	return true
}
