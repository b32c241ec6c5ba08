package tokens

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// expressions parses the lexemes of one tag by Jinja2's grammar (parser.py) and writes them for minijinja, every
// operation in brackets of its own.
type expressions struct {
	tokens []lexeme
	at     int
	depth  int
	// isTuple says that the last expression was a tuple, an iterator or a view: it serves as a list, but would be written
	// otherwise.
	isTuple bool
	pairs   bool   // the last expression gives pairs, which are tuples
	markup  string // the expression that ends with a filter for HTML
}

// tupleFilters and tupleMethods give tuples, iterators and views.
var (
	tupleFilters = []string{"dictsort", "items", "map", "reject", "rejectattr", "select", "selectattr", "unique"}
	tupleMethods = []string{"items", "keys", "values", "partition", "rpartition"}
)

var errMarkup = errors.New("what e, escape and safe give escapes whatever it is joined to: they are supported as the last filter of a whole {{ }}")

func (p *expressions) peek() lexeme {
	if p.done() {
		return lexeme{}
	}
	return p.tokens[p.at]
}

func (p *expressions) done() bool { return p.at >= len(p.tokens) }

// skip takes the next lexeme where it is this name or operator.
func (p *expressions) skip(text string) bool {
	if l := p.peek(); l.text == text && (l.kind == 'n' || l.kind == 'o') {
		p.at++
		return true
	}
	return false
}

func (p *expressions) expect(text string) error {
	if !p.skip(text) {
		return fmt.Errorf("%q is expected, not %q", text, p.peek().text)
	}
	return nil
}

func (p *expressions) name() (string, error) {
	l := p.peek()
	if l.kind != 'n' {
		return "", fmt.Errorf("a name is expected, not %q", l.text)
	}
	p.at++
	return l.text, nil
}

// enter bounds how deep expressions stand in each other; leave goes with it.
func (p *expressions) enter() error {
	if p.depth++; p.depth > maxNesting {
		return fmt.Errorf("expressions stand more than %d deep in each other", maxNesting)
	}
	return nil
}

func (p *expressions) leave() { p.depth-- }

// tuple is one expression, or several with commas between: a list.
func (p *expressions) tuple(conditional bool) (string, error) {
	first, err := p.conditional(conditional)
	if err != nil || p.peek().text != "," {
		return first, err
	}
	defer func() { p.isTuple = true }()
	parts := []string{first}
	for p.skip(",") && !p.done() && p.peek().text != ")" {
		part, err := p.conditional(conditional)
		if err != nil {
			return "", err
		}
		parts = append(parts, part)
	}
	return "[" + strings.Join(parts, ", ") + "]", nil
}

func (p *expressions) conditional(allowed bool) (string, error) {
	if err := p.enter(); err != nil {
		return "", err
	}
	defer p.leave()
	text, err := p.binary(0)
	for err == nil && allowed && p.skip("if") {
		var condition, other string
		if condition, err = p.binary(0); err != nil {
			return "", err
		}
		if p.skip("else") {
			if other, err = p.conditional(true); err != nil {
				return "", err
			}
			text = fmt.Sprintf("(%s if %s else %s)", text, condition, other)
			continue
		}
		text = fmt.Sprintf("(%s if %s)", text, condition)
	}
	return text, err
}

// levels are Jinja2's binary operators, the loosest first; not and comparisons stand between and and these.
var levels = [][]string{{"or"}, {"and"}, {"+", "-"}, {"~"}, {"*", "/", "//", "%"}, {"**"}}

// pyOperators are computed by functions, since minijinja's differ from Python's.
var pyOperators = map[string]string{"+": "_add", "~": "_concat", "*": "_multiply", "%": "_modulo", "**": "_power"}

const comparisonLevel = 2

func (p *expressions) binary(level int) (string, error) {
	if level == comparisonLevel && p.skip("not") {
		if err := p.enter(); err != nil {
			return "", err
		}
		defer p.leave()
		text, err := p.binary(level)
		return "(not " + text + ")", err
	}
	if level == comparisonLevel {
		return p.comparison()
	}
	if level < comparisonLevel {
		return p.operators(levels[level], func() (string, error) { return p.binary(level + 1) })
	}
	if level > len(levels) {
		return p.unary(true)
	}
	return p.operators(levels[level-1], func() (string, error) { return p.binary(level + 1) })
}

// operators parses operands with operators of one level between, from the left.
func (p *expressions) operators(level []string, operand func() (string, error)) (string, error) {
	left, err := operand()
	for err == nil {
		operator := ""
		for _, o := range level {
			if p.skip(o) {
				operator = o
				break
			}
		}
		if operator == "" {
			break
		}
		var right string
		if right, err = operand(); err != nil {
			return "", err
		}
		p.isTuple = false
		if function := pyOperators[operator]; function != "" {
			left = fmt.Sprintf("%s(%s, %s)", function, left, right)
		} else {
			left = fmt.Sprintf("(%s %s %s)", left, operator, right)
		}
	}
	return left, err
}

