package tokens

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/mitsuhiko/minijinja/minijinja-go/v2/value"
)

// templateFilters and templateTests are what a chat template may use: what is known to be computed as Jinja2 does,
// without what makes long text of a number (center, indent, format).
var (
	templateFilters = []string{"abs", "capitalize", "count", "d", "default", "dictsort", "e", "escape", "first", "float", "int", "items", "join", "last",
		"length", "list", "lower", "map", "max", "min", "reject", "rejectattr", "replace", "reverse", "round", "safe", "select", "selectattr", "sort",
		"string", "sum", "title", "tojson", "trim", "unique", "upper"}
	templateTests = []string{"boolean", "callable", "defined", "divisibleby", "eq", "equalto", "even", "false", "float", "ge", "greaterthan", "gt", "in",
		"integer", "iterable", "le", "lessthan", "lower", "lt", "mapping", "ne", "none", "number", "odd", "sameas", "sequence", "string", "true",
		"undefined", "upper"}
)

// pyFilters replace filters of the engine's that differ from Jinja2's.
var pyFilters = map[string]func(v value.Value, args []value.Value, kwargs map[string]value.Value) (value.Value, error){
	"string": func(v value.Value, _ []value.Value, _ map[string]value.Value) (value.Value, error) {
		return value.FromString(pyString(v)), nil
	},
	"trim": func(v value.Value, args []value.Value, kwargs map[string]value.Value) (value.Value, error) {
		if chars, ok := kwargs["chars"]; ok {
			args = []value.Value{chars}
		}
		s, err := pyStrip(pyString(v), args, true, true)
		return value.FromString(s), err
	},
	"title": func(v value.Value, _ []value.Value, _ map[string]value.Value) (value.Value, error) {
		// Jinja2's filter is not str.title(): it capitalises after white space, hyphens and brackets (filters.py, do_title).
		after := false
		return value.FromString(strings.Map(func(r rune) rune {
			breaks := strings.ContainsRune("-({[<", r) || pySpace(r)
			upper := !after
			after = !breaks
			if breaks || !upper {
				return []rune(strings.ToLower(string(r)))[0]
			}
			return []rune(strings.ToUpper(string(r)))[0]
		}, pyString(v))), nil
	},
	"capitalize": func(v value.Value, _ []value.Value, _ map[string]value.Value) (value.Value, error) {
		return value.FromString(pyCapitalize(pyString(v))), nil
	},
	"upper": func(v value.Value, _ []value.Value, _ map[string]value.Value) (value.Value, error) {
		return value.FromString(strings.ToUpper(pyString(v))), nil
	},
	"lower": func(v value.Value, _ []value.Value, _ map[string]value.Value) (value.Value, error) {
		return value.FromString(strings.ToLower(pyString(v))), nil
	},
	"replace": func(v value.Value, args []value.Value, kwargs map[string]value.Value) (value.Value, error) {
		if count, ok := kwargs["count"]; ok {
			args = append(slices.Clone(args), count)
		}
		return stringMethod(pyString(v), "replace", args)
	},
	"join": func(v value.Value, args []value.Value, kwargs map[string]value.Value) (value.Value, error) {
		separator := ""
		if len(args) > 0 {
			separator = pyString(args[0])
		} else if d, ok := kwargs["d"]; ok {
			separator = pyString(d)
		}
		if len(args) > 1 || kwargs["attribute"] != (value.Value{}) {
			return value.Undefined(), errors.New("join by an attribute is not supported: map it first")
		}
		var parts []string
		for _, item := range v.Iter() {
			parts = append(parts, pyString(item))
		}
		return value.FromString(bounded(strings.Join(parts, separator))), nil
	},
	"int": func(v value.Value, args []value.Value, kwargs map[string]value.Value) (value.Value, error) {
		return pyInt(v, args, kwargs)
	},
	"float": pyFloatOf,
	"round": pyRound,
	"items": func(v value.Value, _ []value.Value, _ map[string]value.Value) (value.Value, error) {
		if v.IsUndefined() {
			return value.FromSlice(nil), nil
		}
		d, ok := dictOf(v)
		if !ok {
			return value.Undefined(), errors.New("can only get item pairs from a mapping")
		}
		return dictMethod(d, "items", nil)
	},
	"dictsort": func(v value.Value, args []value.Value, kwargs map[string]value.Value) (value.Value, error) {
		d, ok := dictOf(v)
		if !ok || len(args)+len(kwargs) > 0 {
			return value.Undefined(), errors.New("dictsort takes a dict and no arguments")
		}
		sorted := &pyDict{keys: slices.Clone(d.keys), values: d.values}
		slices.SortStableFunc(sorted.keys, func(a, b string) int { return strings.Compare(strings.ToLower(a), strings.ToLower(b)) })
		return dictMethod(sorted, "items", nil)
	},
	"tojson": pyToJSON,
	"abs": func(v value.Value, _ []value.Value, _ map[string]value.Value) (value.Value, error) {
		f, ok := v.AsFloat()
		switch {
		case !ok || v.Kind() != value.KindNumber:
			return value.Undefined(), errors.New("abs takes a number")
		case f < 0:
			return v.Neg()
		}
		return v, nil
	},
	"length": pyLength,
	"count":  pyLength,
	"list": func(v value.Value, _ []value.Value, _ map[string]value.Value) (value.Value, error) {
		items, err := pyItems(v)
		return value.FromSlice(items), err
	},
	"e":      pyEscape,
	"escape": pyEscape,
	"sort": func(v value.Value, args []value.Value, kwargs map[string]value.Value) (value.Value, error) {
		sorted, err := pyKeys(v, args, kwargs, 1)
		if err != nil {
			return value.Undefined(), err
		}
		sign := 1
		if reverse, ok := named(args, kwargs, 0, "reverse"); ok && reverse.IsTrue() {
			sign = -1
		}
		slices.SortStableFunc(sorted, func(a, b keyed) int {
			order, e := pyOrder(a.key, b.key)
			err = errors.Join(err, e)
			return sign * order
		})
		items := make([]value.Value, len(sorted))
		for i, s := range sorted {
			items[i] = s.item
		}
		return value.FromSlice(items), err
	},
	"min": func(v value.Value, args []value.Value, kwargs map[string]value.Value) (value.Value, error) {
		return pyExtreme(v, args, kwargs, -1)
	},
	"max": func(v value.Value, args []value.Value, kwargs map[string]value.Value) (value.Value, error) {
		return pyExtreme(v, args, kwargs, 1)
	},
	"unique": func(v value.Value, args []value.Value, kwargs map[string]value.Value) (value.Value, error) {
		all, err := pyKeys(v, args, kwargs, 0)
		items := []value.Value{}
		var seen []value.Value
		for _, k := range all {
			if !slices.ContainsFunc(seen, func(key value.Value) bool { return pyEqual(k.key, key, 0) }) {
				items, seen = append(items, k.item), append(seen, k.key)
			}
		}
		return value.FromSlice(items), err
	},
}

