package tokens

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/mitsuhiko/minijinja/minijinja-go/v2/value"
)

// maxString bounds the characters of one text and the items of one list that a template makes: it could double them in
// a loop.
const maxString = 4 << 20

var errTooLong = fmt.Errorf("the template makes a text of more than %d bytes", maxString)

// pyDict is a dict that keeps the order of its keys, as Python's does.
type pyDict struct {
	keys   []string
	values map[string]value.Value
}

var (
	_ value.MapObject        = (*pyDict)(nil)
	_ value.ObjectWithRepr   = (*pyDict)(nil)
	_ value.ObjectWithString = (*pyDict)(nil)
)

func newDict() *pyDict { return &pyDict{values: map[string]value.Value{}} }

func (d *pyDict) set(key string, v value.Value) {
	if _, ok := d.values[key]; !ok {
		d.keys = append(d.keys, key)
	}
	d.values[key] = v
}

// GetAttr implements value.Object.
func (d *pyDict) GetAttr(name string) value.Value {
	if v, ok := d.values[name]; ok {
		return v
	}
	return value.Undefined()
}

// Keys implements value.MapObject.
func (d *pyDict) Keys() []string { return d.keys }

// ObjectRepr implements value.ObjectWithRepr.
func (d *pyDict) ObjectRepr() value.ObjectRepr { return value.ObjectReprMap }

// ObjectString implements value.ObjectWithString.
func (d *pyDict) ObjectString() string { return pyRepr(value.FromObject(d), 0) }

// pyNamespace is Jinja2's namespace(). It holds no namespace, so that none can hold itself.
type pyNamespace struct{ pyDict }

var errNamespace = errors.New("a namespace within a namespace is not supported")

// SetAttr implements value.MutableObject. The panic is recovered where the template is run.
func (n *pyNamespace) SetAttr(name string, v value.Value) {
	if holdsNamespace(v) {
		panic(errNamespace)
	}
	n.set(name, v)
}

func (n *pyNamespace) ObjectRepr() value.ObjectRepr { return value.ObjectReprPlain }
func (n *pyNamespace) ObjectString() string         { return "<Namespace " + n.pyDict.ObjectString() + ">" }

func holdsNamespace(v value.Value) bool {
	if object, ok := v.AsObject(); ok {
		switch o := object.(type) {
		case *pyNamespace:
			return true
		case *pyDict:
			for _, held := range o.values {
				if holdsNamespace(held) {
					return true
				}
			}
		}
	}
	items, _ := v.AsSlice()
	return slices.ContainsFunc(items, holdsNamespace)
}

// fromGo turns JSON's values into template values; objects keep the order in which keys gives them.
func fromMessage(m Message) value.Value {
	d := newDict()
	d.set("role", value.FromString(m.Role))
	d.set("content", value.FromString(m.Content))
	return value.FromObject(d)
}

// dictOf gives a dict, made here or by the engine.
func dictOf(v value.Value) (*pyDict, bool) {
	if object, ok := v.AsObject(); ok {
		d, ok := object.(*pyDict)
		return d, ok
	}
	m, ok := v.AsMap()
	if !ok {
		return nil, false
	}
	d := newDict()
	for _, key := range v.Iter() {
		name, _ := key.AsString()
		d.set(name, m[name])
	}
	return d, true
}

// pyNumber is a number, or a boolean, which is one in Python.
func pyNumber(v value.Value) (float64, bool) {
	if v.Kind() == value.KindBool {
		if v.IsTrue() {
			return 1, true
		}
		return 0, true
	}
	f, ok := v.AsFloat()
	return f, ok && v.Kind() == value.KindNumber
}

