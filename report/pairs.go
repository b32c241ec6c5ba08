package report

import (
	"fmt"
	"image/color"
	"strconv"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
)

// pairsSection is the lower half of Table 1, Table 2, and Figures 9 and 10.
func pairsSection(d Data, p paper) (section, error) {
	s := section{ID: "pairs", Title: "Preference pairs", Missing: "nothing was mined, for no method of the run is dpo"}
	if len(d.Pairs) == 0 {
		return s, nil
	}
	table1, detail, rejected := pairsTable(d, p), minedTable(d), rejectedTable(d, p)
	mined := d.sources(nil, experiments.KindMine)
	table1.Sources, detail.Sources, rejected.Sources = mined, mined, mined
	rejected.Folded = true // Figure 10 shows it
	s.Tables = nonEmpty(table1, detail, rejected, qualityTable(d, p), qualityByJudge(d))
	if len(d.Quality) == 0 {
		s.Text = append(s.Text, "Table 2 is not here: the chosen and rejected responses of no role's pairs were judged.")
	}
	strategies, err := pairStrategyFigures(d)
	if err != nil {
		return s, err
	}
	errors, err := rejectedFigure(d, p)
	if err != nil {
		return s, err
	}
	s.Figures = append(strategies, errors...)
	for i := range s.Figures {
		s.Figures[i].Sources = mined
	}
	return s, nil
}

// pairsTable is the lower half of Table 1 in the paper's layout: means over the
// seeds.
func pairsTable(d Data, p paper) table {
	b, _ := p.compared(d.Run.Backbone)
	t := table{
		Caption: "Preference pairs (the lower half of the paper's Table 1)",
		Paper:   fmt.Sprintf("small figures are the paper's for %s, then the difference", b.Name),
		Heads:   []head{{Text: "Criteria"}, {"Pairs", true}},
	}
	if len(d.Run.Seeds) > 1 {
		t.Caption += ". Means over the seeds"
	}
	add := func(name string, role esc.Role, digits int, printed float64, value func(Pairs) float64) {
		var values []float64
		for _, in := range d.Pairs {
			if in.Role == role {
				values = append(values, value(in))
			}
		}
		if len(values) > 0 {
			t.Rows = append(t.Rows, []cell{text(name), beside(Value(average(values)), &printed, digits)})
		}
	}
	pairs := func(in Pairs) float64 { return float64(in.Mined.Pairs) }
	of := func(e esc.PsyError) func(Pairs) float64 {
		return func(in Pairs) float64 { return float64(in.Mined.PerError[e]) }
	}
	add("Strategy pairs (sp)", esc.SP, 0, float64(b.Pairs.StrategyPairs), pairs)
	add("Response pairs (rg)", esc.RG, 0, float64(b.Pairs.ResponsePairs), pairs)
	add("Characters of a chosen response (rg)", esc.RG, 2, b.Pairs.CharsChosen, func(in Pairs) float64 { return in.Mined.CharsChosen })
	add("Characters of a rejected response (rg)", esc.RG, 2, b.Pairs.CharsRejected, func(in Pairs) float64 { return in.Mined.CharsRejected })
	add("Lack of Empathy (rg)", esc.RG, 0, float64(b.Pairs.LackOfEmpathy), of(esc.LackOfEmpathy))
	add("Early Emotion Shift (rg)", esc.RG, 0, float64(b.Pairs.EmotionShift), of(esc.EarlyEmotionShift))
	add("Template Response (rg)", esc.RG, 0, float64(b.Pairs.Template), of(esc.TemplateResponse))
	return t
}

func average(values []float64) float64 {
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	return sum / float64(len(values))
}

