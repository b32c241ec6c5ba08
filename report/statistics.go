package report

import (
	"fmt"
	"strconv"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
)

// strategySection shows which strategies the systems choose: Figure 3 and
// Figure 4.
func strategySection(d Data, _ paper) (section, error) {
	s := section{ID: "strategies", Title: "Strategies"}
	shares := table{Caption: "Share of each strategy among the test turns (the paper's Figure 3)", Heads: []head{{Text: "System"}}}
	preferences := table{Caption: "Preference of each strategy, equation 7: 1 is no preference; B is the standard deviation", Heads: []head{{Text: "System"}}}
	for _, st := range esc.Strategies() {
		shares.Heads = append(shares.Heads, head{st.String(), true})
		preferences.Heads = append(preferences.Heads, head{st.String(), true})
	}
	preferences.Heads = append(preferences.Heads, head{"B", true})

	var sharesOf, preferencesOf, bias []series
	add := func(name string, color int, counts [esc.NumStrategies]int) {
		total := 0
		for _, n := range counts {
			total += n
		}
		if total == 0 {
			return
		}
		row, s := []cell{text(name)}, series{name: name, color: color}
		for _, n := range counts {
			row = append(row, percent(n, total))
			s.values = append(s.values, 100*float64(n)/float64(total))
		}
		shares.Rows = append(shares.Rows, row)
		sharesOf = append(sharesOf, s)
	}
	add("gold", goldColor, d.GoldStrategies)
	for i, r := range d.Systems {
		add(r.System(), firstSystem+i, r.Strategies)
		if b := r.Columns.PreferenceBias; b != nil {
			bias = append(bias, series{r.System(), firstSystem + i, []float64{*b}})
		}
		if r.Preference == nil {
			continue
		}
		row := []cell{text(r.System())}
		for _, p := range r.Preference {
			row = append(row, decimal(&p, 2))
		}
		preferences.Rows = append(preferences.Rows, append(row, decimal(r.Columns.PreferenceBias, 2)))
		preferencesOf = append(preferencesOf, series{r.System(), firstSystem + i, r.Preference})
	}
	s.Tables = nonEmpty(shares, preferences)

	names := make([]string, esc.NumStrategies)
	for i, st := range esc.Strategies() {
		names[i] = st.String()
	}
	for _, chart := range []struct {
		data []series
		draw func([]series) (figure, error)
	}{
		{sharesOf, func(data []series) (figure, error) {
			return bars("Strategy distribution", "% of turns", names, data, nil)
		}},
		{bias, func(data []series) (figure, error) { return singles("Preference bias", "B", data) }},
		{preferencesOf, func(data []series) (figure, error) {
			return bars("Strategy preference (dashed: no preference)", "p", names, data, Value(1))
		}},
	} {
		if len(chart.data) == 0 {
			continue
		}
		f, err := chart.draw(chart.data)
		if err != nil {
			return s, err
		}
		s.Figures = append(s.Figures, f)
	}
	return s, nil
}

// errorSection shows the psychological errors: Figure 2.
func errorSection(d Data, _ paper) (section, error) {
	s := section{ID: "errors", Title: "Psychological errors"}
	t := table{
		Caption: "Replies with a psychological error, by class (the paper's Figure 2); a reply may have several",
		Heads:   []head{{Text: "System"}, {Text: "Judged", Number: true}},
	}
	names := make([]string, esc.NumPsyErrors)
	for i, e := range esc.PsyErrors() {
		names[i] = e.Name()
		t.Heads = append(t.Heads, head{e.Name(), true})
	}
	t.Heads = append(t.Heads, head{"No error", true})
	var data []series
	for i, r := range d.Systems {
		if r.Errors == nil || r.Errors.Judged == 0 {
			continue
		}
		row, line := []cell{text(r.System()), count(r.Errors.Judged)}, series{name: r.System(), color: firstSystem + i}
		for _, n := range r.Errors.Classes {
			row = append(row, percent(n, r.Errors.Judged))
			line.values = append(line.values, 100*float64(n)/float64(r.Errors.Judged))
		}
		t.Rows = append(t.Rows, append(row, percent(r.Errors.Clean, r.Errors.Judged)))
		data = append(data, line)
	}
	if len(data) == 0 {
		return s, nil
	}
	s.Tables = []table{t}
	f, err := bars("Judged replies by psychological error", "% of judged replies", names, data, nil)
	s.Figures = []figure{f}
	return s, err
}

