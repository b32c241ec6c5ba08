package report

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
)

// resultsSection is Table 3: this run's systems, with the paper's figures in
// the same cells.
func resultsSection(d Data, p paper) (section, error) {
	var rows []Row
	for _, r := range d.Systems {
		if r.Pairs == "" || r.Pairs == esc.PairsAll {
			rows = append(rows, r)
		}
	}
	main := resultsTable(rows, p, d.Run.Judge)
	if len(main.Rows) > 0 {
		main.Rows = append(main.Rows, anchorRows(d.Anchors)...)
	}
	main.Caption = "Systems by paradigm and method (the paper's Table 3). The best score of a backbone is bold, the second best underlined."
	main.Paper = "small figures are the paper's, then the difference to them"
	if n := len(d.Run.Seeds); n > 1 {
		main.Caption += fmt.Sprintf(" Means over %d seeds.", n)
	}
	main.Sources = d.sources(systemNames(slices.Concat(rows, d.Anchors)), evaluated...)
	if len(d.Anchors) > 0 {
		main.Notes = append(main.Notes, "Anchors are no systems and take no part in the ranks: what a measure makes of the gold replies, of gold replies shuffled between dialogues, of one canned reply everywhere, "+
			"and of a planner by logistic regression on TF-IDF of the last two messages.")
	}
	main.Notes = append(main.Notes, biasNotes(rows)...)
	main.PaperNotes = comparisonNotes(rows, p)
	if d.Run.Judge.Name != "" && !d.Run.Judge.likePaper() {
		main.PaperNotes = append(main.PaperNotes, unlikePaper)
	}
	for _, r := range rows {
		if r.Unparsed > 0 {
			main.Notes = append(main.Notes, fmt.Sprintf("%s: %d of %d replies name no strategy; they count in D-1, B-1, F1 and R-L by their text and in none of the strategy metrics.",
				r.System(), r.Unparsed, r.Turns))
		}
	}
	intervals, seeds := intervalTable(d), seedTable(d)
	intervals.Folded, seeds.Folded, intervals.Loose = true, true, true
	return section{ID: "results", Title: "Results",
		Tables: nonEmpty(main, intervals, seeds), Missing: "no system was evaluated"}, nil
}

// variantsSection is Table 5: vanilla DPO by what is negative in its pairs.
func variantsSection(d Data, p paper) (section, error) {
	var rows []Row
	for _, pairs := range []esc.PairSet{esc.PairsNsNr, esc.PairsPsNr, esc.PairsNsPr, esc.PairsAll} {
		for _, r := range d.Systems {
			same := r.Pairs == pairs || r.Pairs == "" && pairs == esc.PairsAll
			if same && r.Method == experiments.MethodDPO && r.Paradigm == experiments.Vanilla {
				r.Pairs = pairs
				rows = append(rows, r)
			}
		}
	}
	s := section{ID: "pair-sets", Title: "Vanilla DPO by pair set",
		Missing: "Table 5 and Figure 4 compare vanilla DPO trained on several pair sets; the run trained it on one at most (dpo.pair_sets)"}
	if !slices.ContainsFunc(rows, func(r Row) bool { return r.Pairs != esc.PairsAll }) {
		return s, nil
	}
	t := resultsTable(rows, p, d.Run.Judge)
	t.Caption = "Vanilla DPO on pairs whose rejected side has a negative strategy (ns), a negative response (nr) or both (the paper's Table 5)"
	t.Paper = "small figures are the paper's, then the difference"
	t.Notes = biasNotes(rows)
	t.Sources = d.sources(systemNames(rows), evaluated...)
	s.Tables = []table{t}
	var err error
	s.Figures, err = trainingDataFigures(d, rows)
	return s, err
}

