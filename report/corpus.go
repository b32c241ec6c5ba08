package report

import (
	"fmt"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
)

// corpusSection is the upper half of Table 1, Table 6 and Figure 8.
func corpusSection(d Data, p paper) (section, error) {
	s := section{ID: "corpus", Title: "Corpus"}
	if len(d.Corpus) == 0 {
		return s, nil
	}
	size, strategies := sizeTable(d, p), strategyTable(d, p)
	sources := d.sources(nil, experiments.KindCorpus)
	size.Sources, strategies.Sources = sources, sources
	s.Tables = []table{size, strategies}
	for _, in := range d.Corpus {
		if in.Name != trainSplit {
			continue
		}
		f, ok, err := phaseFigure("Strategies by phase of the dialogue, "+in.Name+" (Figure 8)", in.Phases)
		if err != nil {
			return s, err
		}
		if f.Sources = sources; ok {
			s.Figures = append(s.Figures, f)
		}
	}
	return s, nil
}

// trainSplit is the split that the paper's figures are of.
const trainSplit = "train"

func sizeTable(d Data, p paper) table {
	t := table{
		Caption: "Chat messages of the corpus (the upper half of the paper's Table 1)",
		Paper:   "small figures are the paper's for ESConv's train split, then the difference",
		Heads: []head{{Text: "Split"}, {"Dialogues", true}, {"Utterances", true}, {"Assistant", true}, {"User", true},
			{"Turns per dialogue", true}, {"Characters", true}, {"Assistant's", true}, {"User's", true}},
	}
	numbers := func(s esc.Statistics) ([]float64, []int) {
		return []float64{float64(s.Dialogues), float64(s.Utterances), float64(s.Assistant), float64(s.User),
			s.AvgTurns, s.AvgChars, s.AvgCharsAssistant, s.AvgCharsUser}, []int{0, 0, 0, 0, 2, 2, 2, 2}
	}
	printed, _ := numbers(p.Corpus)
	for _, in := range d.Corpus {
		row := []cell{text(in.Name)}
		values, digits := numbers(in.Statistics)
		for i := range values {
			if in.Name == trainSplit {
				row = append(row, beside(&values[i], &printed[i], digits[i]))
			} else {
				row = append(row, decimal(&values[i], digits[i]))
			}
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

// strategyTable is Table 6: a row a strategy.
func strategyTable(d Data, p paper) table {
	t := table{
		Caption: "Supporter utterances by strategy (the paper's Table 6)",
		Paper:   "small figures are the paper's for ESConv's train split, then the difference",
		Heads:   []head{{Text: "Strategy"}},
	}
	for _, in := range d.Corpus {
		t.Heads = append(t.Heads, head{in.Name, true}, head{"share", true})
	}
	add := func(name string, value func(esc.Statistics) float64) {
		total := func(s esc.Statistics) (sum float64) {
			for _, n := range s.Strategies {
				sum += float64(n)
			}
			return sum
		}
		row := []cell{text(name)}
		for _, in := range d.Corpus {
			n, printed := value(in.Statistics), value(p.Corpus)
			share, sharePrinted := Value(100*n/total(in.Statistics)), Value(100*printed/total(p.Corpus))
			counted, part := decimal(&n, 0), number(fixed(finite(share), 2)+" %")
			if in.Name == trainSplit {
				counted = beside(&n, &printed, 0)
				part.Paper, part.Delta = fixed(sharePrinted, 2)+" %", delta(finite(share), sharePrinted, 2)
			}
			row = append(row, counted, part)
		}
		t.Rows = append(t.Rows, row)
	}
	for _, st := range esc.Strategies() {
		add(fmt.Sprintf("%s (%s)", st, st.Abbreviation()), func(s esc.Statistics) float64 { return float64(s.Strategies[st]) })
	}
	add("Overall", func(s esc.Statistics) (sum float64) {
		for _, n := range s.Strategies {
			sum += float64(n)
		}
		return sum
	})
	return t
}
