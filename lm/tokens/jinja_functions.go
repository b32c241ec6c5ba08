package tokens

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/mitsuhiko/minijinja/minijinja-go/v2/value"
)

type pyFunction func(args []value.Value, kwargs map[string]value.Value) (value.Value, error)

// pyFunctions are the functions of chat templates, and those that translate writes for Python's operators.
var pyFunctions = map[string]pyFunction{
	"raise_exception": func(args []value.Value, _ map[string]value.Value) (value.Value, error) {
		if len(args) != 1 {
			return value.Undefined(), errors.New("raise_exception takes a message")
		}
		return value.Undefined(), errors.New(pyString(args[0]))
	},
	"range": pyRange,
	"dict": func(args []value.Value, kwargs map[string]value.Value) (value.Value, error) {
		d, err := gather(args, kwargs)
		return value.FromObject(d), err
	},
	"namespace": pyNamespaceOf,
	"_dict": func(args []value.Value, _ map[string]value.Value) (value.Value, error) {
		d := newDict()
		for i := 0; i+1 < len(args); i += 2 {
			key, ok := args[i].AsString()
			if !ok {
				return value.Undefined(), errors.New("a dict with keys that are no texts is not supported")
			}
			d.set(key, args[i+1])
		}
		return value.FromObject(d), nil
	},
	"_add": func(args []value.Value, _ map[string]value.Value) (value.Value, error) {
		a, b := args[0], args[1]
		if a.IsUndefined() || b.IsUndefined() {
			return value.Undefined(), errors.New("an operand of + is undefined")
		}
		if x, ok := a.AsString(); ok {
			if y, ok := b.AsString(); ok {
				return value.FromString(bounded(x + y)), nil
			}
		}
		if x, ok := a.AsSlice(); ok {
			if y, ok := b.AsSlice(); ok && len(x)+len(y) > maxRange {
				return value.Undefined(), fmt.Errorf("a list of more than %d items", maxRange)
			}
		}
		return a.Add(b)
	},
	"_concat": func(args []value.Value, _ map[string]value.Value) (value.Value, error) {
		return value.FromString(bounded(pyString(args[0]) + pyString(args[1]))), nil
	},
	"_multiply": func(args []value.Value, _ map[string]value.Value) (value.Value, error) {
		for i, a := range args {
			n, _ := args[1-i].AsInt()
			if s, ok := a.AsString(); ok {
				if n = max(n, 0); n > maxString || int64(len(s))*n > maxString {
					return value.Undefined(), errTooLong
				}
				if _, ok := args[1-i].AsInt(); ok {
					return value.FromString(strings.Repeat(s, int(n))), nil
				}
			}
			if list, ok := a.AsSlice(); ok && (n > maxRange || int64(len(list))*n > maxRange) {
				return value.Undefined(), fmt.Errorf("a list of more than %d items", maxRange)
			}
		}
		return args[0].Mul(args[1])
	},
	"_power": func(args []value.Value, _ map[string]value.Value) (value.Value, error) {
		a, okA := args[0].AsFloat()
		b, okB := args[1].AsFloat()
		if p := math.Pow(a, b); !okA || !okB || math.Abs(p) > 1<<53 {
			return value.Undefined(), errors.New("a power of more than 2**53 is not supported")
		}
		return args[0].Pow(args[1])
	},
	"_modulo": pyModulo,
	"_equal": func(args []value.Value, _ map[string]value.Value) (value.Value, error) {
		return value.FromBool(pyEqual(args[0], args[1], 0)), nil
	},
	"_order": func(args []value.Value, _ map[string]value.Value) (value.Value, error) {
		holds, err := ordered(pyString(args[1]))(args[0], args[2])
		return value.FromBool(holds), err
	},
	"_in": func(args []value.Value, _ map[string]value.Value) (value.Value, error) {
		found, err := pyIn(args[0], args[1])
		return value.FromBool(found), err
	},
	"_items": func(args []value.Value, _ map[string]value.Value) (value.Value, error) {
		items, err := pyItems(args[0])
		return value.FromSlice(items), err
	},
}

