package settings

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
)

// checkKeys reports the first key of the document that Settings does not have,
// with the nearest one that it has.
func checkKeys(name string, body ast.Node) error {
	return checkNode(name, "", body, reflect.TypeFor[Settings]())
}

// checkNode walks a YAML node and the Go type it decodes into side by side.
func checkNode(name, path string, node ast.Node, typ reflect.Type) error {
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	switch n := node.(type) {
	case *ast.MappingNode:
		if typ.Kind() != reflect.Struct {
			return nil
		}
		for _, value := range n.Values {
			if err := checkEntry(name, path, value, typ); err != nil {
				return err
			}
		}
	case *ast.MappingValueNode:
		if typ.Kind() == reflect.Struct {
			return checkEntry(name, path, n, typ)
		}
	case *ast.SequenceNode:
		if typ.Kind() != reflect.Slice {
			return nil
		}
		for _, value := range n.Values {
			if err := checkNode(name, path, value, typ.Elem()); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkEntry(name, path string, entry *ast.MappingValueNode, typ reflect.Type) error {
	token := entry.Key.GetToken()
	fields := keysOf(typ)
	field, ok := fields[token.Value]
	if !ok {
		known := slices.Sorted(maps.Keys(fields))
		return fmt.Errorf("%s:%d: unknown key %q: did you mean %q? (known here: %s)", name, token.Position.Line,
			path+token.Value, path+nearest(token.Value, known), strings.Join(known, ", "))
	}
	return checkNode(name, path+token.Value+".", entry.Value, field)
}

// checkValues reports the first value that its key cannot hold, and what the key
// wants. The YAML library's own message names Go types and no key, and it cuts
// 1.5 to a whole number without a word.
func checkValues(name, path string, node ast.Node, typ reflect.Type) error {
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	key := strings.TrimSuffix(path, ".")
	switch n := node.(type) {
	case nil, *ast.NullNode, *ast.CommentGroupNode:
		return nil
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode: // the library's to resolve
		return nil
	case *ast.MappingValueNode:
		node = &ast.MappingNode{BaseNode: &ast.BaseNode{}, Start: n.Start, Values: []*ast.MappingValueNode{n}}
	}
	mapping, isMap := node.(*ast.MappingNode)
	list, isList := node.(*ast.SequenceNode)
	switch {
	case isMap && typ.Kind() == reflect.Struct:
		fields := keysOf(typ)
		for _, entry := range mapping.Values {
			at := entry.Key.GetToken().Value
			if field, ok := fields[at]; ok {
				if err := checkValues(name, path+at+".", entry.Value, field); err != nil {
					return err
				}
			}
		}
		return nil
	case isMap && typ.Kind() == reflect.Map:
		for _, entry := range mapping.Values {
			if err := checkValues(name, path+entry.Key.GetToken().Value+".", entry.Value, typ.Elem()); err != nil {
				return err
			}
		}
		return nil
	case isList && typ.Kind() == reflect.Slice:
		for i, item := range list.Values {
			if err := checkValues(name, fmt.Sprintf("%s[%d].", key, i), item, typ.Elem()); err != nil {
				return err
			}
		}
		return nil
	}
	_, fraction := node.(*ast.FloatNode)
	cut := fraction && (typ.Kind() == reflect.Int || typ.Kind() == reflect.Int64)
	if typ.Kind() != reflect.Struct && !cut && yaml.NodeToValue(node, reflect.New(typ).Interface()) == nil {
		return nil
	}
	has := "a list"
	switch {
	case isMap:
		has = "keys and values"
	case !isList:
		has = fmt.Sprintf("%.40q", node.GetToken().Value)
	}
	line := node.GetToken().Position.Line
	return fmt.Errorf("%s:%d: %s: wants %s, has %s", name, line, cmp.Or(key, "the file"), wanted(typ), has)
}

// wanted describes a type in the words of a YAML author.
func wanted(typ reflect.Type) string {
	switch {
	case typ == reflect.TypeFor[time.Duration]():
		return "a duration like 5s, 10m or 24h"
	case typ == reflect.TypeFor[Port]():
		return "a port from 1 to 65535, or auto"
	}
	switch typ.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int:
		return "a whole number"
	case reflect.Float64:
		return "a number"
	case reflect.String:
		return "text"
	case reflect.Slice:
		return "a list"
	case reflect.Struct:
		return "keys and values (" + strings.Join(slices.Sorted(maps.Keys(keysOf(typ))), ", ") + ")"
	}
	return "keys and values"
}

// keysOf returns a struct's YAML keys and the types of their values.
func keysOf(typ reflect.Type) map[string]reflect.Type {
	keys := make(map[string]reflect.Type)
	for i := range typ.NumField() {
		f := typ.Field(i)
		if key, _, _ := strings.Cut(f.Tag.Get("yaml"), ","); key != "" && key != "-" {
			keys[key] = f.Type
		}
	}
	return keys
}

// nearest returns the candidate with the smallest Levenshtein distance to
// word; the first of equals, so the order of candidates decides ties.
func nearest(word string, candidates []string) string {
	best, distance := "", -1
	for _, c := range candidates {
		if d := levenshtein(word, c); distance < 0 || d < distance {
			best, distance = c, d
		}
	}
	return best
}

// levenshtein is the number of insertions, deletions and substitutions of
// bytes that turn a into b.
func levenshtein(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			substitute := diagonal
			if a[i] != b[j] {
				substitute++
			}
			diagonal = row[j+1]
			row[j+1] = min(substitute, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
