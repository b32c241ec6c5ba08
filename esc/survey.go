package esc

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Survey counts what the files of a corpus hold, before they are split.
type Survey struct {
	Dialogues int
	Seeker    int // utterances
	Supporter int

	// Mapped and Unknown count the supporter's strategies that are none of the
	// eight, by the names they have there ("" for none at all): those that
	// Reading.Strategies names, and those that it does not.
	Mapped, Unknown map[string]int

	// Consecutive counts the supporter's utterances that follow one of the
	// supporter, Differing those of them whose strategy is another.
	Consecutive, Differing int

	// Before and After are the seekers' emotion intensities.
	Before, After Intensities

	first *DataError // where the first unknown strategy stands
}

// Intensities are what seekers say of their emotion's intensity, 1 to 5. One
// that is missing is in neither number.
type Intensities struct {
	Known int // dialogues that have one
	Sum   int
}

// Mean is the mean of those that are known; 0 where none is.
func (i Intensities) Mean() float64 { return ratio(i.Sum, i.Known) }

// add counts an intensity as text; what is no number from 1 to 5 is missing.
func (i *Intensities) add(text string) {
	if n, err := strconv.Atoi(strings.TrimSpace(text)); err == nil && n >= 1 && n <= 5 {
		i.Known++
		i.Sum += n
	}
}

// SurveyCorpus reads all of a corpus and counts. The error is what ReadCorpus
// would say of its files. Where it is that of Unmapped there are counts besides.
func SurveyCorpus(source Source) (Survey, error) {
	var s Survey
	if _, err := s.files(source); err != nil {
		return Survey{}, err
	}
	return s, s.Unmapped()
}

// Unmapped lists the strategies that are none of the eight and not mapped
// either, the most frequent first, as a *DataError at the first one's place.
func (s *Survey) Unmapped() error {
	if s.first == nil {
		return nil
	}
	const most = 50
	var list []string
	names := Frequent(s.Unknown)
	for _, name := range names[:min(len(names), most)] {
		turns := "1 turn"
		if n := s.Unknown[name]; n > 1 {
			turns = fmt.Sprintf("%d turns", n)
		}
		if name == "" {
			list = append(list, fmt.Sprintf("no strategy (%s)", turns))
		} else {
			list = append(list, fmt.Sprintf("unknown strategy %s (%s; the nearest is %q)",
				quoteShort(name), turns, NearestStrategy(name)))
		}
	}
	if n := len(names) - most; n > 0 {
		list = append(list, fmt.Sprintf("and %d names more", n))
	}
	example := Others
	if names[0] != "" {
		example = NearestStrategy(names[0])
	}
	fault := *s.first
	fault.Err = fmt.Errorf("%s; write one of the eight names, or map them with corpus.strategies: {%s: %s}",
		strings.Join(list, ", "), quoteShort(names[0]), example)
	return &fault
}

// Frequent gives the names, the most frequent first.
func Frequent(counts map[string]int) []string {
	return slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		return cmp.Or(counts[b]-counts[a], strings.Compare(a, b))
	})
}

// count adds a dialogue that passed all checks.
func (s *Survey) count(d Dialogue) {
	s.Dialogues++
	for i, u := range d.Utterances {
		if u.Speaker == Seeker {
			s.Seeker++
			continue
		}
		s.Supporter++
		if i > 0 && d.Utterances[i-1].Speaker == Supporter {
			s.Consecutive++
			if d.Utterances[i-1].Strategy != u.Strategy {
				s.Differing++
			}
		}
	}
}

// intensities reads the seeker's emotion intensity, before and after: ESConv's
// survey_score.seeker, or the two keys of its preprocessed forms.
func (d *dialogueReader) intensities(key string) error {
	into := map[string]*Intensities{
		"init_intensity": &d.survey.Before, "initial_emotion_intensity": &d.survey.Before,
		"final_intensity": &d.survey.After, "final_emotion_intensity": &d.survey.After,
	}
	read := func(key string) error {
		text, err := d.scanner.scalar()
		if err == nil {
			into[key].add(text)
		}
		return err
	}
	if key != "survey_score" {
		return read(key)
	}
	return d.inObject([]string{"seeker"}, func(string) error {
		return d.inObject([]string{"initial_emotion_intensity", "final_emotion_intensity"}, read)
	})
}

// scalar reads a number, in quotes or not, as text; "" for anything else.
func (s *scanner) scalar() (string, error) {
	c, err := s.peek()
	if err != nil {
		return "", err
	}
	if c == '"' {
		text, err := s.text(64)
		if errors.Is(err, errTooLong) {
			return "", fmt.Errorf("an intensity: %w", err)
		}
		return text, err
	}
	ahead, _ := s.r.Peek(32) // fewer at the file's end
	return string(ahead[:len(ahead)-len(strings.TrimLeft(string(ahead), "+-.0123456789eE"))]), s.skip(0)
}