// pyLength is Python's len().
func pyLength(v value.Value, _ []value.Value, _ map[string]value.Value) (value.Value, error) {
	if s, ok := v.AsString(); ok {
		return value.FromInt(int64(utf8.RuneCountInString(s))), nil
	}
	items, err := pyItems(v)
	return value.FromInt(int64(len(items))), err
}

// pyEscape writes a text for HTML as markupsafe does. That the result is marked as such in Jinja2 is seen to where
// expressions are read: it may only be printed.
func pyEscape(v value.Value, _ []value.Value, _ map[string]value.Value) (value.Value, error) {
	return value.FromString(bounded(strings.NewReplacer("&", "&amp;", ">", "&gt;", "<", "&lt;", "'", "&#39;", `"`, "&#34;").Replace(pyString(v)))), nil
}

// keyed is an item with what it is compared by.
type keyed struct{ key, item value.Value }

// pyKeys are the items of a list with their keys: themselves, or their attributes, texts in lower case unless
// case_sensitive says otherwise. place is that of the argument case_sensitive, before attribute.
func pyKeys(v value.Value, args []value.Value, kwargs map[string]value.Value, place int) ([]keyed, error) {
	items, err := pyItems(v)
	if err != nil {
		return nil, err
	}
	sensitive, asked := named(args, kwargs, place, "case_sensitive")
	fold := func(key value.Value) value.Value {
		if s, ok := key.AsString(); ok && !(asked && sensitive.IsTrue()) {
			return value.FromString(strings.ToLower(s))
		}
		return key
	}
	list := make([]keyed, len(items))
	attribute, given := named(args, kwargs, place+1, "attribute")
	for i, item := range items {
		list[i] = keyed{fold(item), item}
		if !given || attribute.IsNone() {
			continue
		}
		var keys []value.Value
		for path := range strings.SplitSeq(pyString(attribute), ",") {
			key := item
			for name := range strings.SplitSeq(path, ".") {
				d, ok := dictOf(key)
				if !ok || d.values[name] == (value.Value{}) {
					return nil, fmt.Errorf("the attribute %q is not there", name)
				}
				key = d.values[name]
			}
			keys = append(keys, fold(key))
		}
		list[i].key = value.FromSlice(keys)
	}
	return list, nil
}

