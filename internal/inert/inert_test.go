package inert

import (
	"bytes"
	"strings"
	"testing"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/renderer/html"
	nethtml "golang.org/x/net/html"
)

// hostile texts, each of which Markdown would make something of.
var hostile = []string{
	`<script>alert(1)</script>`, `<img src=x onerror=alert(1)>`, `</td></tr></table><h1>`, `<!-- `, `<![CDATA[`, `<?php `, `&lt;b&gt;`, `&#106;avascript`,
	`[here](javascript:alert(1))`, `![](http://example.org/x.png)`, `<javascript:alert(1)>`, `[a]: http://example.org`, `[^1]`, `[x][y]`, `https://example.org/`, `www.example.org`, `a@example.org`,
	"`code`", "``", "```", "\\`x`", "~~gone~~", "**bold** _it_ __b__", `a|b`, `a\|b`, `\`, `\\|<b>`, "| a | b |\n|---|---|\n| c | d |",
	`# head`, `- item`, `+ item`, `1. item`, `12) item`, `---`, `===`, `***`, `> quote`, "    code", "\tcode", "- [ ] task", "a\n\nb", "a\r<b>", "a\u2028b", "a\x00\x1b[1mb",
	`{{.}} {% raw %}`, `$x$ $$y$$`, `:smile: #1`, ` two  spaces `, `-`, `-1`, `!`, `"'quoted'"`,
}

func render(t *testing.T, source string) *nethtml.Node {
	t.Helper()
	var page bytes.Buffer
	md := goldmark.New(goldmark.WithExtensions(extension.GFM, extension.Footnote), goldmark.WithRendererOptions(html.WithUnsafe()))
	if err := md.Convert([]byte(source), &page); err != nil {
		t.Fatal(err)
	}
	root, err := nethtml.Parse(&page)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// shape lists a page's elements, and gives its text with white space collapsed.
func shape(n *nethtml.Node) (elements, text string) {
	var names, words []string
	var walk func(n *nethtml.Node)
	walk = func(n *nethtml.Node) {
		switch n.Type {
		case nethtml.ElementNode:
			names = append(names, n.Data)
		case nethtml.TextNode:
			words = append(words, n.Data)
		case nethtml.CommentNode:
			names = append(names, "!--")
		}
		for c := n.FirstChild; c != nil; c = c.NextSibling {
			walk(c)
		}
	}
	walk(n)
	return strings.Join(names, " "), strings.Join(strings.Fields(strings.Join(words, "")), " ")
}

// A renderer that lets raw HTML through makes nothing of a text, wherever it
// stands, and shows it.
func TestMarkdownShowsAndDoesNothing(t *testing.T) {
	for _, place := range []struct{ name, before, after string }{
		{"line", "", "\n"}, {"in a line", "so: ", " and\n"}, {"bold", "**", "**\n"}, {"item", "- ", "\n- next\n"}, {"quote", "> ", "\n"}, {"heading", "# ", "\n"},
		{"cell", "| a | b |\n|---|---|\n| ", " | last |\n"}, {"head", "| a ", " | b |\n|---|---|\n| c | d |\n"},
	} {
		for _, write := range []struct {
			name string
			f    func(string) string
		}{{"Markdown", Markdown}, {"Page", Page}, {"Code", Code}, {"PageCode", PageCode}} {
			plain, _ := shape(render(t, place.before+"x"+place.after))
			for _, text := range hostile {
				if place.name == "bold" && (strings.TrimSpace(text) != text || strings.HasSuffix(write.name, "Code")) {
					continue // no bold begins or ends with a space
				}
				page := render(t, place.before+write.f(text)+place.after)
				elements, shown := shape(page)
				if elements = strings.Replace(elements, " code", "", 1); !strings.HasSuffix(write.name, "Code") {
					elements, shown = shape(page)
				}
				if elements != plain {
					t.Errorf("%s, %s: %q becomes %s, not %s", write.name, place.name, text, elements, plain)
				}
				if want := strings.Join(strings.Fields(strings.ReplaceAll(line(text), "\x00", " ")), " "); !strings.Contains(shown, want) {
					t.Errorf("%s, %s: %q is shown as %q", write.name, place.name, text, shown)
				}
			}
		}
	}
}

func TestCode(t *testing.T) {
	for text, want := range map[string]string{"": "", "f00d": "`f00d`", `a\b <c>`: "`a\\b <c>`", "a`b": "a\\`b", "a|b": `a\|b`, "a\nb": "`a b`"} {
		if got := Code(text); got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
}

func TestCell(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "plain": "plain", "-0.5": "-0.5", "+1e-3": "+1e-3", "−": "−", "3-4": "3-4",
		`=cmd|' /C calc'!A0`: `'=cmd|' /C calc'!A0`, "+1+cmd()": "'+1+cmd()", "-2+3": "'-2+3", "@SUM(A1)": "'@SUM(A1)", " =1": "' =1", "\t=1": "'\t=1", "\r1": "'\r1", "\n=1": "'\n=1",
	} {
		if got := Cell(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

// FuzzMarkdown looks for a text that leaves its cell or becomes an element.
func FuzzMarkdown(f *testing.F) {
	for _, text := range hostile {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, write := range []func(string) string{Markdown, Page, Code, PageCode} {
			elements, _ := shape(render(t, "| a | b |\n|---|---|\n| "+write(text)+" | last |\n"))
			plain, _ := shape(render(t, "| a | b |\n|---|---|\n| x | last |\n"))
			if elements != plain && elements != strings.Replace(plain, "td td", "td code td", 1) {
				t.Errorf("%q becomes %s", text, elements)
			}
		}
	})
}

// What is read as it is written, on a terminal, is not full of backslashes.
func TestUnderscoresInWords(t *testing.T) {
	for text, want := range map[string]string{
		"rouge_l": "rouge_l", "a_b_c_d": "a_b_c_d", "_a_": `\_a\_`, "a__b": `a\_\_b`, `a\_b`: `a\\\_b`, "é_x": `é\_x`, "x_": `x\_`,
	} {
		if got := Markdown(text); got != want {
			t.Errorf("%q is written %q, want %q", text, got, want)
		}
	}
}
