package tokens

import (
	"fmt"
	"strings"
)

// statement rewrites what stands between {% and %}.
func (p *expressions) statement() (string, error) {
	keyword, err := p.name()
	if err != nil {
		return "", err
	}
	var text string
	switch keyword {
	case "for":
		text, err = p.loop()
	case "set":
		text, err = p.assignment()
	case "with":
		text, err = p.assignments()
	case "macro":
		if text, err = p.name(); err == nil {
			var parameters string
			parameters, err = p.parameters()
			text += parameters
		}
	case "call":
		if p.peek().text == "(" {
			if text, err = p.parameters(); err != nil {
				return "", err
			}
			text += " "
		}
		var called string
		called, err = p.callee()
		text += called
	case "filter":
		text, err = p.filters("")
		text = strings.TrimPrefix(text, "|")
	// transformers' own statement marks what the assistant says and renders its content in a scope of its own
	// (utils/chat_template_utils.py, AssistantTracker).
	case "generation":
		return "with", nil
	case "endgeneration":
		return "endwith", nil
	case "if", "elif", "do":
		text, err = p.tuple(keyword == "do")
	default:
		err = known("statement", keyword, append(templateStatements, "for", "set", "with", "macro", "call", "filter", "generation", "endgeneration", "raw"))
	}
	return strings.TrimSpace(keyword + " " + text), err
}

// loop rewrites "x, y in items if condition recursive".
func (p *expressions) loop() (string, error) {
	targets, err := p.targets("in")
	if err != nil {
		return "", err
	}
	items, err := p.tuple(false)
	if err != nil {
		return "", err
	}
	text := fmt.Sprintf("%s in _items(%s)", targets, items)
	if p.skip("if") {
		condition, err := p.conditional(true)
		if err != nil {
			return "", err
		}
		text += " if " + condition
	}
	if p.skip("recursive") {
		text += " recursive"
	}
	return text, nil
}

// targets copies the names that are assigned to, up to a name or operator.
func (p *expressions) targets(until string) (string, error) {
	var text string
	for !p.skip(until) {
		l := p.peek()
		if l.kind != 'n' && !strings.Contains("(),.", l.text) || p.done() {
			return "", fmt.Errorf("%q is expected, not %q", until, l.text)
		}
		text += l.text
		p.at++
	}
	return text, nil
}

func (p *expressions) assignment() (string, error) {
	for _, l := range p.tokens[p.at:] {
		if l.kind == 'o' && l.text == "=" {
			targets, err := p.targets("=")
			if err != nil {
				return "", err
			}
			value, err := p.tuple(true)
			return targets + " = " + value, err
		}
	}
	// {% set x %}...{% endset %}, perhaps with filters
	target, err := p.name()
	if err != nil {
		return "", err
	}
	filters, err := p.filters("")
	return target + filters, err
}

func (p *expressions) assignments() (string, error) {
	var parts []string
	for !p.done() {
		target, err := p.targets("=")
		if err != nil {
			return "", err
		}
		value, err := p.conditional(true)
		if err != nil {
			return "", err
		}
		parts = append(parts, target+" = "+value)
		if !p.skip(",") {
			break
		}
	}
	return strings.Join(parts, ", "), nil
}

// parameters rewrites the parameters of a macro.
func (p *expressions) parameters() (string, error) {
	if err := p.expect("("); err != nil {
		return "", err
	}
	var parts []string
	for !p.skip(")") {
		part, err := p.name()
		if err != nil {
			return "", err
		}
		if p.skip("=") {
			value, err := p.conditional(true)
			if err != nil {
				return "", err
			}
			part += "=" + value
		}
		if parts = append(parts, part); !p.skip(",") && p.peek().text != ")" {
			return "", fmt.Errorf("%q is not expected", p.peek().text)
		}
	}
	return "(" + strings.Join(parts, ", ") + ")", nil
}

// callee is the macro of a call block with its arguments, without brackets around it.
func (p *expressions) callee() (string, error) {
	name, err := p.name()
	if err != nil {
		return "", err
	}
	arguments, err := p.arguments()
	return name + "(" + strings.Join(arguments, ", ") + ")", err
}
