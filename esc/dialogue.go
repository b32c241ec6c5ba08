package esc

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Speaker says who speaks an utterance.
type Speaker string

const (
	Seeker    Speaker = "seeker"
	Supporter Speaker = "supporter"
)

// speakerNames are what corpora of this kind call the two, folded: ESConv and
// its preprocessed forms (usr, sys), FailedESConv and EmpatheticDialogues
// (speaker, listener), chats (user, assistant) and counselling transcripts.
var speakerNames = map[string]Speaker{
	"seeker": Seeker, "helpseeker": Seeker, "supportseeker": Seeker, "speaker": Seeker,
	"usr": Seeker, "user": Seeker, "client": Seeker, "patient": Seeker, "human": Seeker,
	"supporter": Supporter, "helper": Supporter, "listener": Supporter,
	"sys": Supporter, "assistant": Supporter, "counselor": Supporter, "counsellor": Supporter, "therapist": Supporter,
}

// parseSpeaker reads a speaker's name; an unknown one stays as it is, for Check to refuse.
func parseSpeaker(name string) Speaker {
	name = strings.ToLower(strings.TrimSpace(name))
	if s, known := speakerNames[strings.NewReplacer(" ", "", "-", "", "_", "").Replace(name)]; known {
		return s
	}
	return Speaker(name)
}

// Utterance is one entry of a dialogue.
type Utterance struct {
	Speaker  Speaker
	Strategy Strategy // NoStrategy for the seeker
	Text     string   // not empty, no white space at either end
}

// Dialogue is one conversation of a corpus.
type Dialogue struct {
	// Index is the dialogue's position in its file or split, from 0.
	Index          int
	ExperienceType string
	EmotionType    string
	ProblemType    string
	Situation      string
	Utterances     []Utterance
}

// Corpus is a set of dialogues split for training, validation and test. In
// each part, Dialogue.Index is the position within that part.
type Corpus struct {
	Train, Valid, Test []Dialogue

	// Unused counts the dialogues of the source that an index file puts
	// into no part; 0 for the other kinds of split.
	Unused int
}

// Check says what makes an utterance unusable: an unknown speaker, a supporter
// without a strategy, a seeker with one, an empty text.
func (u Utterance) Check() error {
	switch u.Speaker {
	case Seeker:
		if u.Strategy != NoStrategy {
			return fmt.Errorf("a seeker's utterance carries the strategy %q; only the supporter has strategies", u.Strategy)
		}
	case Supporter:
		if !u.Strategy.Valid() {
			return errors.New("the supporter's utterance has no strategy; give annotation.strategy one of the eight names")
		}
	case "":
		return errors.New("the speaker is missing")
	case "system":
		return errors.New(`the speaker "system" is neither seeker nor supporter; ` +
			`remove a chat's system message, and call the supporter "sys" or "assistant"`)
	default:
		return fmt.Errorf("unknown speaker %s; it is one of %s for the %s, %s for the %s", quoteShort(string(u.Speaker)),
			namesOf(Seeker), Seeker, namesOf(Supporter), Supporter)
	}
	if u.Text == "" {
		return fmt.Errorf("the %s's text is empty; remove the utterance or fill it", u.Speaker)
	}
	return nil
}

// namesOf lists what a speaker is called, by the alphabet.
func namesOf(speaker Speaker) string {
	var names []string
	for name, s := range speakerNames {
		if s == speaker {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// Check reports the first thing that makes a dialogue unusable: no
// utterances, no seeker, no supporter, or what Utterance.Check refuses. turn
// is the utterance's position, or -1.
func (d Dialogue) Check() (turn int, err error) {
	if len(d.Utterances) == 0 {
		return -1, errors.New("the dialogue is empty; remove it or fill it")
	}
	var has [2]bool
	for i, u := range d.Utterances {
		if err := u.Check(); err != nil {
			return i, err
		}
		has[0] = has[0] || u.Speaker == Seeker
		has[1] = has[1] || u.Speaker == Supporter
	}
	for i, speaker := range []Speaker{Seeker, Supporter} {
		if !has[i] {
			return -1, fmt.Errorf("no utterance of a %s in %d; remove the dialogue", speaker, len(d.Utterances))
		}
	}
	return -1, nil
}

// DataError says what is wrong with a corpus file and where. Dialogue and Turn
// count from 0 and are -1 where the fault lies outside of one; Line counts
// from 1 and is 0 where unknown; Offset is in bytes.
type DataError struct {
	File           string
	Dialogue, Turn int
	Line           int
	Offset         int64
	Err            error
}

func (e *DataError) Error() string {
	var place []string
	if e.Dialogue >= 0 {
		place = append(place, fmt.Sprintf("dialogue %d", e.Dialogue))
	}
	if e.Turn >= 0 {
		place = append(place, fmt.Sprintf("turn %d", e.Turn))
	}
	if len(place) > 0 {
		place[len(place)-1] += " (counted from 0)"
	}
	if e.Line > 0 {
		place = append(place, fmt.Sprintf("line %d, byte %d", e.Line, e.Offset))
	}
	if len(place) == 0 {
		return e.File + ": " + e.Err.Error()
	}
	return e.File + ": " + strings.Join(place, ", ") + ": " + e.Err.Error()
}

func (e *DataError) Unwrap() error { return e.Err }