// pyOrder is how Python orders two values: -1, 0 or 1. What it does not order is an error.
func pyOrder(a, b value.Value) (int, error) {
	x, isNumber := pyNumber(a)
	y, isOther := pyNumber(b)
	if isNumber && isOther {
		return cmp.Compare(x, y), nil
	}
	s, isString := a.AsString()
	o, isOther := b.AsString()
	if isString && isOther {
		return strings.Compare(s, o), nil
	}
	list, isList := a.AsSlice()
	other, isOther := b.AsSlice()
	if !isList || !isOther {
		return 0, fmt.Errorf("%s and %s have no order", a.Kind(), b.Kind())
	}
	for i := range min(len(list), len(other)) {
		if !pyEqual(list[i], other[i], 0) {
			return pyOrder(list[i], other[i])
		}
	}
	return cmp.Compare(len(list), len(other)), nil
}

// pyEqual is Python's ==.
func pyEqual(a, b value.Value, depth int) bool {
	if depth > maxNesting {
		panic(fmt.Errorf("values stand more than %d deep in each other", maxNesting))
	}
	if x, ok := pyNumber(a); ok {
		y, ok := pyNumber(b)
		return ok && x == y
	}
	if x, ok := dictOf(a); ok {
		y, ok := dictOf(b)
		return ok && len(x.keys) == len(y.keys) && !slices.ContainsFunc(x.keys, func(key string) bool {
			other, ok := y.values[key]
			return !ok || !pyEqual(x.values[key], other, depth+1)
		})
	}
	if x, ok := a.AsSlice(); ok {
		y, ok := b.AsSlice()
		return ok && slices.EqualFunc(x, y, func(a, b value.Value) bool { return pyEqual(a, b, depth+1) })
	}
	return a.Kind() == b.Kind() && a.Equal(b)
}

// pyItems are the items that a loop goes over; what cannot be gone over is an error.
func pyItems(v value.Value) ([]value.Value, error) {
	if d, ok := dictOf(v); ok {
		keys, _ := strs(d.keys).AsSlice()
		return keys, nil
	}
	items, isList := v.AsSlice()
	switch {
	case isList, v.IsUndefined():
	case v.IsNone(), v.Kind() == value.KindNumber, v.Kind() == value.KindBool:
		return nil, fmt.Errorf("%s is not iterable", v.Kind())
	default:
		items = v.Iter()
	}
	if items == nil {
		items = []value.Value{} // the engine takes nil for no list at all
	}
	return items, nil
}

// pyIn is Python's in.
func pyIn(v, in value.Value) (bool, error) {
	if s, ok := in.AsString(); ok {
		part, ok := v.AsString()
		if !ok {
			return false, errors.New("only a text can be in a text")
		}
		return strings.Contains(s, part), nil
	}
	items, err := pyItems(in)
	return slices.ContainsFunc(items, func(item value.Value) bool { return pyEqual(v, item, 0) }), err
}

// pyString is Python's str().
func pyString(v value.Value) string {
	if s, ok := v.AsString(); ok {
		return s
	}
	if v.IsUndefined() {
		return ""
	}
	return pyRepr(v, 0)
}

// pyRepr is Python's repr().
func pyRepr(v value.Value, depth int) string {
	if depth > maxNesting {
		panic(fmt.Errorf("values stand more than %d deep in each other", maxNesting))
	}
	switch v.Kind() {
	case value.KindUndefined:
		return "Undefined"
	case value.KindNone:
		return "None"
	case value.KindBool:
		if v.IsTrue() {
			return "True"
		}
		return "False"
	case value.KindNumber:
		if f, ok := v.AsFloat(); ok && v.IsActualFloat() {
			return pyFloat(f)
		}
		return v.String()
	case value.KindString:
		s, _ := v.AsString()
		return pyQuote(s)
	}
	if d, ok := dictOf(v); ok {
		parts := make([]string, len(d.keys))
		for i, key := range d.keys {
			parts[i] = pyQuote(key) + ": " + pyRepr(d.values[key], depth+1)
		}
		return bounded("{" + strings.Join(parts, ", ") + "}")
	}
	if items := v.Iter(); items != nil {
		parts := make([]string, len(items))
		for i, item := range items {
			parts[i] = pyRepr(item, depth+1)
		}
		return bounded("[" + strings.Join(parts, ", ") + "]")
	}
	return v.String()
}

