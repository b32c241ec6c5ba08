package report

import (
	"fmt"
	"strings"

	"github.com/esclab/esclab/experiments"
)

// givenSection is Table 4: the response generator given the gold strategy.
func givenSection(d Data, p paper) (section, error) {
	s := section{ID: "given", Title: "Given the gold strategy",
		Missing: "Table 4 is of the response generator given the gold strategy, which the run does not evaluate (paradigms: gold)"}
	b, _ := p.compared(d.Run.Backbone)
	t := table{
		Caption: "The response generator given the gold strategy (the paper's Table 4)",
		Paper:   fmt.Sprintf("small figures are the paper's for %s, then the difference", b.Name),
		Heads:   append([]head{{Text: "Method"}}, scoreHeads()...),
		Sources: d.sources(systemNames(d.Given), experiments.KindGenerate, experiments.KindJudge),
	}
	for _, r := range d.Given {
		printed, known := b.Given[r.Method]
		row := []cell{text(methodName(r.Method, r.Pairs))}
		scores := 0
		for c, column := range experiments.Table3() {
			switch {
			case !column.Judged():
				continue
			case known && d.Run.Judge.likePaper():
				row = append(row, beside(r.Columns[c], &printed[scores], 2))
			default:
				row = append(row, decimal(r.Columns[c], 2))
			}
			scores++
		}
		t.Rows = append(t.Rows, row)
	}
	s.Tables = nonEmpty(t)
	return s, nil
}

// winSection is Figure 6: whose replies are preferred.
func winSection(d Data, _ paper) (section, error) {
	s := section{ID: "wins", Title: "Win rates",
		Missing: "Figure 6 is a comparison of two systems' replies; the run has none (judge.compare), and no ratings of people were given (esclab report --human)"}
	if len(d.Wins) == 0 {
		return s, nil
	}
	s.Text = []string{"Whose reply to a turn is preferred (the paper's Figure 6). Wins are the first system's. The paper draws this figure without numbers, so there is no difference to give."}
	for _, w := range d.Wins {
		t := table{
			Caption: fmt.Sprintf("%s against %s by %s, %d %s, in %% of the answers with 95 %% bootstrap intervals", w.Systems[0], w.Systems[1], w.who(), w.Samples, w.unit()),
			Heads:   []head{{Text: "Question"}, {"Answers", true}, {"Win", true}, {"Tie", true}, {"Loss", true}},
			Notes:   w.Notes,
		}
		if w.Statistic != "" {
			t.Heads = append(t.Heads, head{w.Statistic, true})
		}
		if !w.People {
			t.Sources = d.sources([]string{experiments.Against(w.Systems[0], w.Systems[1])}, experiments.KindPrefer)
		}
		var labels []string
		var bars [][]float64
		for _, q := range w.Questions {
			row := []cell{text(q.Question), count(q.Answers), q.Win.cell(), q.Tie.cell(), q.Loss.cell()}
			if w.Statistic != "" {
				row = append(row, decimal(q.Agreement, 2))
			}
			t.Rows = append(t.Rows, row)
			if q.Win != nil && q.Tie != nil && q.Loss != nil {
				labels = append(labels, q.Question)
				bars = append(bars, []float64{100 * q.Loss.Value, 100 * q.Tie.Value, 100 * q.Win.Value})
			}
		}
		t.Folded = len(bars) > 0 // the figure shows it
		s.Tables = append(s.Tables, t)
		if len(bars) == 0 {
			continue
		}
		f, err := stacked(fmt.Sprintf("%s against %s, by %s (Figure 6)", w.Systems[0], w.Systems[1], w.who()), labels,
			[]part{{w.Systems[1] + " wins", palette(rejectedColor)}, {"tie", palette(noErrorColor)}, {w.Systems[0] + " wins", palette(firstSystem)}}, bars, true)
		if err != nil {
			return s, err
		}
		f.Sources = t.Sources
		s.Figures = append(s.Figures, f)
	}
	s.Tables = append(s.Tables, nonEmpty(winsByJudge(d))...)
	return s, nil
}

// who says who answered.
func (w Wins) who() string {
	if w.People {
		return fmt.Sprintf("people (%d raters)", w.Raters)
	}
	return "the judge " + strings.TrimSpace(w.By)
}

func (w Wins) unit() string {
	if w.People {
		return "samples"
	}
	return "turns"
}

func (s *Share) cell() cell {
	if s == nil {
		return number(absent)
	}
	return number(fmt.Sprintf("%.1f [%.1f, %.1f]", 100*s.Value, 100*s.Low, 100*s.High))
}
