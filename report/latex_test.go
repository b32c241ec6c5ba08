package report

import (
	"strings"
	"testing"
)

func TestLaTeX(t *testing.T) {
	d := example()
	d.Run.Backbone = `tiny_llama & 100 % \input{x}`
	if own := rendered(t, LaTeX, d); strings.Contains(own, "scriptsize") || strings.Contains(own, "small figures") || strings.Contains(own, "tab:paper") {
		t.Error("the paper's figures are in the tables unasked")
	}
	d.WithPaper = true
	tex := rendered(t, LaTeX, d)
	for _, want := range []string{
		`\begin{tabular}{lllrrrrrrrrrrr}`,
		`\multicolumn{4}{c}{Automatic metrics $\uparrow$}`,
		`\cmidrule(lr){4-7}\cmidrule(lr){8-11}\cmidrule(lr){12-14}`,
		`{\multirow{4}{*}{tiny\_llama \& 100 \% \textbackslash{}input\{x\}}} & {\multirow{3}{*}{Vanilla}} & {Base} & {40.00 {\scriptsize 93.50 ($-$53.50)}}`,
		` &  & {SFT} & {\textbf{91.23}`,
		`{9.50 \ldots{} 10.50}`,
		`\label{tab:questions-1}`,
	} {
		if !strings.Contains(tex, want) {
			t.Errorf("no %s in\n%s", want, tex)
		}
	}
	if strings.Contains(tex, `\input{x}`) {
		t.Error("text of the data is a command")
	}
	for _, environment := range []string{"table*", "tabular"} {
		if b, e := strings.Count(tex, `\begin{`+environment+`}`), strings.Count(tex, `\end{`+environment+`}`); b == 0 || b != e {
			t.Errorf("%s: %d begin, %d end", environment, b, e)
		}
	}
	// Every row has as many cells as its table's columns; braces balance.
	columns := 0
	for line := range strings.Lines(tex) {
		plain := strings.NewReplacer(`\\`, "", `\{`, "", `\}`, "", `\&`, "").Replace(line)
		if _, spec, ok := strings.Cut(line, `\begin{tabular}{`); ok {
			columns = strings.Index(spec, "}")
		}
		if strings.HasPrefix(line, `\multicolumn`) || !strings.HasSuffix(line, " \\\\\n") {
			continue
		}
		if n := strings.Count(plain, "&") + 1; n != columns {
			t.Errorf("%d cells of %d: %s", n, columns, line)
		}
		if strings.Count(plain, "{") != strings.Count(plain, "}") {
			t.Errorf("braces: %s", line)
		}
	}
}
