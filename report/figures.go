package report

import (
	"bytes"
	"fmt"
	"html/template"
	"image/color"
	"math"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
)

// figure is an SVG element ready to stand in HTML. The page draws its legend,
// where long names have room.
type figure struct {
	Title  string
	Legend []key
	SVG    template.HTML
	Wide   bool
	// Sources are the stages whose artifacts the figure shows.
	Sources []Stage
}

// key is one colour of a legend.
type key struct {
	Name  string
	Color template.CSS
}

// series is one system's values, drawn in the system's colour. The interval, if
// any, is the first value's.
type series struct {
	name     string
	color    color.NRGBA
	values   []float64
	interval *Interval
}

// firstSystem is the first colour of the palette for what is no system.
const firstSystem = 1

// palette returns colours that stay apart for colour-blind readers (Okabe and
// Ito), then others. The first, gold's, becomes the page's ink.
func palette(i int) color.NRGBA {
	colors := []color.NRGBA{
		inkColor, {0x00, 0x72, 0xb2, 0xff}, {0xe6, 0x9f, 0x00, 0xff}, {0x00, 0x9e, 0x73, 0xff},
		{0xcc, 0x79, 0xa7, 0xff}, {0x56, 0xb4, 0xe9, 0xff}, {0xd5, 0x5e, 0x00, 0xff}, {0x7b, 0x4f, 0xa3, 0xff},
		{0x8a, 0x8f, 0x98, 0xff}, {0x8c, 0x51, 0x0a, 0xff}, {0xc9, 0xb8, 0x1c, 0xff}, {0xb2, 0x18, 0x2b, 0xff},
		{0x7f, 0xbc, 0x41, 0xff},
	}
	return colors[i%len(colors)]
}

// color is a system's: blues for vanilla, oranges for decoupled, the darker the more
// it is trained; two families that colour-blind readers tell apart.
func (r Row) color() color.NRGBA {
	shades := map[experiments.Paradigm][6]color.NRGBA{
		experiments.Vanilla: {{0xbf, 0xda, 0xee, 0xff}, {0xa9, 0xcd, 0xe8, 0xff}, {0x93, 0xc0, 0xe2, 0xff},
			{0x7d, 0xb2, 0xdb, 0xff}, {0x52, 0x98, 0xcf, 0xff}, {0x1b, 0x69, 0xad, 0xff}},
		experiments.Decoupled: {{0xfa, 0xd9, 0xae, 0xff}, {0xf7, 0xca, 0x91, 0xff}, {0xf4, 0xbb, 0x74, 0xff},
			{0xf0, 0xac, 0x57, 0xff}, {0xe8, 0x91, 0x2d, 0xff}, {0xb8, 0x5c, 0x00, 0xff}},
	}
	if kind := slices.Index(esc.Kinds(), esc.Kind(r.Pairs)); kind >= 0 {
		return [3]color.NRGBA{{0x4b, 0x3f, 0x9e, 0xff}, {0x7f, 0x72, 0xc4, 0xff}, {0xb4, 0xab, 0xe0, 0xff}}[kind%3]
	}
	methods := []experiments.Method{experiments.MethodBase, experiments.MethodDirectRefine, experiments.MethodSelfRefine,
		experiments.MethodEmotionCoT, experiments.MethodSFT, experiments.MethodDPO}
	family, known := shades[r.Paradigm]
	if i := slices.Index(methods, r.Method); known && i >= 0 {
		return family[i]
	}
	return palette(noErrorColor)
}

// systemSeries are a system's values, the first with an interval.
func systemSeries(r Row, name string, interval *Interval, values ...float64) series {
	return series{name: name, color: r.color(), values: values, interval: interval}
}

// Colours of the drawing that the page replaces by its own, so that a figure
// follows the page into the dark.
var (
	inkColor  = color.NRGBA{0x33, 0x33, 0x33, 0xff}
	axisColor = color.NRGBA{0x88, 0x88, 0x88, 0xff}
	gridColor = color.NRGBA{0xdd, 0xdd, 0xdd, 0xff}
)

func newKey(name string, c color.NRGBA) key {
	css := fmt.Sprintf("#%02x%02x%02x%02x", c.R, c.G, c.B, c.A)
	if c == inkColor {
		css = "var(--ink)"
	}
	return key{name, template.CSS(css)}
}