// comparison parses a < b <= c, which means a < b and b <= c.
func (p *expressions) comparison() (string, error) {
	operand := func() (string, error) { return p.binary(comparisonLevel + 1) }
	left, err := operand()
	if err != nil {
		return "", err
	}
	var all []string
	for {
		format := ""
		switch {
		case p.skip("not"):
			if err := p.expect("in"); err != nil {
				return "", err
			}
			format = "(not _in(%s, %s))"
		case p.skip("in"):
			format = "_in(%s, %s)"
		default:
			switch {
			case p.skip("=="):
				format = "_equal(%s, %s)"
			case p.skip("!="):
				format = "(not _equal(%s, %s))"
			}
			for _, o := range []string{"<=", ">=", "<", ">"} {
				if format == "" && p.skip(o) {
					format = `_order(%s, "` + o + `", %s)`
				}
			}
		}
		if format == "" {
			break
		}
		right, err := operand()
		if err != nil {
			return "", err
		}
		p.isTuple = false
		all = append(all, fmt.Sprintf(format, left, right))
		left = right
	}
	switch len(all) {
	case 0:
		return left, nil
	case 1:
		return all[0], nil
	}
	return "(" + strings.Join(all, " and ") + ")", nil
}

func (p *expressions) unary(filtered bool) (text string, err error) {
	p.isTuple = false
	if err := p.enter(); err != nil {
		return "", err
	}
	defer p.leave()
	switch {
	case p.skip("-"):
		if text, err = p.unary(false); err == nil {
			text = "(-" + text + ")"
		}
	case p.skip("+"):
		if text, err = p.unary(false); err == nil {
			text = "_add(0, " + text + ")"
		}
	default:
		if text, err = p.primary(); err == nil {
			text, err = p.postfix(text)
		}
	}
	if err != nil || !filtered {
		return text, err
	}
	return p.filters(text)
}

func (p *expressions) primary() (string, error) {
	l := p.peek()
	p.at++
	switch {
	case l.kind == 'n':
		switch l.text {
		case "and", "or", "not", "in", "is", "if", "else", "for", "recursive":
			return "", fmt.Errorf("%q is not expected", l.text)
		case "true", "false", "none", "True", "False", "None":
			return strings.ToLower(l.text), nil
		}
		if _, internal := pyFunctions[l.text]; strings.HasPrefix(l.text, "_") && (internal || l.text == "_method") || slices.Contains(engineNames, l.text) {
			return "", fmt.Errorf("the name %q is not supported in a chat template", l.text)
		}
		return l.text, nil
	case l.kind == '"':
		text := l.text
		for p.peek().kind == '"' { // literals side by side are one
			text += p.peek().text
			p.at++
		}
		return quote(text), nil
	case l.kind == '0':
		return l.text, nil
	case l.text == "(" && l.kind == 'o':
		if p.skip(")") {
			return "[]", nil
		}
		text, err := p.tuple(true)
		if err != nil {
			return "", err
		}
		tuple := p.isTuple
		err = p.expect(")")
		p.isTuple = tuple
		return text, err
	case l.text == "[" && l.kind == 'o':
		return p.list()
	case l.text == "{" && l.kind == 'o':
		return p.dict()
	}
	if l.kind == 0 {
		return "", errors.New("an expression is expected")
	}
	return "", fmt.Errorf("%q is not expected", l.text)
}

// engineNames are names of the engine's own, which Jinja2 does not have or which make long text of nothing.
var engineNames = []string{"debug", "lipsum", "self", "super"}

func (p *expressions) list() (string, error) {
	var parts []string
	for !p.skip("]") {
		part, err := p.conditional(true)
		if err != nil {
			return "", err
		}
		if parts = append(parts, part); !p.skip(",") && p.peek().text != "]" {
			return "", fmt.Errorf("%q is not expected in a list", p.peek().text)
		}
	}
	return "[" + strings.Join(parts, ", ") + "]", nil
}

// dict keeps the order of its keys: _dict(key, value, ...).
func (p *expressions) dict() (string, error) {
	var parts []string
	for !p.skip("}") {
		key, err := p.conditional(true)
		if err != nil {
			return "", err
		}
		if err := p.expect(":"); err != nil {
			return "", err
		}
		value, err := p.conditional(true)
		if err != nil {
			return "", err
		}
		if parts = append(parts, key, value); !p.skip(",") && p.peek().text != "}" {
			return "", fmt.Errorf("%q is not expected in a dict", p.peek().text)
		}
	}
	return "_dict(" + strings.Join(parts, ", ") + ")", nil
}

