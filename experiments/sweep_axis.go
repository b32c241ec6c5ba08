package experiments

import (
	"math"
	"reflect"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// axis reads the values of a field: a list, or a range.
func (r *sweepReader) axis(at string, n ast.Node) ([]string, bool) {
	switch n := n.(type) {
	case *ast.SequenceNode:
		if len(n.Values) == 0 {
			r.fail(lineOf(n), at, "is an empty list; name at least one value, or leave the field out")
			return nil, false
		}
		values := make([]string, len(n.Values))
		for i, item := range n.Values {
			var ok bool
			if values[i], ok = r.text(at, item); !ok {
				return nil, false
			}
		}
		return values, true
	case ast.MapNode:
		return r.span(at, n)
	}
	r.fail(lineOf(n), at, "wants a list of values or a range {from, to, step | factor | points}, has %s; a field with one value goes under set:", describe(n))
	return nil, false
}

// span is a range of numbers, ends included.
type span struct {
	From   float64 `yaml:"from"`
	To     float64 `yaml:"to"`
	Step   float64 `yaml:"step"`
	Factor float64 `yaml:"factor"`
	Points int     `yaml:"points"`
	Scale  string  `yaml:"scale"`
}

func (r *sweepReader) span(at string, n ast.MapNode) ([]string, bool) {
	var s span
	before, line := len(r.problems), 0
	for it := n.MapRange(); it.Next(); {
		key := it.Key().GetToken().Value
		line = lineOf(it.Key())
		field, ok := fieldByKey(reflect.ValueOf(&s).Elem(), key)
		if !ok {
			r.fail(line, at, "unknown key %q; a range is {from, to, step}, {from, to, factor} or {from, to, points, scale: linear | log}", key)
			continue
		}
		r.value(at+"."+key, it.Value(), field)
	}
	if len(r.problems) > before {
		return nil, false
	}
	values, problem := s.values()
	if problem != "" {
		r.fail(line, at, "%s", problem)
		return nil, false
	}
	out := make([]string, len(values))
	for i, v := range values {
		// Ten digits: 0.1 + 2*0.1 is meant to be 0.3.
		out[i] = strconv.FormatFloat(v, 'g', 10, 64)
	}
	return out, true
}

// values computes the points of a range, or says what is wrong with it.
func (s span) values() ([]float64, string) {
	ways := 0
	for _, given := range []bool{s.Step != 0, s.Factor != 0, s.Points != 0} {
		if given {
			ways++
		}
	}
	logarithmic := s.Factor != 0 || s.Scale == "log"
	switch {
	case ways != 1:
		return nil, "a range has from, to and one of step, factor and points"
	case s.Scale != "" && s.Scale != "linear" && s.Scale != "log":
		return nil, "scale is " + strconv.Quote(s.Scale) + "; it is linear or log"
	case s.Scale != "" && s.Points == 0:
		return nil, "scale goes with points; a step is linear, a factor logarithmic"
	case s.To <= s.From:
		return nil, "to is not above from"
	case logarithmic && s.From <= 0:
		return nil, "a logarithmic range begins above 0"
	case s.Step < 0 || s.Step != 0 && s.From+s.Step == s.From:
		return nil, "step is too small; it is above 0"
	case s.Factor != 0 && s.Factor <= 1+1e-9:
		return nil, "factor is above 1"
	case s.Points == 1 || s.Points < 0 || s.Points > maxCells:
		return nil, "points is at least 2"
	}
	n := s.Points
	switch {
	case s.Step != 0:
		n = int(math.Min(math.Floor((s.To-s.From)/s.Step+1e-9), maxCells)) + 1
	case s.Factor != 0:
		n = int(math.Min(math.Floor(math.Log(s.To/s.From)/math.Log(s.Factor)+1e-9), maxCells)) + 1
	}
	if n > maxCells {
		return nil, "the range has more than " + strconv.Itoa(maxCells) + " values"
	}
	out := make([]float64, n)
	for i := range out {
		switch k := float64(i); {
		case s.Step != 0:
			out[i] = s.From + k*s.Step
		case s.Factor != 0:
			out[i] = s.From * math.Pow(s.Factor, k)
		case s.Scale == "log":
			out[i] = s.From * math.Pow(s.To/s.From, k/float64(n-1))
		default:
			out[i] = s.From + (s.To-s.From)*k/float64(n-1)
		}
	}
	return out, ""
}

// text gives a node as Set takes it.
func (r *sweepReader) text(at string, n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode, *ast.MergeKeyNode:
		r.fail(lineOf(n), at, "anchors, aliases, merges and tags are not used in sweeps")
		return "", false
	case *ast.NullNode:
		return "null", true
	case *ast.StringNode:
		return n.Value, true
	case *ast.SequenceNode, ast.MapNode:
		text, ok := flow(n)
		if !ok {
			r.fail(lineOf(n), at, "write the value in brackets: [a, b] or {a: 1}")
		}
		return text, ok
	}
	if t := n.GetToken(); t != nil {
		return t.Value, true
	}
	r.fail(lineOf(n), at, "is no value")
	return "", false
}

// flow writes a nested value on one line.
func flow(n ast.Node) (string, bool) {
	var parts []string
	switch n := n.(type) {
	case *ast.SequenceNode:
		for _, item := range n.Values {
			part, ok := flow(item)
			if !ok {
				return "", false
			}
			parts = append(parts, part)
		}
		return "[" + strings.Join(parts, ", ") + "]", true
	case ast.MapNode:
		for it := n.MapRange(); it.Next(); {
			part, ok := flow(it.Value())
			if !ok || it.Key().IsMergeKey() {
				return "", false
			}
			parts = append(parts, it.Key().String()+": "+part)
		}
		return "{" + strings.Join(parts, ", ") + "}", true
	case ast.ScalarNode:
		text := n.String()
		return text, !strings.Contains(text, "\n")
	}
	return "", false
}