// pairsSection is the lower half of Table 1.
func pairsSection(d Data, p paper) (section, error) {
	t := table{
		Caption: "Preference pairs by inferential preference mining (the lower half of the paper's Table 1). An error counts the pairs whose first error it is.",
		Heads:   []head{{Text: "Pairs"}, {Text: "Candidates", Number: true}, {Text: "Kept", Number: true}},
	}
	for _, k := range esc.Kinds() {
		t.Heads = append(t.Heads, head{string(k), true})
	}
	for _, e := range esc.PsyErrors() {
		t.Heads = append(t.Heads, head{e.Name(), true})
	}
	t.Heads = append(t.Heads, head{"Chars chosen", true}, head{"Chars rejected", true})
	for _, in := range d.Pairs {
		m := in.Mined
		row := []cell{text(pairsName(in.Role)), count(m.Candidates), count(m.Pairs)}
		for _, k := range esc.Kinds() {
			if in.Role == experiments.VM {
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
	if len(t.Rows) == 0 {
		return section{}, nil
	}
	b, _ := p.compared(d.Run.Backbone)
	t.Notes = []string{fmt.Sprintf("The paper's %s: %d strategy pairs and %d response pairs (%d lack of empathy, %d early emotion shift, %d template response; %.2f characters chosen, %.2f rejected).",
		b.Name, b.Pairs.StrategyPairs, b.Pairs.ResponsePairs, b.Pairs.LackOfEmpathy, b.Pairs.EmotionShift, b.Pairs.Template, b.Pairs.CharsChosen, b.Pairs.CharsRejected)}
	return section{ID: "pairs", Title: "Preference pairs", Tables: []table{t}}, nil
}

func pairsName(r experiments.Role) string {
	switch r {
	case experiments.SP:
		return "strategy pairs (sp)"
	case experiments.RG:
		return "response pairs (rg)"
	case experiments.VM:
		return "coupled pairs (vm)"
	}
	return string(r)
}

// corpusSection is the upper half of Table 1, and Table 6.
func corpusSection(d Data, p paper) (section, error) {
	size := table{
		Caption: "Chat messages of the corpus (the upper half of the paper's Table 1)",
		Heads: []head{{Text: "Split"}, {"Dialogues", true}, {"Utterances", true}, {"Assistant", true}, {"User", true},
			{"Turns per dialogue", true}, {"Characters", true}, {"Assistant's", true}, {"User's", true}},
	}
	strategies := table{Caption: "Supporter utterances by strategy (the paper's Table 6)", Heads: []head{{Text: "Split"}}}
	for _, st := range esc.Strategies() {
		strategies.Heads = append(strategies.Heads, head{st.String(), true})
	}
	strategies.Heads = append(strategies.Heads, head{"Total", true})
	if len(d.Corpus) == 0 {
		return section{}, nil
	}
	for _, in := range append(append([]Split{}, d.Corpus...), Split{"the paper's train", p.Corpus}) {
		st := in.Statistics
		size.Rows = append(size.Rows, []cell{text(in.Name), count(st.Dialogues), count(st.Utterances), count(st.Assistant), count(st.User),
			decimal(&st.AvgTurns, 2), decimal(&st.AvgChars, 2), decimal(&st.AvgCharsAssistant, 2), decimal(&st.AvgCharsUser, 2)})
		row, total := []cell{text(in.Name)}, 0
		for _, n := range st.Strategies {
			row, total = append(row, count(n)), total+n
		}
		strategies.Rows = append(strategies.Rows, append(row, count(total)))
	}
	return section{ID: "corpus", Title: "Corpus", Tables: []table{size, strategies}}, nil
}

// trainingSection lists the training stages with their loss curves.
func trainingSection(d Data, _ paper) (section, error) {
	s := section{ID: "training", Title: "Training"}
	t := table{
		Caption: "Training stages. Accuracy and margin: how often, and by how much, the implicit reward of the chosen side is the higher one.",
		Heads: []head{{Text: "Stage"}, {Text: "Kind"}, {"Steps", true}, {"Tokens", true}, {"Loss", true},
			{"Validation loss", true}, {"DPO accuracy", true}, {"DPO margin", true}},
	}
	for _, in := range d.Training {
		accuracy := number(absent)
		if in.Accuracy != nil {
			accuracy = number(fixed(Value(100**in.Accuracy), 1) + " %")
		}
		t.Rows = append(t.Rows, []cell{text(in.Stage), text(in.Kind), count(in.Steps), number(strconv.FormatInt(in.Tokens, 10)),
			decimal(in.Loss, 4), decimal(in.ValidationLoss, 4), accuracy, decimal(in.Margin, 4)})
		f, ok, err := curve(in)
		if err != nil {
			return s, err
		}
		if ok {
			s.Figures = append(s.Figures, f)
		}
	}
	s.Tables = nonEmpty(t)
	return s, nil
}
