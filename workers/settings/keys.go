package settings

import (
	"fmt"
	"reflect"
	"sort"
	"strings"

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
		known := make([]string, 0, len(fields))
		for key := range fields {
			known = append(known, key)
		}
		sort.Strings(known)
		return fmt.Errorf("%s:%d: unknown key %q: did you mean %q? (known here: %s)", name, token.Position.Line,
			path+token.Value, path+nearest(token.Value, known), strings.Join(known, ", "))
	}
	return checkNode(name, path+token.Value+".", entry.Value, field)
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