// pyExtreme is min (sign -1) or max (1): of several the first.
func pyExtreme(v value.Value, args []value.Value, kwargs map[string]value.Value, sign int) (value.Value, error) {
	all, err := pyKeys(v, args, kwargs, 0)
	if err != nil || len(all) == 0 {
		return value.Undefined(), err
	}
	best := all[0]
	for _, k := range all[1:] {
		order, err := pyOrder(k.key, best.key)
		if err != nil {
			return value.Undefined(), err
		}
		if sign*order > 0 {
			best = k
		}
	}
	return best.item, nil
}

// named is an argument by its place or name.
func named(args []value.Value, kwargs map[string]value.Value, place int, name string) (value.Value, bool) {
	if place < len(args) {
		return args[place], true
	}
	v, ok := kwargs[name]
	return v, ok
}

var errUndefined = errors.New("an undefined value is no number")

// pyInt is Jinja2's filter int: what is no number becomes the default.
func pyInt(v value.Value, args []value.Value, kwargs map[string]value.Value) (value.Value, error) {
	if _, ok := named(args, kwargs, 1, "base"); ok {
		return value.Undefined(), errors.New("int with a base is not supported")
	}
	otherwise, ok := named(args, kwargs, 0, "default")
	if !ok {
		otherwise = value.FromInt(0)
	}
	if v.IsUndefined() {
		return v, errUndefined
	}
	number := v
	if s, ok := v.AsString(); ok {
		f := 0.0
		if _, err := fmt.Sscanf(strings.TrimFunc(s, pySpace)+"\n", "%g\n", &f); err != nil {
			return otherwise, nil
		}
		number = value.FromFloat(f)
	}
	if b, ok := number.AsBool(); ok && number.Kind() == value.KindBool {
		if b {
			return value.FromInt(1), nil
		}
		return value.FromInt(0), nil
	}
	f, ok := number.AsFloat()
	if !ok || math.IsNaN(f) || math.Abs(f) > 1<<53 {
		return otherwise, nil
	}
	return value.FromInt(int64(f)), nil
}

func pyFloatOf(v value.Value, args []value.Value, kwargs map[string]value.Value) (value.Value, error) {
	otherwise, ok := named(args, kwargs, 0, "default")
	if !ok {
		otherwise = value.FromFloat(0)
	}
	if v.IsUndefined() {
		return v, errUndefined
	}
	if s, ok := v.AsString(); ok {
		f := 0.0
		if _, err := fmt.Sscanf(strings.TrimFunc(s, pySpace)+"\n", "%g\n", &f); err != nil {
			return otherwise, nil
		}
		return value.FromFloat(f), nil
	}
	if f, ok := v.AsFloat(); ok {
		return value.FromFloat(f), nil
	}
	return otherwise, nil
}

