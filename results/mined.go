package results

import (
	"bytes"
	"context"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/esc"
)

// MinedSample is one answer of the SFT model to a turn of the train split.
type MinedSample struct {
	esc.Place
	Draw     int          `json:"draw"`
	Text     string       `json:"text"`
	Strategy esc.Strategy `json:"strategy"`
	Response string       `json:"response,omitempty"`
	// Problem says why the text could not be read; such a sample makes no pair.
	Problem string         `json:"problem,omitempty"`
	Errors  []esc.PsyError `json:"errors,omitempty"`
	Reason  string         `json:"reason,omitempty"`
	// Unjudged says why the judge gave no verdict; such a sample makes no pair.
	Unjudged string `json:"unjudged,omitempty"`
}

// Pair makes the sample's pair, if it makes one.
func (s MinedSample) Pair(role esc.Role, turn esc.Turn) (esc.Pair, bool) {
	if s.Problem != "" || s.Unjudged != "" {
		return esc.Pair{}, false
	}
	return esc.MakePair(role, turn, esc.Sample{
		Draw: s.Draw, Strategy: s.Strategy, Response: s.Response, Errors: s.Errors, Reason: s.Reason,
	})
}

// Mined is what mining found, for the report and for people.
type Mined struct {
	esc.Mined
	Turns    int `json:"turns"`
	Samples  int `json:"samples"`
	Unparsed int `json:"unparsed"`
	// Unjudged counts the samples that the judge had no verdict on.
	Unjudged int `json:"unjudged,omitempty"`
	// FaultyChosen counts the pairs that the quality filter dropped.
	FaultyChosen int `json:"faulty_chosen"`
	// Errors counts the labels of all samples, routed or not.
	Errors map[esc.PsyError]int `json:"errors"`
	Judge  string               `json:"judge,omitempty"`
}

// ReadMined reads what a finished mine stage left: the pairs, and what became
// of the samples. An error that wraps artifacts.ErrNotFound means that the
// stage has not been done.
func ReadMined(ctx context.Context, store *artifacts.Store, fingerprint string) (pairs []esc.Pair, found Mined, err error) {
	if pairs, err = ReadPairs(ctx, store, fingerprint); err != nil {
		return nil, found, err
	}
	return pairs, found, ReadJSON(ctx, store, fingerprint, FileMined, &found)
}

// ReadPairs reads the pairs alone.
func ReadPairs(ctx context.Context, store *artifacts.Store, fingerprint string) ([]esc.Pair, error) {
	data, err := ReadFile(ctx, store, fingerprint, FilePairs)
	if err != nil {
		return nil, err
	}
	return esc.ReadPairs(FilePairs, bytes.NewReader(data))
}

// ReadDialogues reads a part of a finished corpus stage: FileTrain, FileValid
// or FileTest.
func ReadDialogues(ctx context.Context, store *artifacts.Store, fingerprint, part string) ([]esc.Dialogue, error) {
	data, err := ReadFile(ctx, store, fingerprint, part)
	if err != nil {
		return nil, err
	}
	return esc.ReadDialogues(part, bytes.NewReader(data), esc.DefaultLimits())
}