// bars draws grouped bars: a group per name, a bar per series. reference, if
// any, is a horizontal line.
func bars(title, unit string, names []string, data []series, reference *float64) (figure, error) {
	const groupWidth = 0.84
	width := groupWidth / float64(len(data))
	var all []bar
	for i, s := range data {
		for g, v := range s.values {
			all = append(all, bar{x: float64(g) - groupWidth/2 + float64(i)*width, width: width * 0.94, height: v, color: s.color})
		}
	}
	p, err := barPlot(unit, names, all, reference)
	if err != nil {
		return figure{}, fmt.Errorf("report: figure %q: %w", title, err)
	}
	legend := make([]key, len(data))
	for i, s := range data {
		legend[i] = newKey(s.name, s.color)
	}
	svg, err := render(p, 23*vg.Centimeter, 7*vg.Centimeter, title)
	return figure{Title: title, Legend: legend, SVG: svg, Wide: true}, err
}

// singles draws one bar per series, named below it, its value above, with its
// interval as a whisker.
func singles(title, unit string, data []series) (figure, error) {
	var all []bar
	var names []string
	var values plotter.XYLabels
	for i, s := range data {
		all = append(all, bar{x: float64(i) - 0.25, width: 0.5, height: s.values[0], color: s.color, whisker: s.interval})
		names = append(names, strings.ReplaceAll(s.name, "/", " "))
		above := s.values[0]
		if s.interval != nil {
			above = max(above, s.interval.High)
		}
		values.XYs = append(values.XYs, plotter.XY{X: float64(i), Y: above})
		values.Labels = append(values.Labels, fixed(&s.values[0], 2))
	}
	p, err := barPlot(unit, names, all, nil)
	if err != nil {
		return figure{}, fmt.Errorf("report: figure %q: %w", title, err)
	}
	labels, err := plotter.NewLabels(values)
	if err != nil {
		return figure{}, fmt.Errorf("report: figure %q: %w", title, err)
	}
	for i := range labels.TextStyle {
		labels.TextStyle[i].Font = p.X.Tick.Label.Font
		labels.TextStyle[i].XAlign = draw.XCenter
	}
	labels.Offset.Y = vg.Points(3)
	p.Add(labels)
	p.Y.Max *= 1.1 // room for the values
	svg, err := render(p, 23*vg.Centimeter, 5.5*vg.Centimeter, title)
	return figure{Title: title, SVG: svg, Wide: true}, err
}

// bar stands at x, on the axis or on another that ends at base.
type bar struct {
	x, width, height float64
	color            color.NRGBA
	base             float64
	whisker          *Interval
}

func barPlot(unit string, names []string, all []bar, reference *float64) (*plot.Plot, error) {
	p := newPlot(unit)
	grid := plotter.NewGrid()
	grid.Vertical.Width = 0
	grid.Horizontal.Color = gridColor
	p.Add(grid)
	ticks := make([]plot.Tick, len(names))
	for g, name := range names {
		ticks[g] = plot.Tick{Value: float64(g), Label: wrap(name, min(16, 125/len(names)))} // a page has room for about 125
	}
	p.X.Tick.Marker = plot.ConstantTicks(ticks)
	p.X.Padding = 0 // bars stand on the axis
	p.X.Min, p.X.Max = -0.5, float64(len(names))-0.5
	top := 0.0
	for _, b := range all {
		shape, err := plotter.NewPolygon(plotter.XYs{
			{X: b.x, Y: b.base}, {X: b.x + b.width, Y: b.base}, {X: b.x + b.width, Y: b.base + b.height}, {X: b.x, Y: b.base + b.height}})
		if err != nil {
			return nil, err
		}
		shape.Color = b.color
		shape.LineStyle.Width = 0
		p.Add(shape)
		top = math.Max(top, b.base+b.height)
		if w := b.whisker; w != nil {
			for _, xys := range whisker(b.x+b.width/2, b.width/5, w) {
				line, err := plotter.NewLine(xys)
				if err != nil {
					return nil, err
				}
				line.Color, line.Width = inkColor, vg.Points(1.2)
				p.Add(line)
			}
			top = math.Max(top, w.High)
		}
	}
	if reference != nil {
		line, err := plotter.NewLine(plotter.XYs{{X: -0.5, Y: *reference}, {X: float64(len(names)) - 0.5, Y: *reference}})
		if err != nil {
			return nil, err
		}
		line.Color, line.Dashes = inkColor, []vg.Length{vg.Points(4), vg.Points(3)}
		p.Add(line)
		top = math.Max(top, *reference)
	}
	if top == 0 {
		top = 1
	}
	p.X.Min, p.X.Max = -0.5, float64(len(names))-0.5
	p.Y.Min, p.Y.Max = 0, top*1.05
	return p, nil
}

