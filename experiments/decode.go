package experiments

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// decoder puts YAML nodes into an experiment by the yaml tags of its fields.
// The library's own decoder stops at the first error and knows no nearest key;
// this one collects everything and remembers where each value stood.
type decoder struct {
	file     string
	lines    map[string]int // YAML path → line
	problems Problems
	// broken are the paths of fields that keep their defaults, since what stands there
	// cannot be read; "" is the whole file.
	broken map[string]bool
}

func newDecoder(file string) *decoder {
	return &decoder{file: file, lines: map[string]int{}, broken: map[string]bool{}}
}

func valueOf(exp *Experiment) reflect.Value { return reflect.ValueOf(exp).Elem() }

func (d *decoder) fail(line int, path, format string, args ...any) {
	d.broken[path] = true
	d.problems = append(d.problems, Problem{File: d.file, Line: line, Path: path, Message: fmt.Sprintf(format, args...)})
}

// locate adds file and line to problems that know only their path; a value that
// was left out is found at the key above it.
func (d *decoder) locate(ps Problems) Problems {
	for i := range ps {
		ps[i].File = d.file
		for path := ps[i].Path; path != "" && ps[i].Line == 0; {
			ps[i].Line = d.lines[path]
			cut := strings.LastIndexAny(path, ".[")
			path = path[:max(cut, 0)]
		}
	}
	return ps
}

func (d *decoder) value(path string, n ast.Node, v reflect.Value) {
	switch n := n.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode, *ast.MergeKeyNode:
		d.fail(lineOf(n), path, "anchors, aliases, merges and tags are not used in experiments")
		return
	case *ast.NullNode:
		if v.Kind() == reflect.Pointer {
			v.SetZero()
		} else {
			d.fail(lineOf(n), path, "has no value; it wants %s (or leave the key out for its default)", wanted(v.Type()))
		}
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			v.Set(newWithDefaults(v.Type().Elem()))
		}
		d.value(path, n, v.Elem())
	case reflect.Struct:
		d.mapping(path, n, v)
	case reflect.Slice, reflect.Array:
		d.sequence(path, n, v)
	case reflect.Map:
		d.dictionary(path, n, v)
	default:
		d.scalar(path, n, v)
	}
}

// newWithDefaults allocates an optional block, or an item of a list.
func newWithDefaults(t reflect.Type) reflect.Value {
	v := reflect.New(t)
	switch t {
	case reflect.TypeFor[Tiny]():
		v.Elem().Set(reflect.ValueOf(defaultTiny()))
	case reflect.TypeFor[Judging]():
		v.Elem().Set(reflect.ValueOf(defaultJudging()))
	case reflect.TypeFor[NamedJudge]():
		v.Elem().Set(reflect.ValueOf(NamedJudge{Judging: defaultJudging()}))
	}
	return v
}

func (d *decoder) mapping(path string, n ast.Node, v reflect.Value) {
	m, ok := n.(ast.MapNode)
	if !ok {
		d.fail(lineOf(n), path, "wants keys and values (%s), has %s", strings.Join(keys(v.Type()), ", "), describe(n))
		return
	}
	for it := m.MapRange(); it.Next(); {
		if it.Key().IsMergeKey() {
			d.fail(lineOf(it.Key()), path, "anchors, aliases, merges and tags are not used in experiments")
			continue
		}
		key := it.Key().GetToken().Value
		field, ok := fieldByKey(v, key)
		if !ok {
			d.problems = append(d.problems, Problem{File: d.file, Line: lineOf(it.Key()), Path: path, Message: unknownKey(path, key, v.Type())})
			if near := nearest(key, keys(v.Type())); near != "" {
				d.broken[join(path, near)] = true
			}
			continue
		}
		at := join(path, key)
		d.lines[at] = lineOf(it.Key())
		d.value(at, it.Value(), field)
	}
}

