package esc

import "testing"

func TestNameStrategies(t *testing.T) {
	for message, want := range map[string]string{
		"no other strategy is predicted where strategy 2 is gold": "no other strategy is predicted where Reflection of feelings is gold",
		"strategies 3 and 7 are never predicted":                  "Self-disclosure and Others are never predicted",
		"strategy 12 of strategies":                               "strategy 12 of strategies",
	} {
		if got := NameStrategies(message); got != want {
			t.Errorf("%q: got %q, want %q", message, got, want)
		}
	}
}
