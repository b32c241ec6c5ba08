package tokens

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// minijinja parses and runs Jinja2's statements as Jinja2 does, white space included, but its expressions are not
// Python's: strings have no methods, % and * are those of numbers, and dicts forget their order. translate rewrites the
// expressions of a template so that they call the functions of pyFunctions for these, and leaves all else as it is. It
// is the place, too, where what a chat template may contain is decided: a statement, filter, test or function that is
// not known to be rendered exactly is an error.

// maxNesting bounds how deep expressions, brackets and blocks stand in each other, maxLexemes how long one tag is.
const (
	maxNesting = 100
	maxLexemes = 4000
)

// templateStatements are the statements of a chat template whose content is an expression or nothing, besides for, set,
// with, macro, call and filter. Those that read other files (include, import, from, extends) have no place in one.
var templateStatements = []string{"if", "elif", "else", "endif", "endfor", "endset", "endwith", "endmacro", "endcall", "endfilter", "do", "break", "continue"}

// translate gives the template that minijinja is to run, and the length of its longest text between two tags.
func translate(source string) (text string, longest int, err error) {
	// Jinja2 reads every line end as "\n" (lexer.py, newline_re).
	source = strings.ReplaceAll(strings.ReplaceAll(source, "\r\n", "\n"), "\r", "\n")
	var out translation
	for {
		at := strings.IndexByte(source, '{')
		if at < 0 || at+1 == len(source) {
			out.WriteString(source)
			return out.String(), max(longest, len(source)), nil
		}
		out.WriteString(source[:at])
		longest = max(longest, at)
		source = source[at:]
		switch source[1] {
		case '{', '%':
			source, err = out.tag(source)
		case '#':
			end := strings.Index(source, "#}")
			if end < 0 {
				return "", 0, errors.New("a comment {# has no end")
			}
			out.WriteString(source[:end+2])
			source = source[end+2:]
		default:
			out.WriteByte('{')
			source = source[1:]
		}
		if err != nil {
			return "", 0, err
		}
	}
}

// translation is what is written of a template so far.
type translation struct {
	strings.Builder
	blocks []string // the statements that are open: "for", "if" …
}

// tag rewrites the tag that source begins with and gives the rest.
func (out *translation) tag(source string) (rest string, err error) {
	tag, open, closing := source, source[:2], "}}"
	if open == "{%" {
		closing = "%}"
	}
	source = source[2:]
	if source != "" && (source[0] == '-' || source[0] == '+') {
		open, source = open+source[:1], source[1:]
	}
	list, end, rest, err := scan(source, closing)
	if err != nil {
		return "", err
	}
	p := &expressions{tokens: list}
	keyword, text := "", ""
	switch {
	case closing == "}}":
		if text, err = p.tuple(true); err == nil && p.isTuple {
			err = errors.New("a tuple, an iterator or a view is not written as Python writes it: write a list, or its items")
		}
	case p.peek().text == "raw":
		return copyRaw(&out.Builder, tag, rest)
	default:
		keyword = p.peek().text
		text, err = p.statement()
	}
	if err == nil && !p.done() {
		err = fmt.Errorf("%q is not expected", p.peek().text)
	}
	if err == nil && p.markup != "" && (text != p.markup || closing != "}}") {
		err = errMarkup
	}
	if err == nil {
		err = out.nest(keyword, &open, text)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", shorten(tag), err)
	}
	fmt.Fprintf(out, "%s %s %s", open, text, end)
	if keyword == "for" { // what is set in a pass of a loop is forgotten with it
		fmt.Fprintf(out, "{%% with %s", end)
	}
	return rest, nil
}

// nest keeps account of the blocks. The scope of a loop's pass, which tag has begun, ends before its else or end.
func (out *translation) nest(keyword string, open *string, text string) error {
	last := len(out.blocks) - 1
	switch {
	case keyword == "set" && strings.Contains(text, "="), keyword == "":
	case slices.Contains([]string{"for", "if", "set", "with", "macro", "call", "filter", "generation"}, keyword):
		if out.blocks = append(out.blocks, keyword); len(out.blocks) > maxNesting {
			return fmt.Errorf("blocks stand more than %d deep in each other", maxNesting)
		}
	case keyword == "else" || strings.HasPrefix(keyword, "end"):
		if last < 0 {
			return fmt.Errorf("%s without a beginning", keyword)
		}
		if out.blocks[last] == "for" {
			fmt.Fprintf(out, "%s endwith %%}", *open)
			*open = "{%"
			if keyword == "else" {
				out.blocks[last] = "for else"
			}
		}
		if keyword != "else" {
			out.blocks = out.blocks[:last]
		}
	}
	return nil
}

// copyRaw copies a raw block as it is.
func copyRaw(out *strings.Builder, tag, rest string) (string, error) {
	for from := len(tag) - len(rest); ; {
		at := strings.Index(tag[from:], "{%")
		if at < 0 {
			return "", errors.New("{% raw %} has no {% endraw %}")
		}
		from += at + 2
		inside, ending, found := strings.Cut(tag[from:], "%}")
		if found && strings.Trim(inside, "-+ \t\n") == "endraw" {
			if strings.HasPrefix(rest, "\n") { // which Jinja2 keeps, and trims behind other blocks
				return "", errors.New("a {% raw %} with a line break behind it is not supported: write {%- raw -%} or begin the text beside it")
			}
			out.WriteString(tag[:len(tag)-len(ending)])
			return ending, nil
		}
	}
}

// shorten is the beginning of a tag, for messages.
func shorten(tag string) string {
	line, _, _ := strings.Cut(tag, "\n")
	if len(line) > 60 {
		line = strings.ToValidUTF8(line[:60], "") + "…"
	}
	return line
}