// trainingDataFigures are Figure 4: the preference bias, and the preference of
// each strategy, by the pairs that vanilla DPO was trained on, beside SFT.
func trainingDataFigures(d Data, rows []Row) ([]figure, error) {
	for _, r := range d.Systems {
		if r.Paradigm == experiments.Vanilla && r.Method == experiments.MethodSFT {
			rows = append([]Row{r}, rows...)
		}
	}
	var bias, preferences []series
	for _, r := range rows {
		name := strings.TrimPrefix(r.System(), "vanilla/")
		if b := r.Columns.Of(experiments.ColumnBias); b != nil {
			bias = append(bias, systemSeries(r, name, r.interval(experiments.ColumnBias), *b))
		}
		if r.Preference != nil {
			preferences = append(preferences, systemSeries(r, name, nil, r.Preference...))
		}
	}
	if len(bias) == 0 || len(preferences) == 0 {
		return nil, nil
	}
	a, err := singles("Preference bias by training data (Figure 4 a)", "B", bias)
	if err != nil {
		return nil, err
	}
	b, err := bars("Strategy preference by training data (Figure 4 b; dashed: no preference)", "p", strategyNames(), preferences, Value(1))
	a.Sources = d.sources(systemNames(rows), experiments.KindBias)
	b.Sources = a.Sources
	return []figure{a, b}, err
}

// resultsTable has Table 3's layout: backbone, paradigm, method, and the
// eleven columns.
func resultsTable(systems []Row, p paper, judge Judge) table {
	t := resultsFrame()
	if judge.Offline {
		for i := range t.Groups {
			if t.Groups[i].Text == judged {
				t.Groups[i].Text += " (⚠ " + offlineMark + ")"
			}
		}
	}
	var values [][]*float64
	for _, r := range systems {
		b, _ := p.compared(r.Backbone)
		paperValues := b.find(r.Paradigm, r.Method, r.Pairs)
		row := []cell{text(r.Backbone), text(paradigmName(r.Paradigm)), text(methodName(r.Method, r.Pairs))}
		var present []*float64
		for c, v := range r.Columns {
			var printed *float64
			if paperValues != nil && (judge.likePaper() || !experiments.Table3()[c].Judged()) {
				printed = &paperValues[c]
			}
			row = append(row, beside(v, printed, 2))
			present = append(present, v)
		}
		t.Rows = append(t.Rows, row)
		values = append(values, present)
	}
	finish(&t, values)
	return t
}

// anchorRows are the rows of resultsTable that are no system's.
func anchorRows(anchors []Row) [][]cell {
	var rows [][]cell
	for _, r := range anchors {
		row := []cell{text("Anchors"), text(paradigmName(r.Paradigm)), text(methodName(r.Method, ""))}
		for _, v := range r.Columns {
			row = append(row, decimal(v, 2))
		}
		rows = append(rows, row)
	}
	span(rows, 0)
	span(rows, 1)
	return rows
}

func resultsFrame() table {
	t := table{
		Wide:   true,
		Groups: []group{{"", 3}},
		Heads:  []head{{Text: "Backbone"}, {Text: "Paradigm"}, {Text: "Method"}},
	}
	for _, c := range columns() {
		t.Heads = append(t.Heads, head{c.head, true})
		if last := len(t.Groups) - 1; t.Groups[last].Text == c.group {
			t.Groups[last].Span++
		} else {
			t.Groups = append(t.Groups, group{c.group, 1})
		}
	}
	return t
}

// finish ranks within each run of one backbone's rows, then merges names.
func finish(t *table, values [][]*float64) {
	for i := 0; i < len(t.Rows); {
		end := i + 1
		for end < len(t.Rows) && t.Rows[end][0].Text == t.Rows[i][0].Text {
			end++
		}
		rank(t.Rows[i:end], 3, values[i:end])
		i = end
	}
	span(t.Rows, 0)
	span(t.Rows, 1)
}

func comparisonNotes(rows []Row, p paper) []string {
	var notes []string
	seen := map[string]bool{}
	for _, r := range rows {
		if seen[r.Backbone] {
			continue
		}
		seen[r.Backbone] = true
		if b, same := p.compared(r.Backbone); !same {
			notes = append(notes, fmt.Sprintf("The paper has no %s: the small figures are those of %s, a model of another size; both backbones of the paper stand in full below.", r.Backbone, b.Name))
		}
	}
	return notes
}

