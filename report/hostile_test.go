package report

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/extension"
	renderer "github.com/yuin/goldmark/renderer/html"
	"golang.org/x/net/html"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/internal/inert"
)

// hostileDialogues is a corpus whose every text wants to be markup: of HTML,
// Markdown, LaTeX, templates and spreadsheets.
func hostileDialogues(t *testing.T) []esc.Dialogue {
	t.Helper()
	dialogues, err := esc.ReadFile("testdata/hostile.json", esc.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	return dialogues
}

// hostileTexts are the texts of that corpus.
func hostileTexts(t *testing.T) (texts []string) {
	for _, d := range hostileDialogues(t) {
		texts = append(texts, d.EmotionType, d.ProblemType, d.Situation)
		for _, u := range d.Utterances {
			texts = append(texts, u.Text)
		}
	}
	return texts
}

// withTexts is the example with a sample of every turn of the corpus, and every
// other text that it has replaced by what text gives for the text's number.
func withTexts(t *testing.T, text func(i int) string) Data {
	t.Helper()
	d, n := example(), 0
	next := func() string { n++; return text(n) }
	for _, dialogue := range hostileDialogues(t) {
		var context []esc.Message
		for turn, u := range dialogue.Utterances {
			if u.Speaker == esc.Seeker {
				context = append(context, esc.Message{Role: esc.UserRole, Content: next()})
				continue
			}
			d.Samples = append(d.Samples, Sample{Dialogue: dialogue.Index, Turn: turn, Context: context, Strategy: u.Strategy, Response: next(),
				Replies: []Reply{{System: "vanilla/sft", Strategy: u.Strategy, Response: next()}, {System: "decoupled/sft", Response: next()}}})
			context = append(context, esc.Message{Role: esc.AssistantRole, Content: next()})
		}
	}
	// A pass over all strings, so that a field that is added is not forgotten.
	var replace func(v reflect.Value, path string)
	replace = func(v reflect.Value, path string) {
		switch v.Kind() {
		case reflect.String:
			if v.String() != "" && !keys[path] {
				v.SetString(next())
			}
		case reflect.Pointer:
			if !v.IsNil() {
				replace(v.Elem(), path)
			}
		case reflect.Struct:
			for i := range v.NumField() {
				replace(v.Field(i), path+"."+v.Type().Field(i).Name)
			}
		case reflect.Slice, reflect.Array:
			for i := range v.Len() {
				replace(v.Index(i), path)
			}
		case reflect.Map:
			if v.Type() == reflect.TypeFor[map[string]string]() {
				for _, k := range v.MapKeys() {
					v.SetMapIndex(k, reflect.ValueOf(next()))
				}
			}
		}
	}
	replace(reflect.ValueOf(&d).Elem(), "")
	return d
}

// keys are the texts that decide what is drawn where; they are words of the
// program's own.
var keys = map[string]bool{
	".Systems.Paradigm": true, ".Systems.Method": true, ".Systems.Pairs": true, ".Given.Paradigm": true, ".Given.Method": true,
	".Systems.Intervals.Column": true, ".Questions.Effects.Contrast.A": true, ".Questions.Effects.Contrast.B": true, ".Questions.Effects.Contrast.Measure": true,
	".Quality.Role": true, ".Preference.Role": true, ".Preference.Pairs": true, ".Pairs.Role": true, ".Training.Kind": true, ".Provenance.Kind": true,
	".Corpus.Name": true, ".Samples.Context.Role": true, ".Samples.Replies.System": true, ".Wins.By": true, ".Run.Backbone": false,
}

// structure lists a page's elements with their attributes' names, and complains
// of what a report must not hold.
func structure(t *testing.T, page string) (elements []string) {
	t.Helper()
	root, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	walk(root, func(n *html.Node) {
		switch n.Type {
		case html.CommentNode:
			elements = append(elements, "<!-- -->")
		case html.ElementNode:
			names := []string{n.Data}
			for _, a := range n.Attr {
				names = append(names, a.Key)
				if strings.HasPrefix(a.Key, "on") {
					t.Errorf("<%s %s=%q>: an event handler", n.Data, a.Key, a.Val)
				}
				if (a.Key == "href" || a.Key == "src" || a.Key == "action" || a.Key == "data") && !strings.HasPrefix(a.Val, "#") {
					t.Errorf("<%s %s=%q> points outside", n.Data, a.Key, a.Val)
				}
			}
			if n.Data == "text" && n.Namespace == "svg" {
				break // a name of two lines is two of them
			}
			elements = append(elements, strings.Join(names, " "))
			switch n.Data {
			case "script", "img", "iframe", "link", "base", "form", "object", "embed", "button":
				t.Errorf("an element <%s> comes from data", n.Data)
			}
		}
	})
	return elements
}

func same(t *testing.T, form string, got, want []string) {
	t.Helper()
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			t.Fatalf("%s: element %d of %d is <%s>, with harmless texts it is <%s> of %d", form, i, len(got), got[i], want[i], len(want))
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%s: %d elements, with harmless texts %d", form, len(got), len(want))
	}
}