// lexeme is a token of an expression.
type lexeme struct {
	kind byte // 'n' name, '0' number, '"' string, 'o' operator, 0 none
	text string
}

var longOperators = []string{"**", "//", "==", "!=", "<=", ">="}

// scan cuts the content of a tag into lexemes, up to its end.
func scan(source, closing string) (list []lexeme, end, rest string, err error) {
	depth := 0
	for {
		source = strings.TrimLeftFunc(source, unicode.IsSpace)
		if depth == 0 {
			for _, end := range []string{"-" + closing, "+" + closing, closing} {
				if strings.HasPrefix(source, end) {
					return list, end, source[len(end):], nil
				}
			}
		}
		if source == "" {
			return nil, "", "", fmt.Errorf("a tag has no %s", closing)
		}
		c, width := utf8.DecodeRuneInString(source)
		l := lexeme{kind: 'o', text: source[:width]}
		switch {
		case c == '"' || c == '\'':
			var value string
			if value, width, err = unquote(source); err != nil {
				return nil, "", "", err
			}
			l = lexeme{kind: '"', text: value}
		case c >= '0' && c <= '9':
			width = scanNumber(source)
			l = lexeme{kind: '0', text: strings.ReplaceAll(source[:width], "_", "")}
		case c == '_' || unicode.IsLetter(c):
			width = strings.IndexFunc(source, func(r rune) bool { return r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) })
			if width < 0 {
				width = len(source)
			}
			l = lexeme{kind: 'n', text: source[:width]}
		default:
			for _, long := range longOperators {
				if strings.HasPrefix(source, long) {
					width, l.text = 2, long
				}
			}
			switch l.text {
			case "(", "[", "{":
				if depth++; depth > maxNesting {
					return nil, "", "", fmt.Errorf("brackets stand more than %d deep in each other", maxNesting)
				}
			case ")", "]", "}":
				depth--
			}
		}
		if list, source = append(list, l), source[width:]; len(list) > maxLexemes {
			return nil, "", "", fmt.Errorf("a tag has more than %d names, numbers and operators", maxLexemes)
		}
	}
}

// scanNumber is the length of the number that source begins with.
func scanNumber(source string) int {
	digits := func(i int) int {
		for i < len(source) && (source[i] >= '0' && source[i] <= '9' || source[i] == '_') {
			i++
		}
		return i
	}
	i := digits(0)
	if i+1 < len(source) && source[i] == '.' && source[i+1] >= '0' && source[i+1] <= '9' {
		i = digits(i + 1)
	}
	if i+1 < len(source) && (source[i] == 'e' || source[i] == 'E') {
		if j := i + 1; source[j] >= '0' && source[j] <= '9' {
			i = digits(j)
		} else if j+1 < len(source) && (source[j] == '-' || source[j] == '+') && source[j+1] >= '0' && source[j+1] <= '9' {
			i = digits(j + 1)
		}
	}
	return i
}

// unquote reads a string literal with Python's escapes, and gives its length in the source.
func unquote(source string) (value string, width int, err error) {
	var out strings.Builder
	quote := source[0]
	for i := 1; i < len(source); i++ {
		c := source[i]
		switch {
		case c == quote:
			return out.String(), i + 1, nil
		case c != '\\':
			out.WriteByte(c)
			continue
		case i+1 == len(source):
		}
		if i++; i == len(source) {
			break
		}
		switch c := source[i]; c {
		case '\n':
		case '\\', '\'', '"':
			out.WriteByte(c)
		case 'a', 'b', 'f', 'n', 'r', 't', 'v':
			out.WriteByte("\a\b\f\n\r\t\v"[strings.IndexByte("abfnrtv", c)])
		case 'x', 'u', 'U':
			n := map[byte]int{'x': 2, 'u': 4, 'U': 8}[c]
			if i+n >= len(source) {
				return "", 0, errors.New("a string ends within an escape")
			}
			code, err := strconv.ParseUint(source[i+1:i+1+n], 16, 32)
			if err != nil || code > unicode.MaxRune || code >= 0xD800 && code < 0xE000 {
				return "", 0, fmt.Errorf(`\%s is no character`, source[i:i+1+n])
			}
			out.WriteRune(rune(code))
			i += n
		case '0', '1', '2', '3', '4', '5', '6', '7':
			code, n := 0, 0
			for ; n < 3 && i+n < len(source) && source[i+n] >= '0' && source[i+n] <= '7'; n++ {
				code = code*8 + int(source[i+n]-'0')
			}
			out.WriteRune(rune(code))
			i += n - 1
		case 'N':
			return "", 0, errors.New(`\N{...} in a string is not supported: write the character itself`)
		default:
			out.WriteByte('\\')
			out.WriteByte(c)
		}
	}
	return "", 0, fmt.Errorf("the string %s has no end", shorten(source))
}

// quote writes a string literal for minijinja.
func quote(value string) string {
	var out strings.Builder
	out.WriteByte('"')
	for _, r := range value {
		switch r {
		case '\\', '"':
			out.WriteByte('\\')
			out.WriteRune(r)
		case '\n':
			out.WriteString(`\n`)
		case '\r':
			out.WriteString(`\r`)
		default:
			out.WriteRune(r)
		}
	}
	out.WriteByte('"')
	return out.String()
}

// known says why a name may not be used, nil where it may.
func known(kind, name string, among []string) error {
	if slices.Contains(among, name) {
		return nil
	}
	return fmt.Errorf("the %s %q is not supported: a chat template may use %s", kind, name, strings.Join(among, ", "))
}
