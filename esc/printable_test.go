package esc

import "testing"

func TestPrintable(t *testing.T) {
	if got := Printable("a\x1b[31mb\r\nc\u009bd\x00é😀"); got != "a [31mb \nc d é😀" {
		t.Errorf("got %q, want no control character but the newline", got)
	}
}
