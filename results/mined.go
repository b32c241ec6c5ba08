package results

import "github.com/esclab/esclab/esc"

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
	// FaultyGold says that the judge, which saw the gold response beside this one,
	// found an error in it; such a sample makes no pair.
	FaultyGold bool `json:"faulty_gold,omitempty"`
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
