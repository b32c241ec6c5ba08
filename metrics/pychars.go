package metrics

import (
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/language"
)

// The predicates below are those of Python's str and re modules, which the
// reference implementation rests on; Go's differ in a few code points.

// isSpace is Python's str.isspace and the regular expression \s: Unicode's
// White_Space and the four information separators.
func isSpace(r rune) bool {
	return unicode.IsSpace(r) || (r >= 0x1c && r <= 0x1f)
}

// isWord is the regular expression \w over Unicode strings.
func isWord(r rune) bool {
	return r == '_' || unicode.IsLetter(r) || unicode.IsNumber(r)
}

// isAlpha is the regular expression [^\W\d].
func isAlpha(r rune) bool { return isWord(r) && !unicode.Is(unicode.Nd, r) }

// isDigit is the regular expression \d over Unicode strings.
func isDigit(r rune) bool { return unicode.Is(unicode.Nd, r) }

// lower is str.lower: full case mapping with the final sigma.
func lower(s string) string {
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return cases.Lower(language.Und, cases.HandleFinalSigma(true)).String(s)
		}
	}
	return asciiLower(s)
}

func asciiLower(s string) string {
	for i := 0; i < len(s); i++ {
		if c := s[i]; 'A' <= c && c <= 'Z' {
			b := []byte(s)
			for ; i < len(b); i++ {
				if c := b[i]; 'A' <= c && c <= 'Z' {
					b[i] = c + ('a' - 'A')
				}
			}
			return string(b)
		}
	}
	return s
}

// runeAt decodes the rune that starts at byte i; size 0 means the end.
func runeAt(s string, i int) (r rune, size int) {
	if i >= len(s) {
		return 0, 0
	}
	if c := s[i]; c < utf8.RuneSelf {
		return rune(c), 1
	}
	return utf8.DecodeRuneInString(s[i:])
}

// wordBoundary is \b at byte i.
func wordBoundary(s string, i int) bool {
	before, n := utf8.DecodeLastRuneInString(s[:i])
	after, m := runeAt(s, i)
	return (n > 0 && isWord(before)) != (m > 0 && isWord(after))
}
