package tokens

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode"

	"github.com/mitsuhiko/minijinja/minijinja-go/v2/value"
)

// pySpace is what Python's str.strip() removes: Unicode's white space and the four separators of ASCII.
func pySpace(r rune) bool { return unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f }

// pyStrip strips white space, or the given characters, at one or both ends.
func pyStrip(s string, args []value.Value, left, right bool) (string, error) {
	in := pySpace
	if len(args) > 0 && !args[0].IsNone() {
		set, ok := args[0].AsString()
		if !ok {
			return "", errors.New("strip takes a text of characters")
		}
		in = func(r rune) bool { return strings.ContainsRune(set, r) }
	}
	if left {
		s = strings.TrimLeftFunc(s, in)
	}
	if right {
		s = strings.TrimRightFunc(s, in)
	}
	return s, nil
}

// pyTitle is str.title(): a letter after what is no letter is upper case, the others lower.
func pyTitle(s string) string {
	after := false
	return strings.Map(func(r rune) rune {
		letter := unicode.IsLetter(r)
		defer func() { after = letter }()
		if after {
			return unicode.ToLower(r)
		}
		return unicode.ToTitle(r)
	}, s)
}

// pyCapitalize is str.capitalize().
func pyCapitalize(s string) string {
	first := true
	return strings.Map(func(r rune) rune {
		if first {
			first = false
			return unicode.ToTitle(r)
		}
		return unicode.ToLower(r)
	}, s)
}

func strs(list []string) value.Value {
	values := make([]value.Value, len(list))
	for i, s := range list {
		values[i] = value.FromString(s)
	}
	return value.FromSlice(values)
}

// stringArgs gives arguments that all have to be texts.
func stringArgs(method string, args []value.Value, atLeast, atMost int) ([]string, error) {
	if len(args) < atLeast || len(args) > atMost {
		return nil, fmt.Errorf("%s() with %d arguments", method, len(args))
	}
	list := make([]string, len(args))
	for i, a := range args {
		s, ok := a.AsString()
		if !ok {
			return nil, fmt.Errorf("%s() takes texts", method)
		}
		list[i] = s
	}
	return list, nil
}

// stringMethod is a method of Python's str.
func stringMethod(s, method string, args []value.Value) (value.Value, error) {
	none := value.Undefined()
	text := func(s string, err error) (value.Value, error) { return value.FromString(s), err }
	switch method {
	case "strip":
		return text(pyStrip(s, args, true, true))
	case "lstrip":
		return text(pyStrip(s, args, true, false))
	case "rstrip":
		return text(pyStrip(s, args, false, true))
	case "upper", "lower", "title", "capitalize", "isdigit", "isalpha", "isspace", "isupper", "islower":
		if len(args) > 0 {
			return none, fmt.Errorf("%s() takes no arguments", method)
		}
		all := func(in func(rune) bool) (value.Value, error) {
			return value.FromBool(s != "" && strings.IndexFunc(s, func(r rune) bool { return !in(r) }) < 0), nil
		}
		switch method {
		case "upper":
			return text(strings.ToUpper(s), nil)
		case "lower":
			return text(strings.ToLower(s), nil)
		case "title":
			return text(pyTitle(s), nil)
		case "capitalize":
			return text(pyCapitalize(s), nil)
		case "isdigit":
			return all(unicode.IsDigit)
		case "isalpha":
			return all(unicode.IsLetter)
		case "isspace":
			return all(pySpace)
		case "isupper":
			return value.FromBool(strings.ToUpper(s) == s && strings.ToLower(s) != s), nil
		}
		return value.FromBool(strings.ToLower(s) == s && strings.ToUpper(s) != s), nil
	case "startswith", "endswith":
		if len(args) != 1 {
			return none, fmt.Errorf("%s() with %d arguments", method, len(args))
		}
		parts, isList := args[0].AsSlice()
		if !isList {
			parts = args
		}
		texts, err := stringArgs(method, parts, 0, len(parts))
		has := strings.HasPrefix
		if method == "endswith" {
			has = strings.HasSuffix
		}
		return value.FromBool(slices.ContainsFunc(texts, func(part string) bool { return has(s, part) })), err
	case "split", "rsplit":
		return pySplit(s, method, args)
	case "splitlines":
		if len(args) > 0 {
			return none, errors.New("splitlines() that keeps the line ends is not supported")
		}
		return strs(splitLines(s)), nil
	case "replace":
		count := -1
		if len(args) == 3 {
			n, ok := args[2].AsInt()
			if !ok {
				return none, errors.New("replace() takes a number of replacements")
			}
			count, args = int(n), args[:2]
		}
		texts, err := stringArgs(method, args, 2, 2)
		if err != nil {
			return none, err
		}
		if (strings.Count(s, texts[0])+1)*len(texts[1])+len(s) > maxString {
			return none, errTooLong
		}
		return text(strings.Replace(s, texts[0], texts[1], count), nil)
	case "find", "rfind", "index", "count":
		texts, err := stringArgs(method, args, 1, 1)
		if err != nil {
			return none, err
		}
		if method == "count" {
			return value.FromInt(int64(strings.Count(s, texts[0]))), nil
		}
		at := strings.Index(s, texts[0])
		if method == "rfind" {
			at = strings.LastIndex(s, texts[0])
		}
		if at < 0 && method == "index" {
			return none, errors.New("substring not found")
		}
		if at >= 0 {
			at = len([]rune(s[:at]))
		}
		return value.FromInt(int64(at)), nil
	case "removeprefix", "removesuffix":
		texts, err := stringArgs(method, args, 1, 1)
		if err != nil {
			return none, err
		}
		if method == "removeprefix" {
			return text(strings.TrimPrefix(s, texts[0]), nil)
		}
		return text(strings.TrimSuffix(s, texts[0]), nil)
	case "partition", "rpartition":
		texts, err := stringArgs(method, args, 1, 1)
		if err != nil || texts[0] == "" {
			return none, errors.Join(err, errors.New("partition() takes a text that is not empty"))
		}
		at := strings.Index(s, texts[0])
		if method == "rpartition" {
			at = strings.LastIndex(s, texts[0])
		}
		switch {
		case at >= 0:
			return strs([]string{s[:at], texts[0], s[at+len(texts[0]):]}), nil
		case method == "rpartition":
			return strs([]string{"", "", s}), nil
		}
		return strs([]string{s, "", ""}), nil
	case "join":
		if len(args) != 1 || args[0].Iter() == nil {
			return none, errors.New("join() takes a list of texts")
		}
		texts, err := stringArgs(method, args[0].Iter(), 0, math.MaxInt)
		if err != nil {
			return none, err
		}
		return value.FromString(bounded(strings.Join(texts, s))), nil
	}
	return none, fmt.Errorf("the method %s of a text is not supported", method)
}

