package experiments

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

const (
	maxFileBytes = 64 << 10 // an experiment has a few kilobytes
	maxNesting   = 32       // the deepest field lies at 4
)

// Read decodes an experiment from YAML onto Defaults and validates it. It is
// strict: unknown and repeated keys, wrong types, anchors, aliases, merges,
// tags and several documents are errors. The error is Problems, all of them at
// once, each with the line in file.
func Read(file string, content []byte) (Experiment, error) {
	d := newDecoder(file)
	exp := Defaults()
	d.document(content, &exp)
	d.problems = append(d.problems, d.locate(validated(exp, d.broken))...)
	if err := d.problems.err(); err != nil {
		return Experiment{}, err
	}
	return exp, nil
}

// document decodes one YAML document into the experiment and collects problems.
func (d *decoder) document(content []byte, exp *Experiment) {
	if len(content) > maxFileBytes {
		d.fail(0, "", "%d bytes are more than an experiment's %d", len(content), maxFileBytes)
		return
	}
	root, ok := d.parse(content)
	if !ok {
		return
	}
	if root == nil {
		d.fail(0, "", "the file is empty; `esclab presets demo` shows an experiment")
		return
	}
	d.value("", root, valueOf(exp))
}

// parse gives the body of the only document; nil for an empty one. A byte order
// mark in front of it is skipped.
func (d *decoder) parse(content []byte) (ast.Node, bool) {
	content = bytes.TrimPrefix(content, []byte("\ufeff"))
	if !utf8.Valid(content) {
		d.fail(0, "", "not UTF-8 text")
		return nil, false
	}
	if i := bytes.IndexByte(content, 0); i >= 0 {
		d.fail(1+bytes.Count(content[:i], []byte("\n")), "", "a zero byte")
		return nil, false
	}
	if line := TooDeep(content); line > 0 {
		d.fail(line, "", "more than %d levels of nesting", maxNesting)
		return nil, false
	}
	parsed, err := parser.ParseBytes(content, 0)
	if err != nil {
		line, message := 0, err.Error()
		if y := yaml.Error(nil); errors.As(err, &y) {
			message = y.GetMessage()
			if t := y.GetToken(); t != nil && t.Position != nil {
				line = t.Position.Line
			}
		}
		d.fail(line, "", "not valid YAML: %s", message)
		return nil, false
	}
	var body ast.Node
	for _, doc := range parsed.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.CommentType {
			continue
		}
		if body != nil {
			d.fail(lineOf(doc.Body), "", "a second YAML document; one file holds one experiment")
			return nil, false
		}
		body = doc.Body
	}
	return body, true
}

// TooDeep gives the first line of a YAML text whose indentation or brackets nest
// beyond any file of ours, before the parser recurses into them; 0: none.
func TooDeep(content []byte) int {
	var b brackets
	for i, line := range strings.Split(string(content), "\n") {
		indent := len(line) - len(strings.TrimLeft(line, " "))
		compact := len(line) - indent - len(strings.TrimLeft(line[indent:], "-? ")) // "- - - x" nests without brackets
		b.line(line)
		if b.deepest > maxNesting || b.total > maxBrackets || compact > 2*maxNesting || (indent > 8*maxNesting && len(line) > indent) {
			return i + 1
		}
	}
	return 0
}

// maxBrackets bounds the brackets of a whole file, for texts that hide from the
// count of their depth what the parser takes for brackets.
const maxBrackets = 1 << 13

// brackets counts the brackets that are open, apart from those in quotes and
// comments.
type brackets struct {
	open, deepest, total int
	quote                byte // of the string that goes on in the next line; 0: none
}

func (b *brackets) line(line string) {
	b.total += strings.Count(line, "[") + strings.Count(line, "{")
	before := byte(' ') // the last byte that is no blank decides whether a quote begins a string
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case b.quote == '"' && c == '\\':
			i++
		case b.quote != 0:
			if c == b.quote {
				b.quote = 0
			}
		case c == '#' && (i == 0 || line[i-1] == ' ' || line[i-1] == '\t'):
			return
		case (c == '"' || c == '\'') && strings.IndexByte(" [{,:-?", before) >= 0:
			b.quote = c
		case c == '[' || c == '{':
			b.open++
			b.deepest = max(b.deepest, b.open)
		case c == ']' || c == '}':
			b.open = max(b.open-1, 0)
		}
		if c != ' ' && c != '\t' {
			before = c
		}
	}
}

func lineOf(n ast.Node) int {
	if n == nil {
		return 0
	}
	if t := n.GetToken(); t != nil && t.Position != nil {
		return t.Position.Line
	}
	return 0
}

// Marshal writes an experiment as YAML with every field, defaults included, as
// Read takes it: the effective experiment behind `esclab run --plan`.
func Marshal(exp Experiment) ([]byte, error) {
	out, err := yaml.MarshalWithOptions(exp, yaml.Indent(2), yaml.IndentSequence(true), yaml.AutoInt())
	if err != nil {
		return nil, fmt.Errorf("experiment %s as YAML: %w", exp.Name, err)
	}
	return out, nil
}
