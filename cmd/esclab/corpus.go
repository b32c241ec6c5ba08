package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
)

// surveyCorpus says what is in the files of a plan's corpus. The error is what its
// stage would fail of. The sample corpus is known.
func surveyCorpus(stage experiments.Stage, out io.Writer) (s esc.Survey, err error) {
	if stage.Source == experiments.SourceDemo {
		return s, nil
	}
	params, err := experiments.ParamsOf[experiments.CorpusParams](stage)
	if err != nil {
		return s, err
	}
	reading, err := params.Reading()
	if err != nil {
		return s, fmt.Errorf("corpus.strategies: %w", err)
	}
	s, err = esc.SurveyCorpus(esc.Source{Path: stage.Source, SplitIndex: stage.SplitIndexSource, Reading: reading})
	if s.Dialogues > 0 {
		printSurvey(out, s, reading)
	}
	return s, err
}

// printSurvey says what a corpus holds, and of its peculiarities those that are there.
func printSurvey(out io.Writer, s esc.Survey, reading esc.Reading) {
	fmt.Fprintf(out, "corpus: %d dialogues, %d utterances of the seeker, %d of the supporter\n",
		s.Dialogues, s.Seeker, s.Supporter)
	for _, list := range []struct {
		what   string
		counts map[string]int
	}{{"mapped", s.Mapped}, {"unmapped", s.Unknown}} {
		total := 0
		var parts []string
		for _, name := range esc.Frequent(list.counts) {
			total += list.counts[name]
			if len(parts) < 50 { // as many as the error lists
				parts = append(parts, fmt.Sprintf("%q %d", name, list.counts[name]))
			}
		}
		if total > 0 {
			fmt.Fprintf(out, "corpus: %d strategies %s: %s\n", total, list.what, strings.Join(parts, ", "))
		}
	}
	if s.Consecutive > 0 && len(s.Unknown) == 0 { // else nobody knows which strategies differ
		fate := experiments.ConsecutiveKeep
		if reading.Merge {
			fate = experiments.ConsecutiveMerge
		}
		fmt.Fprintf(out, "corpus: %d utterances of the supporter follow another one, "+
			"%d of them with another strategy (corpus.consecutive: %s)\n", s.Consecutive, s.Differing, fate)
	}
	for _, i := range []struct {
		when string
		esc.Intensities
	}{{"before", s.Before}, {"after", s.After}} {
		if i.Known > 0 {
			fmt.Fprintf(out, "corpus: emotion intensity %s: mean %.2f of %d dialogues, missing in %d\n",
				i.when, i.Mean(), i.Known, s.Dialogues-i.Known)
		}
	}
}
