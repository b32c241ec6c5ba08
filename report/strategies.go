package report

import (
	"fmt"
	"image/color"
	"math"
	"slices"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
)

// strategySection shows which strategies the systems choose: Figure 3, their
// preference and its bias, and the choice by phase of the dialogue beside the
// gold one.
func strategySection(d Data, _ paper) (section, error) {
	s := section{ID: "strategies", Title: "Strategies", Missing: "no system was evaluated"}
	shares := table{Caption: "Share of each strategy among the test turns (the paper's Figure 3)", Heads: []head{{Text: "System"}}}
	preferences := table{Caption: "Preference of each strategy, equation 7: 1 is no preference; B is the standard deviation", Heads: []head{{Text: "System"}}}
	for _, st := range esc.Strategies() {
		shares.Heads = append(shares.Heads, head{st.String(), true})
		preferences.Heads = append(preferences.Heads, head{st.String(), true})
	}
	preferences.Heads = append(preferences.Heads, head{"B", true})

	var sharesOf, preferencesOf, bias []series
	add := func(name string, color color.NRGBA, counts [esc.NumStrategies]int) {
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
	add("gold", inkColor, d.GoldStrategies)
	for _, r := range d.Systems {
		add(r.System(), r.color(), r.Strategies)
		if b := r.Columns.Of(experiments.ColumnBias); b != nil {
			bias = append(bias, systemSeries(r, r.System(), r.interval(experiments.ColumnBias), *b))
		}
		if r.Preference == nil {
			continue
		}
		row := []cell{text(r.System())}
		for _, p := range r.Preference {
			row = append(row, decimal(&p, 2))
		}
		preferences.Rows = append(preferences.Rows, append(row, decimal(r.Columns.Of(experiments.ColumnBias), 2)))
		preferencesOf = append(preferencesOf, systemSeries(r, r.System(), nil, r.Preference...))
	}
	phases := phaseTable(d)
	generated := d.sources(systemNames(d.Systems), experiments.KindGenerate)
	shares.Sources, phases.Sources = generated, generated
	preferences.Sources = d.sources(systemNames(d.Systems), experiments.KindBias)
	shares.Folded, preferences.Folded = true, true // the figures show them
	temperatures := temperatureTable(d)
	temperatures.Folded = true
	s.Tables = nonEmpty(chosenTable(d), temperatures, shares, preferences, phases)
	names := strategyNames()
	for _, chart := range []struct {
		data    []series
		sources []Stage
		draw    func([]series) (figure, error)
	}{
		{sharesOf, generated, func(data []series) (figure, error) {
			return bars("Strategy distribution (Figure 3)", "% of turns", names, data, nil)
		}},
		{bias, preferences.Sources, func(data []series) (figure, error) { return singles("Preference bias", "B", data) }},
		{preferencesOf, preferences.Sources, func(data []series) (figure, error) {
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
		f.Sources = chart.sources
		s.Figures = append(s.Figures, f)
	}
	f, ok, err := temperatureFigure(d)
	if err != nil {
		return s, err
	}
	if ok {
		s.Figures = append(s.Figures, f)
	}
	figures, err := phaseFigures(d, generated)
	s.Figures = append(s.Figures, figures...)
	return s, err
}

func strategyNames() []string {
	names := make([]string, esc.NumStrategies)
	for i, st := range esc.Strategies() {
		names[i] = st.String()
	}
	return names
}

// strategyParts are the strategies as parts of stacked bars.
func strategyParts() []part {
	var parts []part
	for i, name := range strategyNames() {
		parts = append(parts, part{name, palette(firstSystem + i)})
	}
	return parts
}

// phaseNames names the phases by the share of the dialogue that is over.
func phaseNames() []string {
	var names []string
	for i := range esc.NumPhases {
		names = append(names, fmt.Sprintf("%d–%d %%", 100*i/esc.NumPhases, 100*(i+1)/esc.NumPhases))
	}
	return names
}

// phaseFigure draws the strategies by phase of the dialogue; ok is false
// where nothing was counted.
func phaseFigure(title string, phases esc.Phases) (f figure, ok bool, err error) {
	var names []string
	var bars [][]float64
	for i, name := range phaseNames() {
		if values := shares(phases[i][:]); values != nil {
			names, bars = append(names, name), append(bars, values)
		}
	}
	if len(bars) == 0 {
		return figure{}, false, nil
	}
	f, err = stacked(title, names, strategyParts(), bars, true)
	return f, true, err
}

// phaseFigures draws the gold strategies and each system's by phase.
func phaseFigures(d Data, sources []Stage) ([]figure, error) {
	var figures []figure
	add := func(name string, phases esc.Phases) error {
		f, ok, err := phaseFigure(name, phases)
		if f.Sources = sources; ok && err == nil {
			figures = append(figures, f)
		}
		return err
	}
	if err := add("gold", d.GoldPhases); err != nil {
		return nil, err
	}
	for _, r := range d.Systems {
		if err := add(r.System(), r.Phases); err != nil {
			return nil, err
		}
	}
	if len(figures) < 2 { // gold alone compares with nothing
		return nil, nil
	}
	return oneLegend("Strategies by phase of the dialogue", figures), nil
}

// phaseTable says how far each system's choice is from the gold one, in each
// phase: half the sum of the shares' differences (total variation), the share
// of the turns that would have to change their strategy.
func phaseTable(d Data) table {
	t := table{
		Caption: "Distance to the gold strategies by phase of the dialogue: the share of the turns that would have to choose otherwise for the two distributions to be equal (Figure 8 shows the gold ones)",
		Heads:   []head{{Text: "System"}},
	}
	for _, name := range phaseNames() {
		t.Heads = append(t.Heads, head{name, true})
	}
	t.Heads = append(t.Heads, head{"Whole dialogue", true})
	for _, r := range d.Systems {
		row, any := []cell{text(r.System())}, false
		for i := range d.GoldPhases {
			v := distance(r.Phases[i][:], d.GoldPhases[i][:])
			any = any || v != nil
			row = append(row, number(percentage(v)))
		}
		if any {
			t.Rows = append(t.Rows, append(row, number(percentage(distance(r.Strategies[:], d.GoldStrategies[:])))))
		}
	}
	return t
}

// distance is the total variation distance of two counted distributions, in
// percent; nil where one is empty.
func distance(a, b []int) *float64 {
	x, y := shares(a), shares(b)
	if x == nil || y == nil {
		return nil
	}
	sum := 0.0
	for i := range x {
		sum += math.Abs(x[i]-y[i]) / 2
	}
	return &sum
}

func percentage(v *float64) string {
	if v == nil {
		return absent
	}
	return fixed(v, 1) + " %"
}

// chosenTable shows the strategy metrics with what they rest on.
func chosenTable(d Data) table {
	t := table{
		Caption: "Strategy metrics with what they rest on",
		Groups:  []group{{"", 2}, {"Preference bias B", 4}, {"Replies that name no strategy", 2}, {"Counted as wrong", 3}, {"Left out", 2}},
		Heads: []head{{Text: "System"}, {"Right", true}, {"B ↓", true}, {"95 % interval", true}, {"Without a preference", true}, {"its 95th percentile", true},
			{"Share", true}, {"the authors' code reads one", true}, {"B ↓", true}, {"Qw ↑", true}, {"Q ↑", true}, {"Qw ↑", true}, {"Q ↑", true}},
		Notes: []string{
			"Right is the share of right strategies among those named. B has a floor that is not 0: beside it stands the B of simulated predictors that are right as often and prefer no strategy " +
				"(they take one for another as often as the other for the one), on as many turns: its mean and its 95th percentile. A B below the percentile shows no preference.",
			"The paper leaves replies that name no strategy out of B, Qw and Q. Counted as wrong, they are for Qw and Q predictions of no strategy, for B an equal share of every wrong one.",
			"The authors' code takes what stands between the first brackets of a text, wherever they are, for the strategy, if it is one of the eight names to the letter; here a strategy stands at the start, also without a bracket or by a usual other name. " +
				"Counted are the texts in which their code reads one and this does not; texts of the other kind leave no trace in the predictions.",
		},
	}
	rows := slices.DeleteFunc(slices.Concat(d.Systems, d.Anchors), func(r Row) bool { return r.Chosen == nil })
	for _, r := range rows {
		c := r.Chosen
		interval := absent
		if i := r.interval(experiments.ColumnBias); i != nil {
			interval = fixed(&i.Low, 2) + " … " + fixed(&i.High, 2)
		}
		t.Rows = append(t.Rows, []cell{text(r.System()), number(percentage(Value(100 * c.Accuracy))), decimal(r.Columns.Of(experiments.ColumnBias), 2), number(interval),
			decimal(&c.Floor, 2), decimal(&c.FloorHigh, 2), percent(r.Unparsed, r.Turns), count(r.AuthorsRead), decimal(&c.All.PreferenceBias, 2), decimal(&c.All.WeightedF1, 2), decimal(&c.All.MacroF1, 2),
			decimal(r.Columns.Of("weighted_f1"), 2), decimal(r.Columns.Of("macro_f1"), 2)})
	}
	t.Sources = d.sources(systemNames(rows), experiments.KindBias)
	return t
}