// whisker are the lines of an interval: from end to end, and a stroke at each.
func whisker(x, half float64, i *Interval) []plotter.XYs {
	return []plotter.XYs{
		{{X: x, Y: i.Low}, {X: x, Y: i.High}},
		{{X: x - half, Y: i.Low}, {X: x + half, Y: i.Low}},
		{{X: x - half, Y: i.High}, {X: x + half, Y: i.High}},
	}
}

// wrap breaks text at spaces and behind slashes into lines of about the width.
func wrap(s string, width int) string {
	text, line := "", 0
	for s != "" {
		word := s
		if i := strings.IndexAny(s, " /"); i >= 0 {
			word = s[:i+1]
		}
		s = s[len(word):]
		if line > 0 && line+len(strings.TrimRight(word, " ")) > width {
			text, line = strings.TrimRight(text, " ")+"\n", 0
		}
		text += word
		line += len(word)
	}
	return text
}

// roundTicks puts about five labelled ticks at round numbers.
type roundTicks struct{}

func (roundTicks) Ticks(low, high float64) []plot.Tick {
	span := high - low
	if !(span > 0) {
		return []plot.Tick{{Value: low, Label: strconv.FormatFloat(low, 'g', 4, 64)}}
	}
	exponent := int(math.Floor(math.Log10(span / 4)))
	unit := math.Pow10(exponent)
	step := unit
	for _, m := range []float64{2, 5, 10} {
		if span/step > 6 {
			step = m * unit
		}
	}
	digits := max(0, -exponent)
	if step == 10*unit {
		digits = max(0, -exponent-1)
	}
	var ticks []plot.Tick
	for k := math.Ceil(low / step); k*step <= high*(1+1e-12); k++ {
		ticks = append(ticks, plot.Tick{Value: k * step, Label: strconv.FormatFloat(k*step+0, 'f', digits, 64)})
	}
	return ticks
}

// curveOf is what of a training is drawn by step.
type curveOf struct {
	name, unit string
	value      func(Point) *float64
	validation bool
}

// curves are those of a training; DPO alone has the last two.
func curves() []curveOf {
	return []curveOf{
		{"loss", "loss", func(p Point) *float64 { return p.Loss }, true},
		{"margin", "reward margin", func(p Point) *float64 { return p.Margin }, false},
		{"accuracy", "reward accuracy", func(p Point) *float64 { return p.Accuracy }, false},
	}
}

// draw draws a training stage's curve, a long noisy one with its running mean,
// the seeds side by side; ok is false without two points.
func (of curveOf) draw(stage string, seeds []Training) (f figure, ok bool, err error) {
	p := newPlot(of.unit)
	p.X.Label.Text = "step"
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = gridColor, gridColor
	p.Add(grid)
	var legend []key
	points := 0
	for i, t := range seeds {
		for _, s := range of.lines(t, i, len(seeds)) {
			if len(s.points) == 0 {
				continue
			}
			points = max(points, len(s.points))
			line, dots, err := plotter.NewLinePoints(s.points)
			if err != nil {
				return figure{}, false, fmt.Errorf("report: %s curve of %s: %w", of.name, t.Stage, err)
			}
			line.Color, line.Width = s.color, vg.Points(1.6)
			dots.Color, dots.Shape, dots.Radius = s.color, draw.CircleGlyph{}, vg.Points(2)
			p.Add(line)
			if s.dotted {
				line.Dashes = []vg.Length{vg.Points(3), vg.Points(2)}
				p.Add(dots)
			}
			if i == 0 || !s.dotted { // validation is dashed in every seed's colour
				legend = append(legend, newKey(s.name, s.color))
			}
		}
	}
	if points < 2 {
		return figure{}, false, nil
	}
	margin := 0.04 * (p.Y.Max - p.Y.Min)
	p.Y.Min, p.Y.Max = p.Y.Min-margin, p.Y.Max+margin
	title := stage + ": " + of.name
	svg, err := render(p, 10*vg.Centimeter, 6.5*vg.Centimeter, title)
	return figure{Title: title, Legend: legend, SVG: svg}, true, err
}

// oneLegend puts what the figures' legends have before all of them, so that they
// stand in one grid.
func oneLegend(title string, figures []figure) []figure {
	if len(figures) == 0 {
		return nil
	}
	all := figure{Title: title, Wide: true}
	for i := range figures {
		for _, k := range figures[i].Legend {
			if !slices.Contains(all.Legend, k) {
				all.Legend = append(all.Legend, k)
			}
		}
		if all.Sources == nil {
			all.Sources = figures[i].Sources
		}
		figures[i].Legend, figures[i].Sources = nil, nil
	}
	return append([]figure{all}, figures...)
}

