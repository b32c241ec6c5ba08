package jsonerror

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
)

func TestPlain(t *testing.T) {
	var into struct {
		Number float64           `json:"number"`
		Count  *int32            `json:"count"`
		List   []*int32          `json:"list"`
		Text   string            `json:"text"`
		On     bool              `json:"on"`
		Named  map[string]string `json:"named"`
		Below  struct {
			Count int `json:"count"`
		} `json:"below"`
	}
	for text, want := range map[string]string{
		`{"number": "1e-5"}`:       "number is a text where a number belongs",
		`{"count": 2.5}`:           "count is the number 2.5 where an integer belongs",
		`{"list": {"a": 1}}`:       "list is an object where a list belongs",
		`{"text": [1]}`:            "text is a list where a text belongs",
		`{"on": 1}`:                "on is the number where true or false belongs",
		`{"named": true}`:          "named is true or false where an object belongs",
		`{"below": {"count": ""}}`: "below.count is a text where an integer belongs",
		`[]`:                       "it is a list where an object belongs",
	} {
		if err := Plain(fmt.Errorf("wrapped: %w", json.Unmarshal([]byte(text), &into))); err == nil || err.Error() != want {
			t.Errorf("%s: the error is %v, want %q", text, err, want)
		}
	}
	other := errors.New("another")
	if err := Plain(other); !errors.Is(err, other) {
		t.Errorf("another error becomes %v, want it as it was", err)
	}
}
