package report

import (
	"fmt"
	"image/color"

	"gonum.org/v1/plot/vg"
)

// part is one colour of stacked bars.
type part struct {
	name  string
	color color.NRGBA
}

// stacked draws bars whose parts add up to 100 %: shares[b] are bar b's, in
// percent, in the order of parts. A small one takes a third of the page.
func stacked(title string, names []string, parts []part, shares [][]float64, small bool) (figure, error) {
	var all []bar
	for b, values := range shares {
		base := 0.0
		for i, v := range values {
			all = append(all, bar{x: float64(b) - 0.36, width: 0.72, height: v, base: base, color: parts[i].color})
			base += v
		}
	}
	p, err := barPlot("%", names, all, nil)
	if err != nil {
		return figure{}, fmt.Errorf("report: figure %q: %w", title, err)
	}
	p.Y.Max = 100
	f := figure{Title: title, Wide: !small}
	for i := len(parts) - 1; i >= 0; i-- { // from the top, as the eye reads the bars
		f.Legend = append(f.Legend, newKey(parts[i].name, parts[i].color))
	}
	w, h := 23*vg.Centimeter, 7.5*vg.Centimeter
	if small {
		w, h = 10*vg.Centimeter, 7*vg.Centimeter
	}
	f.SVG, err = render(p, w, h, title)
	return f, err
}

// shares gives counts as percentages of their sum; nil where it is 0.
func shares(counts []int) []float64 {
	total := 0
	for _, n := range counts {
		total += n
	}
	if total == 0 {
		return nil
	}
	out := make([]float64, len(counts))
	for i, n := range counts {
		out[i] = 100 * float64(n) / float64(total)
	}
	return out
}