// curveLine is one line of a curve.
type curveLine struct {
	name   string
	points plotter.XYs
	color  color.NRGBA
	dotted bool
}

// lines are those of the i-th of several seeds' training.
func (of curveOf) lines(t Training, i, seeds int) []curveLine {
	var train, validation plotter.XYs
	for _, pt := range t.Curve {
		if v := of.value(pt); v != nil {
			train = append(train, plotter.XY{X: float64(pt.Step), Y: *v})
		}
		if pt.Validation != nil && of.validation {
			validation = append(validation, plotter.XY{X: float64(pt.Step), Y: *pt.Validation})
		}
	}
	reach := len(train) / 25
	if seeds > 1 { // smoothed alone: the noise of several would hide them
		_, seed, _ := strings.Cut(t.Stage, "@")
		if reach >= 2 {
			train = runningMean(train, reach)
		}
		return []curveLine{{"seed " + seed, train, palette(firstSystem + i), false}, {"validation", validation, palette(firstSystem + i), true}}
	}
	lines := []curveLine{{"train", train, palette(1), false}}
	if reach >= 2 {
		lines = []curveLine{
			{"train", train, palette(1), false},
			{"running mean", runningMean(train, reach), inkColor, false},
		}
	}
	return append(lines, curveLine{"validation", validation, palette(6), true})
}

// runningMean gives for each point the mean of itself and up to reach
// neighbours on either side.
func runningMean(points plotter.XYs, reach int) plotter.XYs {
	out := make(plotter.XYs, len(points))
	for i, p := range points {
		window := points[max(0, i-reach):min(len(points), i+reach+1)]
		sum := 0.0
		for _, near := range window {
			sum += near.Y
		}
		out[i] = plotter.XY{X: p.X, Y: sum / float64(len(window))}
	}
	return out
}

func newPlot(unit string) *plot.Plot {
	p := plot.New()
	p.Y.Label.Text = unit
	for _, f := range []*font.Font{
		&p.X.Label.TextStyle.Font, &p.Y.Label.TextStyle.Font,
		&p.X.Tick.Label.Font, &p.Y.Tick.Label.Font,
	} {
		f.Variant = "Sans"
		f.Size = vg.Points(10)
	}
	p.X.Tick.Label.Font.Size, p.Y.Tick.Label.Font.Size = vg.Points(9), vg.Points(9)
	p.BackgroundColor = nil
	p.X.Tick.Marker, p.Y.Tick.Marker = roundTicks{}, roundTicks{}
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		axis.LineStyle.Color, axis.Tick.LineStyle.Color = axisColor, axisColor
		axis.Tick.Length = vg.Points(4)
	}
	return p
}

// render draws the plot as an SVG element without XML header; gonum escapes
// the texts in it.
func render(p *plot.Plot, w, h vg.Length, title string) (template.HTML, error) {
	canvas := vgsvg.New(w, h)
	p.Draw(draw.New(canvas))
	var out bytes.Buffer
	if _, err := canvas.WriteTo(&out); err != nil {
		return "", fmt.Errorf("report: draw figure %q: %w", title, err)
	}
	svg := out.Bytes()
	start := bytes.Index(svg, []byte("<svg "))
	if start < 0 {
		return "", fmt.Errorf("report: draw figure %q: no svg element", title)
	}
	// gonum names the font it measured with alone.
	svg = bytes.ReplaceAll(svg, []byte("font-family:Liberation Sans;"), []byte("font-family:'Liberation Sans',Arial,Helvetica,sans-serif;"))
	for _, own := range []struct {
		color color.NRGBA
		css   string
	}{{inkColor, "var(--ink)"}, {axisColor, "var(--soft)"}, {gridColor, "var(--line)"}} {
		c := own.color
		for _, property := range []string{"fill:", "stroke:"} {
			drawn := fmt.Sprintf("%s#%02X%02X%02X", property, c.R, c.G, c.B)
			svg = bytes.ReplaceAll(svg, []byte(drawn), []byte(property+own.css))
		}
	}
	head := fmt.Sprintf(`<svg role="img" aria-label="%s" `, template.HTMLEscapeString(title))
	return template.HTML(append([]byte(head), svg[start+len("<svg "):]...)), nil
}
