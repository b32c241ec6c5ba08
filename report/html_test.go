package report

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
	"gonum.org/v1/plot/plotter"

	"github.com/esclab/esclab/esc"
)

// walk visits every node.
func walk(n *html.Node, visit func(*html.Node)) {
	visit(n)
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		walk(c, visit)
	}
}

func attribute(n *html.Node, key string) string {
	for _, a := range n.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}

func textOf(n *html.Node) string {
	var b strings.Builder
	walk(n, func(n *html.Node) {
		if n.Type == html.TextNode {
			b.WriteString(n.Data)
		}
	})
	return b.String()
}

func TestHTML(t *testing.T) {
	page := rendered(t, HTML, example())
	root, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	ids, links := map[string]bool{}, []string{}
	svgs, marks := 0, 0
	var row []string // the vanilla SFT row of Table 3
	walk(root, func(n *html.Node) {
		if n.Type != html.ElementNode {
			return
		}
		if id := attribute(n, "id"); id != "" {
			if ids[id] {
				t.Errorf("id %q twice", id)
			}
			ids[id] = true
		}
		switch n.Data {
		case "script", "link", "img", "iframe", "object", "base":
			t.Errorf("element <%s>: the report must stand alone, and data must not become markup", n.Data)
		case "svg":
			svgs++
		case "strong":
			marks++
		}
		for _, a := range n.Attr {
			if (a.Key == "href" || a.Key == "src") && !strings.HasPrefix(a.Val, "#") {
				t.Errorf("<%s %s=%q> points outside", n.Data, a.Key, a.Val)
			}
			if strings.HasPrefix(a.Key, "on") {
				t.Errorf("<%s %s>: an event handler", n.Data, a.Key)
			}
		}
		if n.DataAtom == atom.A {
			links = append(links, strings.TrimPrefix(attribute(n, "href"), "#"))
		}
		if n.DataAtom == atom.Tr && row == nil && strings.HasPrefix(textOf(n), "SFT91.23") {
			walk(n, func(c *html.Node) {
				if c.DataAtom == atom.Td {
					row = append(row, textOf(c))
				}
			})
		}
	})
	if want := "SFT|91.2390.93 (+0.30)|10.0015.61 (−5.61)|11.0020.99 (−9.99)|12.0017.78 (−5.78)|3.50|2.50|1.50|0.50|0.500.31 (+0.19)|20.0024.89 (−4.89)|16.0020.27 (−4.27)"; strings.Join(row, "|") != want {
		t.Errorf("row %q, want %q", strings.Join(row, "|"), want)
	}
	if len(links) < 8 {
		t.Errorf("%d links in the contents", len(links))
	}
	for _, l := range links {
		if !ids[l] {
			t.Errorf("contents point to %q, which is not there", l)
		}
	}
	// Strategy distribution, bias, preference, bias over temperature; errors twice; bias and preference
	// by training data; strategies and errors of pairs; one loss curve; wins; the
	// phases of the corpus, of the gold replies and of a system.
	if svgs != 15 {
		t.Errorf("%d figures, want 15", svgs)
	}
	if marks == 0 {
		t.Error("no best score is marked")
	}
	if !strings.Contains(textOf(root), hostile) {
		t.Error("the hostile name is not shown as text")
	}
	if !strings.Contains(page, "Offline judge.") {
		t.Error("the offline judge is not marked")
	}
	for _, outside := range []string{"@import", "url("} {
		if strings.Contains(page, outside) {
			t.Errorf("the page has %q", outside)
		}
	}
}

// Figures must not carry names of systems as markup.
func TestFigureTextIsEscaped(t *testing.T) {
	f, err := bars(hostile, hostile, []string{hostile, "b", "c"}, []series{{name: hostile, color: palette(1), values: []float64{1, 2, 3}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(f.SVG), "<script") {
		t.Error("a name in a figure is markup")
	}
	if !strings.Contains(string(f.SVG), "&lt;script&gt;") {
		t.Error("the name is not in the figure")
	}
}

// A figure follows the page into the dark: nothing in it but the systems'
// colours is its own.
func TestFigureTakesThePagesColours(t *testing.T) {
	f, err := bars("t", "u", []string{"a"}, []series{{name: "gold", color: inkColor, values: []float64{1}}, {name: "s", color: palette(firstSystem), values: []float64{2}}}, Value(1))
	if err != nil {
		t.Fatal(err)
	}
	svg := strings.ToLower(string(f.SVG))
	for _, own := range []string{"#000000", "#333333", "#888888", "#dddddd"} {
		if strings.Contains(svg, own) {
			t.Errorf("the figure draws in %s", own)
		}
	}
	for _, want := range []string{"fill:var(--ink)", "stroke:var(--ink)", "stroke:var(--line)", "fill:#0072b2"} {
		if !strings.Contains(svg, want) {
			t.Errorf("the figure does not draw with %s", want)
		}
	}
	if len(f.Legend) != 2 || f.Legend[0].Color != "var(--ink)" || f.Legend[1].Color != "#0072b2ff" {
		t.Errorf("legend %v", f.Legend)
	}
}

func TestRunningMean(t *testing.T) {
	points := plotter.XYs{{X: 1, Y: 8}, {X: 2, Y: 1}, {X: 3, Y: 3}, {X: 4, Y: 5}, {X: 5, Y: 2}}
	want := plotter.XYs{{X: 1, Y: 4}, {X: 2, Y: 4.25}, {X: 3, Y: 3.8}, {X: 4, Y: 2.75}, {X: 5, Y: 10. / 3}}
	if got := runningMean(points, 2); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestContextShowsTheStrategyApart(t *testing.T) {
	for _, c := range []struct {
		content string
		want    message
	}{
		{"[Question] How are you?", message{"assistant", "Question", "How are you?"}},
		{"[Reflection of feelings] ", message{"assistant", "Reflection of feelings", ""}},
		{"[sighs] I see.", message{"assistant", "", "[sighs] I see."}},
		{"Question] How?", message{"assistant", "", "Question] How?"}},
	} {
		if got := newMessage(esc.Message{Role: "assistant", Content: c.content}); got != c.want {
			t.Errorf("%q: got %v, want %v", c.content, got, c.want)
		}
	}
}
