package esc

import (
	"strings"
	"unicode"
)

// Printable makes text that a model or a person wrote safe to print: control
// characters, which a terminal would obey, become spaces; line ends stay.
func Printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' {
			return ' '
		}
		return r
	}, text)
}
