package tokens

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/esclab/esclab/internal/reference"
)

var update = flag.Bool("update", false, "ask Jinja2 for the expectations in testdata anew (pip install jinja2)")

// rendering is a template with what Jinja2 answers to some messages.
type rendering struct {
	Messages            []Message `json:"messages"`
	AddGenerationPrompt bool      `json:"add_generation_prompt"`
	Text                *string   `json:"text,omitempty"`
	Error               string    `json:"error,omitempty"`
}

type templateCase struct {
	Name     string            `json:"name,omitempty"`
	Template string            `json:"template"`
	Special  map[string]string `json:"special,omitempty"`
	Cases    []rendering       `json:"cases"`
}

func (c templateCase) check(t *testing.T) {
	t.Helper()
	template, err := compileTemplate(c.Template)
	for _, r := range c.Cases {
		text, renderErr := "", err
		if err == nil {
			text, renderErr = (&chatTemplate{template: template, special: c.Special}).render(r.Messages, r.AddGenerationPrompt, time.Now)
		}
		switch {
		case r.Text == nil && renderErr == nil:
			t.Errorf("%s: %s\nwrites %q, Jinja2 refuses it: %s", c.Name, c.Template, text, r.Error)
		case r.Text != nil && renderErr != nil:
			t.Errorf("%s: %s\nis refused: %v; Jinja2 writes %q", c.Name, c.Template, renderErr, *r.Text)
		case r.Text != nil && text != *r.Text:
			t.Errorf("%s: %s\nwrites %q\nJinja2 %q", c.Name, c.Template, text, *r.Text)
		}
		if renderErr != nil && strings.Contains(renderErr.Error(), "\n") {
			t.Errorf("%s: the error has several lines: %q", c.Name, renderErr)
		}
	}
}

// TestJinja2Corpus renders templates after those of published models as Jinja2 does, set up as transformers sets it up.
func TestJinja2Corpus(t *testing.T) {
	cases := reference.JSON[[]templateCase](t, reference.Path(t, "golden", "templates", "jinja2.json"))
	answers := 0
	for _, c := range cases {
		if strings.Contains(c.Template, "strftime_now('%Y')") { // the year in which the answers were computed
			for i := range c.Cases {
				if text := c.Cases[i].Text; text != nil {
					now := strings.Replace(*text, "date 2026", "date "+strconv.Itoa(time.Now().Year()), 1)
					c.Cases[i].Text = &now
				}
			}
		}
		c.check(t)
		answers += len(c.Cases)
	}
	if answers < 700 {
		t.Errorf("%d answers were compared, there are 764", answers)
	}
}

// TestJinja2 compares with Jinja2's answers in testdata: Python's methods, operators, printing and escapes.
func TestJinja2(t *testing.T) {
	const name = "testdata/jinja2.json"
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var cases []templateCase
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	if *update {
		cases = askJinja2(t, cases)
		var out bytes.Buffer
		e := json.NewEncoder(&out)
		e.SetEscapeHTML(false)
		e.SetIndent("", " ")
		if err := e.Encode(cases); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range cases {
		c.check(t)
	}
}

// askJinja2 has the templates rendered by Jinja2 as transformers sets it up (utils/chat_template_utils.py).
func askJinja2(t *testing.T, cases []templateCase) []templateCase {
	t.Helper()
	for i, c := range cases {
		if len(c.Cases) == 0 {
			cases[i].Cases = []rendering{
				{Messages: []Message{{"system", "Be kind."}, {"user", " Hi, Ann's here "}, {"assistant", "[Question] why?\n\nso"}, {"user", "né 🙂 <tag> & \"q\""}}, AddGenerationPrompt: true},
				{Messages: []Message{{"user", "Hi"}}},
			}
		}
	}
	in, err := json.Marshal(cases)
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), "python3", filepath.Join("testdata", "ask_jinja2.py"))
	command.Stdin = bytes.NewReader(in)
	command.Stderr = os.Stderr
	out, err := command.Output()
	if err != nil {
		t.Fatalf("ask_jinja2.py: %v", err)
	}
	var answered []templateCase
	if err := json.Unmarshal(out, &answered); err != nil {
		t.Fatal(err)
	}
	return answered
}