// minedTable is what mining found, for each role and seed.
func minedTable(d Data) table {
	t := table{
		Caption: "What mining found. An error counts the pairs whose first error it is.",
		Heads:   []head{{Text: "Pairs"}, {Text: "Candidates", Number: true}, {Text: "Kept", Number: true}},
	}
	for _, k := range esc.Kinds() {
		t.Heads = append(t.Heads, head{string(k), true})
	}
	for _, name := range errorHeads(unlikeGold) {
		t.Heads = append(t.Heads, head{name, true})
	}
	t.Heads = append(t.Heads, head{"Chars chosen", true}, head{"Chars rejected", true})
	for _, in := range d.Pairs {
		m := in.Mined
		name := pairsName(in.Role)
		if in.Seed != nil {
			name += fmt.Sprintf(", seed %d", *in.Seed)
		}
		row := []cell{text(name), count(m.Candidates), count(m.Pairs)}
		for _, k := range esc.Kinds() {
			if in.Role == esc.VM {
				row = append(row, count(m.PerKind[k]))
			} else {
				row = append(row, number(absent))
			}
		}
		for _, e := range esc.PsyErrors() {
			row = append(row, count(m.PerError[e]))
		}
		t.Rows = append(t.Rows, append(row, decimal(&m.CharsChosen, 2), decimal(&m.CharsRejected, 2)))
	}
	return t
}

// byRole adds up the pairs of a role over the seeds.
func byRole(d Data, role esc.Role) (sum Pairs, ok bool) {
	sum = Pairs{Role: role, Mined: esc.Mined{PerError: map[esc.PsyError]int{}}}
	for _, in := range d.Pairs {
		if in.Role != role {
			continue
		}
		ok = true
		sum.Mined.Pairs += in.Mined.Pairs
		for e, n := range in.Mined.PerError {
			sum.Mined.PerError[e] += n
		}
		for s := range sum.Gold {
			sum.Gold[s] += in.Gold[s]
			sum.Rejected[s] += in.Rejected[s]
		}
	}
	return sum, ok && sum.Mined.Pairs > 0
}

// pairStrategyFigures are Figure 9: the strategies of both sides.
func pairStrategyFigures(d Data) ([]figure, error) {
	var figures []figure
	for _, role := range []esc.Role{esc.SP, esc.VM} {
		in, ok := byRole(d, role)
		chosen, rejected := shares(in.Gold[:]), shares(in.Rejected[:])
		if !ok || chosen == nil || rejected == nil {
			continue
		}
		f, err := bars("Strategies of the "+pairsName(role)+" (Figure 9)", "% of pairs", strategyNames(),
			[]series{{name: "chosen", color: inkColor, values: chosen}, {name: "rejected", color: palette(rejectedColor), values: rejected}}, nil)
		if err != nil {
			return nil, err
		}
		figures = append(figures, f)
	}
	return figures, nil
}

const rejectedColor = 6

// paperRejected are the paper's response pairs by error.
func paperRejected(b paperBackbone) map[esc.PsyError]int {
	return map[esc.PsyError]int{esc.LackOfEmpathy: b.Pairs.LackOfEmpathy, esc.EarlyEmotionShift: b.Pairs.EmotionShift, esc.TemplateResponse: b.Pairs.Template}
}

