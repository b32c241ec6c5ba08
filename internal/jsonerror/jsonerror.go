// Package jsonerror says in plain words what of a JSON text does not fit, where encoding/json names types of Go.
package jsonerror

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// Plain is an error of encoding/json without types of Go: "rms_norm_eps is a text where a number belongs". Other errors
// stay as they are.
func Plain(err error) error {
	var mismatch *json.UnmarshalTypeError
	if !errors.As(err, &mismatch) {
		return err
	}
	found, isNumber := strings.CutPrefix(mismatch.Value, "number")
	switch {
	case isNumber:
		found = "the number" + found
	case mismatch.Value == "string":
		found = "a text"
	case mismatch.Value == "array":
		found = "a list"
	case mismatch.Value == "object":
		found = "an object"
	case mismatch.Value == "bool":
		found = "true or false"
	}
	where := "it"
	if mismatch.Field != "" {
		where = mismatch.Field
	}
	return fmt.Errorf("%s is %s where %s belongs", where, strings.TrimSpace(found), wanted(mismatch.Type))
}

// wanted is what a type of Go is read from.
func wanted(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return wanted(t.Elem())
	case reflect.String:
		return "a text"
	case reflect.Bool:
		return "true or false"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Slice, reflect.Array:
		return "a list"
	case reflect.Map, reflect.Struct:
		return "an object"
	}
	return "an integer"
}