// TestTemplatesAreConfined: what a chat template must not be able to do, it cannot, and whatever it does ends soon.
func TestTemplatesAreConfined(t *testing.T) {
	nested := func(open, middle, end string, n int) string {
		return strings.Repeat(open, n) + middle + strings.Repeat(end, n)
	}
	for name, source := range map[string]string{
		"include":                     "{% include '/etc/passwd' %}",
		"import":                      "{% import '/etc/passwd' as x %}{{ x }}",
		"extends":                     "{% extends '/etc/passwd' %}",
		"from":                        "{% from '/etc/passwd' import x %}",
		"macro calls itself":          "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
		"macros call each other":      "{% macro f() %}{{ g() }}{% endmacro %}{% macro g() %}{{ f() }}{% endmacro %}{{ f() }}",
		"caller calls itself":         "{% macro f() %}{{ caller() }}{% endmacro %}{% macro g() %}{% call f() %}{{ g() }}{% endcall %}{% endmacro %}{{ g() }}",
		"loop calls itself":           "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
		"long range":                  "{% for i in range(1000000000) %}x{% endfor %}",
		"nested ranges":               "{% for i in range(9999) %}{% for j in range(9999) %}{% for k in range(9999) %}{% endfor %}{% endfor %}{% endfor %}",
		"text times a number":         "{{ 'x' * 1000000000 }}",
		"number times a text":         "{{ 9999999999999 * 'x' }}",
		"list times a number":         "{{ ([1] * 100000000)|length }}",
		"center":                      "{{ 'x'|center(1000000000) }}",
		"center as method":            "{{ 'x'.center(1000000000) }}",
		"ljust":                       "{{ 'x'.ljust(1000000000) }}",
		"zfill":                       "{{ '1'.zfill(1000000000) }}",
		"indent":                      "{{ 'x\ny'|indent(1000000000) }}",
		"format that pads":            `{{ "{:>60000000000}".format(1) }}`,
		"percent that pads":           `{{ "%60000000000s" % 1 }}`,
		"filter format that pads":     `{{ "%60000000000s"|format(1) }}`,
		"lipsum":                      "{{ lipsum(n=1000000) }}",
		"power":                       "{{ 10 ** 10 ** 10 }}",
		"doubling by ~":               "{% set ns = namespace(x='xx') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
		"doubling by +":               "{% set ns = namespace(x='xx') %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
		"doubling a list":             "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
		"doubling by replace":         "{% set ns = namespace(x='xx') %}{% for i in range(99) %}{% set ns.x = ns.x|replace('x', 'xx') %}{% endfor %}",
		"doubling by join":            "{% set ns = namespace(x='xx') %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x]|join %}{% endfor %}",
		"doubling by a block":         "{% set ns = namespace(x='xx') %}{% for i in range(99) %}{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = y %}{% endfor %}",
		"nesting lists by a loop":     "{% set ns = namespace(x=[]) %}{% for i in range(9999) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}",
		"long text in a loop":         "{% set y %}{% for i in range(9999) %}{% for j in range(999) %}" + strings.Repeat("x", 100_000) + "{% endfor %}{% endfor %}{% endset %}{{ y|length }}",
		"long text behind a value":    "{% set y %}{% for i in range(9999) %}{% for j in range(999) %}{{ '' }}" + strings.Repeat("x", 100_000) + "{% endfor %}{% endfor %}{% endset %}{{ y|length }}",
		"a namespace holds itself":    "{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}",
		"namespaces hold each other":  "{% set a = namespace() %}{% set b = namespace(a=a) %}{% set a.b = [b] %}{{ a == b }}",
		"a namespace within a dict":   "{% set a = namespace() %}{% set a.b = {'c': a} %}{{ a|tojson }}",
		"100,000 brackets":            "{{ " + nested("(", "1", ")", 100_000) + " }}",
		"100,000 lists":               "{{ " + nested("[", "1", "]", 100_000) + " }}",
		"100,000 dicts":               "{{ " + nested("{1:", "1", "}", 100_000) + " }}",
		"100,000 signs":               "{{ " + nested("-", "1", "", 100_000) + " }}",
		"100,000 nots":                "{{ " + nested("not ", "1", "", 60_000) + " }}",
		"100,000 conditions":          "{{ " + nested("1 if ", "1", "", 40_000) + " }}",
		"20,000 loops":                nested("{% for x in [1] %}", "x", "{% endfor %}", 8_000),
		"20,000 ifs":                  nested("{% if true %}", "x", "{% endif %}", 10_000),
		"many filters":                "{{ 'x'" + strings.Repeat("|upper", 30_000) + " }}",
		"many attributes":             "{{ x" + strings.Repeat(".a", 60_000) + " }}",
		"many sums":                   "{{ 1" + strings.Repeat(" + 1", 60_000) + " }}",
		"many elifs":                  "{{ 1/0 }}{% if false %}" + strings.Repeat("{% elif false %}", 15_000) + "{% else %}{{ 1/0 }}{% endif %}",
		"too long":                    strings.Repeat(" ", maxTemplate+1),
		"a global of the engine":      "{{ debug() }}",
		"an internal function":        "{{ _method('x', 'upper') }}",
		"attributes of the machinery": "{{ ''.__class__.__mro__ }}{{ self.x() }}",
	} {
		t.Run(name, func(t *testing.T) {
			template, err := compileTemplate(source)
			if err != nil {
				return
			}
			c := chatTemplate{template: template}
			if text, err := c.render(nil, false, nil); err == nil {
				t.Errorf("%.40q writes %.100q", source, text)
			}
		})
	}
}