// dictionary reads a map from free keys to values of one type.
func (d *decoder) dictionary(path string, n ast.Node, v reflect.Value) {
	m, ok := n.(ast.MapNode)
	if !ok {
		d.fail(lineOf(n), path, "wants keys and values, has %s", describe(n))
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	for it := m.MapRange(); it.Next(); {
		if it.Key().IsMergeKey() {
			d.fail(lineOf(it.Key()), path, "anchors, aliases, merges and tags are not used in experiments")
			continue
		}
		key := it.Key().GetToken().Value
		at := join(path, key)
		d.lines[at] = lineOf(it.Key())
		value := reflect.New(v.Type().Elem()).Elem()
		d.value(at, it.Value(), value)
		v.SetMapIndex(reflect.ValueOf(key), value)
	}
}

func (d *decoder) sequence(path string, n ast.Node, v reflect.Value) {
	s, ok := n.(*ast.SequenceNode)
	if !ok {
		d.fail(lineOf(n), path, "wants a list, has %s", describe(n))
		return
	}
	if v.Kind() == reflect.Array {
		if len(s.Values) != v.Len() {
			d.fail(lineOf(n), path, "wants %d values, has %d", v.Len(), len(s.Values))
			return
		}
	} else {
		v.Set(reflect.MakeSlice(v.Type(), len(s.Values), len(s.Values)))
	}
	for i, item := range s.Values {
		at := fmt.Sprintf("%s[%d]", path, i)
		d.lines[at] = lineOf(item)
		v.Index(i).Set(newWithDefaults(v.Type().Elem()).Elem())
		d.value(at, item, v.Index(i))
	}
}

// scalar converts from the text as written, so that 1e-5 is a number whatever
// the YAML version says, and a quoted "3" is not.
func (d *decoder) scalar(path string, n ast.Node, v reflect.Value) {
	sc, ok := n.(ast.ScalarNode)
	t := n.GetToken()
	if !ok || t == nil {
		d.fail(lineOf(n), path, "wants %s, has %s", wanted(v.Type()), describe(n))
		return
	}
	if v.Kind() == reflect.String {
		switch n := n.(type) {
		case *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
			d.fail(lineOf(n), path, "wants text, has %s; write it in quotes", describe(n))
		case *ast.StringNode:
			v.SetString(n.Value)
		case *ast.LiteralNode:
			v.SetString(strings.TrimRight(n.Value.Value, "\n"))
		default:
			v.SetString(sc.GetToken().Value)
		}
		return
	}
	text := t.Value
	if t.Type == token.SingleQuoteType || t.Type == token.DoubleQuoteType || n.Type() == ast.LiteralType {
		d.fail(lineOf(n), path, "wants %s, has text in quotes: %q", wanted(v.Type()), text)
		return
	}
	if err := setScalar(v, text); err != nil {
		d.fail(lineOf(n), path, "wants %s, has %q%s", wanted(v.Type()), text, hint(err))
	}
}

func setScalar(v reflect.Value, text string) error {
	switch v.Kind() {
	case reflect.Bool:
		switch text {
		case "true", "false":
			v.SetBool(text == "true")
			return nil
		}
		return strconv.ErrSyntax
	case reflect.Int:
		i, err := strconv.ParseInt(text, 10, 64)
		if err == nil {
			v.SetInt(i)
		}
		return err
	case reflect.Uint64:
		u, err := strconv.ParseUint(text, 10, 64)
		if err == nil {
			v.SetUint(u)
		}
		return err
	case reflect.Float64:
		f, err := strconv.ParseFloat(text, 64)
		if err == nil && (math.IsInf(f, 0) || math.IsNaN(f) || strings.ContainsAny(text, "_xXpP")) {
			err = strconv.ErrSyntax
		}
		if err == nil {
			v.SetFloat(f)
		}
		return err
	}
	return fmt.Errorf("a field of type %s cannot be read", v.Type())
}

func hint(err error) string {
	if strings.Contains(err.Error(), strconv.ErrRange.Error()) {
		return ", which is out of range"
	}
	return ""
}

// wanted describes a type in the words of a YAML author.
func wanted(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int:
		return "a whole number"
	case reflect.Uint64:
		return "a whole number, 0 or more"
	case reflect.Float64:
		return "a number"
	case reflect.String:
		return "text"
	case reflect.Slice, reflect.Array:
		return "a list"
	case reflect.Pointer:
		return wanted(t.Elem())
	}
	return "keys and values"
}

func describe(n ast.Node) string {
	switch n.(type) {
	case ast.MapNode:
		return "keys and values"
	case *ast.SequenceNode:
		return "a list"
	case *ast.NullNode:
		return "no value"
	}
	if t := n.GetToken(); t != nil {
		if text := t.Value; len(text) <= 40 {
			return strconv.Quote(text)
		}
	}
	return "a " + strings.ToLower(n.Type().String())
}
