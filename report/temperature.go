package report

import (
	"fmt"
	"slices"
	"strconv"

	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/esclab/esclab/experiments"
)

// curved are the systems whose strategies were scored.
func curved(d Data) []Row {
	return slices.DeleteFunc(slices.Clone(d.Systems), func(r Row) bool { return len(r.Temperatures) == 0 })
}

// drawnAt says at which temperature the replies were drawn.
func drawnAt(r Run) string {
	switch {
	case r.Temperature == nil:
		return "as sampled"
	case *r.Temperature == 0:
		return "greedy, as replied"
	}
	return "as sampled at " + strconv.FormatFloat(*r.Temperature, 'g', -1, 64)
}

// temperatureTable shows the strategy metrics over temperature beside those of
// the replies.
func temperatureTable(d Data) table {
	rows := curved(d)
	t := table{
		Caption: "Strategy metrics over temperature, from the exact probabilities of the eight strategies",
		Heads:   []head{{Text: "System"}, {Text: "Metric"}},
		Sources: d.sources(systemNames(rows), experiments.KindStrategies),
		Notes: []string{"The probabilities are those of drawing token by token among the tokens that go on one of the eight names; at 0 the likeliest is taken (greedy decoding). " +
			"A figure is the mean over 200 draws from them; no nucleus (top-p) is cut off. Named is the mean probability that the model names any of the eight."},
	}
	if len(rows) == 0 {
		return t
	}
	for _, at := range rows[0].Temperatures {
		t.Heads = append(t.Heads, head{strconv.FormatFloat(at.Temperature, 'g', -1, 64), true})
	}
	t.Heads = append(t.Heads, head{drawnAt(d.Run), true}, head{"Named", true})
	for _, r := range rows {
		for _, metric := range []struct {
			name, column string
			of           func(StrategyNumbers) float64
		}{
			{"B ↓", experiments.ColumnBias, func(n StrategyNumbers) float64 { return n.PreferenceBias }},
			{"Qw ↑", "weighted_f1", func(n StrategyNumbers) float64 { return n.WeightedF1 }},
			{"Q ↑", "macro_f1", func(n StrategyNumbers) float64 { return n.MacroF1 }},
		} {
			row := []cell{text(r.System()), text(metric.name)}
			for _, at := range r.Temperatures {
				row = append(row, decimal(Value(metric.of(at.StrategyNumbers)), 2))
			}
			t.Rows = append(t.Rows, append(row, decimal(r.Columns.Of(metric.column), 2), number(percentage(Value(100*r.Mass)))))
		}
	}
	span(t.Rows, 0)
	return t
}

// temperatureFigure draws B over temperature, with the replies' own B on it; ok is
// false where no strategies were scored.
func temperatureFigure(d Data) (f figure, ok bool, err error) {
	rows := curved(d)
	if len(rows) == 0 {
		return f, false, nil
	}
	p := newPlot("B")
	p.X.Label.Text = "temperature"
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = gridColor, gridColor
	p.Add(grid)
	f = figure{Title: "Preference bias over temperature (dots: " + drawnAt(d.Run) + ")", Sources: d.sources(systemNames(rows), experiments.KindStrategies)}
	for _, r := range rows {
		var points plotter.XYs
		for _, at := range r.Temperatures {
			points = append(points, plotter.XY{X: at.Temperature, Y: at.PreferenceBias})
		}
		line, err := plotter.NewLine(points)
		if err != nil {
			return f, false, fmt.Errorf("report: bias over temperature of %s: %w", r.System(), err)
		}
		color := r.color()
		line.Color, line.Width = color, vg.Points(1.6)
		p.Add(line)
		f.Legend = append(f.Legend, newKey(r.System(), color))
		if b := r.Columns.Of(experiments.ColumnBias); b != nil && d.Run.Temperature != nil {
			dot, err := plotter.NewScatter(plotter.XYs{{X: *d.Run.Temperature, Y: *b}})
			if err != nil {
				return f, false, fmt.Errorf("report: bias of %s: %w", r.System(), err)
			}
			dot.Color, dot.Shape, dot.Radius = color, draw.CircleGlyph{}, vg.Points(3)
			p.Add(dot)
		}
	}
	p.X.Max, p.Y.Min, p.Y.Max = 1.04*p.X.Max, 0, 1.04*p.Y.Max
	f.SVG, err = render(p, 12*vg.Centimeter, 7*vg.Centimeter, f.Title)
	return f, err == nil, err
}
