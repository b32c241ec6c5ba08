package experiments

import (
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"strings"
)

// GenerationConfigFile is what a checkpoint says of how it wants to be sampled.
const GenerationConfigFile = "generation_config.json"

// UnlikeOwnSampling says which of repetition_penalty and top_k a checkpoint's generation_config.json, given as it is,
// sets otherwise than the sampling of an experiment, as transformers and vLLM would take them from there:
// "repetition_penalty 1.05 (here 1)"; "" where none.
func UnlikeOwnSampling(file []byte, s Sampling) (string, error) {
	var own struct {
		TopK              *int     `json:"top_k"`
		RepetitionPenalty *float64 `json:"repetition_penalty"`
	}
	if err := json.Unmarshal(file, &own); err != nil {
		return "", fmt.Errorf("%s: %w", GenerationConfigFile, err)
	}
	var list []string
	if own := own.RepetitionPenalty; own != nil && *own != s.penalty() {
		list = append(list, fmt.Sprintf("repetition_penalty %v (here %v)", *own, s.penalty()))
	}
	if own := own.TopK; own != nil && *own != s.TopK && !s.Greedy {
		list = append(list, fmt.Sprintf("top_k %d (here %d)", *own, s.TopK))
	}
	return strings.Join(list, ", "), nil
}

// penalty is 1 where there is none.
func (s Sampling) penalty() float64 {
	if s.RepetitionPenalty == 0 {
		return 1
	}
	return s.RepetitionPenalty
}

// ownSampling warns where a checkpoint on this machine wants to be sampled otherwise than the experiment does it.
func (h Host) ownSampling(e Experiment, checkpoint Source) []string {
	if e.Backbone.Tiny != nil || !checkpoint.Directory || Remote(checkpoint.Path) {
		return nil // the report says it of those that are fetched
	}
	f, err := h.Open(filepath.Join(checkpoint.Path, GenerationConfigFile))
	if err != nil {
		return nil // it has none, or is missing as a whole
	}
	defer f.Close()
	file, err := io.ReadAll(io.LimitReader(f, maxFileBytes))
	if err != nil {
		return []string{fmt.Sprintf("backbone.path: %s: %v", GenerationConfigFile, err)}
	}
	unlike, err := UnlikeOwnSampling(file, e.Generation.sampling(e.Limits.DecodeBatch))
	switch {
	case err != nil:
		return []string{fmt.Sprintf("backbone.path: %v", err)}
	case unlike != "":
		return []string{fmt.Sprintf("backbone.path: the model's own %s has %s: generation.repetition_penalty and generation.top_k set them", GenerationConfigFile, unlike)}
	}
	return nil
}

// sampling is how replies to the test turns are decoded: what does not apply is zero.
func (g Generation) sampling(decodeBatch int) Sampling {
	s := Sampling{Greedy: g.Greedy, MaxNewTokens: g.MaxNewTokens, DecodeBatch: decodeBatch}
	if !g.Greedy {
		s.Temperature, s.TopP, s.TopK = g.Temperature, g.TopP, g.TopK
	}
	if g.RepetitionPenalty != 1 {
		s.RepetitionPenalty = g.RepetitionPenalty
	}
	return s
}