func bounded(s string) string {
	if len(s) > maxString {
		panic(errTooLong)
	}
	return s
}

// pyFloat writes a float as Python does.
func pyFloat(f float64) string {
	switch {
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	case math.IsNaN(f):
		return "nan"
	}
	if a := math.Abs(f); a != 0 && (a < 1e-4 || a >= 1e16) {
		return strconv.FormatFloat(f, 'e', -1, 64)
	}
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

// pyQuote writes a string as Python's repr().
func pyQuote(s string) string {
	quote := byte('\'')
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		quote = '"'
	}
	var out strings.Builder
	out.WriteByte(quote)
	for _, r := range s {
		switch {
		case r == rune(quote) || r == '\\':
			out.WriteByte('\\')
			out.WriteRune(r)
		case r == '\n':
			out.WriteString(`\n`)
		case r == '\r':
			out.WriteString(`\r`)
		case r == '\t':
			out.WriteString(`\t`)
		case r < ' ' || r == 0x7f || r > 0x7f && r <= 0xff && !unicode.IsPrint(r):
			fmt.Fprintf(&out, `\x%02x`, r)
		case r > 0xff && r <= 0xffff && !unicode.IsPrint(r):
			fmt.Fprintf(&out, `\u%04x`, r)
		case r > 0xffff && !unicode.IsPrint(r):
			fmt.Fprintf(&out, `\U%08x`, r)
		default:
			out.WriteRune(r)
		}
	}
	out.WriteByte(quote)
	return out.String()
}

// pyJSON writes a value as Python's json.dumps(ensure_ascii=False) does, which transformers' tojson is.
func pyJSON(out *strings.Builder, v value.Value, indent, newline, comma, colon string, depth int) error {
	if depth > maxNesting {
		return fmt.Errorf("values stand more than %d deep in each other", maxNesting)
	}
	if out.Len() > maxString {
		return errTooLong
	}
	below := newline
	if indent != "" {
		below += indent
	}
	list := func(open, close string, n int, item func(i int) error) error {
		out.WriteString(open)
		for i := range n {
			if i > 0 {
				out.WriteString(comma)
			}
			out.WriteString(below)
			if err := item(i); err != nil {
				return err
			}
		}
		if n > 0 {
			out.WriteString(newline)
		}
		out.WriteString(close)
		return nil
	}
	switch v.Kind() {
	case value.KindUndefined:
		return errors.New("an undefined value is no JSON")
	case value.KindNone:
		out.WriteString("null")
		return nil
	case value.KindBool, value.KindNumber:
		out.WriteString(strings.ToLower(pyRepr(v, 0)))
		return nil
	case value.KindString:
		s, _ := v.AsString()
		jsonQuote(out, s)
		return nil
	}
	if d, ok := dictOf(v); ok {
		return list("{", "}", len(d.keys), func(i int) error {
			jsonQuote(out, d.keys[i])
			out.WriteString(colon)
			return pyJSON(out, d.values[d.keys[i]], indent, below, comma, colon, depth+1)
		})
	}
	items := v.Iter()
	if items == nil {
		return fmt.Errorf("%s is no JSON", v.Kind())
	}
	return list("[", "]", len(items), func(i int) error { return pyJSON(out, items[i], indent, below, comma, colon, depth+1) })
}

func jsonQuote(out *strings.Builder, s string) {
	out.WriteByte('"')
	for _, r := range s {
		switch r {
		case '"', '\\':
			out.WriteByte('\\')
			out.WriteRune(r)
		case '\n':
			out.WriteString(`\n`)
		case '\r':
			out.WriteString(`\r`)
		case '\t':
			out.WriteString(`\t`)
		case '\b':
			out.WriteString(`\b`)
		case '\f':
			out.WriteString(`\f`)
		default:
			if r < ' ' {
				fmt.Fprintf(out, `\u%04x`, r)
				continue
			}
			out.WriteRune(r)
		}
	}
	out.WriteByte('"')
}
