package report

import (
	"bytes"
	"fmt"
	"html/template"
	"image/color"
	"math"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// figure is an SVG element ready to stand in HTML.
type figure struct {
	Title string
	SVG   template.HTML
	Wide  bool
}

// series is one system's values, drawn in the system's colour.
type series struct {
	name   string
	color  int // palette
	values []float64
}

// Colours that are no system's.
const (
	goldColor   = 0
	firstSystem = 1
)

// palette returns colours that stay apart for colour-blind readers (Okabe and
// Ito), then others.
func palette(i int) color.Color {
	colors := []color.RGBA{
		{0x33, 0x33, 0x33, 0xff}, {0x00, 0x72, 0xb2, 0xff}, {0xe6, 0x9f, 0x00, 0xff}, {0x00, 0x9e, 0x73, 0xff},
		{0xcc, 0x79, 0xa7, 0xff}, {0x56, 0xb4, 0xe9, 0xff}, {0xd5, 0x5e, 0x00, 0xff}, {0xf0, 0xe4, 0x42, 0xff},
		{0x99, 0x99, 0x99, 0xff}, {0x66, 0x3d, 0x8f, 0xff}, {0x8c, 0x51, 0x0a, 0xff},
	}
	return colors[i%len(colors)]
}

// bars draws grouped bars: a group per name, a bar per series. reference, if
// any, is a horizontal line.
func bars(title, unit string, names []string, data []series, reference *float64) (figure, error) {
	const groupWidth = 0.84
	width := groupWidth / float64(len(data))
	var all []bar
	for i, s := range data {
		for g, v := range s.values {
			all = append(all, bar{float64(g) - groupWidth/2 + float64(i)*width, width * 0.94, v, s.color})
		}
	}
	p, err := barPlot(unit, names, all, reference)
	if err != nil {
		return figure{}, fmt.Errorf("report: figure %q: %w", title, err)
	}
	for _, s := range data {
		p.Legend.Add(s.name, swatch{palette(s.color)})
	}
	p.X.Max += 1.1 * float64(len(names)) / 8 // room for the legend
	svg, err := render(p, 26*vg.Centimeter, 8.5*vg.Centimeter, title)
	return figure{Title: title, SVG: svg, Wide: true}, err
}

// singles draws one bar per series, named below it.
func singles(title, unit string, data []series) (figure, error) {
	var all []bar
	var names []string
	for i, s := range data {
		all = append(all, bar{float64(i) - 0.35, 0.7, s.values[0], s.color})
		names = append(names, strings.ReplaceAll(s.name, "/", " "))
	}
	p, err := barPlot(unit, names, all, nil)
	if err != nil {
		return figure{}, fmt.Errorf("report: figure %q: %w", title, err)
	}
	svg, err := render(p, 26*vg.Centimeter, 7*vg.Centimeter, title)
	return figure{Title: title, SVG: svg, Wide: true}, err
}

// bar stands on the axis at x.
type bar struct {
	x, width, height float64
	color            int
}

func barPlot(unit string, names []string, all []bar, reference *float64) (*plot.Plot, error) {
	p := newPlot(unit)
	grid := plotter.NewGrid()
	grid.Vertical.Width = 0
	grid.Horizontal.Color = color.Gray{0xdd}
	p.Add(grid)
	ticks := make([]plot.Tick, len(names))
	for g, name := range names {
		ticks[g] = plot.Tick{Value: float64(g), Label: wrap(name, 14)}
	}
	p.X.Tick.Marker = plot.ConstantTicks(ticks)
	p.X.Tick.Length = 0
	p.X.Min, p.X.Max = -0.5, float64(len(names))-0.5
	top := 0.0
	for _, b := range all {
		shape, err := plotter.NewPolygon(plotter.XYs{{X: b.x, Y: 0}, {X: b.x + b.width, Y: 0}, {X: b.x + b.width, Y: b.height}, {X: b.x, Y: b.height}})
		if err != nil {
			return nil, err
		}
		shape.Color = palette(b.color)
		shape.LineStyle.Width = 0
		p.Add(shape)
		top = math.Max(top, b.height)
	}
	if reference != nil {
		line, err := plotter.NewLine(plotter.XYs{{X: -0.5, Y: *reference}, {X: float64(len(names)) - 0.5, Y: *reference}})
		if err != nil {
			return nil, err
		}
		line.Dashes = []vg.Length{vg.Points(4), vg.Points(3)}
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

// wrap breaks text at spaces into lines of about the width.
func wrap(s string, width int) string {
	var b strings.Builder
	line := 0
	for i, word := range strings.Fields(s) {
		switch {
		case i == 0:
		case line+1+len(word) > width:
			b.WriteByte('\n')
			line = 0
		default:
			b.WriteByte(' ')
			line++
		}
		b.WriteString(word)
		line += len(word)
	}
	return b.String()
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

// swatch is a bar's mark in the legend.
type swatch struct{ color color.Color }

func (s swatch) Thumbnail(c *draw.Canvas) {
	c.FillPolygon(s.color, []vg.Point{
		{X: c.Min.X, Y: c.Min.Y}, {X: c.Min.X, Y: c.Max.Y}, {X: c.Max.X, Y: c.Max.Y}, {X: c.Max.X, Y: c.Min.Y},
	})
}

// curve draws a training stage's losses; ok is false without two points.
func curve(t Training) (f figure, ok bool, err error) {
	var train, validation plotter.XYs
	for _, pt := range t.Curve {
		if pt.Loss != nil {
			train = append(train, plotter.XY{X: float64(pt.Step), Y: *pt.Loss})
		}
		if pt.Validation != nil {
			validation = append(validation, plotter.XY{X: float64(pt.Step), Y: *pt.Validation})
		}
	}
	if len(train)+len(validation) < 2 {
		return figure{}, false, nil
	}
	p := newPlot("loss")
	p.X.Label.Text = "step"
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = color.Gray{0xe6}, color.Gray{0xdd}
	p.Add(grid)
	for i, s := range []struct {
		name   string
		points plotter.XYs
	}{{"train", train}, {"validation", validation}} {
		if len(s.points) == 0 {
			continue
		}
		line, dots, err := plotter.NewLinePoints(s.points)
		if err != nil {
			return figure{}, false, fmt.Errorf("report: loss curve of %s: %w", t.Stage, err)
		}
		line.Color, line.Width = palette(i+1), vg.Points(1.4)
		dots.Color, dots.Shape, dots.Radius = palette(i+1), draw.CircleGlyph{}, vg.Points(1.8)
		p.Add(line)
		if s.name == "validation" {
			p.Add(dots)
		}
		p.Legend.Add(s.name, line)
	}
	svg, err := render(p, 13*vg.Centimeter, 7*vg.Centimeter, "Loss of "+t.Stage)
	return figure{Title: t.Stage, SVG: svg}, true, err
}

func newPlot(unit string) *plot.Plot {
	p := plot.New()
	p.Y.Label.Text = unit
	for _, f := range []*font.Font{
		&p.X.Label.TextStyle.Font, &p.Y.Label.TextStyle.Font,
		&p.X.Tick.Label.Font, &p.Y.Tick.Label.Font, &p.Legend.TextStyle.Font,
	} {
		f.Variant = "Sans"
		f.Size = vg.Points(10)
	}
	p.X.Tick.Label.Font.Size, p.Y.Tick.Label.Font.Size = vg.Points(9), vg.Points(9)
	p.BackgroundColor = color.Transparent
	p.X.Tick.Marker, p.Y.Tick.Marker = roundTicks{}, roundTicks{}
	p.Legend.Top = true
	p.Legend.Padding = vg.Points(2)
	p.Legend.ThumbnailWidth = vg.Points(12)
	p.X.LineStyle.Color, p.Y.LineStyle.Color = color.Gray{0x88}, color.Gray{0x88}
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
	head := fmt.Sprintf(`<svg role="img" aria-label="%s" `, template.HTMLEscapeString(title))
	return template.HTML(append([]byte(head), svg[start+len("<svg "):]...)), nil
}