// A report of hostile texts has the elements of one of harmless texts, in HTML
// and as GitHub-flavoured Markdown that lets raw HTML through.
func TestHostileTextsAreNoMarkup(t *testing.T) {
	texts := hostileTexts(t)
	// Numbered, so that none hides behind another and no two systems are the same.
	hostile := withTexts(t, func(i int) string { return fmt.Sprintf("%s %d", texts[i%len(texts)], i) })
	harmless := withTexts(t, func(i int) string { return fmt.Sprintf("harmless %d", i) })

	page := rendered(t, HTML, hostile)
	same(t, "HTML", structure(t, page), structure(t, rendered(t, HTML, harmless)))
	shown, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	all := textOf(shown)
	for _, text := range []string{texts[0], texts[3], texts[4]} {
		if !strings.Contains(all, text) {
			t.Errorf("the page does not show %q: the test proves nothing", text)
		}
	}

	fromMarkdown := func(d Data) string {
		var b bytes.Buffer
		md := goldmark.New(goldmark.WithExtensions(extension.GFM, extension.Footnote), goldmark.WithRendererOptions(renderer.WithUnsafe()))
		if err := md.Convert([]byte(rendered(t, Markdown, d)), &b); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	noCode := func(elements []string) []string { // what a code span cannot hold is plain text
		return slices.DeleteFunc(elements, func(e string) bool { return e == "code" })
	}
	same(t, "Markdown", noCode(structure(t, fromMarkdown(hostile))), noCode(structure(t, fromMarkdown(harmless))))

	commands := func(d Data) []string {
		tex := inertLaTeX.ReplaceAllString(rendered(t, LaTeX, d), "")
		return regexp.MustCompile(`\\[a-zA-Z]+|\\.|[{}$&%#^_~\n]`).FindAllString(tex, -1)
	}
	same(t, "LaTeX", commands(hostile), commands(harmless))

	records := func(d Data) (shape []string) {
		lines, err := csv.NewReader(strings.NewReader(rendered(t, CSV, d))).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range lines {
			for _, field := range line {
				if inert.Cell(field) != field {
					t.Errorf("a spreadsheet takes %q for a formula", field)
				}
			}
			shape = append(shape, fmt.Sprint(len(line)))
		}
		return shape
	}
	same(t, "CSV", records(hostile), records(harmless))
	formula := example()
	formula.Systems[0].Backbone = "=cmd|' /C calc'!A0"
	if csv := rendered(t, CSV, formula); !strings.Contains(csv, "run,'=cmd|' /C calc'!A0,") {
		t.Errorf("the formula is not shown as text:\n%s", csv)
	}
}

// inertLaTeX is what escaped characters look like.
var inertLaTeX = regexp.MustCompile(`\\text(backslash|asciitilde|asciicircum|less|greater|bar|quotedbl)\{\}|\\ldots\{\}|\\[{}$&#%_]`)

// A sweep's table, too.
func TestHostileSweep(t *testing.T) {
	texts := hostileTexts(t)
	table := func(text func(i int) string) Sweep {
		var s Sweep
		s.Varied, s.Heads, s.Notes = []string{text(1), text(2)}, []string{text(3), text(4)}, []string{text(5)}
		for i := range 40 {
			s.Rows = append(s.Rows, SweepRow{Cell: text(6 + i), Values: []string{text(50 + i), text(100 + i)}, System: text(150 + i), State: text(200 + i), Reason: text(250 + i)})
		}
		return s
	}
	hostile := table(func(i int) string { return texts[i%len(texts)] })
	harmless := table(func(i int) string { return fmt.Sprintf("harmless %d", i) })
	page := func(s Sweep, write func(io.Writer, Sweep) error) string {
		var source, b bytes.Buffer
		if err := write(&source, s); err != nil {
			t.Fatal(err)
		}
		if err := goldmark.New(goldmark.WithExtensions(extension.GFM), goldmark.WithRendererOptions(renderer.WithUnsafe())).Convert(source.Bytes(), &b); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	for form, write := range map[string]func(io.Writer, Sweep) error{"Markdown": SweepMarkdown, "web UI": func(w io.Writer, s Sweep) error { return SweepPage(w, s, 30) }} {
		same(t, form, structure(t, page(hostile, write)), structure(t, page(harmless, write)))
	}
	var b bytes.Buffer
	if err := SweepCSV(&b, hostile); err != nil {
		t.Fatal(err)
	}
	lines, err := csv.NewReader(&b).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	formulas := 0
	for _, line := range lines {
		for _, field := range line {
			if inert.Cell(field) != field {
				t.Errorf("a spreadsheet takes %q for a formula", field)
			}
			if strings.HasPrefix(field, "'=") {
				formulas++
			}
		}
	}
	if formulas == 0 {
		t.Error("no formula is in the table: the test proves nothing")
	}
}