// rejectedTable is Figure 10 in numbers: the errors of rejected responses.
func rejectedTable(d Data, p paper) table {
	b, _ := p.compared(d.Run.Backbone)
	t := table{
		Caption: "Errors of the rejected responses, each pair by its first (the paper's Figure 10)",
		Paper:   fmt.Sprintf("small figures are the shares of the paper's pairs for %s (Table 1), then the difference", b.Name),
		Heads:   []head{{Text: "Pairs"}},
	}
	for _, name := range errorHeads(unlikeGold) {
		t.Heads = append(t.Heads, head{name, true})
	}
	for _, role := range []esc.Role{esc.RG, esc.VM} {
		in, ok := byRole(d, role)
		if !ok {
			continue
		}
		row := []cell{text(pairsName(role))}
		for _, e := range esc.PsyErrors() {
			c := percent(in.Mined.PerError[e], in.Mined.Pairs)
			share := 100 * float64(in.Mined.PerError[e]) / float64(in.Mined.Pairs)
			c.Text = strconv.Itoa(in.Mined.PerError[e]) + " (" + c.Text + ")"
			if n := paperRejected(b)[e]; role == esc.RG && n > 0 {
				printed := 100 * float64(n) / float64(b.Pairs.ResponsePairs)
				c.Paper, c.Delta = percentage(&printed), delta(&share, &printed, 1)
			}
			row = append(row, c)
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

// rejectedFigure is Figure 10, with the paper's bars where the backbone is the paper's.
func rejectedFigure(d Data, p paper) ([]figure, error) {
	b, same := p.compared(d.Run.Backbone)
	names := errorHeads(unlikeGold)
	var data []series
	add := func(name string, color color.NRGBA, pairs int, counts map[esc.PsyError]int) {
		s := series{name: name, color: color}
		for _, e := range esc.PsyErrors() {
			s.values = append(s.values, 100*float64(counts[e])/float64(pairs))
		}
		data = append(data, s)
	}
	for i, role := range []esc.Role{esc.RG, esc.VM} {
		if in, ok := byRole(d, role); ok {
			add(pairsName(role), palette(firstSystem+i), in.Mined.Pairs, in.Mined.PerError)
		}
	}
	if len(data) == 0 {
		return nil, nil
	}
	if same {
		add("the paper's response pairs, "+b.Name, palette(noErrorColor), b.Pairs.ResponsePairs, paperRejected(b))
	}
	f, err := bars("Errors of the rejected responses (Figure 10)", "% of pairs", names, data, nil)
	return []figure{f}, err
}

// scoreHeads are the judge's columns.
func scoreHeads() []head {
	var heads []head
	for _, c := range experiments.Table3() {
		if c.Judged() {
			heads = append(heads, head{c.Head + " ↑", true})
		}
	}
	return heads
}

// qualityTable is Table 2.
func qualityTable(d Data, p paper) table {
	b, _ := p.compared(d.Run.Backbone)
	t := table{
		Caption: "The judge's scores of chosen and rejected responses (the paper's Table 2)",
		Paper:   fmt.Sprintf("small figures are the paper's for %s, then the difference", b.Name),
		Heads:   append([]head{{Text: "Pairs"}, {Text: "Side"}, {"Judged", true}}, scoreHeads()...),
	}
	var roles []string
	for _, q := range d.Quality {
		roles = append(roles, string(q.Role))
		side := func(name string, scores, printed [4]float64) {
			row := []cell{text(pairsName(q.Role)), text(name), count(q.Samples)}
			for i := range scores {
				if d.Run.Judge.likePaper() {
					row = append(row, beside(&scores[i], &printed[i], 2))
				} else {
					row = append(row, decimal(&scores[i], 2))
				}
			}
			t.Rows = append(t.Rows, row)
		}
		chosen, rejected := q.Chosen.list(), q.Rejected.list()
		side("chosen", chosen, b.Quality.Chosen)
		side("rejected", rejected, b.Quality.Rejected)
		row := []cell{text(pairsName(q.Role)), text("improvement"), text("")}
		for i := range chosen {
			better, printed := improvement(chosen[i], rejected[i]), improvement(b.Quality.Chosen[i], b.Quality.Rejected[i])
			c := number(percentage(better))
			if d.Run.Judge.likePaper() {
				c.Paper, c.Delta = percentage(printed), delta(better, printed, 1)
			}
			row = append(row, c)
		}
		t.Rows = append(t.Rows, row)
	}
	span(t.Rows, 0)
	t.Sources = d.sources(roles, experiments.KindQuality)
	return t
}

// improvement is by how many percent the chosen score is above the rejected
// one; nil where that is 0.
func improvement(chosen, rejected float64) *float64 {
	if rejected == 0 {
		return nil
	}
	return Value(100 * (chosen - rejected) / rejected)
}

func pairsName(r esc.Role) string {
	switch r {
	case esc.SP:
		return "strategy pairs (sp)"
	case esc.RG:
		return "response pairs (rg)"
	case esc.VM:
		return "coupled pairs (vm)"
	}
	return string(r)
}