// pyRound is Jinja2's filter round, whose common method is Python's round(): to even.
func pyRound(v value.Value, args []value.Value, kwargs map[string]value.Value) (value.Value, error) {
	f, ok := v.AsFloat()
	if !ok {
		return value.Undefined(), errors.New("round takes a number")
	}
	places := int64(0)
	if p, ok := named(args, kwargs, 0, "precision"); ok {
		places, _ = p.AsInt()
	}
	method := "common"
	if m, ok := named(args, kwargs, 1, "method"); ok {
		method = pyString(m)
	}
	scale := math.Pow(10, float64(places))
	if places < -300 || places > 300 {
		return value.Undefined(), errors.New("round to so many places is not supported")
	}
	switch method {
	case "common":
		if v.IsActualInt() {
			return v, nil
		}
		if places == 0 {
			return value.FromFloat(math.RoundToEven(f)), nil
		}
		if places < 0 {
			return value.FromFloat(math.RoundToEven(f*scale) / scale), nil
		}
		rounded := 0.0
		_, err := fmt.Sscanf(fmt.Sprintf("%.*f", int(places), f), "%g", &rounded) // correctly rounded, as Python's
		return value.FromFloat(rounded), err
	case "ceil":
		return value.FromFloat(math.Ceil(f*scale) / scale), nil
	case "floor":
		return value.FromFloat(math.Floor(f*scale) / scale), nil
	}
	return value.Undefined(), errors.New("method must be common, ceil or floor")
}

// pyToJSON is transformers' tojson (utils/chat_template_utils.py).
func pyToJSON(v value.Value, args []value.Value, kwargs map[string]value.Value) (value.Value, error) {
	indent, comma, colon := "", ", ", ": "
	newline := ""
	for name := range kwargs {
		if name != "ensure_ascii" && name != "indent" && name != "separators" {
			return value.Undefined(), fmt.Errorf("tojson with %s is not supported", name)
		}
	}
	if ascii, ok := named(args, kwargs, 0, "ensure_ascii"); ok && ascii.IsTrue() {
		return value.Undefined(), errors.New("tojson with ensure_ascii is not supported")
	}
	if given, ok := named(args, kwargs, 1, "indent"); ok && !given.IsNone() {
		n, isInt := given.AsInt()
		if !isInt || n < 0 || n > 16 {
			return value.Undefined(), errors.New("tojson takes an indent of 0 to 16")
		}
		indent, newline, comma = strings.Repeat(" ", int(n)), "\n", ","
	}
	if given, ok := named(args, kwargs, 2, "separators"); ok && !given.IsNone() {
		pair, err := stringArgs("separators", given.Iter(), 2, 2)
		if err != nil {
			return value.Undefined(), err
		}
		comma, colon = pair[0], pair[1]
	}
	var out strings.Builder
	err := pyJSON(&out, v, indent, newline, comma, colon, 0)
	return value.FromString(out.String()), err
}

// pyTests replace tests of the engine's that differ from Jinja2's.
var pyTests = map[string]func(v value.Value) bool{
	"mapping": func(v value.Value) bool { _, ok := dictOf(v); return ok },
	"sequence": func(v value.Value) bool {
		_, isDict := dictOf(v)
		_, isString := v.AsString()
		return isDict || isString || v.IsUndefined() || v.Iter() != nil
	},
	"iterable": func(v value.Value) bool {
		_, err := pyItems(v)
		return err == nil
	},
	"callable": func(v value.Value) bool { return v.IsUndefined() || v.IsCallable() },
	// A boolean is an integer in Python, but not by Jinja2's tests.
	"integer": func(v value.Value) bool { return v.Kind() == value.KindNumber && v.IsActualInt() },
	"number":  func(v value.Value) bool { return v.Kind() == value.KindNumber || v.Kind() == value.KindBool },
}

func isEqual(a, b value.Value) (bool, error)  { return pyEqual(a, b, 0), nil }
func notEqual(a, b value.Value) (bool, error) { return !pyEqual(a, b, 0), nil }

// pyComparisons are the tests that compare with an argument.
var pyComparisons = map[string]func(v, with value.Value) (bool, error){
	"eq": isEqual, "equalto": isEqual, "==": isEqual, "ne": notEqual, "!=": notEqual, "in": pyIn,
	"lt": ordered("<"), "lessthan": ordered("<"), "le": ordered("<="), "gt": ordered(">"), "greaterthan": ordered(">"), "ge": ordered(">="),
}

func ordered(operator string) func(v, with value.Value) (bool, error) {
	return func(v, with value.Value) (bool, error) {
		order, err := pyOrder(v, with)
		return order < 0 && operator[0] == '<' || order > 0 && operator[0] == '>' || order == 0 && len(operator) == 2, err
	}
}
