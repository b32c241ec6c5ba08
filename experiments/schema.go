package experiments

import (
	"fmt"
	"reflect"
	"strings"
)

// keys lists a struct's YAML keys in their order, those of inlined structs among them.
func keys(t reflect.Type) []string {
	var out []string
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous {
			out = append(out, keys(f.Type)...)
			continue
		}
		out = append(out, f.Tag.Get("yaml"))
	}
	return out
}

// fieldByKey finds the field with that YAML key.
func fieldByKey(v reflect.Value, key string) (reflect.Value, bool) {
	t := v.Type()
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous {
			if found, ok := fieldByKey(v.Field(i), key); ok {
				return found, true
			}
			continue
		}
		if f.Tag.Get("yaml") == key {
			return v.Field(i), true
		}
	}
	return reflect.Value{}, false
}

// Keys lists the paths of every field that holds a value, in the order of the
// specification: "name", "corpus.split.ratio", "dpo.roles.sp.beta" …
func Keys() []string { return leaves("", reflect.TypeFor[Experiment]()) }

func leaves(path string, t reflect.Type) []string {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return []string{path}
	}
	var out []string
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous {
			out = append(out, leaves(path, f.Type)...)
			continue
		}
		out = append(out, leaves(join(path, f.Tag.Get("yaml")), f.Type)...)
	}
	return out
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// unknownKey says that a key does not belong where it stands, and where it, or
// one spelled like it, does.
func unknownKey(path, key string, t reflect.Type) string {
	here := keys(t)
	if near := nearest(key, here); near != "" {
		return fmt.Sprintf("unknown key %q; did you mean %q?", key, near)
	}
	var elsewhere []string
	for _, leaf := range Keys() {
		parts := strings.Split(leaf, ".")
		for i, part := range parts {
			at := strings.Join(parts[:i+1], ".")
			if part == key && (len(elsewhere) == 0 || elsewhere[len(elsewhere)-1] != at) {
				elsewhere = append(elsewhere, at)
			}
		}
	}
	if len(elsewhere) > 0 {
		return fmt.Sprintf("unknown key %q here; it belongs to %s", key, strings.Join(elsewhere, ", "))
	}
	where := "an experiment"
	if path != "" {
		where = path
	}
	return fmt.Sprintf("unknown key %q; %s has %s", key, where, strings.Join(here, ", "))
}