// pyModulo is % of integers, with the sign of the divisor, and the formatting of texts with %s.
func pyModulo(args []value.Value, _ map[string]value.Value) (value.Value, error) {
	if format, ok := args[0].AsString(); ok {
		values, isList := args[1].AsSlice()
		if !isList {
			values = args[1:]
		}
		var out strings.Builder
		for format != "" {
			before, rest, found := strings.Cut(format, "%")
			out.WriteString(before)
			if !found {
				break
			}
			if rest == "" {
				return value.Undefined(), errors.New("incomplete format")
			}
			format = rest[1:]
			switch {
			case rest[0] == '%':
				out.WriteByte('%')
				continue
			case rest[0] != 's' && rest[0] != 'd':
				return value.Undefined(), fmt.Errorf("the format %%%.1s is not supported: %%s and %%d are", rest)
			case len(values) == 0:
				return value.Undefined(), errors.New("not enough arguments for format string")
			}
			if _, isInt := values[0].AsInt(); rest[0] == 'd' && !isInt {
				return value.Undefined(), errors.New("%d takes a number")
			}
			out.WriteString(pyString(values[0]))
			values = values[1:]
		}
		if len(values) > 0 {
			return value.Undefined(), errors.New("not all arguments converted during string formatting")
		}
		return value.FromString(bounded(out.String())), nil
	}
	if args[0].IsActualInt() && args[1].IsActualInt() {
		a, _ := args[0].AsInt()
		b, _ := args[1].AsInt()
		if b == 0 {
			return value.Undefined(), errors.New("integer modulo by zero")
		}
		m := a % b
		if m != 0 && (m < 0) != (b < 0) {
			m += b
		}
		return value.FromInt(m), nil
	}
	a, okA := args[0].AsFloat()
	b, okB := args[1].AsFloat()
	if !okA || !okB || b == 0 {
		return value.Undefined(), fmt.Errorf("%s %% %s", args[0].Kind(), args[1].Kind())
	}
	return value.FromFloat(a - b*math.Floor(a/b)), nil
}

// pyRange is range() with at most maxRange numbers.
func pyRange(args []value.Value, _ map[string]value.Value) (value.Value, error) {
	bounds := []int64{0, 0, 1} // start, stop, step
	if n := len(args); n < 1 || n > 3 {
		return value.Undefined(), errors.New("range takes one to three integers")
	}
	for i, arg := range args {
		n, ok := arg.AsInt()
		if !ok {
			return value.Undefined(), errors.New("range takes one to three integers")
		}
		bounds[i] = n
	}
	if len(args) == 1 {
		bounds[0], bounds[1] = 0, bounds[0]
	}
	start, stop, step := bounds[0], bounds[1], bounds[2]
	if step == 0 {
		return value.Undefined(), errors.New("range with a step of 0")
	}
	numbers := []value.Value{}
	for i := start; step > 0 && i < stop || step < 0 && i > stop; i += step {
		if len(numbers) == maxRange {
			return value.Undefined(), fmt.Errorf("range of more than %d numbers", maxRange)
		}
		numbers = append(numbers, value.FromInt(i))
	}
	return value.FromSlice(numbers), nil
}

// gather makes a dict of dicts and named values.
func gather(args []value.Value, kwargs map[string]value.Value) (*pyDict, error) {
	d := newDict()
	for _, arg := range args {
		given, ok := dictOf(arg)
		if !ok {
			return d, errors.New("dict and namespace take a dict or named values")
		}
		for _, key := range given.keys {
			d.set(key, given.values[key])
		}
	}
	for _, key := range slices.Sorted(maps.Keys(kwargs)) {
		d.set(key, kwargs[key])
	}
	return d, nil
}

func pyNamespaceOf(args []value.Value, kwargs map[string]value.Value) (value.Value, error) {
	d, err := gather(args, kwargs)
	if err == nil && holdsNamespace(value.FromObject(d)) {
		err = errNamespace
	}
	return value.FromObject(&pyNamespace{*d}), err
}