func biasNotes(rows []Row) []string {
	var order []string
	systems := map[string][]string{}
	for _, r := range rows {
		if r.BiasNote == "" {
			continue
		}
		if systems[r.BiasNote] == nil {
			order = append(order, r.BiasNote)
		}
		systems[r.BiasNote] = append(systems[r.BiasNote], r.System())
	}
	var notes []string
	for _, note := range order {
		notes = append(notes, fmt.Sprintf("%s, preference bias B: %s.", strings.Join(systems[note], ", "), note))
	}
	return notes
}

// seedTable shows how much the systems differ between seeds.
func seedTable(d Data) table {
	t := table{
		Caption: "Seeds: each seed's figures, and their standard deviation (SD)",
		Heads:   []head{{Text: "System"}, {Text: "Seed"}},
		Sources: d.sources(systemNames(d.Systems), evaluated...),
	}
	for _, c := range columns() {
		t.Heads = append(t.Heads, head{c.head, true})
	}
	for _, r := range d.Systems {
		if len(r.Seeds) < 2 {
			continue
		}
		values := make([][]float64, len(columns()))
		for _, s := range r.Seeds {
			row := []cell{text(r.System()), number(strconv.FormatUint(s.Seed, 10))}
			for c, v := range s.Columns {
				if row = append(row, decimal(v, 2)); v != nil {
					values[c] = append(values[c], *v)
				}
			}
			t.Rows = append(t.Rows, row)
		}
		row := []cell{text(r.System()), number("SD")}
		for _, v := range values {
			row = append(row, decimal(deviation(v), 2))
		}
		t.Rows = append(t.Rows, row)
	}
	span(t.Rows, 0)
	return t
}

// intervalTable shows the intervals of Table 3's columns.
func intervalTable(d Data) table {
	systems := slices.Concat(d.Systems, d.Anchors)
	t := table{
		Caption: "95 % intervals, by bootstrap over dialogues", Heads: []head{{Text: "System"}},
		Sources: d.sources(systemNames(systems), evaluated...),
	}
	if len(d.Run.Seeds) > 1 {
		t.Caption = "95 % intervals of the means, of the dialogues by bootstrap and of the seeds by Student's t"
	}
	var shown []column
	for _, c := range columns() {
		if slices.ContainsFunc(systems, func(r Row) bool { return r.interval(c.name) != nil }) {
			shown = append(shown, c)
			t.Heads = append(t.Heads, head{c.head, true})
		}
	}
	for _, r := range systems {
		if len(r.Intervals) == 0 || len(shown) == 0 {
			continue
		}
		row := []cell{text(r.System())}
		for _, c := range shown {
			value := absent
			if i := r.interval(c.name); i != nil {
				value = fixed(&i.Low, 2) + " … " + fixed(&i.High, 2)
			}
			row = append(row, number(value))
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

func (r Row) interval(column string) *Interval {
	for i := range r.Intervals {
		if r.Intervals[i].Column == column {
			return &r.Intervals[i]
		}
	}
	return nil
}

// paperSection is the paper's Table 3 as printed.
func paperSection(d Data, p paper) (section, error) {
	t := resultsFrame()
	t.Caption = "The paper's Table 3 as printed (judge: GPT-4.1-mini on 100 samples)"
	var values [][]*float64
	for _, b := range p.Backbones {
		for _, r := range b.Table3 {
			row := []cell{text(b.Name), text(paradigmName(r.Paradigm)), text(methodName(r.Method, ""))}
			present := make([]*float64, len(r.Values))
			for c := range r.Values {
				present[c] = &r.Values[c]
				row = append(row, decimal(present[c], 2))
			}
			t.Rows = append(t.Rows, row)
			values = append(values, present)
		}
	}
	finish(&t, values)
	s := section{ID: "paper", Title: "The paper's figures"}
	if len(d.Systems) > 0 {
		t.Folded = true
		s.Tables = []table{t}
	}
	return s, nil
}
