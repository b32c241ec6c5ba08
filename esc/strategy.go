package esc

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Strategy is one of the eight support strategies of ESConv, in the order of
// the paper's Table 6 and Appendix A.4. Its text form is ESConv's name.
type Strategy int

const (
	Question Strategy = iota
	Restatement
	Reflection
	SelfDisclosure
	Affirmation
	Suggestions
	Information
	Others

	// NumStrategies is the number of strategies; valid values are 0..NumStrategies-1.
	NumStrategies = int(Others) + 1

	// NoStrategy marks the absence of a strategy: a seeker's utterance, or a
	// generated answer that names none.
	NoStrategy Strategy = -1
)

var strategyNames = [NumStrategies]string{
	"Question",
	"Restatement or Paraphrasing",
	"Reflection of feelings",
	"Self-disclosure",
	"Affirmation and Reassurance",
	"Providing Suggestions",
	"Information",
	"Others",
}

var strategyAbbreviations = [NumStrategies]string{"Qu", "RP", "RF", "Sd", "AR", "PS", "In", "Ot"}

// Definitions after Appendix A.4 (Liu et al. 2021; Hill's helping skills), in
// our own wording.
var strategyDefinitions = [NumStrategies]string{
	"ask about the problem so that the seeker can put it into words; open questions first, closed ones for a detail",
	"say back in fewer words what the seeker told you, so that the situation becomes clearer",
	"name and describe the feelings that the seeker shows",
	"share a similar experience or feeling of your own to show that you understand",
	"point out the seeker's strengths and efforts, and give comfort and courage",
	"offer ways to change something, without telling the seeker what to do",
	"give useful facts, opinions or resources, or answer a question",
	"greet, thank, say goodbye, or support in a way that fits none of the above",
}

// Strategies returns the eight strategies in the paper's order.
func Strategies() []Strategy {
	all := make([]Strategy, NumStrategies)
	for i := range all {
		all[i] = Strategy(i)
	}
	return all
}

// Valid reports whether s is one of the eight strategies.
func (s Strategy) Valid() bool { return s >= 0 && int(s) < NumStrategies }

// String returns ESConv's name of the strategy, or "none" for NoStrategy.
func (s Strategy) String() string {
	switch {
	case s.Valid():
		return strategyNames[s]
	case s == NoStrategy:
		return "none"
	}
	return fmt.Sprintf("Strategy(%d)", int(s))
}

// Abbreviation returns the paper's two-letter form (Qu, RP, RF, Sd, AR, PS, In, Ot).
func (s Strategy) Abbreviation() string {
	if !s.Valid() {
		return "-"
	}
	return strategyAbbreviations[s]
}

// Definition says in one line what the strategy is (Appendix A.4, reworded).
func (s Strategy) Definition() string {
	if !s.Valid() {
		return ""
	}
	return strategyDefinitions[s]
}

// Bracketed returns "[Question]" and the like, the form in chat turns.
func (s Strategy) Bracketed() string { return "[" + s.String() + "]" }

// MarshalText encodes the strategy as its name; NoStrategy becomes "".
func (s Strategy) MarshalText() ([]byte, error) {
	switch {
	case s.Valid():
		return []byte(strategyNames[s]), nil
	case s == NoStrategy:
		return []byte{}, nil
	}
	return nil, fmt.Errorf("esc: strategy %d is not one of the %d known", int(s), NumStrategies)
}

// UnmarshalText is the inverse of MarshalText.
func (s *Strategy) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*s = NoStrategy
		return nil
	}
	parsed, err := ParseStrategy(string(text))
	if err != nil {
		return err
	}
	*s = parsed
	return nil
}

// ParseStrategy reads a strategy's name as ESConv writes it; case and white
// space do not matter. An unknown name is an error that tells the nearest one.
func ParseStrategy(name string) (Strategy, error) {
	folded := foldName(name)
	for i, known := range strategyNames {
		if folded == foldName(known) {
			return Strategy(i), nil
		}
	}
	return NoStrategy, fmt.Errorf("unknown strategy %s; the nearest known strategy is %q", quoteShort(name), NearestStrategy(name))
}

// TypedStrategy reads a strategy as a person types it: ESConv's
// name, a word that answers are known to use for it ("reflection"), or the
// paper's two letters, in any case.
func TypedStrategy(name string) (Strategy, error) {
	for i, short := range strategyAbbreviations {
		if strings.EqualFold(strings.TrimSpace(name), short) {
			return Strategy(i), nil
		}
	}
	if s := lookupStrategy(name); s.Valid() {
		return s, nil
	}
	return ParseStrategy(name)
}

// NearestStrategy returns the strategy whose name, or one long word of it, has
// the smallest edit distance to name, relative to the longer of the two; ties
// go to the whole name, then to the earlier strategy.
func NearestStrategy(name string) Strategy {
	folded := foldName(name)
	if len(folded) > 64 { // longer than any name: the tail cannot change the winner much
		folded = folded[:64]
	}
	best, bestScore := Question, 2.0
	consider := func(s Strategy, known string, handicap float64) {
		score := handicap + float64(editDistance(folded, known))/float64(max(len(folded), len(known)))
		if score < bestScore {
			best, bestScore = s, score
		}
	}
	for i, known := range strategyNames {
		known = foldName(known)
		consider(Strategy(i), known, 0)
		for _, word := range strings.FieldsFunc(known, func(r rune) bool { return r == ' ' || r == '-' }) {
			if len(word) > 5 {
				consider(Strategy(i), word, 0.01)
			}
		}
	}
	return best
}

func foldName(name string) string {
	return strings.ToLower(strings.Join(strings.Fields(name), " "))
}

// editDistance is the Levenshtein distance in bytes.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			substitution := diagonal
			if a[i-1] != b[j-1] {
				substitution++
			}
			diagonal = row[j]
			row[j] = min(row[j]+1, row[j-1]+1, substitution)
		}
	}
	return row[len(b)]
}

// quoteShort quotes text for an error message, cut to a readable length.
func quoteShort(text string) string {
	const limit = 60
	if runes := []rune(text); len(runes) > limit {
		return fmt.Sprintf("%q…", string(runes[:limit]))
	}
	return fmt.Sprintf("%q", text)
}

// strategyNumbers is how packages that know strategies by number alone speak of one or two.
var strategyNumbers = regexp.MustCompile(`\bstrateg(?:y|ies) (\d+(?: and \d+)?)\b`)

// NameStrategies puts names in the place of numbers ("strategy 2", "strategies 3
// and 7") in a message of such a package.
func NameStrategies(message string) string {
	return strategyNumbers.ReplaceAllStringFunc(message, func(all string) string {
		names := strings.Split(strategyNumbers.FindStringSubmatch(all)[1], " and ")
		for i, number := range names {
			n, err := strconv.Atoi(number)
			if err != nil || !Strategy(n).Valid() {
				return all
			}
			names[i] = Strategy(n).String()
		}
		return strings.Join(names, " and ")
	})
}
