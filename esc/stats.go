package esc

import "unicode/utf8"

// Statistics are the figures of the paper's Table 1 (ESConv half) and Table 6.
type Statistics struct {
	Dialogues  int `json:"dialogues"`
	Utterances int `json:"utterances"` // chat messages: assistant and user
	Assistant  int `json:"assistant_utterances"`
	User       int `json:"user_utterances"`

	AvgTurns float64 `json:"avg_turns"` // chat messages of a dialogue

	// Average characters (Unicode code points) of a chat message; the
	// assistant's include the "[Strategy] " in front, as the paper's do.
	AvgChars          float64 `json:"avg_chars_total"`
	AvgCharsAssistant float64 `json:"avg_chars_assistant"`
	AvgCharsUser      float64 `json:"avg_chars_user"`

	// Strategies counts the supporter's utterances, by Strategy.
	Strategies [NumStrategies]int `json:"strategies"`
}

// NumPhases is how many phases a dialogue is divided into for Figure 8: fifths,
// as Liu et al. (2021) did for ESConv.
const NumPhases = 5

// Phases counts strategies by phase of the dialogue.
type Phases [NumPhases][NumStrategies]int

// Phase is the fifth of a dialogue, from 0, in which a supporter utterance
// stands: number turn, from 0, of turns.
func Phase(turn, turns int) int {
	if turns < 1 {
		return 0
	}
	return max(0, min(NumPhases*turn/turns, NumPhases-1))
}

// CountPhases counts the supporters' strategies by phase.
func CountPhases(dialogues []Dialogue) Phases {
	var phases Phases
	for _, d := range dialogues {
		turns := Turns(d)
		for _, t := range turns {
			if t.Strategy.Valid() {
				phases[Phase(t.Index, len(turns))][t.Strategy]++
			}
		}
	}
	return phases
}

// Of adds up a phase.
func (p Phases) Of(phase int) (total int) {
	for _, n := range p[phase] {
		total += n
	}
	return total
}

// ComputeStatistics counts over the chat form of the dialogues.
func ComputeStatistics(dialogues []Dialogue) Statistics {
	s := Statistics{Dialogues: len(dialogues)}
	assistant, user := 0, 0
	for _, d := range dialogues {
		for _, m := range Chat(d) {
			if m.Role == AssistantRole {
				s.Assistant++
				assistant += runeCount(m.Content)
			} else {
				s.User++
				user += runeCount(m.Content)
			}
		}
		for _, u := range d.Utterances {
			if u.Strategy.Valid() {
				s.Strategies[u.Strategy]++
			}
		}
	}
	s.Utterances = s.Assistant + s.User
	s.AvgTurns = ratio(s.Utterances, s.Dialogues)
	s.AvgChars = ratio(assistant+user, s.Utterances)
	s.AvgCharsAssistant = ratio(assistant, s.Assistant)
	s.AvgCharsUser = ratio(user, s.User)
	return s
}

func ratio(sum, n int) float64 {
	if n == 0 {
		return 0
	}
	return float64(sum) / float64(n)
}

func runeCount(s string) int { return utf8.RuneCountInString(s) }
