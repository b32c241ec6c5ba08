package experiments

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/esclab/esclab/esc"
)

// Consecutive says what becomes of a supporter's utterances that follow each
// other without an answer in between.
type Consecutive string

const (
	ConsecutiveKeep  Consecutive = "keep"  // each is a turn of its own, with its own strategy
	ConsecutiveMerge Consecutive = "merge" // they are one turn, with the first one's strategy
)

// Consecutives lists the treatments of consecutive utterances.
func Consecutives() []Consecutive { return []Consecutive{ConsecutiveKeep, ConsecutiveMerge} }

// StrategyMap gives names of strategies one of the eight.
type StrategyMap map[string]string

// String is the map in YAML, on one line.
func (m StrategyMap) String() string {
	var entries []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		entries = append(entries, strconv.Quote(name)+": "+strconv.Quote(m[name]))
	}
	return "{" + strings.Join(entries, ", ") + "}"
}

// readingParams are the corpus' keys that change how its files are read; zero
// for ESConv's own way, so that stages from before there was a choice keep their
// fingerprints. Names that differ in case or white space alone are one.
func (c Corpus) readingParams() (strategies map[string]string, consecutive Consecutive) {
	for name, to := range c.Strategies {
		if s, err := esc.ParseStrategy(to); err == nil {
			if strategies == nil {
				strategies = map[string]string{}
			}
			strategies[foldName(name)] = s.String()
		}
	}
	if c.Consecutive != ConsecutiveKeep {
		consecutive = c.Consecutive
	}
	return strategies, consecutive
}

// Reading is how the parameters have the corpus' files read.
func (p CorpusParams) Reading() (esc.Reading, error) {
	r := esc.Reading{Merge: p.Consecutive == ConsecutiveMerge, Strategies: map[string]esc.Strategy{}}
	for name, to := range p.Strategies {
		s, err := esc.ParseStrategy(to)
		if err != nil {
			return r, err
		}
		r.Strategies[name] = s
	}
	return r, nil
}

func foldName(name string) string { return strings.ToLower(strings.Join(strings.Fields(name), " ")) }

// strategies checks the map of strategies' names: values among the eight, and
// none of the eight called another.
func (v *validator) strategies(path string, names StrategyMap) {
	var eight []string
	for _, s := range esc.Strategies() {
		eight = append(eight, s.String())
	}
	seen := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		at, to := join(path, name), names[name]
		s, err := esc.ParseStrategy(to)
		if err != nil {
			v.fail(at, "is %q; it is one of the eight: %s%s", to, words(eight), didYouMean(to, eight))
		}
		if own, known := esc.ParseStrategy(name); known == nil && err == nil && own != s {
			v.fail(at, "%s is one of the eight strategies itself and is not read as %s", own, s)
		}
		if other, twice := seen[foldName(name)]; twice {
			v.fail(at, "stands in the map twice, as %q too: case and white space do not matter", other)
		}
		seen[foldName(name)] = name
	}
}