// TestTemplateDates: a training has no date, so that it can be repeated; what is shown to people has today's.
func TestTemplateDates(t *testing.T) {
	tok := smallTokenizer(t, 300, "some text some text")
	const dated = `{% if strftime_now is defined %}{% set date = strftime_now('%d %b %Y') %}{% else %}{% set date = '26 Jul 2024' %}{% endif %}` +
		`{{ date }}{% for m in messages %}{{ '<|user|>' + m.content + '<|end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|user|>' }}{% endif %}`
	tok.setTemplate(dated, nil)
	ids, err := tok.ChatPrompt([]Message{{"user", "a"}}, "")
	if err != nil {
		t.Fatal(err)
	}
	if text := tok.Decode(ids); !strings.HasPrefix(text, "26 Jul 2024") {
		t.Errorf("the prompt of a training is %q, it has to begin with the template's own date", text)
	}
	text, err := tok.RenderChat([]Message{{"user", "a"}}, true)
	if err != nil {
		t.Fatal(err)
	}
	if today := time.Now().Format("02 Jan 2006"); !strings.HasPrefix(text, today) {
		t.Errorf("the rendered chat is %q, it has to begin with %s", text, today)
	}
	tok.setTemplate(`{{ strftime_now('%Y') }}`+trainedTemplate, nil)
	if _, err := tok.ChatPrompt([]Message{{"user", "a"}}, ""); err == nil {
		t.Error("a template that always writes the date is used for a training")
	}
}

// TestTemplatesNotRendered: what would be written otherwise than by Jinja2 is refused by a sentence of one line.
func TestTemplatesNotRendered(t *testing.T) {
	for source, says := range map[string]string{
		"{{ messages | map(attribute='role') }}":                         "an iterator or a view",
		"{{ messages | selectattr('role', 'equalto', 'user') }}":         "an iterator or a view",
		"{{ messages[0].items() | list }}":                               "a tuple",
		"{{ {'a': 1} | dictsort }}":                                      "a tuple",
		"{{ messages[0].role.partition('s') }}":                          "a tuple",
		"{{ 'a' | e ~ '<' }}":                                            "e, escape and safe",
		"{% set x = '<' | safe %}{{ x + '<' }}":                          "e, escape and safe",
		"{{ (messages[0].content | escape) | length }}":                  "e, escape and safe",
		"{% raw %}\nx{% endraw %}":                                       "{% raw %}",
		"{{ messages[0].content.splitlines(true) }}":                     "splitlines()",
		"{{ messages | join(', ', attribute='role') }}":                  "map it first",
		"{{ messages[0].content | center(30) }}":                         `"center"`,
		"{% autoescape true %}{{ messages[0].role }}{% endautoescape %}": `"autoescape"`,
	} {
		template, err := compileTemplate(source)
		if err == nil {
			_, err = (&chatTemplate{template: template}).render([]Message{{"user", "Hi"}}, true, time.Now)
		}
		if err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: the error has to say %s on one line, it is: %v", source, says, err)
		}
	}
}