// splitLines is str.splitlines() for the line ends that texts have.
func splitLines(s string) []string {
	s = strings.NewReplacer("\r\n", "\n", "\r", "\n", "\v", "\n", "\f", "\n", "\u2028", "\n", "\u2029", "\n", "\x85", "\n").Replace(s)
	if s = strings.TrimSuffix(s, "\n"); s == "" {
		return nil
	}
	return strings.Split(s, "\n")
}

// pySplit is str.split() and str.rsplit().
func pySplit(s, method string, args []value.Value) (value.Value, error) {
	most := -1
	if len(args) == 2 {
		n, ok := args[1].AsInt()
		if !ok {
			return value.Undefined(), fmt.Errorf("%s() takes a number of splits", method)
		}
		most, args = int(n), args[:1]
	}
	if len(args) == 1 && args[0].IsNone() {
		args = nil
	}
	separator, err := stringArgs(method, args, 0, 1)
	switch {
	case err != nil:
		return value.Undefined(), err
	case len(separator) == 0 && most < 0:
		return strs(strings.FieldsFunc(s, pySpace)), nil
	case len(separator) == 0:
		return value.Undefined(), fmt.Errorf("%s() at white space with a number of splits is not supported", method)
	case separator[0] == "":
		return value.Undefined(), errors.New("empty separator")
	case most < 0:
		return strs(strings.Split(s, separator[0])), nil
	case method == "split":
		return strs(strings.SplitN(s, separator[0], most+1)), nil
	}
	parts := strings.Split(s, separator[0])
	if first := len(parts) - most; first > 1 {
		parts = append([]string{strings.Join(parts[:first], separator[0])}, parts[first:]...)
	}
	return strs(parts), nil
}

// dictMethod is a method of Python's dict.
func dictMethod(d *pyDict, method string, args []value.Value) (value.Value, error) {
	switch method {
	case "items", "keys", "values":
		if len(args) > 0 {
			return value.Undefined(), fmt.Errorf("%s() takes no arguments", method)
		}
		list := make([]value.Value, len(d.keys))
		for i, key := range d.keys {
			switch method {
			case "items":
				list[i] = value.FromSlice([]value.Value{value.FromString(key), d.values[key]})
			case "keys":
				list[i] = value.FromString(key)
			default:
				list[i] = d.values[key]
			}
		}
		return value.FromSlice(list), nil
	case "get":
		if len(args) < 1 || len(args) > 2 {
			return value.Undefined(), fmt.Errorf("get() with %d arguments", len(args))
		}
		if key, ok := args[0].AsString(); ok {
			if v, ok := d.values[key]; ok {
				return v, nil
			}
		}
		if len(args) == 2 {
			return args[1], nil
		}
		return value.None(), nil
	}
	return value.Undefined(), fmt.Errorf("the method %s of a dict is not supported", method)
}
