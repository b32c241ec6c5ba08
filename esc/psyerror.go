package esc

import "fmt"

// PsyError is a psychological error of a supporter's answer (paper §3.1 and
// Appendix A.2). Its text form is a stable identifier.
type PsyError int

const (
	StrategyMismatch PsyError = iota
	LackOfEmpathy
	EarlyEmotionShift
	TemplateResponse
	EmotionMisread

	// NumPsyErrors is the number of classes.
	NumPsyErrors = int(EmotionMisread) + 1
)

var psyErrorIDs = [NumPsyErrors]string{
	"strategy_mismatch",
	"lack_of_empathy",
	"early_emotion_shift",
	"template_response",
	"emotion_misread",
}

var psyErrorNames = [NumPsyErrors]string{
	"Strategy Mismatch",
	"Lack of Empathy",
	"Early Emotion Shift",
	"Template Response",
	"Emotion Misread",
}

var psyErrorDefinitions = [NumPsyErrors]string{
	"the strategy does not fit the seeker's state or the moment of the conversation",
	"the seeker's feelings are neither noticed nor taken seriously",
	"the tone moves to advice or cheer before the present feeling was acknowledged",
	"a stock phrase that could stand in any conversation",
	"the seeker's feelings are understood wrongly, so that the answer misses them",
}

// PsyErrors returns the five classes in the paper's order.
func PsyErrors() []PsyError {
	all := make([]PsyError, NumPsyErrors)
	for i := range all {
		all[i] = PsyError(i)
	}
	return all
}

// Valid reports whether e is one of the five classes.
func (e PsyError) Valid() bool { return e >= 0 && int(e) < NumPsyErrors }

// String returns the stable identifier, for example "lack_of_empathy".
func (e PsyError) String() string {
	if !e.Valid() {
		return fmt.Sprintf("PsyError(%d)", int(e))
	}
	return psyErrorIDs[e]
}

// Name returns the paper's name, for reports.
func (e PsyError) Name() string {
	if !e.Valid() {
		return e.String()
	}
	return psyErrorNames[e]
}

// Definition says in one line what the error is (Appendix A.2, reworded).
func (e PsyError) Definition() string {
	if !e.Valid() {
		return ""
	}
	return psyErrorDefinitions[e]
}

// MarshalText encodes the error as its identifier.
func (e PsyError) MarshalText() ([]byte, error) {
	if !e.Valid() {
		return nil, fmt.Errorf("esc: psychological error %d is not one of the %d known", int(e), NumPsyErrors)
	}
	return []byte(psyErrorIDs[e]), nil
}

// UnmarshalText is the inverse of MarshalText.
func (e *PsyError) UnmarshalText(text []byte) error {
	for i, id := range psyErrorIDs {
		if string(text) == id {
			*e = PsyError(i)
			return nil
		}
	}
	return fmt.Errorf("esc: unknown psychological error %s; known are %v", quoteShort(string(text)), psyErrorIDs)
}
