package esc

import "testing"

func TestNameStrategies(t *testing.T) {
	got := NameStrategies("no other strategy is predicted where strategy 2 is gold")
	if want := "no other strategy is predicted where Reflection of feelings is gold"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