// postfix parses attributes, subscripts and calls. A method becomes _method(object, name, ...).
func (p *expressions) postfix(text string) (string, error) {
	method := ""
	for first := true; ; first = false {
		if !first {
			p.isTuple = slices.Contains(tupleMethods, method)
			p.pairs = method == "items"
			method = ""
		}
		switch {
		case p.skip("."):
			l := p.peek()
			if l.kind != 'n' && l.kind != '0' {
				return "", fmt.Errorf("a name is expected after %q, not %q", ".", l.text)
			}
			p.at++
			switch {
			case l.kind == '0':
				text = fmt.Sprintf("%s[%s]", text, l.text)
			case p.peek().text == "(" && p.peek().kind == 'o':
				arguments, err := p.arguments()
				if err != nil {
					return "", err
				}
				method = l.text
				text = fmt.Sprintf("_method(%s)", strings.Join(append([]string{text, quote(l.text)}, arguments...), ", "))
			default:
				text += "." + l.text
			}
		case p.skip("["):
			subscript, err := p.subscript()
			if err != nil {
				return "", err
			}
			text = fmt.Sprintf("%s[%s]", text, subscript)
		case p.peek().text == "(" && p.peek().kind == 'o':
			arguments, err := p.arguments()
			if err != nil {
				return "", err
			}
			text = fmt.Sprintf("%s(%s)", text, strings.Join(arguments, ", "))
		default:
			return text, nil
		}
	}
}

// subscript parses an index or a slice up to its bracket.
func (p *expressions) subscript() (string, error) {
	var text string
	for !p.skip("]") {
		if p.skip(":") {
			text += ":"
			continue
		}
		part, err := p.conditional(true)
		if err != nil {
			return "", err
		}
		text += part
		if next := p.peek().text; next != ":" && next != "]" {
			return "", fmt.Errorf("%q is not expected in a subscript", next)
		}
	}
	return text, nil
}

func (p *expressions) arguments() ([]string, error) {
	if err := p.expect("("); err != nil {
		return nil, err
	}
	var parts []string
	for !p.skip(")") {
		keyword := ""
		if p.at+1 < len(p.tokens) && p.peek().kind == 'n' && p.tokens[p.at+1] == (lexeme{'o', "="}) {
			keyword = p.peek().text + "="
			p.at += 2
		}
		part, err := p.conditional(true)
		if err != nil {
			return nil, err
		}
		if parts = append(parts, keyword+part); !p.skip(",") && p.peek().text != ")" {
			return nil, fmt.Errorf("%q is not expected between arguments", p.peek().text)
		}
	}
	return parts, nil
}

// filters parses the filters, tests and calls that follow an expression.
func (p *expressions) filters(text string) (string, error) {
	for {
		switch {
		case p.skip("|") || text == "" && p.at == 1: // {% filter name %} has no bar
			name, err := p.name()
			if err == nil {
				err = known("filter", name, templateFilters)
			}
			if err != nil {
				return "", err
			}
			isTuple := slices.Contains(tupleFilters, name) || name == "list" && p.pairs
			text += "|" + name
			if p.peek().text == "(" {
				arguments, err := p.arguments()
				if err != nil {
					return "", err
				}
				text += "(" + strings.Join(arguments, ", ") + ")"
			}
			p.isTuple, p.pairs = isTuple, name == "items" || name == "dictsort"
			if slices.Contains([]string{"e", "escape", "safe"}, name) {
				if p.markup != "" || !p.done() {
					return "", errMarkup
				}
				p.markup = text
			}
			if p.peek().text != "|" && !p.done() {
				text = "(" + text + ")"
			}
		case p.skip("is"):
			test, err := p.test()
			if err != nil {
				return "", err
			}
			text = "(" + text + " is " + test + ")"
		default:
			return text, nil
		}
	}
}

// test parses "not divisibleby 3" after is.
func (p *expressions) test() (string, error) {
	prefix := ""
	if p.skip("not") {
		prefix = "not "
	}
	name, err := p.name()
	if err == nil {
		err = known("test", strings.ToLower(name), templateTests)
	}
	if err != nil {
		return "", err
	}
	text := prefix + strings.ToLower(name)
	next := p.peek()
	switch {
	case next.kind == 'o' && next.text == "(":
		arguments, err := p.arguments()
		return text + "(" + strings.Join(arguments, ", ") + ")", err
	case next.kind == '0', next.kind == '"', next.kind == 'o' && (next.text == "[" || next.text == "{"),
		next.kind == 'n' && next.text != "else" && next.text != "or" && next.text != "and" && next.text != "is" && next.text != "if" &&
			next.text != "recursive" && next.text != "in" && next.text != "not":
		argument, err := p.primary()
		if err == nil {
			argument, err = p.postfix(argument)
		}
		return text + "(" + argument + ")", err
	}
	return text, nil
}
